"""Clients whose token runs out are told, hand in the next one, or are closed. The test moves the clock."""

from __future__ import annotations

import asyncio
import base64
import json
from typing import Any

import pytest
from msgspec import structs

from app.protocols.sites import token_expiry
from app.protocols.sites.figures import SitesCounts
from app.protocols.sites.token_expiry import EXPIRED, MOST_DUE_A_TURN, ROOMS_CHANGED, TokenTerm
from app.protocols.sites.tokens import TokenIdentity
from tests.protocols.sites.door import BESIDE, Door, received
from tests.protocols.sites.test_admission import ticket_in
from tests.socketio.socket_case import Client
from tests.support.issuer import token_of
from tests.support.waiting import until


def terms(door: Door) -> list[TokenTerm]:
    """The terms that wait."""
    wheel = door.application._expiries.wheel
    return [term for bucket in wheel._buckets.values() for term in bucket]  # type: ignore[misc]


async def later(door: Door, seconds: float) -> None:
    """The clock is moved, and the deadline of every term has passed."""
    door.ahead_ms += int(seconds * 1000)
    wheel = door.application._expiries.wheel
    for term in terms(door):
        wheel.cancel(term)
        term.deadline_passed(0)
    for _ in range(3):
        await asyncio.sleep(0)


async def joined(door: Door, packet: str, version: int = 4) -> tuple[Client, list[str]]:
    """A client that is in, and its greeting."""
    client = await door.client(version)
    await client.send(packet.encode())
    return client, await received(client, 2)


async def hand_in(client: Client, site: str, token: Any, ack_id: int = 7) -> Any:
    """The answer to a token that the client hands in."""
    await client.send(f"42/{site},{ack_id}{json.dumps(['_token', token])}".encode())
    prefix = f"43/{site},{ack_id}".encode()
    await until(lambda: any(one.startswith(prefix) for one in client.socket.written), "an answer")
    (answer,) = [one for one in client.socket.written if one.startswith(prefix)]
    client.socket.written.remove(answer)
    return json.loads(answer[len(prefix) :])[0]


def counted(door: Door, site: str) -> dict[str, int]:
    """The results of the site's tokens."""
    return dict(door.node.counts.of(site).part(SitesCounts).tokens)


@pytest.mark.parametrize("version", [3, 4])
async def test_a_token_runs_out(door: Door, version: int) -> None:
    """The client is told 60 s before, once, and closed with the reason when the leeway has passed, too."""
    client, _ = await joined(door, f"40/alone?token={token_of(seconds=300)}", version)
    await later(door, 200)
    assert client.received() == []
    await later(door, 45)
    (told,) = client.received()
    event, content = json.loads(told.partition(b",")[2])
    assert (event, 40 <= content["expires_in"] <= 56) == ("_token_expiring", True)
    await later(door, 55)
    assert (client.received(), client.socket.closed_with) == ([], None)
    await later(door, 20)
    assert client.received() == [b'42/alone,["_closed",{"reason":"token expired"}]']
    assert client.engine.listener is None
    assert door.node.counts.of("alone").closes[EXPIRED] == 1
    assert counted(door, "alone") == {"accepted": 1, "ran out": 1}
    assert terms(door) == []


async def test_a_short_token(door: Door) -> None:
    """A token that is valid for less than 60 s is told of at once, behind `_settings`."""
    client, _ = await joined(door, f"40/alone?token={token_of(seconds=20)}")
    await until(lambda: client.socket.written, "the notice")
    (told,) = client.received()
    assert b"_token_expiring" in told


async def test_a_new_token_renews(door: Door) -> None:
    """The connection stays for as long as the new token is valid, and is told again before that one runs out."""
    client, _ = await joined(door, f'40/alone,{{"token":"{token_of("8", "a", seconds=100)}"}}')
    await later(door, 50)
    assert b"_token_expiring" in client.received()[0]
    answer = await hand_in(client, "alone", token_of("8", "A", seconds=500))
    assert (answer["ok"], 440 <= answer["expires_in"] <= 450) == (True, True)
    await later(door, 200)
    assert client.received() == []
    await later(door, 200)
    assert b"_token_expiring" in client.received()[0]
    await later(door, 100)
    assert b"_closed" in client.received()[0]
    assert counted(door, "alone") == {"accepted": 2, "ran out": 1}


async def test_tokens_that_do_not_renew(door: Door, monkeypatch: pytest.MonkeyPatch) -> None:
    """A token of another user, a wrong one and no token have each their reason, and change nothing; a connection may
    hand in one a second."""
    monkeypatch.setattr(token_expiry, "RENEWAL_SECONDS", 0.0)
    client, _ = await joined(door, f'40/alone,{{"token":"{token_of("8", seconds=100)}"}}')
    for token, reason in (
        (token_of("9"), "the token is of another user"),
        (token_of("8", "user_9"), "the token is of another user"),
        (token_of("8", seconds=-60), "the token has expired"),
        (token_of("8", iss="x"), "the token is of no issuer of this site"),
        ("12345", "the token is of no issuer of this site"),
        (None, "expected the token as the first argument"),
        ({"a": 1}, "expected the token as the first argument"),
    ):
        assert await hand_in(client, "alone", token) == {"error": reason}
    monkeypatch.setattr(token_expiry, "RENEWAL_SECONDS", 100.0)
    await hand_in(client, "alone", "12345")
    assert await hand_in(client, "alone", token_of()) == {"error": "expected at most one token in 100 s"}
    await later(door, 111)
    assert b"_closed" in client.received()[-1]


async def test_other_rooms(door: Door) -> None:
    """A token with other rooms closes the connection, so that the client comes back and gets them."""
    client, _ = await joined(door, f'40/alone,{{"token":"{token_of("8", "a")}"}}')
    assert await hand_in(client, "alone", token_of("8", "b")) == {"ok": True, "reconnect": True}
    assert client.received() == [b'42/alone,["_closed",{"reason":"rooms changed"}]']
    assert door.node.counts.of("alone").closes[ROOMS_CHANGED] == 1


async def test_a_client_of_auth_url_has_no_term(door: Door) -> None:
    """A client whom authUrl knows has no token that runs out; its `_token` is an event like any other."""
    client, _ = await joined(door, '40/beside,{"token":"t"}')
    assert terms(door) == []
    await client.send(b'42/beside,3["_token","x"]')
    assert client.received() == [b"43/beside,3[]"]


async def test_tickets_end_with_the_token(door: Door) -> None:
    """A ticket is valid for no longer than its token; a client that comes by ticket is told and closed like the others,
    and a new token brings a new ticket."""
    token = token_of("8", "a", seconds=100)
    _, (_, settings) = await joined(door, f'40/beside,{{"token":"{token}","deviceId":"d"}}')
    ticket = ticket_in(settings)
    client, (_, again) = await joined(door, f'40/beside,{{"ticket":"{ticket}","deviceId":"d"}}')
    assert "_settings" in again
    held = door.node.ticket_store
    held.now_ms = int(json.loads(_claims(ticket))["terms"]["ends_at_ms"]) + 1
    late = await door.client()
    await late.send(f'40/beside,{{"ticket":"{ticket}","deviceId":"d"}}'.encode())
    assert await received(late, 1) == ['44/beside,{"message":"Auth error: the resume ticket has expired"}']
    held.now_ms = ""
    await joined(door, f'40/beside,{{"ticket":"{ticket_in(again)}","deviceId":"d"}}')
    await later(door, 50)
    assert b"_token_expiring" in client.received()[0]
    newer = token_of("8", "a", seconds=500)
    assert (await hand_in(client, "beside", newer))["ok"] is True
    (renewed,) = client.received()
    assert renewed.startswith(b'42/beside,["_resume_ticket","')
    for credentials in ({"token": newer}, {}):
        packet = json.dumps({"ticket": ticket_in(renewed.decode()), "deviceId": "d", **credentials})
        await joined(door, f"40/beside,{packet}")
    assert door.directory.asked == []
    await later(door, 70)
    assert client.received() == []


async def test_the_report_has_the_newest_token(door: Door) -> None:
    """The site's backend is told of the end with the token that the client has handed in last."""
    token, newer = token_of("8", seconds=100), token_of("8", seconds=200)
    client, _ = await joined(door, f'40/beside,{{"token":"{token}"}}')
    assert (await hand_in(client, "beside", newer))["ok"] is True
    client.engine.close("transport close")
    reports = [("beside", "8", token, True), ("beside", "8", newer, False)]
    await until(lambda: door.updates.reported == reports, "both reports")


def _claims(ticket: str) -> bytes:
    return base64.urlsafe_b64decode(ticket.split(".")[1] + "==")


async def test_tickets_of_an_issuer_that_is_gone(door: Door) -> None:
    """When the site has the issuer no longer, its tickets do not count."""
    _, (_, settings) = await joined(door, f'40/beside,{{"token":"{token_of("8")}","deviceId":"d"}}')
    held = BESIDE.jwt
    structs.force_setattr(BESIDE, "jwt", ())
    try:
        client = await door.client()
        await client.send(f'40/beside,{{"ticket":"{ticket_in(settings)}","deviceId":"d"}}'.encode())
        (refusal,) = await received(client, 1)
        assert "of an issuer that the site has no longer" in refusal
    finally:
        structs.force_setattr(BESIDE, "jwt", held)


class Link:
    """A client that is told and closed. Lives for one test."""

    def __init__(self, done: list[int]) -> None:
        self.is_closed = False
        self._done = done

    def send_event(self, event: str, args: Any) -> None:
        """See `ClientLink`."""

    def close(self, reason: str) -> None:
        """Note it."""
        self.is_closed = True
        self._done.append(1)


async def test_many_at_once(door: Door) -> None:
    """Tokens that end in the same second are worked off in slices, with turns for others in between."""
    expiries, done, most = door.application._expiries, list[int](), 0
    for _ in range(3 * MOST_DUE_A_TURN + 5):
        link = Link(done)
        identity = TokenIdentity("i", "8", [], 0, 0)
        expiries.start(TokenTerm(expiries, link, BESIDE, identity, link.close, lambda token, identity: None))
    waiting = terms(door)
    for term in waiting:
        expiries.wheel.cancel(term)
        term.deadline_passed(0)
    before = 0
    while len(done) < len(waiting):
        await asyncio.sleep(0)
        most, before = max(most, len(done) - before), len(done)
    assert most == MOST_DUE_A_TURN


async def test_the_end_of_the_server(door: Door) -> None:
    """Nothing is under way behind the end, and a client that has left is in no wheel."""
    client, _ = await joined(door, f'40/alone,{{"token":"{token_of("8")}"}}')
    assert len(terms(door)) == 1
    client.engine.close("transport close")
    assert terms(door) == []
    await door.application.aclose()
