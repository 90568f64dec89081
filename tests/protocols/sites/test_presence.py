"""Requests of clients to watch rooms, and the watched rooms of a node: refusals, bounds, gaps, and a Redis that is
away. On a real Valkey."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Sequence
from typing import Any

import pytest

from app.config.settings import PresenceSettings, Site
from app.errors import StoreAway
from app.protocols.sites import presence, watched_rooms
from app.protocols.sites.presence import MOST_REQUESTS, MOST_ROOMS_OF_WATCHER, RoomPresence, Watches
from app.protocols.sites.redis_presence import RedisPresence
from app.protocols.sites.watched_rooms import AWAY, NOT_INSIDE, TOO_MANY_ROOMS
from app.socketio.engine_packet import EncodedPacket
from app.store.keys import prefix
from tests.support.store import RecordingReceiver, StoreNode, make_site, settled
from tests.support.valkey import Valkey
from tests.support.waiting import until, until_answer


class Watcher:
    """A connection that watches rooms, and remembers what it is told. Lives for one test."""

    def __init__(self, *rooms: str) -> None:
        self.rooms: Sequence[str] = rooms
        self.watches: Any = None
        self.is_over = False
        self.told: list[Any] = []
        self.closed: list[str] = []
        self.fails = False

    def send(self, packet: EncodedPacket) -> None:
        """Remembers the event."""
        if self.fails:
            raise RuntimeError("a receiver that fails")
        text = packet.packet.decode()
        self.told.append(json.loads(text[text.index("[") :]))

    def send_whisper(self, body: bytes) -> None:
        """Remembers the event."""
        self.told.append(json.loads(body))

    def close(self, reason: str) -> None:
        """Remembers the reason."""
        self.closed.append(reason)

    def names(self) -> list[str]:
        """The events."""
        return [event for event, _ in self.told]


class World:
    """A node with a site that has presence. Lives for one test."""

    def __init__(self, node: StoreNode, site: Site, store: RedisPresence) -> None:
        self.node = node
        self.site = site
        self.store = store
        self.presence = RoomPresence({site.name: site}, store)
        self.answers: list[Any] = []

    async def join(self, *rooms: str, device: str = "d") -> tuple[Watcher, RecordingReceiver]:
        """A connected device."""
        return Watcher(*rooms), await self.node.open(self.site, rooms, device)

    async def ask(self, watcher: Watcher, *args: Any) -> Any:
        """The answer to a request."""
        before = len(self.answers)
        self.presence.request(watcher, self.site, args, lambda body: self.answers.append(json.loads(body)))
        await until(lambda: len(self.answers) > before, "an answer")
        return self.answers[-1]

    async def error(self, watcher: Watcher, *args: Any) -> str:
        """The error in it."""
        return str((await self.ask(watcher, *args)).get("error"))


@pytest.fixture
async def world(valkey: Valkey) -> AsyncIterator[World]:
    """A node whose bus brings changes of rooms."""
    settings = PresenceSettings(rooms=("room*",), members=3, grace_seconds=0)
    site = make_site(presence=settings, public_channel="public")
    node = await StoreNode.start(valkey, [site])
    world = World(node, site, RedisPresence(node.redis, node.name))
    node.bus.presence_changes.append(world.presence.hear)
    await world.presence.start()
    yield world
    await world.presence.aclose()
    await node.close()


@pytest.mark.parametrize("args", [(), (None,), (7,), ("",), ("x" * 1_001,), ("room", "yes"), ("room", 1), (["room"],)])
async def test_requests_that_are_none(world: World, args: tuple[Any, ...]) -> None:
    """The answer says what is expected, or that the connection is in no such room."""
    watcher, _ = await world.join("user_1", "room")
    assert await world.error(watcher, *args) in (presence._BAD, NOT_INSIDE)
    assert world.presence._watched == {}


async def test_rooms_that_are_not_watched(world: World) -> None:
    """A room of others, a room without presence, a user room, and a connection without a user."""
    watcher, _ = await world.join("user_1", "room", "other")
    assert await world.error(watcher, "room-2") == NOT_INSIDE
    assert await world.error(watcher, "other") == presence.NO_PRESENCE
    assert await world.error(watcher, "user_1") == presence.NO_PRESENCE
    public, _ = await world.join("public", "room")
    assert await world.error(public, "room") == presence._NO_USER
    # The connection has been moved out of the room, and does not know it yet.
    assert await world.error(Watcher("user_2", "room"), "room") == NOT_INSIDE
    assert (await world.ask(watcher, "ROOM", None))["count"] == 1


async def test_rooms_of_one_connection(world: World) -> None:
    """It watches so many; a room that is stopped makes place for another one."""
    rooms = [f"room-{number}" for number in range(MOST_ROOMS_OF_WATCHER + 1)]
    watcher, _ = await world.join("user_1", *rooms)
    for room in rooms[:-1]:
        assert (await world.ask(watcher, room))["count"] == 1
    assert await world.error(watcher, rooms[-1]) == presence._TOO_MANY
    assert (await world.ask(watcher, rooms[0]))["count"] == 1
    assert await world.ask(watcher, rooms[0], False) == {"room": rooms[0]}
    assert (await world.ask(watcher, rooms[-1]))["count"] == 1


def test_requests_of_one_connection() -> None:
    """It asks so often at once, and two times a second from then on."""
    watches = Watches(100.0)
    assert [watches.may_ask(100.0) for _ in range(MOST_REQUESTS + 1)] == [*[True] * MOST_REQUESTS, False]
    assert [watches.may_ask(101.0) for _ in range(3)] == [True, True, False]


async def test_too_many_requests(world: World) -> None:
    """The answer says so, and nothing is asked for."""
    watcher, _ = await world.join("user_1", "room")
    watcher.watches = Watches(0.0)
    watcher.watches._left, watcher.watches._left_at = 0.0, float("inf")
    assert await world.error(watcher, "room") == presence._TOO_OFTEN


async def test_rooms_of_one_node(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """A node watches so many rooms of a site; those that it has are watched by others, too."""
    monkeypatch.setattr(watched_rooms, "MOST_WATCHED_ROOMS", 1)
    watcher, _ = await world.join("user_1", "room", "room-2")
    other, _ = await world.join("user_2", "room")
    assert (await world.ask(watcher, "room"))["count"] == 2
    assert await world.error(watcher, "room-2") == TOO_MANY_ROOMS
    assert (await world.ask(other, "room"))["count"] == 2


async def test_a_storm(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """Users that come at once to a room with many watchers make a few events for each watcher, and not one for each
    user; the last event has their number."""
    monkeypatch.setattr(watched_rooms, "RECOUNT_SECONDS", 0.2)
    watchers = [(await world.join(f"user_{number}", "room"))[0] for number in range(20)]
    for watcher in watchers:
        assert "count" in await world.ask(watcher, "room")
    loop = asyncio.get_running_loop()
    began_at = loop.time()
    for number in range(200):
        await world.node.open(world.site, [f"user_w{number}", "room"])
    await until(lambda: all(one.told and one.told[-1][1]["count"] == 220 for one in watchers), "the last number")
    assert {name for one in watchers for name in one.names()} == {"_presence"}
    # The room is counted again every 0.2 s while they come.
    assert max(len(one.told) for one in watchers) < 40 + (loop.time() - began_at) / 0.2


async def test_changes_that_were_missed(world: World) -> None:
    """After an interruption of the bus rooms are read again, and the difference is told once."""
    watcher, _ = await world.join("user_1", "room")
    assert (await world.ask(watcher, "room"))["count"] == 1
    world.node.bus.presence_changes.clear()
    _, other = await world.join("user_2", "room")
    world.presence.interrupted()
    await until(lambda: watcher.names() == ["_join"], "the join")
    # The next change shows the gap by itself.
    world.node.close_connection(other)
    await settled(world.node)
    world.node.bus.presence_changes.append(world.presence.hear)
    await world.join("user_3", "room")
    await until(lambda: watcher.names() == ["_join", "_leave", "_join"], "the leave and the join")
    assert watcher.told[-1][1]["count"] == 2


async def test_a_watcher_that_fails(world: World) -> None:
    """It is closed, and the others are told."""
    (bad, _), (good, _) = [await world.join(f"user_{number}", "room") for number in range(2)]
    for watcher in (bad, good):
        assert (await world.ask(watcher, "room"))["count"] == 2
    bad.fails = True
    await world.join("user_3", "room")
    await until(lambda: good.names() == ["_join"], "the join")
    assert bad.closed == ["internal error"]


async def test_redis_is_away(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """A client that asks is told so, and asks again; a room that is watched is read when Redis is back."""
    watcher, _ = await world.join("user_1", "room", "room-2")
    assert (await world.ask(watcher, "room"))["count"] == 1

    async def fail(site: Site, room: str) -> Any:
        raise StoreAway

    with monkeypatch.context() as patch:
        patch.setattr(world.store, "watch", fail)
        assert await world.error(watcher, "room-2") == AWAY
        world.presence.interrupted()
        assert await world.error(watcher, "room-2") == AWAY
    assert (await world.ask(watcher, "room-2"))["count"] == 1
    await world.join("user_2", "room")
    await until(lambda: watcher.names() == ["_join"], "the join")


async def test_a_connection_that_has_ended(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing is told to it, and the room is let go when nobody has watched it for a while."""
    monkeypatch.setattr(watched_rooms, "LINGER_SECONDS", 0)
    watcher, _ = await world.join("user_1", "room")
    assert (await world.ask(watcher, "room"))["count"] == 1
    world.presence.left(watcher, world.site)
    key = prefix(world.site.name) + "watched"

    async def is_gone() -> bool:
        return not await world.node.redis.command("EXISTS", key)

    await until_answer(is_gone, "the room to be let go")
    assert watcher.told == []


async def test_a_beat_while_a_client_asks(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """The room is not let go while its first watcher is being answered."""
    monkeypatch.setattr(watched_rooms, "LINGER_SECONDS", -1)
    watcher, _ = await world.join("user_1", "room")
    is_inside = world.store.is_inside

    async def beat_first(site: Site, room: str, users: Sequence[str]) -> bool:
        await world.presence._beat(site.name)
        return await is_inside(site, room, users)

    monkeypatch.setattr(world.store, "is_inside", beat_first)
    assert (await world.ask(watcher, "room"))["count"] == 1
    await world.join("user_2", "room")
    await until(lambda: watcher.names() == ["_join"], "the join")


async def test_presence_that_is_turned_off(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """Watches end with the reason, and scripts do nothing for presence any more. Changes meanwhile are found when it is
    turned on again."""
    watcher, _ = await world.join("user_1", "room")
    _, gone = await world.join("user_2", "room")
    assert (await world.ask(watcher, "room"))["count"] == 2
    site = make_site(public_channel="public")
    world.presence._sites = {site.name: site}
    await world.presence._beat(site.name)
    assert watcher.told == [["_presence", {"room": "room", "error": presence.OFF}]]
    assert watcher.watches.names == set()
    world.node.close_connection(gone)
    await settled(world.node)
    await world.join("user_3", "room")
    world.presence._sites = {world.site.name: world.site}
    await world.presence._beat(world.site.name)
    state = await world.ask(watcher, "room")
    assert sorted(one["user"] for one in state["users"]) == ["user_1", "user_3"]
    found = await world.store.present_users(world.site, "room")
    assert sorted(found.since) == ["user_1", "user_3"]
