"""Messages that the bus loses are read from the queues; losses of the queues and of Redis are told by `_resync`."""

from __future__ import annotations

import pytest

from app.config.settings import Site
from app.core import catch_up
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
    """Passes bus messages to a node, or swallows them. Lives for one test."""

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
        # The probe comes back over the same link: messages that were published before it have come, too.
        await until_heard(self._node)
        self.is_deaf = False
        return bodies


async def until_heard(node: StoreNode) -> None:
    """Messages that were published before this call have reached the node."""
    (subscription,) = node.bus._subscriptions.values()
    before = subscription._heard_at
    await node.redis.command("PUBLISH", bus_channel(node.name), "probe 0")
    await until(lambda: subscription._heard_at > before, "the probe")


@pytest.mark.parametrize("batch", [1, 1_000])
async def test_gap_on_the_bus_is_filled_in_order(
    start_node: NodeStarter, monkeypatch: pytest.MonkeyPatch, batch: int
) -> None:
    """A counter is missing: the lost messages are read from the queue, before the later ones, and none comes twice."""
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
    """A refill comes to its end, however many parts it takes."""
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
    """Messages that the bus loses during a replay in parts are in the parts still to come."""
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
    """Messages that the bus loses between the registration and its answer are found."""
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


async def test_message_behind_a_gap_while_a_connection_is_opened(
    start_node: NodeStarter, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The bus loses two messages between the registration and its answer, and brings the third: it waits for them."""
    node = await start_node(SITE)
    bus = LossyBus(node, monkeypatch)
    connect = node.queues.connect
    other = await node.open(SITE, ROOM, "other")
    # The next counter shows the gap.
    await node.publish(SITE, ROOM)
    await heard(other, 1)
    sent: list[bytes] = []

    async def connect_slowly(*arguments: object) -> object:
        registration = await connect(*arguments)  # type: ignore[arg-type]  # passed on as they are
        sent.extend(await bus.lose(SITE, 2))
        sent.append(await node.publish(SITE, ROOM))
        await heard(other, 4)
        return registration

    monkeypatch.setattr(node.queues, "connect", connect_slowly)
    receiver = await node.open(SITE, ROOM)
    assert await heard(receiver, 3) == sent


async def test_gap_while_a_gap_is_filled(start_node: NodeStarter, monkeypatch: pytest.MonkeyPatch) -> None:
    """The bus loses messages while the store's answer for an earlier gap is on its way: none overtakes them."""
    node = await start_node(SITE)
    bus = LossyBus(node, monkeypatch)
    receiver = await node.open(SITE, ROOM)
    replay = node.queues.replay
    sent = [await node.publish(SITE, ROOM)]
    await heard(receiver, 1)
    sent += await bus.lose(SITE, 1)
    is_first = True

    async def replay_slowly(*arguments: object) -> object:
        nonlocal is_first
        was_first, is_first = is_first, False
        answer = await replay(*arguments)  # type: ignore[arg-type]  # passed on as they are
        if was_first:
            sent.extend(await bus.lose(SITE, 2))
            sent.append(await node.publish(SITE, ROOM))
            await until_heard(node)
        return answer

    monkeypatch.setattr(node.queues, "replay", replay_slowly)
    sent.append(await node.publish(SITE, ROOM))
    assert await heard(receiver, 6) == sent
    sent.append(await node.publish(SITE, ROOM))
    assert await heard(receiver, 7) == sent


# More messages than a connection holds while the store is asked


@pytest.mark.parametrize("batch", [1, 1_000])
async def test_more_than_is_held_while_a_gap_is_filled(
    start_node: NodeStarter, monkeypatch: pytest.MonkeyPatch, batch: int
) -> None:
    """Messages past the bound are read from the queue, in order and once, however often the bound is passed."""
    monkeypatch.setattr(catch_up, "MAX_MESSAGES", 3)
    site = make_site(**limits(10_000, batch=batch))
    node = await start_node(site)
    receiver = await node.open(site, ROOM)
    replay = node.queues.replay
    sent: list[bytes] = []

    async def replay_slowly(*arguments: object) -> object:
        answer = await replay(*arguments)  # type: ignore[arg-type]  # passed on as they are
        if len(sent) < 15:
            sent.extend([await node.publish(site, ROOM) for _ in range(5)])
            await until_heard(node)
        return answer

    monkeypatch.setattr(node.queues, "replay", replay_slowly)
    node.delivery.bus_interrupted()
    assert await heard(receiver, 15) == sent
    sent.append(await node.publish(site, ROOM))
    assert await heard(receiver, 16) == sent


@pytest.mark.parametrize("bound", ["MAX_MESSAGES", "MAX_BYTES"])
async def test_more_than_is_kept_while_a_connection_is_opened(
    start_node: NodeStarter, monkeypatch: pytest.MonkeyPatch, bound: str
) -> None:
    """Messages that arrive during the registration are kept up to the bound; past it they are read from the queue."""
    monkeypatch.setattr(catch_up, bound, 30)
    node = await start_node(SITE)
    other = await node.open(SITE, ROOM, "other")
    connect = node.queues.connect
    sent: list[bytes] = []

    async def connect_slowly(*arguments: object) -> object:
        registration = await connect(*arguments)  # type: ignore[arg-type]  # passed on as they are
        sent.extend([await node.publish(SITE, ROOM) for _ in range(40)])
        await heard(other, 40)
        assert len(list(node.delivery.hub[SITE].strays)) < 30
        return registration

    monkeypatch.setattr(node.queues, "connect", connect_slowly)
    receiver = await node.open(SITE, ROOM)
    assert await heard(receiver, 40) == sent
    assert receiver.kinds == ["greet", *["event"] * 40]
    sent.append(await node.publish(SITE, ROOM))
    assert await heard(receiver, 41) == sent


async def test_more_than_is_held_and_than_the_queue_holds(
    start_node: NodeStarter, monkeypatch: pytest.MonkeyPatch
) -> None:
    """When the queue was dropped meanwhile, the client is told `_resync`, and goes on with the messages behind it."""
    monkeypatch.setattr(catch_up, "MAX_MESSAGES", 1)
    site = make_site(**limits(3))
    node = await start_node(site)
    connect = node.queues.connect

    async def connect_slowly(*arguments: object) -> object:
        registration = await connect(*arguments)  # type: ignore[arg-type]  # passed on as they are
        for _ in range(6):
            await node.publish(site, ROOM)
        await until_heard(node)
        return registration

    monkeypatch.setattr(node.queues, "connect", connect_slowly)
    receiver = await node.open(site, ROOM)
    await until(lambda: "resync" in receiver.kinds, "the resync")
    last = await node.publish(site, ROOM)
    await until(lambda: receiver.bodies[-1:] == [last], "the last message")


async def test_dropped_queue_in_a_gap_calls_for_a_resync(
    start_node: NodeStarter, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The bus loses the message that has dropped a queue: the device is told all the same."""
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
    """Past its bound the queue is dropped and the device is told at once; the next message is stored and sent."""
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
    """A device whose queue ran over while it was away gets `_resync` right behind the greeting, then its queue."""
    site = make_site(**limits(2))
    node = await start_node(site)
    node.close_connection(await node.open(site, ROOM))
    bodies = [await node.publish(site, ROOM) for _ in range(4)]
    receiver = await node.open(site, ROOM)
    assert receiver.written == [("greet",), ("resync",), ("batch", 1, bodies[3:])]


async def test_ack_out_of_turn_resyncs(start_node: NodeStarter) -> None:
    """An ack out of turn, of a message with resync: all messages of its event are dropped, and the device is told."""
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
    """A `_resync` comes with every connect until the client is known to have it, and then no more."""
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
    """The arrival of a `_resync` does not settle a loss that happened after it was sent."""
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
    """When Redis has lost everything, and a node notices, the devices get `_resync` and their connections end."""
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
    """After a fail-over to a copy without the newest messages: `_resync`, and every later message arrives."""
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
    """A node that was taken for dead ends its connections; their clients connect again, and nothing is lost."""
    node, other = await start_node(SITE), await start_node(SITE)
    receiver = await node.open(SITE, ROOM)
    await other.queues.bury(SITE, node.name, "")
    body = await other.publish(SITE, ROOM)
    node.delivery.bus_interrupted()
    await until(lambda: "close" in receiver.kinds, "the connection to end")
    assert "resync" not in receiver.kinds
    node.close_connection(receiver)
    assert body in [*receiver.bodies, *(await other.open(SITE, ROOM)).bodies]
