"""The life of connections on real nodes, a real bus and a real Valkey: each message arrives, once and in order."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Awaitable, Sequence

import pytest

from app.config.settings import Site
from app.core.connection import ConnectionPhase
from app.core.message import LiveMessage
from app.errors import StoreError, StoreUnavailable
from app.store.keys import prefix
from tests.core.conftest import NodeStarter
from tests.support.store import (
    RecordingReceiver,
    StoreNode,
    device_of,
    heard,
    limits,
    make_site,
    parts,
    queue_of,
    settled,
)
from tests.support.valkey import Valkey
from tests.support.waiting import until

SITE = make_site()
PLAIN = make_site("plain", user_room_prefix=None)
ROOM = "user_1"


# Live, acknowledged, replayed


async def test_live_message_arrives_and_its_ack_empties_the_queue(start_node: NodeStarter, valkey: Valkey) -> None:
    """A device gets a message at once; the message stays in the queue until its ack, and no longer."""
    node = await start_node(SITE)
    receiver = await node.open(SITE, ROOM)
    body = await node.publish(SITE, ROOM)
    assert await heard(receiver, 1) == [body]
    assert receiver.kinds == ["greet", "event"]
    assert queue_of(valkey, SITE) == [body.decode()]
    node.ack(receiver, receiver.seqs[0])
    await settled(node)
    assert queue_of(valkey, SITE) == []
    assert not [key for key in valkey.dump() if ":body:" in key]


async def test_unacked_messages_come_again_and_acked_ones_do_not(start_node: NodeStarter) -> None:
    """The next connection gets one batch, right behind the greeting, with exactly the unacknowledged messages."""
    node = await start_node(SITE)
    first = await node.open(SITE, ROOM)
    bodies = [await node.publish(SITE, ROOM, event) for event in ("a", "b", "a")]
    await heard(first, 3)
    node.ack(first, first.seqs[1])
    node.close_connection(first)
    again = await node.open(SITE, ROOM)
    assert again.written == [("greet",), ("batch", 1, [bodies[0], bodies[2]])]
    later = await node.publish(SITE, ROOM)
    await heard(again, 3)
    node.ack(again, 1)
    node.close_connection(again)
    third = await node.open(SITE, ROOM)
    assert third.bodies == [later]


async def test_batch_in_parts_keeps_the_order_with_live_messages(start_node: NodeStarter) -> None:
    """The next part follows the ack of the part before; messages that are sent meanwhile come behind the last part."""
    site = make_site(**limits(100, batch=2))
    node = await start_node(site)
    node.close_connection(await node.open(site, ROOM))
    bodies = [await node.publish(site, ROOM) for _ in range(5)]
    receiver = await node.open(site, ROOM)
    bodies.append(await node.publish(site, ROOM))
    for part in range(1, 4):
        await parts(receiver, part)
        node.ack(receiver, part)
    bodies.append(await node.publish(site, ROOM))
    assert await heard(receiver, 7) == bodies
    assert [len(part) for _, part in receiver.batches] == [2, 2, 2]


async def test_two_connections_of_a_device_on_two_nodes(start_node: NodeStarter) -> None:
    """Both connections get live messages, the newer one gets the batch, and the first ack counts."""
    one, other = await start_node(SITE), await start_node(SITE)
    first = await one.open(SITE, ROOM)
    body = await one.publish(SITE, ROOM)
    await heard(first, 1)
    second = await other.open(SITE, ROOM)
    assert second.bodies == [body]
    live = await other.publish(SITE, ROOM)
    assert await heard(first, 2) == await heard(second, 2) == [body, live]
    other.ack(second, 1)
    one.ack(first, first.seqs[1])
    await settled(one)
    await settled(other)
    one.close_connection(first)
    other.close_connection(second)
    assert (await one.open(SITE, ROOM)).bodies == []


async def test_only_nodes_with_an_addressed_device_are_told(start_node: NodeStarter) -> None:
    """Of three nodes only the nodes with an addressed device hear of a message; the count of told nodes says so."""
    here, there, elsewhere = [await start_node(SITE, PLAIN) for _ in range(3)]
    first, second = await here.open(SITE, ["user_1", "both"]), await there.open(SITE, ["user_2", "both"])
    await elsewhere.open(SITE, "user_3")
    plain = await there.open(PLAIN, "lobby")
    told = []
    for site, rooms in ((SITE, "user_1"), (SITE, ["user_1", "both"]), (SITE, "nobody"), (PLAIN, "lobby")):
        before = elsewhere.counts.of(site.name).nodes_told
        await elsewhere.publish(site, rooms)
        told.append(elsewhere.counts.of(site.name).nodes_told - before)
    assert told == [1, 2, 0, 1]
    await heard(first, 2)
    await heard(second, 1)
    await heard(plain, 1)
    nodes = (here, there, elsewhere)
    assert [node.counts.of(SITE.name).bus_messages for node in nodes] == [2, 1, 0]
    assert [node.counts.of(PLAIN.name).bus_messages for node in nodes] == [0, 1, 0]


async def test_end_of_one_connection_leaves_the_other_connected(start_node: NodeStarter, valkey: Valkey) -> None:
    """A device is away when its last connection has ended; its time to live begins then."""
    node = await start_node(SITE)
    first, second = await node.open(SITE, ROOM), await node.open(SITE, ROOM)
    node.close_connection(first)
    node.close_connection(first)
    await settled(node)
    assert f"{prefix('shop')}expiry" not in valkey.dump()
    node.close_connection(second)
    await settled(node)
    assert f"{prefix('shop')}expiry" in valkey.dump()


async def test_acks_of_an_end_come_before_the_next_connect(start_node: NodeStarter) -> None:
    """A message that was acknowledged a moment before the connection's end is not in the next connection's batch."""
    node = await start_node(SITE)
    for _ in range(20):
        receiver = await node.open(SITE, ROOM)
        await node.publish(SITE, ROOM)
        await heard(receiver, 1)
        node.ack(receiver, receiver.seqs[-1])
        node.close_connection(receiver)
        again = await node.open(SITE, ROOM)
        assert again.written == [("greet",)]
        node.close_connection(again)


async def test_sites_do_not_share_users(start_node: NodeStarter) -> None:
    """Equal user rooms, devices and shared rooms of two sites never meet, live or in a batch."""
    other = make_site("other")
    node = await start_node(SITE, other)
    mine, theirs = await node.open(SITE, [ROOM, "news"]), await node.open(other, [ROOM, "news"])
    sent = [await node.publish(SITE, [ROOM, "news"]) for _ in range(2)]
    fence = await node.publish(other, "news")
    assert await heard(theirs, 1) == [fence]
    assert await heard(mine, 2) == sent
    node.close_connection(theirs)
    assert (await node.open(other, [ROOM, "news"])).bodies == [fence]


# Races


@pytest.mark.parametrize("batch", [2, 1_000])
async def test_messages_sent_while_connecting_are_neither_lost_nor_doubled(start_node: NodeStarter, batch: int) -> None:
    """Hundreds of connects in the middle of a stream from two nodes: each gets all messages, once and in order."""
    site = make_site(**limits(100_000, batch=batch))
    nodes = [await start_node(site), await start_node(site)]
    sent: list[bytes] = []
    stop = asyncio.Event()

    async def stream() -> None:
        while not stop.is_set():
            # Publish one at a time, so that the order of the answers is the order of acceptance.
            sent.append(await random.choice(nodes).publish(site, [ROOM, "news"]))

    streaming = asyncio.create_task(stream())
    received: list[bytes] = []
    for turn in range(200):
        node = nodes[turn % 2]
        receiver = node.receiver(site)
        unacked = ack_everything(node, receiver)
        assert receiver.connection
        await node.delivery.open(receiver.connection, "d", [ROOM, "News"], receiver.greet)
        await heard(receiver, turn % 4)
        await until(lambda: not unacked, "the acks")  # noqa: B023  # awaited within the loop
        node.close_connection(receiver)
        await settled(node)
        received += receiver.bodies
    stop.set()
    await streaming
    last = await nodes[0].open(site, [ROOM, "news"])
    while last.batches and len(received) + len(last.bodies) < len(sent):
        nodes[0].ack(last, last.batches[-1][0])
        await heard(last, len(last.bodies) + 1)
    assert [*received, *last.bodies] == sent


def ack_everything(node: StoreNode, receiver: RecordingReceiver) -> list[int]:
    """A client that acknowledges each message a moment after it came; answers the list of acks still to be sent."""
    unacked: list[int] = []

    def ack_soon(what: tuple[object, ...]) -> None:
        if what[0] in ("event", "batch"):
            assert isinstance(what[1], int)
            unacked.append(what[1])
            asyncio.get_running_loop().call_soon(lambda: node.ack(receiver, unacked.pop(0)))

    receiver.on_write = ack_soon
    return unacked


async def test_many_connect_at_once_while_messages_are_sent(start_node: NodeStarter) -> None:
    """A storm of 200 devices: each gets every message once and in order, from the queue or live."""
    node = await start_node(SITE)
    rooms = [[f"user_{number}", "all"] for number in range(200)]
    for device in [await node.open(SITE, room) for room in rooms]:
        node.close_connection(device)
    sent = [await node.publish(SITE, "all") for _ in range(3)]
    opening = asyncio.gather(*(node.open(SITE, room) for room in rooms))
    while not opening.done():
        sent.append(await node.publish(SITE, "all"))
    receivers = await opening
    for receiver in receivers:
        assert await heard(receiver, len(sent)) == sent


async def test_connection_that_closes_while_it_is_opened(start_node: NodeStarter, valkey: Valkey) -> None:
    """A client that leaves before the store has answered is not greeted, and its device counts as disconnected."""
    node = await start_node(SITE)
    for is_first in (True, False):
        receiver = node.receiver(SITE)
        assert receiver.connection
        opening = asyncio.create_task(node.delivery.open(receiver.connection, "d", [ROOM], receiver.greet))
        if not is_first:
            await asyncio.sleep(0)
        node.close_connection(receiver)
        await opening
        await settled(node)
        assert receiver.written == []
        assert sorted(device_of(valkey, SITE)) == ["device", "user"]
        assert node.delivery.hub[SITE].connections_of(b"1") == ()


async def test_open_that_is_cancelled_leaves_nothing_connected(start_node: NodeStarter, valkey: Valkey) -> None:
    """A cancelled connect is withdrawn: its device does not stay connected for ever."""
    node = await start_node(SITE)
    receiver = node.receiver(SITE)
    assert receiver.connection
    opening = asyncio.create_task(node.delivery.open(receiver.connection, "d", [ROOM], receiver.greet))
    await asyncio.sleep(0)
    opening.cancel()
    with pytest.raises(asyncio.CancelledError):
        await opening
    await settled(node)
    assert sorted(device_of(valkey, SITE)) == ["device", "user"]
    assert f"{prefix('shop')}node:{node.name}" not in valkey.dump()


async def test_failed_registration_is_withdrawn(start_node: NodeStarter, valkey: Valkey) -> None:
    """A failed connect is withdrawn as soon as Redis is back, whether or not it was registered."""
    node = await start_node(SITE)
    receiver = node.receiver(SITE)
    assert receiver.connection
    valkey.suspend()
    try:
        opening = asyncio.create_task(node.delivery.open(receiver.connection, "d", [ROOM], receiver.greet))
        with pytest.raises(StoreUnavailable):
            await opening
    finally:
        valkey.resume()
    await until(lambda: node.redis.is_available, "the link")
    await settled(node)
    assert (receiver.connection.phase, receiver.written) == (ConnectionPhase.CLOSED, [])
    device = [value for key, value in valkey.dump().items() if ":device:" in key]
    assert all(sorted(one) == ["device", "user"] for one in device)


async def test_client_that_goes_while_it_is_greeted(start_node: NodeStarter, valkey: Valkey) -> None:
    """The greeting may close the connection: nothing follows, and the device is disconnected."""
    node = await start_node(SITE)
    node.close_connection(await node.open(SITE, ROOM))
    await node.publish(SITE, ROOM)
    receiver = node.receiver(SITE)
    receiver.on_write = lambda what: node.close_connection(receiver)
    assert receiver.connection
    await node.delivery.open(receiver.connection, "d", [ROOM], receiver.greet)
    await settled(node)
    assert receiver.kinds == ["greet"]
    assert sorted(device_of(valkey, SITE)) == ["device", "user"]


# Sites without queues


async def test_plain_site_reaches_the_rooms_of_all_nodes(start_node: NodeStarter) -> None:
    """Each connection in a room gets the message once, on any node; room names have no case; nothing is
    stored."""
    one, other = await start_node(PLAIN), await start_node(PLAIN)
    first, second = await one.open(PLAIN, ["a", "b", "a"]), await other.open(PLAIN, ["b"])
    both = await one.publish(PLAIN, ["a", "b"])
    only = await other.publish(PLAIN, ["a"])
    upper = await other.publish(PLAIN, ["A", "c"])
    fence = await one.publish(PLAIN, ["b"])
    assert await heard(first, 4) == [both, only, upper, fence]
    assert await heard(second, 2) == [both, fence]
    one.close_connection(first)
    await settled(one)
    await other.publish(PLAIN, ["a"])
    assert (await one.open(PLAIN, ["a"])).written == [("greet",)]


async def test_plain_sites_do_not_share_rooms(start_node: NodeStarter) -> None:
    """A room of one site is not the room of the same name of another."""
    other_site = make_site("other", user_room_prefix=None)
    node = await start_node(PLAIN, other_site)
    mine, theirs = await node.open(PLAIN, "a"), await node.open(other_site, "a")
    await node.publish(PLAIN, "a", "one")
    fence = await node.publish(other_site, "a", "two")
    assert await heard(theirs, 1) == [fence]
    assert len(await heard(mine, 1)) == 1


async def test_plain_room_that_could_not_be_joined_is_not_left_deaf(
    start_node: NodeStarter, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Two connections enter a room and the join of the first fails: the second, which is connected, hears the room."""
    node = await start_node(PLAIN)
    join = node.queues.join
    failures = [StoreUnavailable()]

    async def join_or_fail(*arguments: object) -> object:
        if failures:
            error = failures.pop()
            await asyncio.sleep(0)
            raise error
        return await join(*arguments)  # type: ignore[arg-type, func-returns-value]  # passed on as they are

    monkeypatch.setattr(node.queues, "join", join_or_fail)
    results = await asyncio.gather(*(node.open(PLAIN, "a") for _ in range(2)), return_exceptions=True)
    assert isinstance(results[0], StoreError)
    assert isinstance(results[1], RecordingReceiver)
    await settled(node)
    body = await node.publish(PLAIN, "a")
    assert await heard(results[1], 1) == [body]


async def test_plain_connection_that_closes_while_it_is_opened(start_node: NodeStarter, valkey: Valkey) -> None:
    """A client that leaves before its rooms are joined is not greeted, and the node is no member of its rooms."""
    node = await start_node(PLAIN)
    receiver = node.receiver(PLAIN)
    assert receiver.connection
    opening = asyncio.create_task(node.delivery.open(receiver.connection, "d", ["a"], receiver.greet))
    await asyncio.sleep(0)
    node.close_connection(receiver)
    await opening
    await settled(node)
    assert receiver.written == []
    assert [key for key in valkey.dump() if "members" in key or "joined" in key] == []


async def test_wiped_redis_does_not_leave_plain_rooms_deaf(start_node: NodeStarter, valkey: Valkey) -> None:
    """When Redis has lost everything, the node joins its rooms again, and messages with smaller seqs are written."""
    node = await start_node(PLAIN)
    receiver = await node.open(PLAIN, "a")
    await node.publish(PLAIN, "a")
    await heard(receiver, 1)
    valkey.client.flushall()
    node.delivery.bus_interrupted()
    await settled(node)
    body = await node.publish(PLAIN, "a")
    assert (await heard(receiver, 2))[1] == body


async def test_many_rooms_are_joined_again_in_parts(
    start_node: NodeStarter, valkey: Valkey, monkeypatch: pytest.MonkeyPatch
) -> None:
    """After a gap no command joins more than 1,000 rooms: one command for all would not end within its time-out."""
    node = await start_node(PLAIN)
    receiver = await node.open(PLAIN, [f"room {number}" for number in range(2_500)])
    join, parts = node.queues.join, list[int]()

    def join_part(site: Site, rooms: Sequence[str]) -> Awaitable[None]:
        parts.append(len(rooms))
        return join(site, rooms)

    monkeypatch.setattr(node.queues, "join", join_part)
    valkey.client.flushall()
    node.delivery.bus_interrupted()
    await settled(node)
    assert parts == [1_000, 1_000, 500]
    body = await node.publish(PLAIN, "room 2499")
    assert await heard(receiver, 1) == [body]


# Words of the ports


async def test_message_for_a_site_unknown_here_is_left_out(start_node: NodeStarter) -> None:
    """Another node may know more sites: a message for an unknown site is ignored."""
    node = await start_node(SITE)
    node.delivery.message_published("strange", 1, LiveMessage(1, "1", b"", [b"1"]))
    receiver = await node.open(SITE, ROOM)
    body = await node.publish(SITE, ROOM)
    assert await heard(receiver, 1) == [body]


async def test_first_message_of_a_turn_is_marked(start_node: NodeStarter) -> None:
    """Of the messages that the bus brings in one turn of the loop the first is to be written at once."""
    node = await start_node(SITE)
    receiver = await node.open(SITE, ROOM)
    assert receiver.connection is not None
    messages = [LiveMessage(10**13 + number, "1", b"", receiver.connection.handles) for number in range(4)]
    for message in messages[:3]:
        node.delivery.message_published(SITE.name, message.seq, message)
    await asyncio.sleep(0)
    node.delivery.message_published(SITE.name, 0, messages[3])
    assert [message.is_first for message in messages] == [True, False, False, True]


async def test_publish_while_redis_is_away(start_node: NodeStarter, valkey: Valkey) -> None:
    """Without a link a publish fails at once with StoreUnavailable; the message is not kept to be sent later."""
    node = await start_node(SITE)
    await node.redis.close()
    with pytest.raises(StoreUnavailable):
        await node.publish(SITE, ROOM)
