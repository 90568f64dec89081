"""Admission by ticket or by token, within the site's limits. On a real Valkey, without a network."""

from __future__ import annotations

import json
from urllib.parse import urlencode

import pytest
from structlog.testing import capture_logs

from app.protocols.sites.tickets import Credentials
from tests.protocols.sites.door import BACK, TOKEN, Door, received
from tests.socketio.socket_case import Client
from tests.support.store import settled
from tests.support.waiting import until


async def refused(door: Door, rooms: list[str], version: int = 4) -> str:
    """The refusal that the site with limits sends to a client with these rooms. The client's transport stays open."""
    client = await door.client(version)
    door.directory.answer = rooms
    await client.send(b"40/bound")
    (packet,) = await received(client, 1)
    assert client.socket.closed_with is None
    return packet


async def test_limits_of_connections(door: Door, monkeypatch: pytest.MonkeyPatch) -> None:
    """A refusal names the limit that was reached, in the contract's form for both generations. A connection that ends
    makes room. At the end nothing is counted."""
    monkeypatch.setattr("app.core.seat_row.PATIENCE_SECONDS", 0.0)
    door.directory.answer = ["user_1", "public"]
    first = await door.connected("40/bound")
    assert await refused(door, ["user_1", "public"]) == '44/bound,{"message":"Too many connections of this user"}'
    assert await refused(door, ["user_1", "public"], 3) == '44/bound,"Too many connections of this user"'
    assert await refused(door, ["user_2", "a", "b"]) == '44/bound,{"message":"Too many rooms: expected at most 2"}'
    door.directory.answer = ["user_2", "public"]
    second = await door.connected("40/bound")
    assert await refused(door, ["user_3"]) == '44/bound,{"message":"Too many connections from this address"}'
    first.engine.close("transport close")
    door.directory.answer = ["user_1"]
    third = await door.connected("40/bound")
    for client in (second, third):
        client.engine.close("transport close")
    await until(lambda: not [key for key in door.valkey.dump() if "seats" in key], "nothing to be counted")


async def test_a_client_that_goes_away_is_not_asked_about(door: Door) -> None:
    """A connect that waits for the site's backend ends with its client, and leaves nothing behind."""
    door.directory.may_answer.clear()
    client = await door.client()
    await client.send(b"40/bound")
    await until(lambda: door.directory.asked, "the backend to be asked")
    client.engine.close("transport close")
    await until(lambda: door.directory.abandoned == 1, "the question to be given up")
    door.directory.may_answer.set()
    await settled(door.node)
    assert door.node.delivery._counts.of("bound").connections == 0
    assert not [key for key in door.valkey.dump() if "bound" in key]


async def test_a_client_that_goes_away_while_it_is_counted(door: Door) -> None:
    """The seat of such a client is given back, whether or not Redis had counted it."""
    door.directory.answer = ["user_1"]
    client = await door.client()
    door.valkey.suspend()
    try:
        await client.send(b"40/bound")
        link = door.node.redis.shards[0]._link
        await until(lambda: link and link.is_waiting, "Redis to be asked")
        client.engine.close("transport close")
    finally:
        door.valkey.resume()
    await until(lambda: not [key for key in door.valkey.dump() if "seats" in key], "nothing to be counted")
    await door.connected("40/bound")


def ticket_in(packet: str) -> str:
    """The ticket of a `_settings` or `_resume_ticket` event."""
    event, content = json.loads(packet.partition(",")[2])
    return str(content["resume_ticket"] if event == "_settings" else content)


async def come_back(door: Door, engine_version: int = 4, /, **credentials: str) -> list[str]:
    """The packets that the server sends to a client that joins with these credentials."""
    query = urlencode(credentials)
    packet = f"40/back,{json.dumps(credentials)}" if engine_version == 4 else f"40/back?{query}"
    client = await door.client(engine_version)
    await client.send(packet.encode())
    await until(lambda: client.socket.written, "an answer")
    await until(lambda: b"_settings" in client.socket.written[-1] or len(client.socket.written) == 1, "all of it")
    return [packet.decode() for packet in client.received()]


async def hears(client: Client, ending: str) -> None:
    """Waits until the last packet to the client has this ending."""
    await until(lambda: client.socket.written and client.socket.written[-1].endswith(ending.encode()), ending)


@pytest.mark.parametrize("version", [3, 4])
async def test_coming_back_with_a_ticket(door: Door, version: int) -> None:
    """A ticket from `_settings` admits the client again, with or without its token, and authUrl is not asked. The
    client gets messages, and another ticket."""
    door.directory.answer = ["user_1", "editors"]
    first = await come_back(door, version, token="t", deviceId="d", meta="m")
    ticket = ticket_in(first[-1])
    assert len(door.directory.asked) == 1
    for number, token in enumerate(({"token": "t"}, {})):
        client = await door.client(version)
        await client.send(f"40/back?{urlencode({'deviceId': 'd', 'meta': 'm', 'ticket': ticket, **token})}".encode())
        connected, settings, *_ = await received(client, 2)
        assert connected.startswith("40/back")
        assert json.loads(settings.partition(",")[2])[1]["device_ttl"] == BACK.device_ttl_seconds
        await door.node.publish(BACK, "editors", body=f'["live",{number}]'.encode())
        await hears(client, f'["live",{number}]')
        ticket = ticket_in(settings)
    assert len(door.directory.asked) == 1
    assert [reported[2] for reported in door.updates.reported] == ["t", "t", None]


async def test_who_has_no_ticket(door: Door) -> None:
    """A site without resume tickets gives none and ignores them. A client without a token gets no ticket."""
    client = await door.client()
    await client.send(b'40/site,{"token":"t","ticket":"x"}')
    _, settings = await received(client, 2)
    assert settings == '42/site,["_settings",{"device_ttl":77}]'
    (_, settings) = await come_back(door, deviceId="d")
    assert settings == f'42/back,["_settings",{{"device_ttl":{BACK.device_ttl_seconds}}}]'


async def test_a_ticket_that_does_not_count(door: Door) -> None:
    """With a token, an invalid ticket is ignored. Without a token, the client is told the ticket's fault."""
    (_, settings) = await come_back(door, token="t", deviceId="d")
    ticket = ticket_in(settings)
    (refusal,) = await come_back(door, deviceId="other", ticket=ticket)
    assert refusal == '44/back,{"message":"Auth error: the resume ticket is of another site or device"}'
    (refusal,) = await come_back(door, 3, deviceId="d", ticket="made.up")
    assert refusal == '44/back,"Auth error: the resume ticket is not valid"'
    assert len(door.directory.asked) == 1
    for credentials in ({"deviceId": "other", "ticket": ticket}, {"deviceId": "d", "ticket": "made.up"}):
        await come_back(door, 4, token="t", **credentials)
    assert len(door.directory.asked) == 3
    # The token decides the user, not the ticket that another user left behind in the browser.
    door.directory.answer = ["user_2"]
    await come_back(door, token="of user 2", deviceId="d", ticket=ticket)
    assert door.directory.asked[-1] == ("back", "of user 2", None)


async def test_the_journal_tells_of_tickets(door: Door) -> None:
    """The row of a connection says whether its resume ticket was taken, or why not."""
    records = door.application._counts.records
    records.is_kept = True
    (_, settings) = await come_back(door, token="t", deviceId="d")
    tickets: list[object] = []
    for ticket in (ticket_in(settings), "made.up", ""):
        client = await door.client()
        query = {"deviceId": "d", "token": "t"} | ({"ticket": ticket} if ticket else {})
        await client.send(f"40/back?{urlencode(query)}".encode())
        await received(client, 2)
        client.engine.close("transport close")
        tickets += [row["ticket"] for row in records.take().get(("back", "connections"), [])]
    assert tickets == ["taken", "the resume ticket is not valid", None]


async def test_tickets_are_in_no_log_and_no_repr(door: Door) -> None:
    """Tickets and tokens are in no log line, and no credential is in a repr."""
    with capture_logs() as lines:
        (_, settings) = await come_back(door, token=TOKEN, deviceId="d")
        await come_back(door, token=TOKEN, deviceId="other", ticket=ticket_in(settings))
    assert "ticket refused" in [line["event"] for line in lines]
    assert ticket_in(settings) not in str(lines)
    assert TOKEN not in str(lines)
    assert "hidden" not in repr(Credentials("hidden", "hidden", "d", "hidden"))
