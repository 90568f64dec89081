"""Changes of a user's rooms while its devices are connected, or away: on a real Valkey, with two nodes."""

from __future__ import annotations

from collections.abc import Sequence

import pytest

from app.config.settings import Site
from app.core.connection import ConnectionPhase
from app.core.message import ExceptDevice, ExceptHandle
from app.core.ports import AckGroup, RoomsChange
from app.errors import RoomsChanged
from tests.core.conftest import NodeStarter
from tests.support.store import RecordingReceiver, make_site
from tests.support.waiting import until

SITE = make_site()


def joins(room: str, number: int = 0) -> RoomsChange:
    """User 1 joins a room."""
    return RoomsChange("user_1", [room], [], number)


async def heard(receivers: Sequence[RecordingReceiver], bodies: Sequence[bytes]) -> None:
    """Each of them has got exactly these, in this order."""
    await until(lambda: all(len(one.bodies) >= len(bodies) for one in receivers), "the messages")
    assert [one.bodies for one in receivers] == [list(bodies)] * len(receivers)


async def test_a_connected_user_joins_and_leaves(start_node: NodeStarter) -> None:
    """From the answer on messages of the room reach each device of the user, on each node, and no other user."""
    one, other = await start_node(SITE), await start_node(SITE)
    mine = [await one.open(SITE, ["user_1"], "a"), await other.open(SITE, ["user_1"], "b")]
    stranger = await one.open(SITE, ["user_2"], "a")
    await other.publish(SITE, "News")
    assert await other.delivery.follow_up.change_rooms(SITE, joins("News")) == len(mine)
    within = await one.publish(SITE, "news")
    await other.delivery.follow_up.change_rooms(SITE, RoomsChange("user_1", leaves=["NEWS"]))
    await one.publish(SITE, "news")
    last = await one.publish(SITE, ["user_1", "user_2"])
    await heard(mine, [within, last])
    await heard([stranger], [last])


async def test_a_device_that_is_away_joins(start_node: NodeStarter) -> None:
    """Messages of the room wait for a device that was away when its user has joined."""
    node = await start_node(SITE)
    away = await node.open(SITE, ["user_1"])
    node.close_connection(away)
    await node.delivery.drain()
    await node.delivery.follow_up.change_rooms(SITE, joins("news"))
    body = await node.publish(SITE, "news")
    back = await node.open(SITE, ["user_1", "news"])
    assert back.bodies == [body]


async def test_the_user_room_stays(start_node: NodeStarter) -> None:
    """A user does not leave its own room."""
    node = await start_node(SITE)
    mine = await node.open(SITE, ["user_1", "news"])
    await node.delivery.follow_up.change_rooms(SITE, RoomsChange("user_1", leaves=["user_1", "news"]))
    await heard([mine], [await node.publish(SITE, "USER_1")])


async def test_a_user_without_devices(start_node: NodeStarter) -> None:
    """Nothing is kept of a user that nobody knows."""
    node = await start_node(SITE)
    assert await node.delivery.follow_up.change_rooms(SITE, joins("news")) == 0
    mine = await node.open(SITE, ["user_1"])
    await node.publish(SITE, "news")
    await heard([mine], [await node.publish(SITE, "user_1")])


async def test_a_connect_with_rooms_of_before(start_node: NodeStarter) -> None:
    """A connect whose rooms lack a change is refused, and the same connection is opened with the rooms of now."""
    node = await start_node(SITE)
    await node.delivery.follow_up.change_rooms(SITE, joins("news", number=7))
    receiver = node.receiver(SITE)
    assert receiver.connection
    receiver.connection.rooms_at = 6
    with pytest.raises(RoomsChanged):
        await node.delivery.open(receiver.connection, "d", ["user_1"], receiver.greet)
    assert receiver.kinds == []
    receiver.connection.rooms_at = 7
    await node.delivery.open(receiver.connection, "d", ["user_1", "news"], receiver.greet)
    await heard([receiver], [await node.publish(SITE, "news")])
    # A repeated change, whose answer was lost, does nothing.
    assert await node.delivery.follow_up.change_rooms(SITE, RoomsChange("user_1", [], ["news"], 7)) == 0
    await heard([receiver], [receiver.bodies[0], await node.publish(SITE, "news")])


async def test_a_connect_with_rooms_of_before_can_be_given_up(start_node: NodeStarter) -> None:
    """A connection that is closed instead leaves nothing behind."""
    node = await start_node(SITE)
    await node.delivery.follow_up.change_rooms(SITE, joins("news", number=7))
    receiver = node.receiver(SITE)
    assert receiver.connection
    receiver.connection.rooms_at = 6
    with pytest.raises(RoomsChanged):
        await node.delivery.open(receiver.connection, "d", ["user_1"], receiver.greet)
    node.close_connection(receiver)
    assert receiver.connection.phase is ConnectionPhase.CLOSED
    assert node.counts.of(SITE.name).connections == 0


@pytest.mark.parametrize("by_handle", [False, True], ids=["by name", "by handle"])
@pytest.mark.parametrize("large_from", [5_000, 0], ids=["in one run", "in parts"])
async def test_all_but_the_device_that_has_sent(start_node: NodeStarter, large_from: int, by_handle: bool) -> None:
    """A message reaches the other devices of its rooms, live and in the queue, and never the one that is left out."""
    node = await start_node(SITE)
    node.queues.large.large_from = large_from
    mine = await node.open(SITE, ["user_1", "news"], "a")
    others = [await node.open(SITE, ["user_1", "news"], "b"), await node.open(SITE, ["user_2", "news"], "a")]
    assert mine.connection
    (handle,) = mine.connection.handles
    buts = (ExceptHandle(handle.decode()), ExceptHandle("999999"))
    but, nobody = buts if by_handle else (ExceptDevice("user_1", "a"), ExceptDevice("user_1", "z"))
    body = await node.publish(SITE, ["news", "user_1"], but=but)
    unknown = await node.publish(SITE, "news", but=nobody)
    await heard(others, [body, unknown])
    await heard([mine], [unknown])
    assert (await node.open(SITE, ["user_1", "news"], "a")).bodies == [unknown]


async def test_rooms_of_one_device(start_node: NodeStarter) -> None:
    """A device has rooms of its own beside those of its user, whose other devices get nothing of them: while it is
    connected, away, and when its user joins a room; until it gets others, none, or connects again."""
    node, other = await start_node(SITE), await start_node(SITE)
    mine, second = await node.open(SITE, ["user_1"], "a"), await node.open(SITE, ["user_1"], "b")
    device_rooms = other.delivery.follow_up.set_device_rooms
    assert await device_rooms(SITE, "user_1", "a", ["Run_1", "run_1_1"])
    first = await other.publish(SITE, ["run_1", "run_1_1"])
    await other.delivery.follow_up.change_rooms(SITE, joins("news"))
    both = [await other.publish(SITE, "news"), await other.publish(SITE, "RUN_1")]
    await heard([mine], [first, *both])
    assert await device_rooms(SITE, "user_1", "a", ["run_2"])
    await other.publish(SITE, "run_1")
    last = await other.publish(SITE, "run_2")
    assert await device_rooms(SITE, "user_1", "b", ["run_2"])
    assert await device_rooms(SITE, "user_1", "b", [])
    node.close_connection(mine)
    await node.delivery.drain()
    away = await other.publish(SITE, "run_2")
    back = await other.open(SITE, ["user_1", "news"], "a")
    assert back.bodies == [first, *both, last, away]
    other.ack(back, back.batches[0][0])
    await other.publish(SITE, "run_2")
    end = await node.publish(SITE, "user_1")
    await heard([back], [first, *both, last, away, end])
    await heard([second], [both[0], end])
    await other.delivery.drain()
    assert (await node.open(SITE, ["user_1", "news"], "a")).bodies == [end]
    assert not await device_rooms(SITE, "user_1", "z", ["run_2"])


async def test_acks_are_told(start_node: NodeStarter) -> None:
    """A listener hears of acks once the store has applied them, with their devices."""
    node = await start_node(SITE)
    told: list[tuple[Site, AckGroup]] = []
    node.delivery.on_acked = lambda site, groups: told.extend((site, group) for group in groups)
    mine = await node.open(SITE, ["user_1"])
    await node.publish(SITE, "user_1")
    await until(lambda: mine.seqs, "the message")
    node.ack(mine, mine.seqs[0])
    await until(lambda: told, "the ack")
    assert mine.connection
    assert [(site, group.seq, group.handles) for site, group in told] == [
        (SITE, mine.seqs[0], list(mine.connection.handles))
    ]


async def test_events_that_are_kept_nowhere(start_node: NodeStarter) -> None:
    """A whisper reaches the connected devices of rooms on each node once; nothing of it is left for others."""
    one, other = await start_node(SITE), await start_node(SITE)
    mine = await one.open(SITE, ["user_1", "news"], "a")
    yours = await other.open(SITE, ["user_2", "news"], "a")
    stranger = await other.open(SITE, ["user_3"], "a")
    away = await one.open(SITE, ["user_1", "news"], "b")
    one.close_connection(away)
    await one.delivery.drain()
    assert await one.delivery.follow_up.whisper(SITE, ["News", "user_1"], b'["typing",1]') == 2
    last = await one.publish(SITE, ["news", "user_3"])
    await until(lambda: all(one.bodies == [last] for one in (mine, yours, stranger)), "the message")
    assert [one.kinds for one in (mine, yours, stranger)] == [
        ["greet", "whisper", "event"],
        ["greet", "whisper", "event"],
        ["greet", "event"],
    ]
    assert (await one.open(SITE, ["user_1", "news"], "b")).bodies == [last]


async def test_a_whisper_to_very_many(start_node: NodeStarter) -> None:
    """Rooms of very many devices hear nothing, and Redis is not held up."""
    node = await start_node(SITE)
    for number in range(5_001):
        await node.queues.connect(SITE, 1, str(number), ["user_1", "news"])
    assert await node.delivery.follow_up.whisper(SITE, ["news"], b"[]") == 0
