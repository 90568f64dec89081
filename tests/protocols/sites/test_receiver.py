"""A site's receiver on the wire: positions for the clients that ask for them, and no other byte for the rest."""

from __future__ import annotations

import json
import re
from typing import Any

import pytest

from app.config.settings import Site
from tests.protocols.sites.door import PLAIN, SITE, Door, received
from tests.support.store import queue_of
from tests.support.waiting import until

ASKING = '40/site,{"token":"t","deviceId":"d","positions":1}'
SILENT = '40/site,{"token":"t","deviceId":"d"}'


async def publish(door: Door, *numbers: int, site: Site = SITE) -> None:
    """Send the event `e` with each of these numbers."""
    for number in numbers:
        await door.node.publish(site, "user_1", body=f'["e",{number}]'.encode())


def parts_of(packet: str) -> tuple[int, Any]:
    """The ack id of an event, and its arguments behind its name."""
    found = re.fullmatch(r"42/site,(\d+)(\[.*\])", packet)
    assert found, packet
    return int(found[1]), json.loads(found[2])[1:]


@pytest.mark.parametrize("value", ["1", '"1"', '"true"', "true"])
async def test_position_follows_the_arguments(door: Door, value: str) -> None:
    """A client that asks for positions gets that of a live message behind its arguments: the seq, which is its ack id.
    `_settings` tells that there are positions."""
    client = await door.client()
    await client.send(ASKING.replace(":1}", f":{value}}}").encode())
    _, settings = await received(client, 2)
    assert settings == '42/site,["_settings",{"device_ttl":77,"positions":true}]'
    await publish(door, 7)
    (packet,) = await received(client, 1)
    seq, args = parts_of(packet)
    assert args == [7, seq]


async def test_positions_in_a_batch_are_those_of_live(door: Door) -> None:
    """A message has in `_batch` the position that it had live. The ack of the batch empties the queue."""
    client = await door.connected(ASKING)
    await publish(door, 1, 2)
    live = [parts_of(packet) for packet in await received(client, 2)]
    client.engine.close("transport close")
    again = await door.client()
    await again.send(ASKING.encode())
    _, _, batch = await received(again, 3)
    number, (entries,) = parts_of(batch)
    assert (number, entries) == (1, [["e", 1, live[0][0]], ["e", 2, live[1][0]]])
    await again.send(b"43/site,1[]")
    await until(lambda: queue_of(door.valkey, SITE) == [], "the ack")


async def test_others_get_the_same_bytes(door: Door) -> None:
    """A client that does not ask gets no position, live and in `_batch`, also beside one that does."""
    asking = await door.connected(ASKING)
    silent = await door.connected(SILENT)
    await publish(door, 1)
    (packet,) = await received(silent, 1)
    assert re.fullmatch(r'42/site,\d+\["e",1\]', packet)
    assert parts_of((await received(asking, 1))[0]) == (parts_of(packet)[0], [1, parts_of(packet)[0]])
    for client in (asking, silent):
        client.engine.close("transport close")
    again = await door.client()
    await again.send(SILENT.encode())
    assert (await received(again, 3))[1:] == [
        '42/site,["_settings",{"device_ttl":77}]',
        '42/site,1["_batch",[["e",1]]]',
    ]


@pytest.mark.parametrize("value", ["0", "false", '""', "null", '"yes"'])
async def test_other_values_ask_for_nothing(door: Door, value: str) -> None:
    """Only 1 and true ask for positions."""
    client = await door.client()
    await client.send(ASKING.replace(":1}", f":{value}}}").encode())
    assert (await received(client, 2))[1] == '42/site,["_settings",{"device_ttl":77}]'


async def test_old_clients_ask_in_the_query(door: Door) -> None:
    """A client of version 1 or 2 asks in the namespace's query, or in that of the URL."""
    for packet, query in (("40/site?token=t&positions=1", ""), ("40/site?token=t", "positions=1")):
        client = await door.client(3, query)
        await client.send(packet.encode())
        assert (await received(client, 2))[1].endswith('"positions":true}]')
        client.engine.close("transport close")


async def test_without_queues_there_are_none(door: Door) -> None:
    """On a site without queues nothing is repeated, and no message has a position."""
    client = await door.client()
    await client.send(b'40/plain,{"token":"t","positions":1}')
    assert (await received(client, 2))[1] == '42/plain,["_settings",{"device_ttl":3600}]'
    await publish(door, 1, site=PLAIN)
    assert await received(client, 1) == ['42/plain,["e",1]']
