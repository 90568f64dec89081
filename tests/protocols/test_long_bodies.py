"""Long bodies, one of a site at a time."""

from __future__ import annotations

import asyncio
import threading
from time import thread_time

import pytest

from app.errors import BadRequest, LimitReached
from app.protocols import long_bodies
from app.protocols.long_bodies import MOST_WAITING, LongBodies
from app.transport.refusals import TOO_MANY_LONG_BODIES, refused
from tests.support.waiting import until


class Reader:
    """Reads in a thread until the test lets it go on. Lives for one test."""

    def __init__(self) -> None:
        self.may_go_on = threading.Event()
        self.texts: list[bytes] = []
        self.at_once = self.most_at_once = 0
        self._lock = threading.Lock()

    def read(self, text: bytes) -> int:
        """Returns the thread that reads."""
        with self._lock:
            self.at_once += 1
            self.most_at_once = max(self.most_at_once, self.at_once)
        self.texts.append(text)
        self.may_go_on.wait(10)
        with self._lock:
            self.at_once -= 1
        if text.endswith(b"!"):
            raise BadRequest("no")
        return threading.get_ident()


async def test_long_text_is_read_in_a_thread() -> None:
    """A short text is read at once, a long one in another thread; its errors reach the caller."""
    reader = Reader()
    reader.may_go_on.set()
    bodies = LongBodies()
    here = threading.get_ident()
    assert await bodies.read("a", reader.read, b"abc", 3) == here
    assert await bodies.read("a", reader.read, b"abcd", 3) != here
    with pytest.raises(BadRequest, match="no"):
        await bodies.read("a", reader.read, b"abcd!", 3)


async def test_one_of_a_site_at_a_time() -> None:
    """The long bodies of a site are read one after the other, in their order; past the bound of its row one is refused.
    Another site has a row of its own, and a short body passes."""
    reader, other = Reader(), Reader()
    other.may_go_on.set()
    bodies = LongBodies()
    before = refused[TOO_MANY_LONG_BODIES]
    texts = [b"%05d" % number for number in range(1 + MOST_WAITING)]
    async with asyncio.TaskGroup() as group:
        reads = [group.create_task(bodies.read("a", reader.read, text, 3)) for text in texts]
        await until(lambda: reader.texts, "the first one")
        with pytest.raises(LimitReached) as reached:
            await bodies.read("a", reader.read, b"12345", 3)
        assert (reached.value.status, reached.value.retry_after_seconds) == (429, 1)
        assert refused[TOO_MANY_LONG_BODIES] == before + 1
        await bodies.read("b", other.read, b"12345", 3)
        await bodies.read("a", other.read, b"123", 3)
        reader.may_go_on.set()
    assert [read.done() for read in reads] == [True] * len(texts)
    assert reader.texts == texts
    assert reader.most_at_once == 1
    # The row is empty again.
    await bodies.read("a", reader.read, b"12345", 3)


async def test_half_of_the_time_is_the_others(monkeypatch: pytest.MonkeyPatch) -> None:
    """Behind a body that took long, the next one of its site waits as long: a thread too keeps others from the CPU."""
    pauses: list[float] = []
    loop = asyncio.get_running_loop()
    later = loop.call_later

    def remember(delay: float, callback: object, *arguments: object) -> asyncio.TimerHandle:
        if getattr(callback, "__name__", "") == "release":
            pauses.append(delay)
        return later(delay, callback, *arguments)  # type: ignore[arg-type]

    monkeypatch.setattr(loop, "call_later", remember)

    def work(_: bytes) -> None:
        end = thread_time() + 0.02
        while thread_time() < end:
            pass

    await LongBodies().read("a", work, b"12345", 3)
    assert 0.02 <= pauses[0] < 1


async def test_caller_that_gives_up_leaves_the_row(monkeypatch: pytest.MonkeyPatch) -> None:
    """A cancelled request takes no place in the row."""
    monkeypatch.setattr(long_bodies, "MOST_WAITING", 1)
    reader = Reader()
    bodies = LongBodies()
    first = asyncio.create_task(bodies.read("a", reader.read, b"first", 3))
    await until(lambda: reader.texts, "the first one")
    second = asyncio.create_task(bodies.read("a", reader.read, b"second", 3))
    await asyncio.sleep(0)
    second.cancel()
    await asyncio.gather(second, return_exceptions=True)
    third = asyncio.create_task(bodies.read("a", reader.read, b"third", 3))
    await asyncio.sleep(0)
    reader.may_go_on.set()
    await asyncio.gather(first, third)
    assert reader.texts == [b"first", b"third"]
