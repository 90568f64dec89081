"""The relay: rows reach the core in their order, each once, whatever ends in between; on a real Valkey and SQLite."""

from __future__ import annotations

import itertools
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import AsyncExitStack
from pathlib import Path

import msgspec
import pytest
from sqlalchemy import insert

from app.config.settings import Site
from app.core.message import Message
from app.core.ports import RoomsChange, Stored
from app.errors import LimitReached, StoreUnavailable
from app.journal.tables import deliveries, devices
from app.observe.counts import Counts
from app.protocols.messenger.chat_names import ChatNames
from app.protocols.messenger.journal_members import place_of_core, rooms_as_of
from app.protocols.messenger.journal_message_tables import chat_receipts
from app.protocols.messenger.journal_tables import chat_outbox, chat_sent
from app.protocols.messenger.talk.delivered import DeliveredNotes, ReceiptNet
from app.protocols.messenger.talk.facts import OutboxRow, SentRow
from app.protocols.messenger.talk.journal_talk import JournalTalk
from app.protocols.messenger.talk.redis_lease import RedisRelayLease
from app.protocols.messenger.talk.relay import Relay
from app.protocols.messenger.talk.rules import ChatTarget
from tests.protocols.messenger.talk.talk_ground import Ground
from tests.support.store import RecordingReceiver, StoreNode
from tests.support.tables import sqlite_with_tables
from tests.support.valkey import Valkey
from tests.support.waiting import until

_sites = itertools.count(1)
#: Ids of messages of the core.
_numbers = itertools.count(1)


class RelayNode:
    """One node with a relay. Lives for the test; `kill` ends it as a process ends."""

    def __init__(self, ground: Ground, node: StoreNode) -> None:
        """Made by `start`."""
        self.ground = ground
        self.node = node
        self.lease = RedisRelayLease(node.redis, node.name)
        self.talk = JournalTalk(ground.sql, ChatNames(ground.sql))
        self.numbers = _numbers
        self.counts = Counts()
        #: The rows that are deleted.
        self.finished = 0
        self.relay = self.new_relay()
        #: Called in front of each step with its name; it may raise, as a node that is killed.
        self.before: Callable[[str], Awaitable[None]] = _nothing

    def new_relay(self) -> Relay:
        """A relay that is not started."""
        return Relay(self.ground.site, self, self.lease, self, lambda: next(self.numbers), self.counts)

    async def rows(self, site: Site, most: int) -> list[OutboxRow]:
        """The outbox."""
        await self.before("rows")
        return await self.talk.rows(site, most)

    async def finish(self, site: Site, until: int, sent: Sequence[SentRow]) -> None:
        """The outbox."""
        await self.before("finish")
        await self.talk.finish(site, until, sent)
        self.finished = until
        await self.before("finished")

    async def publish(self, message: Message) -> Stored:
        """The core."""
        await self.before("publish")
        stored = await self.node.delivery.publish(message)
        await self.before("published")
        return stored

    async def change_rooms(self, site: Site, change: RoomsChange) -> int:
        """The core."""
        await self.before("change")
        moved = await self.node.delivery.follow_up.change_rooms(site, change)
        await self.before("changed")
        return moved

    async def open(self, user: int, device: str = "a") -> RecordingReceiver:
        """A device of a user, with the rooms that the core is at."""
        async with self.ground.sql.reading(self.ground.site) as (sql, site_id):
            place = max(await self.lease.rooms_at(self.ground.site), await place_of_core(sql, site_id))
            rooms = [f"room_{room}" for room in await rooms_as_of(sql, site_id, user, place)]
        receiver = self.node.receiver(self.ground.site)
        assert receiver.connection
        receiver.connection.rooms_at = place
        await self.node.delivery.open(receiver.connection, device, [f"user_{user}", *rooms], receiver.greet)
        return receiver


async def _nothing(step: str) -> None:
    """No step fails."""


class Killed(BaseException):
    """The node ends here."""


@pytest.fixture
async def ground(tmp_path: Path) -> AsyncIterator[Ground]:
    """A site."""
    ground = await Ground.open(sqlite_with_tables(tmp_path), f"relay{next(_sites)}")
    yield ground
    await ground.close()


@pytest.fixture
async def start(valkey: Valkey, ground: Ground) -> AsyncIterator[Callable[[], Awaitable[RelayNode]]]:
    """Starts nodes."""
    async with AsyncExitStack() as stack:

        async def start() -> RelayNode:
            node = await StoreNode.start(valkey, [ground.site])
            stack.push_async_callback(node.close)
            one = RelayNode(ground, node)
            stack.push_async_callback(one.relay.close)
            return one

        yield start


def ids_of(receiver: RecordingReceiver) -> list[int]:
    """The ids of the messages that were written to a client."""
    return [msgspec.json.decode(body)[1]["id"] for body in receiver.bodies]


Start = Callable[[], Awaitable[RelayNode]]


async def test_rows_reach_the_devices(ground: Ground, start: Start) -> None:
    """Messages and memberships take effect in the order of acceptance; the sending device gets no copy."""
    node = await start()
    me, you = await ground.users(2)
    room = await ground.room([me])
    (mine, pad), yours = (await node.open(me), await node.open(me, "pad")), await node.open(you)
    first = await ground.send(me, ChatTarget(room=room))
    await ground.enter(room, you)
    second = await ground.send(me, ChatTarget(room=room))
    await ground.leave(room, you)
    third = await ground.send(me, ChatTarget(room=room))
    direct = await ground.send(me, ChatTarget(user=you))
    node.relay.start()
    await until(lambda: len(yours.bodies) >= 2 and len(pad.bodies) >= 4, "the messages")
    assert ids_of(yours) == [second.id, direct.id]
    assert ids_of(pad) == [first.id, second.id, third.id, direct.id]
    assert mine.bodies == []
    await until_empty(node, direct.id)
    assert await ground.count(chat_sent) == 4


async def until_empty(node: RelayNode, last: int) -> None:
    """The rows up to this one are deleted."""
    await until(lambda: node.finished >= last, "the end of the rows")
    assert await node.ground.count(chat_outbox) == 0


async def test_the_relay_is_woken(ground: Ground, start: Start) -> None:
    """A commit on another node wakes the node that has the lease, through the bus."""
    owner, other = await start(), await start()
    owner.node.bus.hook_wakes.append(lambda site: owner.relay.woken())
    me, you = await ground.users(2)
    yours = await owner.open(you)
    owner.relay.start()
    await until(lambda: owner.relay.is_mine, "the lease")
    woken: list[str] = []
    owner.node.bus.hook_wakes.append(woken.append)
    sent = await ground.send(me, ChatTarget(user=you))
    other.relay.wake()
    await until(lambda: woken and yours.bodies, "the message")
    assert ids_of(yours) == [sent.id]
    await other.relay.close()


async def test_one_relay_at_a_time(ground: Ground, start: Start) -> None:
    """The second node works when the first has given the lease back."""
    one, other = await start(), await start()
    one.relay.start()
    await until(lambda: one.relay.is_mine, "the lease")
    other.relay.start()
    await until(lambda: other.relay._beat_at > 0, "the beat of the other")
    assert not other.relay.is_mine
    await one.relay.close()
    await until(lambda: other.relay.is_mine, "the other's lease")


STEPS = ("rows", "publish", "published", "change", "changed", "finish", "finished")


@pytest.mark.parametrize("step", STEPS)
async def test_a_kill_between_two_steps(ground: Ground, start: Start, valkey: Valkey, step: str) -> None:
    """A relay that ends anywhere loses nothing and doubles nothing, and keeps the order and the seqs for receipts."""
    node, next_node = await start(), await start()
    me, you = await ground.users(2)
    room = await ground.room([me])
    yours = await node.open(you)
    expected = []
    for _ in range(2):
        await ground.send(me, ChatTarget(room=room))
        await ground.enter(room, you)
        expected.append((await ground.send(me, ChatTarget(room=room))).id)
        await ground.leave(room, you)
    expected.append((await ground.send(me, ChatTarget(user=you))).id)
    left = 2 if step in ("publish", "published", "change", "changed") else 1

    async def die(at: str) -> None:
        nonlocal left
        left -= at == step
        if left <= 0:
            raise Killed

    node.before = die
    with pytest.raises(Killed):
        await node.relay._turn()
    valkey.client.delete(f"recado:{{{ground.site.name}}}:chat_lease")
    next_node.relay.start()
    await until(lambda: len(yours.bodies) >= len(expected), "the messages")
    if step != "finished":
        await until_empty(next_node, expected[-1])
    assert ids_of(yours) == expected
    # Each message has its seq.
    assert await ground.count(chat_sent) == 5
    keys = [key for key in valkey.dump() if ":once:" in key]
    assert len(keys) <= 5


async def test_refusals_of_the_core(ground: Ground, start: Start) -> None:
    """A rate makes the rows wait; a row that will never be taken is left out; the order stays."""
    node = await start()
    me, you = await ground.users(2)
    yours = await node.open(you)
    sent = [(await ground.send(me, ChatTarget(user=you))).id for _ in range(3)]
    refusals: list[Exception] = [
        LimitReached("rate", "sends_per_second", retry_after_seconds=0),
        StoreUnavailable("away"),
        LimitReached("long", "message_bytes", status=413),
    ]

    async def refuse(step: str) -> None:
        if step == "publish" and refusals:
            raise refusals.pop(0)

    node.before = refuse
    node.relay.start()
    await until(lambda: len(yours.bodies) == 2, "the messages")
    assert ids_of(yours) == sent[1:]
    assert node.counts.faults["messenger row"] == 1


async def test_sql_that_is_away(ground: Ground, start: Start) -> None:
    """Rows that the core has are not handed to it again while SQL does not know it."""
    node = await start()
    me, you = await ground.users(2)
    yours, published, fails = await node.open(you), [], [1, 1]
    sent = await ground.send(me, ChatTarget(user=you))

    async def fail(step: str) -> None:
        if step == "publish":
            published.append(1)
        if step == "finish" and fails:
            fails.pop()
            raise StoreUnavailable("away")

    node.before = fail
    node.relay.start()
    await until_empty(node, sent.id)
    assert (len(published), len(yours.bodies)) == (1, 1)


async def test_a_row_that_nobody_can_read(ground: Ground, start: Start) -> None:
    """An error of the server itself costs a pause, and the relay lives on."""
    node = await start()
    site_id = await ground.site_id()
    async with ground.sql.writing(ground.site) as (sql, _):
        await sql.execute(insert(chat_outbox).values(site_id=site_id, id=1, kind="send", rooms="[", body="{"))
    node.relay.start()
    await until(lambda: node.counts.faults["messenger relay"] > 0, "the fault")
    assert node.relay.is_mine


async def test_receipts_follow_from_acks(ground: Ground, start: Start) -> None:
    """The sender's devices get `receipt` once the addressee's device has acknowledged, and nobody else does."""
    node = await start()
    notes = DeliveredNotes(node.talk, lambda site: node.relay.wake(), node.counts)
    node.node.delivery.on_acked = notes.acked
    me, you = await ground.users(2)
    for user in (me, you):
        await ground.sender(user, "a")
    mine, yours = await node.open(me), await node.open(you)
    for receiver, user in ((mine, me), (yours, you)):
        assert receiver.connection
        notes.entered(ground.site, receiver.connection.handles, user, "a")
    sent = await ground.send(me, ChatTarget(user=you), device="a")
    node.relay.start()
    await until(lambda: yours.seqs, "the message")
    node.node.ack(yours, yours.seqs[0])
    await until(lambda: mine.seqs, "the receipt")
    node.node.ack(mine, mine.seqs[0])
    event, receipt = msgspec.json.decode(mine.bodies[0])
    assert (event, receipt["ids"], receipt["user"], receipt["state"]) == ("receipt", [sent.id], you, "delivered")
    assert yours.bodies == yours.bodies[:1]
    await notes.close()


async def test_a_net_for_receipts(ground: Ground, start: Start) -> None:
    """An ack that the journal alone knows becomes a receipt."""
    node = await start()
    me, you = await ground.users(2)
    await ground.sender(you, "phone")
    sent = await ground.send(me, ChatTarget(user=you))
    await node.talk.finish(ground.site, sent.id, [SentRow(31, sent.id, 1)])
    async with ground.sql.writing(ground.site) as (sql, site_id):
        device = insert(devices).values(site_id=site_id, user=f"user_{you}", device="phone").returning(devices.c.id)
        row = (await sql.execute(device)).scalar_one()
        fate = {"site_id": site_id, "seq": 31, "device_id": row, "state": 2, "acked_at": 1}
        await sql.execute(insert(deliveries).values(**fate))
    woken: list[Site] = []
    net = ReceiptNet(ground.site, node.talk, woken.append, node.counts)
    await net.look()
    assert (woken, await ground.count(chat_receipts)) == ([ground.site], 1)
    # The journal knows nothing else of this old message.
    assert await ground.count(chat_sent) == 0
