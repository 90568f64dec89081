"""Waiting lists of socket.io-webservice in the same Redis: found at the start, taken over at the first connect."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from time import perf_counter
from typing import Any

import pytest
from structlog.testing import capture_logs

from app.core.ports import AckGroup
from app.redis.address import Address
from app.redis.client import Redis
from app.store.originals import Originals
from app.store.queues import RedisQueues
from tests.support.store import linked, make_message, make_site
from tests.support.valkey import Valkey

SITE = make_site()
#: A flake id of the original: a decimal number that grows.
_ID = 7_000_000_000_000_000_000


@pytest.fixture
async def redis(valkey: Valkey) -> AsyncIterator[Redis]:
    """A link to a Redis of its own."""
    async with linked(valkey) as redis:
        yield redis


def leave(valkey: Valkey, device: str, event: str, *numbers: int, room: str = "user_1", site: str = "shop") -> str:
    """Write what the original's `add` writes: one list for each event, an id in front of each entry."""
    key = f"/{site}:socket.io:{room}:{device}:{event}"
    client: Any = valkey.client
    for number in numbers:
        client.rpush(key, f"{_ID + number}:{json.dumps([event, number], separators=(',', ':'))}")
        client.expire(key, 3600)
    return key


async def look(redis: Redis, *sites: Any) -> None:
    """Do the same as a node at its start."""
    originals = Originals(redis, sites or [SITE])
    await originals.start()
    await originals.close()


async def test_site_that_is_added(redis: Redis, valkey: Valkey) -> None:
    """The lists of a site that is added while the node runs are found before its first device connects."""
    leave(valkey, "d", "news", 1)
    originals = Originals(redis, [make_site("other")])
    await originals.start()
    assert not (await connect(redis, "early")).devices[0].waiting.entries
    await originals.add([SITE, make_site("plain", user_room_prefix=None)])
    await originals.add([])
    assert len((await connect(redis, "d")).devices[0].waiting.entries) == 1
    await originals.close()


async def connect(redis: Redis, device: str, rooms: tuple[str, ...] = ("user_1",)) -> Any:
    """A device's registration."""
    return await RedisQueues(redis, "aa", 1_000_000).connect(SITE, 1, device, rooms)


def bodies(device: Any) -> list[Any]:
    """The messages of its first batch."""
    return [json.loads(body) for _, body in device.waiting.entries]


async def test_taken_over_once_in_order(redis: Redis, valkey: Valkey) -> None:
    """All lists of the device are one batch, in the order of the flake ids, and gone; then the queue has it."""
    keys = [leave(valkey, "d", "news", 1, 4, 5), leave(valkey, "d", "score", 2, 3, 2_999_999_999_999_999_999)]
    other = leave(valkey, "e", "news", 9)
    await look(redis)
    registration = await connect(redis, "d")
    expected = [["news", 1], ["score", 2], ["score", 3], ["news", 4], ["news", 5], ["score", 2_999_999_999_999_999_999]]
    (device,) = registration.devices
    assert bodies(device) == expected
    assert not device.is_lost
    assert registration.last_seq == device.waiting.entries[-1][0]
    assert [key for key in (*keys, other) if valkey.client.exists(key)] == [other]
    assert bodies((await connect(redis, "d")).devices[0]) == expected
    assert bodies((await connect(redis, "e")).devices[0]) == [["news", 9]]
    assert valkey.client.keys("*originals") == []


async def test_acks_and_later_messages(redis: Redis, valkey: Valkey) -> None:
    """Messages that were taken over are acknowledged as any other, and later messages follow them."""
    leave(valkey, "d", "news", 1, 2)
    await look(redis)
    registration = await connect(redis, "d")
    queues = RedisQueues(redis, "aa", 1_000_000)
    sent = await queues.send(make_message(SITE, "user_1"))
    assert sent.seq > registration.last_seq
    device = (await connect(redis, "d")).devices[0]
    assert [seq for seq, _ in device.waiting.entries][-1] == sent.seq
    await queues.ack(SITE, [AckGroup(True, seq, [device.handle]) for seq, _ in device.waiting.entries])
    assert valkey.client.keys("*:body:*") == []


async def test_lists_of_a_longer_device_id(redis: Redis, valkey: Valkey) -> None:
    """A device does not take the lists of another device whose id begins with its own and a colon."""
    leave(valkey, "a", "news", 1)
    longer = leave(valkey, "a:b", "news", 2)
    nameless = leave(valkey, "", "news", 3)
    await look(redis)
    assert bodies((await connect(redis, "a")).devices[0]) == [["news", 1]]
    assert valkey.client.exists(longer, nameless) == 2
    assert bodies((await connect(redis, "")).devices[0]) == [["news", 3]]
    assert bodies((await connect(redis, "a:b")).devices[0]) == [["news", 2]]


@pytest.mark.parametrize(
    "entry", ["no id", f'{_ID}:["news"', f'{_ID}:{{"a":1}}', f"{_ID}:[1]", f"{_ID}:" + "[" * 5_000]
)
async def test_unreadable_entry(redis: Redis, valkey: Valkey, entry: str) -> None:
    """An entry that cannot be read is told by a `_resync`; it keeps no other entry from the device."""
    key = leave(valkey, "d", "news", 1)
    valkey.client.rpush(key, entry)
    await look(redis)
    device = (await connect(redis, "d")).devices[0]
    assert (device.is_lost, bodies(device)) == (True, [["news", 1]])


async def test_more_than_one_run_takes(redis: Redis, valkey: Valkey) -> None:
    """So many messages are taken over in one short run. A device with more, or longer ones, gets a `_resync`."""
    client: Any = valkey.client
    leave(valkey, "most", "news", *range(2_000))
    leave(valkey, "more", "news", *range(2_001))
    for number in range(5):
        client.rpush("/shop:socket.io:user_1:long:news", f"{_ID}:{json.dumps(['news', number, 'x' * 500_000])}")
    await look(redis)
    client.config_set("slowlog-log-slower-than", 0)
    started = perf_counter()
    device = (await connect(redis, "most")).devices[0]
    assert perf_counter() - started < 1.0
    assert (device.is_lost, bodies(device)[0], device.waiting.has_more) == (False, ["news", 0], True)
    assert min(entry["duration"] for entry in client.slowlog_get(3) if b"EVALSHA" in entry["command"]) < 50_000
    for name in ("more", "long"):
        device = (await connect(redis, name)).devices[0]
        assert (device.is_lost, device.waiting.entries) == (True, [])
    assert client.keys("/shop:*") == []


async def test_expiry(redis: Redis, valkey: Valkey) -> None:
    """A list without an expiry, and the names of the lists, live as long as a device that has gone now."""
    key = leave(valkey, "d", "news", 1)
    valkey.client.persist(key)
    await look(redis)
    for name in (key, "recado:{shop}:originals"):
        assert 3500 < valkey.client.ttl(name) <= 3600
    gone = leave(valkey, "e", "news", 1)
    await look(redis)
    valkey.client.delete(gone)
    assert bodies((await connect(redis, "e")).devices[0]) == []


async def test_sites_that_take_nothing_over(redis: Redis, valkey: Valkey) -> None:
    """A site with `import: false`, a site without queues and an unknown site leave the lists as they are."""
    for site in ("shop", "plain", "unknown"):
        leave(valkey, "d", "news", 1, site=site)
    await look(redis, make_site(import_originals=False), make_site("plain", user_room_prefix=None))
    assert valkey.client.keys("*originals") == []
    assert bodies((await connect(redis, "d")).devices[0]) == []


async def test_several_user_rooms(redis: Redis, valkey: Valkey) -> None:
    """A connection in several user rooms takes over the lists of each of its devices."""
    leave(valkey, "d", "news", 1)
    leave(valkey, "d", "news", 2, room="user_2")
    await look(redis)
    assert [bodies(one) for one in (await connect(redis, "d", ("user_1", "user_2"))).devices] == [
        [["news", 1]],
        [["news", 2]],
    ]


async def test_login_that_may_not_read_them(valkey: Valkey) -> None:
    """With a login for Recado's own keys alone nothing is noted: connects go on, and the log says why."""
    leave(valkey, "d", "news", 1)
    client: Any = valkey.client
    rights = ("on", "nopass", "~recado:*", "&recado:*", "+@all", "-@dangerous", "+info")
    client.execute_command("ACL", "SETUSER", "recado", "reset", *rights)
    redis = Redis(Address(path=str(valkey.socket), username="recado", password="any"), 2.0)
    await redis.start()
    with capture_logs() as lines:
        await look(redis)
    assert bodies((await connect(redis, "d")).devices[0]) == []
    await redis.close()
    client.execute_command("ACL", "DELUSER", "recado")
    assert [line["event"] for line in lines] == ["lists of socket.io-webservice cannot be taken over"]
