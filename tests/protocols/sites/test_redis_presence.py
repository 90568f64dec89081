"""The rules of presence in Redis against a model: any order of connects, ends, burials, moves and beats tells each join
and each leave once, and leaves a watcher with what is so."""

from __future__ import annotations

import asyncio
import os
from collections import defaultdict
from collections.abc import Awaitable
from typing import Any, ClassVar

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule, run_state_machine_as_test

from app.clock import rfc3339
from app.config.settings import PresenceSettings, Site
from app.core.ports import RoomsChange
from app.protocols.sites.redis_presence import RedisPresence, read_change
from app.protocols.sites.room_picture import JOIN, LEAVE, RoomPicture
from app.redis.client import Redis
from app.store.keys import bus_channel, prefix
from app.store.queues import RedisQueues
from tests.support.store import address_of, make_site
from tests.support.valkey import Valkey

NODES = ("aa", "bb")
USERS = ("user_1", "user_2", "user_3", "Public")
DEVICES = ("d", "e")
ROOMS = ("a", "b")
BEGIN = 1_800_000_000_000
_CHANGE = b"presence\n"
#: The keys that a room leaves behind only while it is watched.
_OF_WATCHERS = ("watched", "watching:", "inside:", "watch:", "watch_quiet:")


def site_of(grace: float, members: int = 500, device_ttl_seconds: int = 20) -> Site:
    """A site with presence."""
    presence = PresenceSettings(grace_seconds=grace, members=members)
    return make_site(presence=presence, public_channel="Public", device_ttl_seconds=device_ttl_seconds)


class UserModel:
    """One user: its devices with their connections, its rooms, and when it came."""

    def __init__(self) -> None:
        """Begins unknown."""
        #: Device -> when it is forgotten; None while it is connected.
        self.devices: dict[str, int | None] = {}
        self.connections: set[tuple[str, str, int]] = set()
        self.rooms: set[str] = set()
        self.came: int | None = None
        self.due: int | None = None
        #: How often it has come.
        self.comings = 0

    def finish(self) -> None:
        """It has left."""
        self.came = self.due = None

    def is_present(self, now: int) -> bool:
        """Whether its grace has not ended."""
        return self.came is not None and (self.due is None or self.due > now)


class Watched:
    """A watched room as a node keeps it, and as a client does."""

    def __init__(self, picture: RoomPicture, absent: set[tuple[str, int]]) -> None:
        """`absent` are users with the number of their comings, whose grace was over and had not been ended by then."""
        self.picture = picture
        self.absent = absent
        state = picture.state()
        self.count: int = state["count"]
        self.users: dict[str, str] | None = None
        self.take(state)

    def take(self, state: dict[str, Any]) -> None:
        """The client takes a state."""
        self.count = state["count"]
        self.users = {one["user"]: one["since"] for one in state["users"]} if "users" in state else None

    def tell(self) -> None:
        """The client is told."""
        for event, content in self.picture.take_news():
            if event not in (JOIN, LEAVE):
                self.take(content)
                continue
            assert self.users is not None
            self.count = content["count"]
            for user in content["users"]:
                if event == JOIN:
                    assert user["user"] not in self.users
                    self.users[user["user"]] = user["since"]
                else:
                    del self.users[user]
            assert self.count == len(self.users)


class RoomsMachine(RuleBasedStateMachine):
    """The scripts of one site beside the model."""

    server: ClassVar[Valkey]
    site: ClassVar[Site]

    def __init__(self) -> None:
        """Begin with an empty Redis."""
        super().__init__()
        client: Any = self.server.client
        client.flushall()
        self.runner = asyncio.Runner()
        self.redis = Redis(address_of(self.server), 5.0)
        self.run(self.redis.start())
        self.queues = {node: RedisQueues(self.redis, node, 1_000_000) for node in NODES}
        self.presence = RedisPresence(self.redis, "aa")
        self.bus: Any = client.pubsub(ignore_subscribe_messages=True)
        self.bus.subscribe(bus_channel("aa"))
        self.bus.get_message(timeout=30)
        self.users: dict[str, UserModel] = defaultdict(UserModel)
        self.handles: dict[tuple[str, str, str, int], bytes] = {}
        self.watched: dict[str, Watched] = {}
        self.numbers = 0
        self.move(BEGIN)
        self.run(self.presence.beat(self.site))

    @property
    def grace_ms(self) -> int:
        """That of the site."""
        assert self.site.presence is not None
        return round(self.site.presence.grace_seconds * 1000)

    def run(self, work: Awaitable[Any]) -> Any:
        """The answer of a store."""

        async def wait() -> Any:
            return await work

        return self.runner.run(wait())

    def move(self, now: int) -> None:
        """Set the clock of all scripts."""
        self.now = self.presence.now_ms = now
        for queues in self.queues.values():
            queues.now_ms = now

    @rule(
        user=st.sampled_from(USERS),
        device=st.sampled_from(DEVICES),
        node=st.sampled_from(NODES),
        rooms=st.sets(st.sampled_from(ROOMS)),
    )
    def connect(self, user: str, device: str, node: str, rooms: set[str]) -> None:
        """A device connects to a node, with rooms that are those of its user from then on."""
        self.numbers += 1
        names = [user, *(room.upper() for room in rooms)]
        registration = self.run(self.queues[node].connect(self.site, self.numbers, device, names))
        self.handles[user, device, node, self.numbers] = registration.devices[0].handle
        model = self.users[user]
        model.connections.add((device, node, self.numbers))
        model.devices[device] = None
        if model.due is not None and model.due <= self.now:
            model.finish()
        model.rooms, model.due = set(rooms), None
        if model.came is None and user != "Public":
            model.came = self.now
            model.comings += 1

    @rule(data=st.data(), is_withdrawn=st.booleans())
    def disconnect(self, data: st.DataObject, is_withdrawn: bool) -> None:
        """A connection ends, or its registration is taken back."""
        if not self.handles:
            return
        user, device, node, number = data.draw(st.sampled_from(sorted(self.handles)))
        handle = self.handles.pop((user, device, node, number))
        queues = self.queues[node]
        if is_withdrawn:
            self.run(queues.withdraw(self.site, number, device, [user]))
        else:
            self.run(queues.disconnect(self.site, number, [(handle, 0)]))
        self.end(user, (device, node, number), self.now)

    @rule(node=st.sampled_from(NODES), ago=st.sampled_from((0, 7_000)), at_most=st.integers(1, 3))
    def bury(self, node: str, ago: int, at_most: int) -> None:
        """A node has died: its connections ended with its last beat."""
        has_more = True
        while has_more:
            has_more, _ = self.run(self.queues["bb"].bury(self.site, node, self.now - ago, at_most))
        for key in [key for key in self.handles if key[2] == node]:
            del self.handles[key]
            self.end(key[0], key[1:], self.now - ago)

    @rule(user=st.sampled_from(USERS[:3]), joins=st.sets(st.sampled_from(ROOMS)), node=st.sampled_from(NODES))
    def change_rooms(self, user: str, joins: set[str], node: str) -> None:
        """A user joins some rooms and leaves the others; one that nobody knows does not."""
        change = RoomsChange(user, sorted(joins), sorted(set(ROOMS) - joins))
        self.run(self.queues[node].change_rooms(self.site, change))
        model = self.users[user]
        if model.devices:
            model.rooms = set(joins)
            if model.due is not None and model.due <= self.now:
                model.finish()

    @rule(ms=st.sampled_from((1, 1_000, 4_999, 5_000, 25_000)))
    def wait(self, ms: int) -> None:
        """Time passes."""
        self.move(self.now + ms)

    @rule()
    def beat(self) -> None:
        """A node ends the graces that are over."""
        self.run(self.presence.beat(self.site))
        for model in self.users.values():
            if model.due is not None and model.due <= self.now:
                model.finish()

    @rule()
    def expire(self) -> None:
        """Devices past their time are forgotten, and users without any device."""
        while self.run(self.queues["aa"].expire(self.site))[0]:
            pass
        for model in self.users.values():
            past = [device for device, due in model.devices.items() if due is not None and due <= self.now]
            for device in past:
                del model.devices[device]
            if past and not model.devices:
                model.finish()

    @rule(room=st.sampled_from(ROOMS))
    def watch(self, room: str) -> None:
        """Somebody on the first node asks for a room; when it is watched already, it is read once more."""
        snapshot = self.run(self.presence.watch(self.site, room))
        if room in self.watched:
            self.watched[room].picture.load(snapshot)
        else:
            self.hear()
            past = {
                (name, one.comings) for name, one in self.users.items() if one.came and not one.is_present(self.now)
            }
            self.watched[room] = Watched(RoomPicture(snapshot), past)

    @rule(room=st.sampled_from(ROOMS), is_death=st.booleans())
    def unwatch(self, room: str, is_death: bool) -> None:
        """Nobody watches a room any more, or the node has died and watches none."""
        if is_death:
            self.run(self.presence.bury(self.site, "aa"))
            self.watched.clear()
        else:
            self.run(self.presence.unwatch(self.site, [room]))
            self.watched.pop(room, None)
        self.hear()

    def end(self, user: str, connection: tuple[str, str, int], when: int) -> None:
        """The model's end of a connection."""
        model = self.users[user]
        if connection not in model.connections:
            return
        model.connections.remove(connection)
        if connection[0] not in {device for device, _, _ in model.connections}:
            model.devices[connection[0]] = when + self.site.device_ttl_seconds * 1000
        if model.came is None or model.connections or model.due is not None:
            return
        if self.grace_ms:
            model.due = when + self.grace_ms
        else:
            model.finish()

    def hear(self) -> None:
        """Let the pictures have the changes that were published."""
        # A published message is there before the answer of its script.
        while message := self.bus.get_message():
            if not message["data"].startswith(_CHANGE):
                continue
            _, room, change = read_change(message["data"].removeprefix(_CHANGE))
            watched = self.watched.get(room)
            if watched is not None and not watched.picture.hear(change):
                assert not watched.picture.is_listed, "nothing is missed"
                watched.picture.load(self.run(self.presence.watch(self.site, room)))

    @invariant()
    def watchers_know_who_is_there(self) -> None:
        """A watcher's picture has exactly the users of the model that have not left, or their number."""
        if not hasattr(self, "watched"):
            return
        self.hear()
        assert self.site.presence is not None
        for room, watched in self.watched.items():
            if not watched.picture.is_listed:
                version, count, _ = self.run(self.presence.count(self.site, room))
                if not watched.picture.recount(version, count):
                    watched.picture.load(self.run(self.presence.watch(self.site, room)))
            watched.tell()
            inside = {
                name: rfc3339(user.came)
                for name, user in self.users.items()
                if user.came is not None and room in user.rooms and (name, user.comings) not in watched.absent
            }
            assert watched.count == len(inside)
            assert watched.users == (inside if len(inside) <= self.site.presence.members else None)
        if not self.watched:
            assert not keys_of_watchers(self.server, self.site)

    @invariant()
    def a_page_has_who_is_present(self) -> None:
        """GET /presence has the users whose grace has not ended, watched or not, and their connected devices."""
        if not hasattr(self, "watched"):
            return
        for room in ROOMS:
            found = self.run(self.presence.present_users(self.site, room))
            present = {
                name: (user.came, len({device for device, _, _ in user.connections}))
                for name, user in self.users.items()
                if user.is_present(self.now) and room in user.rooms
            }
            assert {name: (at, len(found.devices[name])) for name, at in found.since.items()} == present

    def teardown(self) -> None:
        """Ends the links."""
        self.bus.close()
        self.run(self.redis.close())
        self.runner.close()


def keys_of_watchers(server: Valkey, site: Site) -> list[str]:
    """The keys that exist for watchers."""
    begins = tuple(prefix(site.name) + name for name in _OF_WATCHERS)
    return [key for key in server.dump() if key.startswith(begins)]


@pytest.mark.parametrize(
    "site",
    [
        site_of(grace=5),
        site_of(grace=0),
        # A device is forgotten before the grace of its user has ended.
        site_of(grace=5, device_ttl_seconds=3),
        # Two users are too many to be listed.
        site_of(grace=5, members=1),
    ],
    ids=["grace", "no grace", "short-lived devices", "numbers only"],
)
def test_joins_and_leaves_in_any_order(valkey: Valkey, site: Site) -> None:
    """In any order of events a watcher hears of each join and of each leave once, and knows who is there."""
    RoomsMachine.server, RoomsMachine.site = valkey, site
    run_state_machine_as_test(
        RoomsMachine,
        settings=settings(
            max_examples=int(os.environ.get("RECADO_MACHINE_RUNS", "25")),
            stateful_step_count=30,
            deadline=None,
            suppress_health_check=list(HealthCheck),
        ),
    )
