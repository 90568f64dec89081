"""One subscriber on a socket that notes what is done to it: what is written when, and how the dead are found."""

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
    """Notes what is written: messages, "ping", ("close", code, reason). Lives for one test."""

    def __init__(self) -> None:
        self.written: list[Any] = []
        self.buffered_bytes = 0
        self.is_paused = False

    def write_frame(self, frame: bytes) -> None:
        """Note the message."""
        start = {126: 4, 127: 10}.get(frame[1], 2)
        self.written.append(json.loads(frame[start:]))

    def write_ping(self) -> None:
        """Note it."""
        self.written.append("ping")

    def close(self, code: int = 1000, reason: str = "") -> None:
        """Note it."""
        self.written.append(("close", code, reason))

    def pause_reading(self) -> None:
        """Note it."""
        self.is_paused = True

    def resume_reading(self) -> None:
        """Note it."""
        self.is_paused = False

    @property
    def pushed(self) -> list[str]:
        """The messages of the pushes."""
        return [one["data"]["pushMessage"]["message"] for one in self.written if isinstance(one, dict)]


class Owner:
    """Notes what it is told. Lives for one test."""

    def __init__(self) -> None:
        self.told: list[tuple[Any, ...]] = []
        self.seq = 0

    def last_seq(self) -> int:
        """As the test says."""
        return self.seq

    def action_received(self, subscriber: Subscriber) -> None:
        """Note it."""
        self.told.append(("action",))

    def position_confirmed(self, subscriber: Subscriber) -> None:
        """Note it."""
        assert subscriber.resumption
        self.told.append(("confirmed", subscriber.resumption.seq))

    def pushed(self, subscriber: Subscriber) -> None:
        """Note it."""
        self.told.append(("pushed",))

    def lost(self, subscriber: Subscriber, reason: str) -> None:
        """Note it."""
        self.told.append(("lost", reason))


class Scene:
    """A subscriber between the two, live unless the test says otherwise."""

    def __init__(self, is_resumable: bool = False, has_pings: bool = True, seconds: float = 60) -> None:
        self.owner, self.socket = Owner(), Socket()
        heartbeat = Heartbeat(DeadlineWheel(0.005), seconds, seconds, has_pings)
        self.subscriber = Subscriber("u", self.owner, heartbeat)
        if is_resumable:
            self.subscriber.resumption = Resumption(Position(Claim("u", 1), 5))
        self.subscriber.attach(self.socket)
        self.subscriber.enter("news")

    def push(self, seq: int) -> None:
        """Push a message that is its seq."""
        self.owner.seq = seq
        self.subscriber.push(Push(seq, "news", str(seq)))

    @property
    def pings(self) -> int:
        """How many were sent."""
        return self.socket.written.count("ping")


async def test_pushes_are_held_until_it_is_live() -> None:
    """While it is opened pushes wait; what the history has brought is not written again; what was
    pushed into a channel that is deleted by then is."""
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
    """Before a page is read nothing needs to be held."""
    scene = Scene()
    scene.push(1)
    scene.subscriber.forget_held()
    scene.push(2)
    scene.subscriber.go_live(0)
    assert scene.socket.pushed == ["2"]


async def test_list_in_a_push_is_that_of_its_moment() -> None:
    """Entering and leaving change the list in the next push."""
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
    """Not what was written behind it, for which there is another ping once the pong is here."""
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
    """Also where this node has heard nothing of it live, and where a ping of the heartbeat was under way."""
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
    """By a CLIENT_ACK with the list after it; a plain client gets no byte that the original does not send."""
    scene = Scene(is_resumable)
    scene.subscriber.enter("other")
    scene.subscriber.expel("other")
    assert scene.socket.written == []  # it is being opened
    scene.subscriber.go_live(5)
    scene.subscriber.expel("news")
    assert [one["data"] for one in scene.socket.written] == [{"uuid": "u", "subscribedChannels": []}] * is_resumable


async def test_a_pong_that_nobody_asked_for_confirms_nothing() -> None:
    """A client may send pongs as it likes (RFC 6455, 5.5.3)."""
    scene = Scene(is_resumable=True)
    scene.subscriber.go_live(5)
    scene.push(7)
    scene.subscriber.pong_received()
    assert scene.owner.told == [("pushed",)]


async def test_a_plain_subscriber_is_pinged_for_its_life_alone() -> None:
    """No ping goes behind its pushes."""
    scene = Scene()
    scene.subscriber.go_live(0)
    scene.push(1)
    assert (scene.pings, scene.owner.told) == (0, [])


async def test_who_answers_pings_lives_and_who_does_not_is_closed() -> None:
    """A ping after each interval; without its pong in time the end."""
    scene = Scene(seconds=0.03)
    scene.subscriber.go_live(0)
    for count in (1, 2, 3):
        await until(lambda count=count: scene.pings == count, "a ping")  # type: ignore[misc]  # mypy wants a def
        scene.subscriber.pong_received()
    await until(lambda: scene.socket.written[-1] == ("close", 1008, "ping timeout"), "the end")
    assert scene.pings == 4
    scene.subscriber.connection_lost(1008, "ping timeout")
    assert scene.owner.told == [("lost", "ping timeout")]


async def test_without_pings_it_is_left_to_the_server() -> None:
    """Under another ASGI server nothing is pinged and nobody closed; Redis hears that a resumable one is there."""
    scene = Scene(is_resumable=True, has_pings=False, seconds=0.02)
    scene.subscriber.go_live(5)
    await until(lambda: len(scene.owner.told) >= 2, "signs of life")
    scene.push(7)
    scene.subscriber.ping()
    heard = len(scene.owner.told)
    await until(lambda: len(scene.owner.told) >= heard + 2, "more signs of life")
    assert set(scene.owner.told) == {("confirmed", 5), ("pushed",)}
    assert scene.socket.pushed == ["7"]
    assert len(scene.socket.written) == 1


@pytest.mark.parametrize("end", ["pong", "lost"])
async def test_confirm_waits_for_the_pong_or_the_end(end: str) -> None:
    """A page of the history is confirmed before the next is written; an older ping's pong is not that of the page."""
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


async def test_confirm_without_pings_waits_until_all_is_written() -> None:
    """All that can be known there is that the server has taken it."""
    scene = Scene(is_resumable=True, has_pings=False)
    await scene.subscriber.confirm(8)
    scene.socket.buffered_bytes = 10
    waiting = asyncio.ensure_future(scene.subscriber.confirm(8))
    await asyncio.sleep(0)
    assert not waiting.done()
    scene.subscriber.writing_resumed()
    await waiting


async def test_one_action_at_a_time() -> None:
    """What comes while one is served is not read from the socket; afterwards it is."""
    scene = Scene()
    scene.subscriber.text_received(b"a")
    assert scene.owner.told == []  # it is being opened, which is being served
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
    """Nothing is written, held or kept alive any more, and the owner hears of it once."""
    scene = Scene(is_resumable=True)
    scene.subscriber.go_live(5)
    scene.subscriber.connection_lost(1001, "going away")
    scene.push(7)
    scene.subscriber.ping()
    scene.subscriber.close(Ending.RESTART)
    scene.subscriber.go_live(9)
    assert (scene.socket.written, scene.owner.told) == ([], [("lost", "going away")])
    assert scene.subscriber.phase is SubscriberPhase.CLOSED
