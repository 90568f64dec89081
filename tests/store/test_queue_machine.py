"""The queue rules under any order of events: a real Valkey against a plain model, with a clock that the test moves.

RECADO_MACHINE_RUNS=1000 makes it run long.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import Sequence
from typing import Any, ClassVar

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)

from app.config.settings import BatchLimit, QueueLimit, Site
from app.core.message import ExceptDevice, Message
from app.core.options import NO_OPTIONS, MessageOptions
from app.core.ports import AckGroup, ConnectNotes, RoomsChange
from app.core.written_times import WrittenTimes
from app.errors import RoomsChanged
from app.store.bus import parse
from app.store.keys import prefix
from app.store.large_sends import LARGE_FROM
from app.store.queues import RedisQueues
from tests.store.queue_fates import told_fates
from tests.store.queue_flights import at_rest
from tests.store.queue_keys import expected_keys, part_of
from tests.store.queue_model import ConnectionKey, Device, Sent, SiteModel, Told
from tests.store.queue_places import OneValkey, ThreePrimaries
from tests.support.topologies import valkey_cluster
from tests.support.valkey import Valkey

NODES = ("aa", "bb")
#: One site forgets devices after 10 s and holds 4 messages, the other never forgets and is bounded by bytes.
SITES = (
    Site(
        name="short",
        auth_url="http://127.0.0.1/",
        api_key="k",
        user_room_prefix="user_",
        public_channel="public",
        device_ttl_seconds=10,
        queue_limit=QueueLimit(messages=4, bytes=1_000),
        batch_limit=BatchLimit(messages=2, bytes=1_000),
    ),
    Site(
        name="long",
        auth_url="http://127.0.0.1/",
        api_key="k",
        user_room_prefix="user_",
        public_channel="public",
        device_ttl_seconds=0,
        queue_limit=QueueLimit(messages=10_000, bytes=130),
        batch_limit=BatchLimit(messages=1_000, bytes=60),
    ),
)
MAX_MESSAGE_BYTES = 40
START_MS = 1_700_000_000_000
USER_ROOMS = ("user_1", "user_2", "public")
SHARED_ROOMS = ("News", "news", "USER_1", "b:*", "")
EVENTS = ("x", "y")
#: Names by which two devices of a user could be mistaken for one another.
DEVICE_IDS = ("", "1:user_1:*")
EXCEPTIONS = tuple(ExceptDevice(user, device) for user in USER_ROOMS for device in DEVICE_IDS)

any_options = st.builds(
    MessageOptions,
    ttl=st.sampled_from((None, None, 5, 10)),
    collapse=st.sampled_from((None, None, "a", "b")),
    settle=st.sampled_from((None, "user")),
).map(lambda some: NO_OPTIONS if some == NO_OPTIONS else some)
site_indexes = st.integers(0, len(SITES) - 1)
rooms_of_a_user = st.tuples(
    st.lists(st.sampled_from(USER_ROOMS), min_size=1, max_size=2, unique=True),
    st.lists(st.sampled_from(SHARED_ROOMS), max_size=2),
).map(lambda parts: [*parts[0], *parts[1]])


class QueueMachine(RuleBasedStateMachine):
    """One run: its own loop, links and keyspace; ended by `teardown`."""

    place: ClassVar[OneValkey | ThreePrimaries]
    #: Above so many devices a message is stored in parts.
    large_from: ClassVar[int] = LARGE_FROM

    def __init__(self) -> None:
        """Link two nodes to an empty store, and listen to the bus messages of both."""
        super().__init__()
        self.now = START_MS
        self.models = [SiteModel(site) for site in SITES]
        #: Open connections: (site index, connection) -> its devices.
        self.connections: dict[tuple[int, ConnectionKey], list[Device]] = {}
        self.forgotten: list[tuple[int, ConnectionKey, list[Device]]] = []
        self.numbers = 0
        self.messages = 0
        self.told: list[Told] = []
        self.place.clear()
        self.runner = asyncio.Runner()
        self.redis = self.place.redis()
        self.run(self.redis.start())
        self.queues = {node: RedisQueues(self.redis, node, MAX_MESSAGE_BYTES) for node in NODES}
        for queues in self.queues.values():
            queues.large.large_from = self.large_from
        self.recipients: dict[tuple[str, int, str], Sequence[bytes]] = {}
        self.bus = self.place.subscribe(NODES, [site.name for site in SITES])
        self.move_clock(0)

    def run(self, awaitable: Any) -> Any:
        """Wait for an answer of the store."""

        async def wait() -> Any:
            return await awaitable

        return self.runner.run(wait())

    def ask(self, method: str, node: str, *arguments: Any) -> Any:
        """Call a method of a node's queues on the loop."""

        async def call() -> Any:
            return await getattr(self.queues[node], method)(*arguments)

        return self.runner.run(call())

    # Events

    @rule(milliseconds=st.sampled_from((1, 5_000, 9_999, 10_000)))
    def move_clock(self, milliseconds: int) -> None:
        """Time passes."""
        self.now += milliseconds
        for queues in self.queues.values():
            queues.now_ms = self.now

    @rule(index=site_indexes, node=st.sampled_from(NODES), device=st.sampled_from(DEVICE_IDS), rooms=rooms_of_a_user)
    def connect(self, index: int, node: str, device: str, rooms: list[str]) -> None:
        """A connection is registered and gets the waiting messages."""
        self.numbers += 1
        key = (node, self.numbers)
        model = self.models[index]
        notes = ConnectNotes(rooms_at=model.rooms_at)
        answer = self.ask("connect", node, model.site, self.numbers, device, rooms, notes)
        devices = model.connect(key, device, rooms, self.now)
        self.connections[index, key] = devices
        assert answer.last_seq == model.last_seq
        found = [
            (one.handle, one.is_lost, one.waiting.entries, one.waiting.has_more, one.withdrawn)
            for one in answer.devices
        ]
        assert found == [(one.handle, one.is_lost, *model.waiting(one, 0), one.withdrawn) for one in devices]
        for one in devices:
            one.withdrawn = []

    @rule(
        index=site_indexes,
        rooms=st.lists(st.sampled_from(USER_ROOMS + SHARED_ROOMS), min_size=1, max_size=3),
        event=st.sampled_from(EVENTS),
        size=st.integers(10, MAX_MESSAGE_BYTES),
        resync=st.booleans(),
        options=st.one_of(st.just(NO_OPTIONS), any_options),
        but=st.sampled_from((None, None, *EXCEPTIONS)),
        flies=st.sampled_from((True, True, True, False)),
    )
    def send(
        self,
        index: int,
        rooms: list[str],
        event: str,
        size: int,
        resync: bool,
        options: MessageOptions = NO_OPTIONS,
        but: ExceptDevice | None = None,
        flies: bool = True,
    ) -> None:
        """A message is stored for the addressed devices, perhaps except one, and their nodes hear it."""
        model = self.models[index]
        body = f"{event}\n{len(model.sent)}".encode().ljust(size, b".")
        self.messages += 1
        message = Message(model.site, self.messages, rooms, event, body, resync, options=options, but=but)
        flights = self.queues[NODES[0]].flights
        flights.open(1_000_000) if flies else flights.close()
        answer = self.ask("send", NODES[0], message)
        assert answer.seq > model.last_seq
        if model.last_seq:
            assert answer.seq == model.last_seq + 1
        sent = Sent(answer.seq, event, body, resync, self.now, str(self.messages), tuple(rooms), options.encode())
        sent.collapse, sent.settles_user = options.collapse or "", options.settle == "user"
        sent.ends_at = self.now + options.ttl * 1000 if options.ttl else 0
        sent.but = (but.user_room, but.device_id) if but else None
        stored, overflowed, told = model.send(rooms, sent, self.now)
        assert (answer.recipients, answer.overflowed) == (stored, overflowed)
        self.hear(model.site, told)

    @precondition(lambda self: any(model.devices for model in self.models))
    @rule(data=st.data(), size=st.integers(10, 15), resync=st.booleans())
    def send_several(self, data: st.DataObject, size: int, resync: bool) -> None:
        """A known device gets messages of several events, so that some wait for it."""
        index = data.draw(st.sampled_from([index for index, model in enumerate(self.models) if model.devices]))
        user, _ = data.draw(st.sampled_from(list(self.models[index].devices)))
        for event in data.draw(st.lists(st.sampled_from(EVENTS), min_size=2, max_size=4)):
            self.send(index, [user], event, size, resync)

    @precondition(lambda self: any(device.queue for model in self.models for device in model.devices.values()))
    @rule(data=st.data(), is_batch=st.booleans())
    def ack_one(self, data: st.DataObject, is_batch: bool) -> None:
        """A client acknowledges one of the messages that wait for it."""
        waiting = [
            (model, device.handle, sent.seq)
            for model in self.models
            for device in model.devices.values()
            for sent in device.queue
        ]
        model, handle, seq = data.draw(st.sampled_from(waiting))
        calls = self.acknowledge(model, data.draw(st.sampled_from(NODES)), [AckGroup(is_batch, seq, [handle])])
        assert calls == model.ack(is_batch, seq, [handle])
        self.hear_notices(model)

    @precondition(lambda self: any(device.queue for model in self.models for device in model.devices.values()))
    @rule(data=st.data())
    def ack_by_many(self, data: st.DataObject) -> None:
        """Many devices acknowledge the newest message that waits for them, some of them twice."""
        model = data.draw(st.sampled_from([one for one in self.models if any(d.queue for d in one.devices.values())]))
        seq = max(device.queue[-1].seq for device in model.devices.values() if device.queue)
        handles = [device.handle for device in model.devices.values()]
        chosen = data.draw(st.lists(st.sampled_from(handles), min_size=1, max_size=6))
        calls = self.acknowledge(model, data.draw(st.sampled_from(NODES)), [AckGroup(False, seq, chosen)])
        assert calls == model.ack(False, seq, chosen)
        self.hear_notices(model)

    def acknowledge(self, model: SiteModel, node: str, groups: list[AckGroup]) -> Any:
        """A node applies acks, and knows the places of what it was told."""
        written = WrittenTimes()
        for (site, seq, told), recipients in self.recipients.items():
            if (site, told) == (model.site.name, node):
                written.note(seq, recipients)
        marked: list[AckGroup] = []
        for group in groups:
            marked.append(group)
            if not group.is_batch and (others := written.mark(group)):
                marked.append(AckGroup(False, group.seq, others))
        for group in marked:
            group.written_ms = 0
        return self.ask("ack", node, model.site, marked)

    @rule(index=site_indexes)
    def land(self, index: int) -> None:
        """The messages in flight land at once."""
        self.ask("land", NODES[0], SITES[index])

    def hear_notices(self, model: SiteModel) -> None:
        """The nodes have heard of the withdrawals."""
        expected, model.notices = model.notices, []
        self.hear(model.site, expected)

    def hear(self, site: Site, expected: list[Told]) -> None:
        """The nodes have heard exactly this."""
        heard: list[Told] = []
        for _ in expected:
            data = self.bus[site.name].get_message(timeout=30)
            assert data, f"expected {expected}, heard {heard}"
            name, counter, message = parse(data["data"])
            assert name == site.name
            assert len(set(message.recipients)) == len(message.recipients)
            node = data["channel"].decode().rpartition(":")[2]
            if not message.notice:
                self.recipients[name, message.seq, node] = message.recipients
            recipients, resync_recipients = set(message.recipients), set(message.resync_recipients)
            heard.append(Told(node, counter, message.seq, message.body, recipients, resync_recipients))
        assert sorted(heard, key=place_of) == sorted(expected, key=place_of)
        assert self.bus[site.name].get_message(timeout=0) is None

    @rule(
        index=site_indexes,
        user=st.sampled_from(USER_ROOMS[:2]),
        joins=st.lists(st.sampled_from(SHARED_ROOMS), max_size=2),
        leaves=st.lists(st.sampled_from(SHARED_ROOMS), max_size=2),
        step=st.sampled_from((-1, 0, 1)),
    )
    def change_rooms(self, index: int, user: str, joins: list[str], leaves: list[str], step: int) -> None:
        """All devices of a user join and leave rooms; a change that was applied before does nothing."""
        model = self.models[index]
        number = max(1, model.rooms_at + step)
        change = RoomsChange(user, joins, leaves, number)
        assert self.ask("change_rooms", NODES[0], model.site, change) == model.change_rooms(change)

    @rule(index=site_indexes, device=st.sampled_from(DEVICE_IDS), rooms=rooms_of_a_user)
    def connect_with_old_rooms(self, index: int, device: str, rooms: list[str]) -> None:
        """A connect whose rooms lack a change registers nothing."""
        model = self.models[index]
        if model.rooms_at > 1:
            with pytest.raises(RoomsChanged):
                self.ask("connect", NODES[0], model.site, 0, device, rooms, ConnectNotes(rooms_at=model.rooms_at - 1))

    @precondition(lambda self: self.connections)
    @rule(data=st.data(), is_forgotten=st.booleans())
    def disconnect(self, data: st.DataObject, is_forgotten: bool) -> None:
        """A connection ends, or is withdrawn by its name when it is unknown whether it was registered."""
        index, key = data.draw(st.sampled_from(list(self.connections)))
        devices = self.connections.pop((index, key))
        self.ask("disconnect", key[0], SITES[index], key[1], [(device.handle, 0) for device in devices])
        self.models[index].disconnect(key, devices, self.now)
        if is_forgotten:
            self.forgotten.append((index, key, devices))

    @precondition(lambda self: self.forgotten)
    @rule(data=st.data())
    def disconnect_again(self, data: st.DataObject) -> None:
        """A repeated disconnect changes nothing, whatever has happened to the devices since."""
        index, key, devices = data.draw(st.sampled_from(self.forgotten))
        self.ask("disconnect", key[0], SITES[index], key[1], [(device.handle, 0) for device in devices])

    @precondition(lambda self: self.connections)
    @rule(data=st.data(), device_id=st.sampled_from(DEVICE_IDS), rooms=rooms_of_a_user)
    def withdraw(self, data: st.DataObject, device_id: str, rooms: list[str]) -> None:
        """A connection is taken out of the devices with these names, and of no others."""
        index, key = data.draw(st.sampled_from(list(self.connections)))
        model = self.models[index]
        self.ask("withdraw", key[0], model.site, key[1], device_id, rooms)
        named = [model.devices.get((room, device_id)) for room in rooms]
        model.disconnect(key, [device for device in named if device], self.now)

    @precondition(lambda self: self.connections or self.forgotten)
    @rule(data=st.data())
    def replay(self, data: st.DataObject) -> None:
        """A connection asks for messages after a seq, for devices that are there, were lost, or are gone."""
        known = [(*one, devices) for one, devices in self.connections.items()] + self.forgotten
        index, key, devices = data.draw(st.sampled_from(known))
        model = self.models[index]
        after = [(device.handle, data.draw(st.sampled_from([0, *list(model.sent)[-6:]]))) for device in devices]
        answer = self.ask("replay", key[0], model.site, key[1], after)
        assert answer.last_seq == model.last_seq
        found = [(one.state, one.waiting.entries, one.waiting.has_more) for one in answer.devices]
        assert found == [
            (state_of(model, handle, key), *model.waiting(model.device(handle) or Device(b""), seq))
            for handle, seq in after
        ]

    @precondition(lambda self: any(model.sent for model in self.models))
    @rule(data=st.data())
    def ack(self, data: st.DataObject) -> None:
        """Acks of several messages by several devices in one call: right, foreign, repeated and late ones."""
        model = data.draw(st.sampled_from([model for model in self.models if model.sent]))
        handles = st.sampled_from([*(device.handle for device in model.devices.values()), b"99"])
        seqs = st.sampled_from([*list(model.sent)[-8:], 1, 10**30])
        groups = [
            AckGroup(is_batch, seq, some)
            for is_batch, seq, some in data.draw(
                st.lists(st.tuples(st.booleans(), seqs, st.lists(handles, min_size=1, max_size=3)), max_size=4)
            )
        ]
        node = data.draw(st.sampled_from(NODES))
        copies = [AckGroup(group.is_batch, group.seq, list(group.handles)) for group in groups]
        calls = self.acknowledge(model, node, copies)
        expected = [call for group in groups for call in model.ack(group.is_batch, group.seq, group.handles)]
        assert calls == expected
        self.hear_notices(model)

    @rule(data=st.data(), index=site_indexes)
    def settle(self, data: st.DataObject, index: int) -> None:
        """A `_resync` has arrived, also at a device that is gone; a `_resync` older than the loss settles nothing."""
        model = self.models[index]
        handle = data.draw(st.sampled_from([*(device.handle for device in model.devices.values()), b"99"]))
        last_seq = data.draw(st.sampled_from([*model.sent, 1]))
        self.ask("settle", NODES[0], model.site, last_seq, [handle])
        device = model.device(handle)
        if device and device.lost_at <= last_seq:
            device.lost_at = 0

    @rule(index=site_indexes, at_most=st.sampled_from((1, 200)))
    def expire(self, index: int, at_most: int) -> None:
        """Devices whose time is over are forgotten, few at a time or all at once."""
        model = self.models[index]
        while self.ask("expire", NODES[0], model.site, at_most)[0]:
            pass
        model.expire(self.now)
        model.end_messages(self.now)

    @precondition(lambda self: any(device.queue for model in self.models for device in model.devices.values()))
    @rule(data=st.data())
    def withdraw_message(self, data: st.DataObject) -> None:
        """A message that waits is taken out of every queue; the devices that it was written to are told."""
        model = data.draw(st.sampled_from([one for one in self.models if any(d.queue for d in one.devices.values())]))
        sent = data.draw(st.sampled_from([one for device in model.devices.values() for one in device.queue]))
        cursor, taken = b"0", 0
        while True:
            cursor, count = self.ask("withdraw_message", NODES[0], model.site, int(sent.id), cursor)
            taken += count
            if cursor == b"0":
                break
        assert taken == model.withdraw(sent)
        self.hear_notices(model)

    @rule(index=site_indexes, node=st.sampled_from(NODES), ago=st.sampled_from((0, 7_000)), at_most=st.integers(1, 3))
    def bury(self, index: int, node: str, ago: int, at_most: int) -> None:
        """A dead node's connections are taken out; they ended with its last beat."""
        model = self.models[index]
        has_more, users = True, []
        while has_more:
            has_more, some = self.ask("bury", NODES[0], model.site, node, self.now - ago, at_most)
            users += [buried.user_room for buried in some]
        assert sorted(users) == model.bury(node, self.now - ago)
        for one in [one for one in self.connections if one[0] == index and one[1][0] == node]:
            self.forgotten.append((*one, self.connections.pop(one)))

    # Facts that hold after each event

    @invariant()
    def store_agrees(self) -> None:
        """Queues, bodies, bytes, rooms and states in Redis are those of the model, and there are no other keys."""
        store = self.place.read()
        for model in self.models:
            found = at_rest(part_of(model.site, store))
            assert told_fates(found.pop("fate", [])) == model.fates
            for key in [key for key in found if key.startswith("sent:")]:
                del found[key]
            assert found == expected_keys(model, found)

    def teardown(self) -> None:
        """At the end every device goes away: no key but the counters is left."""
        try:
            for (index, key), devices in self.connections.items():
                self.ask("disconnect", key[0], SITES[index], key[1], [(device.handle, 0) for device in devices])
            self.move_clock(20_000)
            while self.ask("expire", NODES[0], SITES[0], 200)[0]:
                pass
            left = {key for key in part_of(SITES[0], self.place.read()) if not key.startswith("sent:")}
            assert left <= {"seq", "handle", "bus", "fate", "rooms_at"}
        finally:
            for bus in self.bus.values():
                bus.close()
            self.run(self.redis.close())
            self.runner.close()


class LargeMachine(QueueMachine):
    """A run whose messages are all stored in parts."""

    large_from = 0


def place_of(told: Told) -> tuple[str, int]:
    """The place of a bus message among those of all nodes."""
    return told.node, told.counter


def state_of(model: SiteModel, handle: bytes, connection: ConnectionKey) -> str:
    """The answer of a replay for a device."""
    device = model.device(handle)
    if device is None:
        return "lost"
    if connection not in device.connections:
        return "gone"
    return "resync" if device.is_lost else "here"


def test_queue_rules_in_any_order(valkey: Valkey) -> None:
    """In any order of sends, acks, connects, ends and expiries, the store answers and holds the same as the model."""
    QueueMachine.place = OneValkey(valkey)
    run_machine(int(os.environ.get("RECADO_MACHINE_RUNS", "200")))


def test_queue_rules_of_large_messages(valkey: Valkey) -> None:
    """The same when each message is stored in parts, and accepted behind the last of them."""
    LargeMachine.place = OneValkey(valkey)
    run_machine(int(os.environ.get("RECADO_MACHINE_RUNS", "100")), LargeMachine)


def test_queue_rules_in_a_cluster() -> None:
    """The same with sites on different shards: no script touches a key of another slot."""
    with valkey_cluster() as cluster:
        assert len({cluster.port_of(prefix(site.name)) for site in SITES}) == len(SITES)
        QueueMachine.place = ThreePrimaries(cluster)
        run_machine(int(os.environ.get("RECADO_MACHINE_RUNS", "20")))


def run_machine(runs: int, machine: type[QueueMachine] = QueueMachine) -> None:
    """Run the machine this many times in a place."""
    run_state_machine_as_test(
        machine,
        settings=settings(
            max_examples=runs,
            stateful_step_count=40,
            deadline=None,
            print_blob=True,
            suppress_health_check=list(HealthCheck),
        ),
    )
