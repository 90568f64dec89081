"""One subscriber on a socket that records its calls: the order of the writes, and the detection of dead clients."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import pytest

from app.protocols.channels.channel_store import Claim, Position
from app.protocols.channels.messages import Push
from app.protocols.channels.sockets import Ending, Heartbeat
from app.protocols.channels.subscriber import Resumption, Subscriber, SubscriberPhase
from app.transport.deadline_wheel import DeadlineWheel
from tests.support.waiting import until


class Socket:
    """Records what is written: messages, "ping", ("close", code, reason). Lives for one test."""

    def __init__(self) -> None:
        self.written: list[Any] = []
        self.is_paused = False

    def write_frame(self, frame: bytes) -> None:
        """Record the message."""
        start = {126: 4, 127: 10}.get(frame[1], 2)
        self.written.append(json.loads(frame[start:]))

    @property
    def buffered_bytes(self) -> int:
        """Nothing waits."""
        return 0

    def wire_bytes(self) -> tuple[int, int] | None:
        """A count of some socket."""
        return 11, 22

    def write_ping(self) -> None:
        """Record the ping."""
        self.written.append("ping")

    def close(self, code: int = 1000, reason: str = "") -> None:
        """Record the close."""
        self.written.append(("close", code, reason))

    def pause_reading(self) -> None:
        """Record the pause."""
        self.is_paused = True

    def resume_reading(self) -> None:
        """Record the resumption."""
        self.is_paused = False

    @property
    def pushed(self) -> list[str]:
        """The messages of the recorded pushes."""
        return [one["data"]["pushMessage"]["message"] for one in self.written if isinstance(one, dict)]


class Owner:
    """Records the calls of the subscriber. Lives for one test."""

    def __init__(self) -> None:
        self.told: list[tuple[Any, ...]] = []
        self.seq = 0

    def last_seq(self) -> int:
        """The value that the test sets."""
        return self.seq

    def action_received(self, subscriber: Subscriber) -> None:
        """Record the call."""
        self.told.append(("action",))

    def position_confirmed(self, subscriber: Subscriber) -> None:
        """Record the call."""
        assert subscriber.resumption
        self.told.append(("confirmed", subscriber.resumption.seq))

    def pushed(self, subscriber: Subscriber) -> None:
        """Record the call."""
        self.told.append(("pushed",))

    def lost(self, subscriber: Subscriber, reason: str) -> None:
        """Record the call."""
        self.told.append(("lost", reason))


class Scene:
    """A subscriber between a socket and an owner, live unless the test asks for another phase."""

    def __init__(self, is_resumable: bool = False, seconds: float = 60) -> None:
        self.owner, self.socket = Owner(), Socket()
        heartbeat = Heartbeat(DeadlineWheel(0.005), seconds, seconds)
        self.subscriber = Subscriber("u", self.owner, heartbeat)
        if is_resumable:
            self.subscriber.resumption = Resumption(Position(Claim("u", 1), 5))
        self.subscriber.attach(self.socket)
        self.subscriber.enter("news")

    def push(self, seq: int) -> None:
        """Push a message whose text is its seq."""
        self.owner.seq = seq
        self.subscriber.push(Push(seq, "news", str(seq)))

    @property
    def pings(self) -> int:
        """The number of pings sent."""
        return self.socket.written.count("ping")


async def test_pushes_are_held_until_it_is_live() -> None:
    """During the opening pushes are held. Held pushes that the history has brought are not written again; held pushes
    of a channel that was deleted meanwhile are written."""
    scene = Scene()
    for seq in (1, 2, 3):
        scene.push(seq)
    scene.subscriber.enter("other")
    scene.subscriber.push(Push(4, "other", "4"))
    scene.subscriber.expel("other")
    assert scene.socket.written == []
    scene.subscriber.go_live(2)
    scene.push(5)
    assert scene.socket.pushed == ["3", "4", "5"]


async def test_what_is_held_is_forgotten_where_the_history_has_it() -> None:
    """Pushes held before a page is read are dropped, because the page contains them."""
    scene = Scene()
    scene.push(1)
    scene.subscriber.forget_held()
    scene.push(2)
    scene.subscriber.go_live(0)
    assert scene.socket.pushed == ["2"]


async def test_list_in_a_push_is_that_of_its_moment() -> None:
    """Entering and leaving a channel change the list in the next push."""
    scene = Scene()
    scene.subscriber.go_live(0)
    scene.push(1)
    scene.subscriber.enter("more")
    scene.push(2)
    scene.subscriber.leave("more")
    scene.push(3)
    lists = [one["data"]["subscribedChannels"] for one in scene.socket.written]
    assert lists == [["news"], ["news", "more"], ["news"]]


async def test_a_pong_confirms_what_was_written_before_its_ping() -> None:
    """A pong does not confirm pushes written after its ping; another ping follows for these."""
    scene = Scene(is_resumable=True)
    scene.subscriber.go_live(5)
    scene.push(7)
    assert scene.owner.told == [("pushed",)]
    scene.subscriber.ping()
    scene.push(8)
    scene.push(9)
    scene.subscriber.ping()
    assert (scene.pings, scene.owner.told) == (1, [("pushed",), ("pushed",)])
    scene.subscriber.pong_received()
    assert (scene.pings, scene.owner.told[2:]) == (2, [("confirmed", 7)])
    scene.subscriber.pong_received()
    assert (scene.pings, scene.owner.told[3:]) == (2, [("confirmed", 9)])


async def test_a_pong_confirms_what_was_replayed() -> None:
    """The pong of a replay confirms it, also when this node heard nothing of it live, and
    when a heartbeat's ping was in flight."""
    scene = Scene(is_resumable=True, seconds=0.02)
    await until(lambda: scene.pings == 1, "a ping of its heartbeat")
    scene.subscriber.go_live(8)
    scene.subscriber.ping()
    assert scene.pings == 1
    scene.subscriber.pong_received()
    assert (scene.pings, scene.owner.told) == (2, [("confirmed", 5)])
    scene.subscriber.pong_received()
    assert (scene.pings, scene.owner.told[1:]) == (2, [("confirmed", 8)])


@pytest.mark.parametrize("is_resumable", [False, True])
async def test_who_may_come_back_is_told_of_a_deletion(is_resumable: bool) -> None:
    """A resumable client is told of a deletion by a CLIENT_ACK with the list after it; a plain client gets no byte that
    the original does not send."""
    scene = Scene(is_resumable)
    scene.subscriber.enter("other")
    scene.subscriber.expel("other")
    assert scene.socket.written == []  # the subscriber is being opened
    scene.subscriber.go_live(5)
    scene.subscriber.expel("news")
    assert [one["data"] for one in scene.socket.written] == [{"uuid": "u", "subscribedChannels": []}] * is_resumable


async def test_a_pong_that_nobody_asked_for_confirms_nothing() -> None:
    """A pong without a ping confirms nothing, because a client may send pongs at any time (RFC 6455, 5.5.3)."""
    scene = Scene(is_resumable=True)
    scene.subscriber.go_live(5)
    scene.push(7)
    scene.subscriber.pong_received()
    assert scene.owner.told == [("pushed",)]


async def test_a_plain_subscriber_is_pinged_for_its_life_alone() -> None:
    """A plain subscriber gets no ping after its pushes, only those of the heartbeat."""
    scene = Scene()
    scene.subscriber.go_live(0)
    scene.push(1)
    assert (scene.pings, scene.owner.told) == (0, [])


async def test_who_answers_pings_lives_and_who_does_not_is_closed() -> None:
    """A ping is sent after each interval; without its pong in time the connection is closed."""
    scene = Scene(seconds=0.03)
    scene.subscriber.go_live(0)
    for count in (1, 2, 3):
        await until(lambda count=count: scene.pings == count, "a ping")  # type: ignore[misc]  # mypy wants a def
        scene.subscriber.pong_received()
    await until(lambda: scene.socket.written[-1] == ("close", 1008, "ping timeout"), "the end")
    assert scene.pings == 4
    scene.subscriber.connection_lost(1008, "ping timeout")
    assert scene.owner.told == [("lost", "ping timeout")]


@pytest.mark.parametrize("end", ["pong", "lost"])
async def test_confirm_waits_for_the_pong_or_the_end(end: str) -> None:
    """A page of the history is confirmed before the next is written; the pong of an
    older ping does not confirm the page."""
    scene = Scene(is_resumable=True, seconds=0.02)
    await until(lambda: scene.pings == 1, "a ping of its heartbeat")
    waiting = asyncio.ensure_future(scene.subscriber.confirm(8))
    await until(lambda: scene.pings == 2, "the page's ping")
    scene.subscriber.pong_received()
    await asyncio.sleep(0)
    assert not waiting.done()
    if end == "pong":
        scene.subscriber.pong_received()
        assert scene.owner.told == [("confirmed", 8)]
    else:
        scene.subscriber.connection_lost(1006, "")
        assert scene.owner.told == [("lost", "code 1006")]
    await waiting


async def test_one_action_at_a_time() -> None:
    """An action that arrives while another one is served is not read from the socket until that one is done."""
    scene = Scene()
    scene.subscriber.text_received(b"a")
    assert scene.owner.told == []  # the opening counts as an action that is being served
    scene.subscriber.inbox.clear()
    scene.subscriber.served()
    scene.subscriber.text_received(b"b")
    assert (scene.owner.told, scene.socket.is_paused) == ([("action",)], False)
    scene.subscriber.inbox.pop()
    scene.subscriber.text_received(b"c")
    scene.subscriber.text_received(b"d")
    assert (scene.owner.told, scene.socket.is_paused, scene.subscriber.inbox) == ([("action",)], True, [b"c", b"d"])
    scene.subscriber.inbox.clear()
    scene.subscriber.served()
    assert not scene.socket.is_paused


async def test_the_end() -> None:
    """After its end nothing is written, held or kept alive, and the owner is told once."""
    scene = Scene(is_resumable=True)
    scene.subscriber.go_live(5)
    scene.subscriber.connection_lost(1001, "going away")
    scene.push(7)
    scene.subscriber.ping()
    scene.subscriber.close(Ending.RESTART)
    scene.subscriber.go_live(9)
    assert (scene.socket.written, scene.owner.told) == ([], [("lost", "going away")])
    assert scene.subscriber.phase is SubscriberPhase.CLOSED
