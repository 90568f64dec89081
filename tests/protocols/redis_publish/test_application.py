"""Admission of clients, the event `identifier`, and the state that is left when a client goes at any moment."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import pytest
from msgspec import Struct, structs
from structlog.testing import capture_logs

from app.config.settings import SiteLimits
from app.core.limits import Limits
from app.observe import counted_lines
from app.observe.counts import Counts
from app.protocols.redis_publish import guesses
from app.protocols.redis_publish.application import (
    FAULT,
    ORIGIN_REFUSED,
    STORE_AWAY,
    TOO_MANY_USERS,
    TOO_MANY_WRONG_KEYS,
    WRONG_FORM,
    WRONG_KEY,
    PublishSite,
    RedisPublishApplication,
)
from app.protocols.redis_publish.figures import RedisPublishCounts
from app.protocols.redis_publish.settings import RedisPublish
from app.protocols.redis_publish.visitor import MAX_TRIES, MAX_USERS
from app.store.seats import RedisSeats
from app.transport.refusals import TOO_MANY_GUESSES, refused
from tests.support.publish_node import PublishClient, PublishNode, publish_site, waiting
from tests.support.valkey import Valkey
from tests.support.waiting import until


class Request(Struct):
    """A client's request to join."""

    namespace: str = "/news"
    client_address: str = "192.0.2.1"
    user_agent: str = "phone"
    engine_version: int = 3
    tls: str | None = "TLSv1.3 X"
    waited_ms: int | None = 7


class Case:
    """The application of one site on a real Valkey. Lives for one test."""

    def __init__(self, valkey: Valkey, **settings: Any) -> None:
        self.valkey = valkey
        self.site = publish_site(route="/rm", **settings)
        self.node = PublishNode(valkey, self.site, "aa")
        self.counts = Counts()
        limits = Limits(RedisSeats(self.node.redis, "aa"))
        served = PublishSite(
            self.site, self.site.require_section(RedisPublish), self.node.mailboxes, self.node.mailroom
        )
        self.application = RedisPublishApplication([served], limits, self.counts)

    async def connect(self, origin: str | None = None, **request: Any) -> PublishClient:
        """A client that has asked to join."""
        client = PublishClient()
        client.origin = origin
        client.on_end = lambda: self.application.disconnected(client, "ended")
        await self.application.connect(client, Request(**request))
        return client

    def identify(self, client: PublishClient, *args: Any, ack_id: int | None = None) -> None:
        """Sends the client's event `identifier`."""
        self.application.event_received(client, "identifier", list(args), ack_id)

    def key(self, user: str, key: str) -> None:
        """Sets the user's key."""
        self.valkey.client.set(f"rm:users:{user}:key", key)

    def connections(self, user: str = "u") -> int:
        """The number of connections in Redis."""
        return int(self.valkey.client.hlen(f"recado:{{rm:users:{user}:messages}}:connections"))


@pytest.fixture
async def case(valkey: Valkey) -> AsyncIterator[Case]:
    """A site with its defaults, a route, an origin and a limit."""
    case = Case(valkey, origins=("https://ours",), limits=SiteLimits(connections_per_user=2))
    await case.node.start()
    case.key("u", "k")
    yield case
    await case.node.kill()


async def test_namespaces(case: Case) -> None:
    """The namespaces of the site and of its route are served, and no other."""
    names = ("/news", "/rm", "/", "/other", "news")
    assert [name for name in names if case.application.accepts_namespace(name)] == ["/news", "/rm"]
    for name in ("/news", "/rm"):
        assert (await case.connect(namespace=name)).written == [("confirm",)]
    assert case.counts.of("news").connections == 2


@pytest.mark.parametrize(("origin", "is_let_in"), [(None, True), ("https://ours", True), ("https://theirs", False)])
async def test_origin(case: Case, origin: str | None, is_let_in: bool) -> None:
    """The site's `origins` apply here too."""
    client = await case.connect(origin=origin)
    assert client.written == ([("confirm",)] if is_let_in else [("refuse", ORIGIN_REFUSED)])
    case.identify(client, "u:k")
    client.disconnect()
    assert case.counts.of("news").connections == 0


async def test_identified(case: Case) -> None:
    """The right key admits a client, and its callback is called. The same identifier again has no effect."""
    client = await case.connect()
    case.identify(client, "u:k", ack_id=7)
    await until(lambda: case.connections() == 1, "the connection")
    assert client.written == [("confirm",), ("ack", 7)]
    case.identify(client, "u:k", ack_id=8)
    await until(lambda: client.written[-1] == ("ack", 8), "the answer")
    assert case.counts.of("news").part(RedisPublishCounts).identifications == {"accepted": 1}
    assert case.connections() == 1


async def test_row_for_the_journal(case: Case) -> None:
    """A connection that ends is a row with its user and without the key."""
    case.counts.records.is_kept = True
    client = await case.connect()
    case.identify(client, "u:k")
    await until(lambda: case.connections() == 1, "the user")
    assert await case.node.publish("hello", "u") == "delivered"
    await until(lambda: client.payloads, "the message")
    (shown,) = case.application.live("news")
    assert (shown.facts and shown.facts.user, shown.measures().messages) == ("u", 1)
    client.disconnect()
    (row,) = case.counts.records.take()["news", "connections"]
    assert (row["user"], row["address"], row["reason"]) == ("u", "192.0.2.1", "ended")
    assert row["connected_at"] <= row["disconnected_at"]
    assert (row["user_agent"], row["version"], row["transport"], row["connect_ms"]) == ("phone", "3", "memory", 7)
    assert row["tls"] == "TLSv1.3 X"
    assert row["messages"] == 1
    assert list(case.application.live("news")) == []


async def test_several_users_of_one_client(case: Case) -> None:
    """Each right identifier adds a user: the client gets the messages of all, and its end is the end of each."""
    case.key("v", "k")
    client = await case.connect()
    for number, argument in enumerate(("u:k", "nobody:k", "v:k")):
        case.identify(client, argument, ack_id=number)
    await until(lambda: not case.application._tasks, "the answers")
    for user in ("u", "v", "u"):
        assert await case.node.publish(f"for {user}", user) == "delivered"
    await until(lambda: len(client.payloads) == 3, "the messages")
    assert client.payloads == ["for u", "for v", "for u"]
    assert client.written[1:4] == [("ack", 0), ("error", WRONG_KEY), ("ack", 2)]
    client.disconnect()
    await case.node.mailroom.drain()
    assert [case.connections(user) for user in ("u", "v")] == [0, 0]
    assert case.counts.of("news").connections == 0


async def test_acks_of_several_users(valkey: Valkey) -> None:
    """In a site with acks an ack is that of one message of one user."""
    case = Case(valkey, ack=True, secure=False)
    await case.node.start()
    client = await case.connect()
    for user in ("u", "v"):
        case.identify(client, user)
    await until(lambda: not case.application._tasks, "the answers")
    for user in ("u", "v"):
        await case.node.publish(f"for {user}", user)
    await until(lambda: len(client.payloads) == 2, "the messages")
    ids = [what[3] for what in client.written if what[0] == "message"]
    assert len(set(ids)) == 2
    case.application.ack_received(client, ids[1])
    await until(lambda: waiting(valkey, "v") == [], "the ack")
    assert waiting(valkey, "u") == ["for u"]
    await case.node.kill()


async def test_bound_of_users(case: Case) -> None:
    """One connection has at most so many users and waiting identifiers."""
    client = await case.connect()
    for _ in range(MAX_USERS + 1):
        case.identify(client, "u:k")
    assert client.written[-1] == ("error", TOO_MANY_USERS)
    await until(lambda: not case.application._tasks, "the answers")
    assert case.connections() == 1


async def test_wrong_tries(case: Case, monkeypatch: pytest.MonkeyPatch) -> None:
    """The answer distinguishes a wrong form from a wrong key, but never an unknown user from a wrong key. After three
    tries the client is disconnected."""
    client = await case.connect()
    monkeypatch.setattr(counted_lines, "WINDOW_SECONDS", 60.0)
    with capture_logs() as lines:
        for argument in (7, "u:wrong", "nobody:k"):
            case.identify(client, argument)
            await until(lambda: not case.application._tasks, "an answer")
    # Of each reason one line a second.
    refusals = [line["reason"] for line in lines if line["event"] == "identification refused"]
    assert refusals == [WRONG_FORM, WRONG_KEY]
    errors = [("error", WRONG_FORM), ("error", WRONG_KEY), ("error", WRONG_KEY)]
    assert client.written == [("confirm",), *errors, ("disconnect",)]
    assert case.counts.of("news").part(RedisPublishCounts).identifications == {"refused": MAX_TRIES}


async def test_half_a_surrogate_pair_is_no_name(case: Case) -> None:
    """A name that no application can write is a wrong form: it is answered, and counts as a try."""
    client = await case.connect()
    for _ in range(MAX_TRIES):
        case.identify(client, "\ud800:k")
        await until(lambda: not case.application._tasks, "an answer")
    assert client.written == [("confirm",), *[("error", WRONG_FORM)] * MAX_TRIES, ("disconnect",)]


async def test_fault_of_the_server(case: Case, monkeypatch: pytest.MonkeyPatch) -> None:
    """A fault while a client is identified closes its transport: it must not wait for an answer for ever."""
    client = await case.connect()
    monkeypatch.setattr(case.node.mailboxes, "key_of", None)
    case.identify(client, "u:k")
    await until(lambda: client.written[-1] == ("close", FAULT), "the end")


async def test_session_stays_once_it_is_identified(case: Case) -> None:
    """Until then it has the bounds and the deadline of a session in no site."""
    client = await case.connect()
    assert not client.holds_session
    case.identify(client, "u:wrong")
    await until(lambda: client.written[-1] == ("error", WRONG_KEY), "the error")
    assert not client.holds_session
    case.identify(client, "u:k", ack_id=7)
    await until(lambda: client.written[-1] == ("ack", 7), "the answer")
    assert client.holds_session


async def test_nameless_clients_count(case: Case, monkeypatch: pytest.MonkeyPatch) -> None:
    """A client takes its place among the site's connections when it connects, and gives it back whenever it goes."""
    monkeypatch.setattr("app.core.seat_row.PATIENCE_SECONDS", 0.0)
    limits = SiteLimits(connections=2, connections_per_address=2, connections_per_user=1)
    case.site = structs.replace(case.site, limits=limits)
    served = structs.replace(case.application._sites["/news"], site=case.site)
    case.application._sites["/news"] = served
    first, second = [await case.connect() for _ in range(2)]
    third = await case.connect()
    assert third.written == [("refuse", "Too many connections from this address")]
    second.disconnect()
    fourth = await case.connect()
    for client in (first, fourth):
        case.identify(client, "u:k")
        await until(lambda: not case.application._tasks, "an answer")
    assert fourth.written[-1] == ("error", "Too many connections of this user")
    for client in (first, fourth):
        client.disconnect()
    for client in [await case.connect() for _ in range(2)]:
        assert client.written == [("confirm",)]


async def test_redis_away_at_the_connect(case: Case) -> None:
    """A client that cannot be counted is closed, so that it reconnects."""
    case.site = structs.replace(case.site, limits=SiteLimits(connections=2))
    case.application._sites["/news"] = structs.replace(case.application._sites["/news"], site=case.site)
    await case.node.redis.close()
    assert (await case.connect()).written == [("close", STORE_AWAY)]


async def test_address_that_guesses_is_braked(case: Case, monkeypatch: pytest.MonkeyPatch) -> None:
    """Wrong keys count for the address over all its connections; past the bound no key is looked at."""
    monkeypatch.setattr(guesses, "WRONG_AT_ONCE", 2)
    for key in ("a", "b"):
        client = await case.connect()
        case.identify(client, f"u:{key}")
        await until(lambda: not case.application._tasks, "an answer")
    before = refused[TOO_MANY_GUESSES]
    braked, other = await case.connect(), await case.connect(client_address="192.0.2.2")
    for client in (braked, other):
        case.identify(client, "u:k", ack_id=7)
    await until(lambda: other.written[-1] == ("ack", 7), "the answer")
    assert braked.written[1:] == [("error", TOO_MANY_WRONG_KEYS), ("close", "too many wrong keys")]
    assert refused[TOO_MANY_GUESSES] == before + 1
    assert case.counts.of("news").part(RedisPublishCounts).identifications["braked"] == 1


async def test_guesses_at_once(case: Case) -> None:
    """Of four tries at once the fourth is not looked at, even if it is right: the client is gone."""
    client = await case.connect()
    for argument in ("u:1", "u:2", "u:3", "u:k"):
        case.identify(client, argument)
    await until(lambda: client.is_closed and not case.application._tasks, "the end")
    assert client.written[1:] == [*[("error", WRONG_KEY)] * 3, ("disconnect",)]
    assert case.connections() == 0


async def test_two_right_ones_at_once(case: Case) -> None:
    """A client that identifies itself twice without waiting gets one connection and one seat."""
    client = await case.connect()
    for _ in range(2):
        case.identify(client, "u:k")
    await until(lambda: not case.application._tasks, "both answers")
    assert case.connections() == 1
    client.disconnect()
    await case.node.mailroom.drain()
    assert case.connections() == 0


async def test_limits_of_the_site(case: Case, monkeypatch: pytest.MonkeyPatch) -> None:
    """A connection over a limit of the site is told so. A connection that ends gives its place back."""
    monkeypatch.setattr("app.core.seat_row.PATIENCE_SECONDS", 0.0)
    clients = [await case.connect() for _ in range(3)]
    for client in clients:
        case.identify(client, "u:k")
        await until(lambda: not case.application._tasks, "an answer")
    assert clients[2].written[-1] == ("error", "Too many connections of this user")
    clients[0].disconnect()
    await case.node.mailroom.drain()
    case.identify(clients[2], "u:k")
    await until(lambda: case.connections() == 2, "the third in the place of the first")


async def test_client_that_goes_while_it_is_looked_up(case: Case) -> None:
    """Nothing is left of a client that goes before its key was compared."""
    client = await case.connect()
    case.identify(client, "u:k")
    await asyncio.sleep(0)
    client.disconnect()
    await until(lambda: not case.application._tasks, "the end of the identification")
    await case.node.mailroom.drain()
    assert case.connections() == 0
    assert case.counts.of("news").connections == 0


async def test_redis_away(case: Case) -> None:
    """While Redis is away the client's transport is closed, so that the client reconnects."""
    client = await case.connect()
    await case.node.redis.close()
    case.identify(client, "u:k")
    await until(lambda: client.written[-1] == ("close", STORE_AWAY), "the end")
    assert case.counts.of("news").part(RedisPublishCounts).identifications == {"unavailable": 1}


async def test_other_events(case: Case) -> None:
    """Any other event of a client is answered if the client asks for an ack, and has no effect."""
    client = await case.connect()
    case.application.event_received(client, "hello", [1], None)
    case.application.event_received(client, "hello", [], 3)
    case.application.ack_received(client, 9)
    case.identify(client)
    await until(lambda: client.written[-1] == ("error", WRONG_FORM), "the error")
    assert client.written == [("confirm",), ("ack", 3), ("error", WRONG_FORM)]
