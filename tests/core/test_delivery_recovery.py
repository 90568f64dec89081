"""What the bus loses is read from the queues; what the queues or Redis lose is told by `_resync`; on a real Valkey."""

from __future__ import annotations

import pytest

from app.config.settings import Site
from app.core.message import LiveMessage
from app.store.keys import bus_channel
from tests.core.conftest import NodeStarter
from tests.support.store import StoreNode, device_of, heard, limits, make_site, parts, queue_of, settled
from tests.support.valkey import Valkey
from tests.support.waiting import until

SITE = make_site()
PLAIN = make_site("plain", user_room_prefix=None)
ROOM = "user_1"


# Gaps on the bus


class LossyBus:
    """Lets bus messages of a node through or swallows them. Lives for one test."""

    def __init__(self, node: StoreNode, monkeypatch: pytest.MonkeyPatch) -> None:
        """Nothing is swallowed yet."""
        self.is_deaf = False
        self._node = node
        self._publish = node.delivery.message_published
        monkeypatch.setattr(node.delivery, "message_published", self._message_published)

    def _message_published(self, site: str, counter: int, message: LiveMessage) -> None:
        if not self.is_deaf:
            self._publish(site, counter, message)

    async def lose(self, site: Site, count: int) -> list[bytes]:
        """Send messages that this node does not hear of."""
        self.is_deaf = True
        bodies = [await self._node.publish(site, ROOM) for _ in range(count)]
        # The probe comes back over the same link: what was published before it has come, too.
        await until_heard(self._node)
        self.is_deaf = False
        return bodies


async def until_heard(node: StoreNode) -> None:
    """What was published up to now has reached the node."""
    (subscription,) = node.bus._subscriptions.values()
    before = subscription._heard_at
    await node.redis.command("PUBLISH", bus_channel(node.name), "probe 0")
    await until(lambda: subscription._heard_at > before, "the probe")


@pytest.mark.parametrize("batch", [1, 1_000])
async def test_gap_on_the_bus_is_filled_in_order(
    start_node: NodeStarter, monkeypatch: pytest.MonkeyPatch, batch: int
) -> None:
    """A missing counter: what was missed is read from the queue, before what came after, and nothing comes twice."""
    site = make_site(**limits(10_000, batch=batch))
    node = await start_node(site)
    bus = LossyBus(node, monkeypatch)
    receiver = await node.open(site, ROOM)
    sent = [await node.publish(site, ROOM)]
    await heard(receiver, 1)
    sent += await bus.lose(site, 5)
    sent += [await node.publish(site, ROOM) for _ in range(3)]
    assert await heard(receiver, 9) == sent
    sent.append(await node.publish(site, ROOM))
    assert await heard(receiver, 10) == sent
    assert receiver.batches == []


async def test_long_gap_is_filled_from_small_parts(start_node: NodeStarter, monkeypatch: pytest.MonkeyPatch) -> None:
    """However many parts a refill takes, it comes to its end."""
    site = make_site(**limits(10_000, batch=1))
    node = await start_node(site)
    bus = LossyBus(node, monkeypatch)
    receiver = await node.open(site, ROOM)
    sent = [await node.publish(site, ROOM)]
    await heard(receiver, 1)
    sent += await bus.lose(site, 1_200)
    sent.append(await node.publish(site, ROOM))
    assert await heard(receiver, len(sent)) == sent


async def test_gap_while_a_connection_is_replayed(start_node: NodeStarter, monkeypatch: pytest.MonkeyPatch) -> None:
    """What the bus lost while parts of the queue were still to come is in those parts."""
    site = make_site(**limits(10_000, batch=2))
    node = await start_node(site)
    bus = LossyBus(node, monkeypatch)
    node.close_connection(await node.open(site, ROOM))
    sent = [await node.publish(site, ROOM) for _ in range(3)]
    receiver = await node.open(site, ROOM)
    sent += await bus.lose(site, 2)
    node.delivery.bus_interrupted()
    node.ack(receiver, 1)
    node.delivery.bus_interrupted()
    await parts(receiver, 2)
    sent += await bus.lose(site, 1)
    node.ack(receiver, 2)
    sent.append(await node.publish(site, ROOM))
    await until(lambda: len(receiver.bodies) >= 6, "the third part")
    node.ack(receiver, 3)
    sent.append(await node.publish(site, ROOM))
    while len(receiver.bodies) < len(sent):
        await heard(receiver, len(receiver.bodies) + 1)
        if receiver.written[-1][0] == "batch":
            node.ack(receiver, receiver.batches[-1][0])
    assert receiver.bodies == sent


async def test_gap_while_a_connection_is_opened(start_node: NodeStarter, monkeypatch: pytest.MonkeyPatch) -> None:
    """A message that is missed between the registration and its answer is found."""
    node = await start_node(SITE)
    bus = LossyBus(node, monkeypatch)
    connect = node.queues.connect
    sent: list[bytes] = []

    async def connect_slowly(*arguments: object) -> object:
        registration = await connect(*arguments)  # type: ignore[arg-type]  # passed on as they are
        sent.extend(await bus.lose(SITE, 2))
        node.delivery.bus_interrupted()
        return registration

    monkeypatch.setattr(node.queues, "connect", connect_slowly)
    receiver = await node.open(SITE, ROOM)
    assert await heard(receiver, 2) == sent


async def test_dropped_queue_in_a_gap_calls_for_a_resync(
    start_node: NodeStarter, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A queue that ran over in a message that the node did not hear of: the device is told all the same."""
    site = make_site(**limits(2))
    node = await start_node(site)
    bus = LossyBus(node, monkeypatch)
    receiver = await node.open(site, ROOM)
    await node.publish(site, ROOM)
    await heard(receiver, 1)
    await bus.lose(site, 2)
    await node.publish(site, ROOM)
    await until(lambda: "resync" in receiver.kinds, "the resync")


# Resync


async def test_overflow_resyncs_connected_devices_and_goes_on(start_node: NodeStarter, valkey: Valkey) -> None:
    """Past its bound the queue is dropped and the device told at once; the next message is stored and sent as ever."""
    site = make_site(**limits(2))
    node = await start_node(site)
    receiver = await node.open(site, ROOM)
    for _ in range(3):
        await node.publish(site, ROOM)
    await until(lambda: "resync" in receiver.kinds, "the resync")
    assert queue_of(valkey, site) == []
    body = await node.publish(site, ROOM)
    await until(lambda: receiver.bodies[-1] == body, "the next message")
    assert receiver.kinds == ["greet", "event", "event", "resync", "event"]


async def test_overflow_while_away_resyncs_first_thing(start_node: NodeStarter) -> None:
    """A device whose queue ran over while it was away hears `_resync` right behind the greeting, then what waits."""
    site = make_site(**limits(2))
    node = await start_node(site)
    node.close_connection(await node.open(site, ROOM))
    bodies = [await node.publish(site, ROOM) for _ in range(4)]
    receiver = await node.open(site, ROOM)
    assert receiver.written == [("greet",), ("resync",), ("batch", 1, bodies[3:])]


async def test_ack_out_of_turn_resyncs(start_node: NodeStarter) -> None:
    """An ack of a message sent with resync, with an older one of its event waiting, drops that event and tells."""
    node = await start_node(SITE)
    receiver = await node.open(SITE, ROOM)
    await node.publish(SITE, ROOM, "a", resync=True)
    other = await node.publish(SITE, ROOM, "b", resync=True)
    await node.publish(SITE, ROOM, "a", resync=True)
    await heard(receiver, 3)
    node.ack(receiver, receiver.seqs[2])
    await until(lambda: "resync" in receiver.kinds, "the resync")
    node.close_connection(receiver)
    again = await node.open(SITE, ROOM)
    assert again.written == [("greet",), ("resync",), ("batch", 1, [other])]


async def test_resync_is_repeated_until_it_has_arrived(start_node: NodeStarter, valkey: Valkey) -> None:
    """A `_resync` comes at every connect until the client is known to have it, and then no more."""
    site = make_site(**limits(1))
    node = await start_node(site)
    node.close_connection(await node.open(site, ROOM))
    for _ in range(2):
        await node.publish(site, ROOM)
    for _ in range(2):
        receiver = await node.open(site, ROOM)
        assert receiver.kinds == ["greet", "resync"]
        node.close_connection(receiver)
    receiver = await node.open(site, ROOM)
    receiver.receipts[0]()
    await until(lambda: "lost" not in device_of(valkey, site), "the resync to be settled")
    node.close_connection(receiver)
    assert (await node.open(site, ROOM)).kinds == ["greet"]


async def test_second_resync_is_not_settled_by_the_first(start_node: NodeStarter, valkey: Valkey) -> None:
    """What was lost after a `_resync` was sent is not settled by that one's arrival."""
    site = make_site(**limits(1))
    node = await start_node(site)
    receiver = await node.open(site, ROOM)
    for _ in range(2):
        await node.publish(site, ROOM)
    await until(lambda: receiver.kinds.count("resync") == 1, "the first resync")
    for _ in range(2):
        await node.publish(site, ROOM)
    await until(lambda: receiver.kinds.count("resync") == 2, "the second resync")
    receiver.receipts[0]()
    await node.delivery.drain()
    assert "lost" in device_of(valkey, site)
    receiver.receipts[1]()
    await node.delivery.drain()
    assert "lost" not in device_of(valkey, site)


# Redis loses its data


async def test_wiped_redis_resyncs_and_lets_clients_register_anew(start_node: NodeStarter, valkey: Valkey) -> None:
    """When Redis has lost everything the devices are told `_resync` and their connections end, once it is noticed."""
    node = await start_node(SITE)
    receiver = await node.open(SITE, ROOM)
    await node.publish(SITE, ROOM)
    await heard(receiver, 1)
    valkey.client.flushall()
    node.delivery.bus_interrupted()
    await until(lambda: "close" in receiver.kinds, "the connection to end")
    assert receiver.kinds == ["greet", "event", "resync", "close"]
    node.close_connection(receiver)
    await settled(node)
    again = await node.open(SITE, ROOM)
    body = await node.publish(SITE, ROOM)
    assert await heard(again, 1) == [body]


async def test_older_copy_of_redis_resyncs(start_node: NodeStarter, valkey: Valkey) -> None:
    """After a fail-over to a copy that lacks the newest messages: `_resync`, and what is sent from then on arrives."""
    node = await start_node(SITE)
    receiver = await node.open(SITE, ROOM)
    await node.publish(SITE, ROOM)
    copies = {key: valkey.client.dump(key) for key in valkey.client.keys("*")}
    await node.publish(SITE, ROOM)
    await heard(receiver, 2)
    valkey.client.flushall()
    for key, content in copies.items():
        assert isinstance(content, bytes)
        valkey.client.restore(key, 0, content)
    node.delivery.bus_interrupted()
    await until(lambda: "resync" in receiver.kinds, "the resync")
    body = await node.publish(SITE, ROOM)
    await until(lambda: receiver.bodies[-1] == body, "the next message")
    assert "close" not in receiver.kinds


async def test_buried_connection_ends(start_node: NodeStarter, valkey: Valkey) -> None:
    """A node that was taken for dead ends its connections, whose clients register anew; nothing is lost."""
    node, other = await start_node(SITE), await start_node(SITE)
    receiver = await node.open(SITE, ROOM)
    await other.queues.bury(SITE, node.name, "")
    body = await other.publish(SITE, ROOM)
    node.delivery.bus_interrupted()
    await until(lambda: "close" in receiver.kinds, "the connection to end")
    assert "resync" not in receiver.kinds
    node.close_connection(receiver)
    assert body in [*receiver.bodies, *(await other.open(SITE, ROOM)).bodies]
