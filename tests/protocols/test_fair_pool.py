"""Threads that owners share: the shares, the turns, the bound of a line, errors, and callers that have gone."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import threading
import weakref
from collections.abc import AsyncIterator, Callable
from functools import partial
from time import thread_time
from typing import Any

import pytest

from app.errors import BadRequest, LimitReached
from app.protocols.fair_pool import FairPool, PoolBounds, Share
from app.transport.refusals import refused
from tests.support.waiting import until

BOUNDS = PoolBounds(threads=3, threads_of_owner=2, waiting_of_owner=4, reason="too much", text="Too much work.")


class Bench:
    """A pool, and work that lasts until it is let go. Lives for one test."""

    def __init__(self) -> None:
        self.pool = FairPool("test", BOUNDS)
        #: The names of the work that has begun, in order.
        self.begun: list[str] = []
        self._may_end: dict[str, threading.Event] = {}
        self._tasks: list[asyncio.Task[str]] = []

    async def start(self, owner: str, *names: str) -> list[asyncio.Task[str]]:
        """Ask for work."""
        tasks = [asyncio.create_task(self.pool.run(owner, self._work(name))) for name in names]
        self._tasks += tasks
        await asyncio.sleep(0)
        return tasks

    def end(self, *names: str) -> None:
        """Let work end."""
        for name in names:
            self._may_end[name].set()

    async def until_begun(self, *names: str) -> None:
        """Wait until exactly this work has begun, in any order."""
        await until(lambda: len(self.begun) == len(names), f"{names} to begin")
        assert sorted(self.begun) == sorted(names)

    async def close(self) -> None:
        """End all work."""
        self.end(*self._may_end)
        await asyncio.gather(*self._tasks, return_exceptions=True)
        self.pool.close()

    def _work(self, name: str) -> Callable[[], str]:
        may_end = self._may_end[name] = threading.Event()

        def work() -> str:
            self.begun.append(name)
            may_end.wait(30)
            return name

        return work


@pytest.fixture
async def bench() -> AsyncIterator[Bench]:
    """A pool of three threads, two of them for one owner, with four that may wait."""
    bench = Bench()
    yield bench
    await bench.close()


async def test_an_owner_has_its_share(bench: Bench) -> None:
    """An owner with much work leaves threads to the others, whose work begins at once."""
    await bench.start("a", "a1", "a2", "a3", "a4")
    await bench.until_begun("a1", "a2")
    (other,) = await bench.start("b", "b1")
    await bench.until_begun("a1", "a2", "b1")
    bench.end("b1")
    assert await other == "b1"
    assert len(bench.begun) == 3
    bench.end("a2")
    await bench.until_begun("a1", "a2", "b1", "a3")


async def test_owners_take_turns(bench: Bench) -> None:
    """When all threads are busy the owners take turns, whoever has more work waiting."""
    await bench.start("a", "a1", "a2")
    await bench.start("b", "b1")
    await bench.until_begun("a1", "a2", "b1")
    await bench.start("a", "a3", "a4")
    await bench.start("b", "b2")
    await bench.start("c", "c1", "c2")
    for count, name in enumerate(("b1", "a1", "a2", "b2"), start=4):
        bench.end(name)
        await until(lambda count=count: len(bench.begun) == count, "the next")  # type: ignore[misc]
    assert bench.begun[3:] == ["b2", "c1", "a3", "c2"]


async def test_a_line_is_bounded(bench: Bench) -> None:
    """Past its bound further work of the owner is refused and counted; that of others is not."""
    await bench.start("a", *(f"a{number}" for number in range(6)))
    with pytest.raises(LimitReached, match="Too much work") as error:
        await bench.pool.run("a", lambda: None)
    assert (error.value.status, error.value.retry_after_seconds) == (429, 1)
    assert refused.pop("too much") == 1
    assert await bench.pool.run("b", lambda: 7) == 7


async def test_errors_reach_the_caller(bench: Bench) -> None:
    """Work that fails leaves its thread free."""

    def fail() -> None:
        raise BadRequest("no")

    for _ in range(5):
        with pytest.raises(BadRequest, match="no"):
            await bench.pool.run("a", fail)
    assert (bench.pool._free, bench.pool._lines) == (3, {})


async def test_errors_leave_no_cycle(bench: Bench) -> None:
    """With the collector off nothing is left of an error."""
    left: list[weakref.ref[Bench]] = []

    def fail() -> None:
        local = Bench()
        left.append(weakref.ref(local))
        raise BadRequest(str(local.begun))

    gc.disable()
    try:
        with contextlib.suppress(BadRequest):
            await bench.pool.run("a", fail)
        await until(lambda: left[0]() is None, "the end of it")
    finally:
        gc.enable()


async def test_callers_that_have_gone(bench: Bench) -> None:
    """Work that nobody waits for any more is not begun; work under way keeps its thread until it ends."""
    tasks = await bench.start("a", "a1", "a2", "a3", "a4")
    await bench.until_begun("a1", "a2")
    for task in tasks[:3]:
        task.cancel()
    await asyncio.gather(*tasks[:3], return_exceptions=True)
    assert bench.pool._free == 1
    bench.end("a1")
    await bench.until_begun("a1", "a2", "a4")
    bench.end("a2", "a4")
    assert await tasks[3] == "a4"
    await until(lambda: not bench.pool._lines, "the end")
    assert (bench.pool._free, list(bench.pool._ready)) == (3, [])


async def test_callers_that_have_gone_take_no_place(bench: Bench) -> None:
    """A line that was full of callers who have gone has room at once."""
    tasks = await bench.start("a", *(f"a{number}" for number in range(6)))
    await bench.until_begun("a0", "a1")
    for task in tasks[2:]:
        task.cancel()
    await asyncio.gather(*tasks[2:], return_exceptions=True)
    again = await bench.start("a", *(f"b{number}" for number in range(4)))
    assert not any(task.done() for task in again)


async def test_caller_that_has_gone_before_its_turn(bench: Bench) -> None:
    """An owner whose turn comes with nothing left to do is passed over."""
    (first,) = await bench.start("a", "a1")
    await bench.start("b", "b1", "b2")
    await bench.until_begun("a1", "b1", "b2")
    (second,) = await bench.start("a", "a2")
    second.cancel()
    await asyncio.gather(second, return_exceptions=True)
    await bench.start("c", "c1")
    bench.end("a1")
    assert await first == "a1"
    await bench.until_begun("a1", "b1", "b2", "c1")


async def test_rest_behind_a_work(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    """Behind work that holds the interpreter an owner begins no other for as long; its thread is free meanwhile."""
    loop = asyncio.get_running_loop()
    rests: list[float] = []
    ends: list[Callable[[], None]] = []
    later = loop.call_later

    def remember(delay: float, callback: Callable[..., None], *arguments: Any) -> asyncio.TimerHandle:
        if getattr(callback, "__name__", "") != "_give_back":
            return later(delay, callback, *arguments)
        rests.append(delay)
        ends.append(partial(callback, *arguments))
        return later(60, int)

    monkeypatch.setattr(loop, "call_later", remember)

    def work() -> None:
        end = thread_time() + 0.02
        while thread_time() < end:
            pass

    share = Share(threads=1, waiting=2, has_rest=True)
    await bench.pool.run("a", work, share)
    assert 0.02 <= rests[0] < 1
    second = asyncio.create_task(bench.pool.run("a", work, share))
    await bench.start("b", "b1", "b2")
    await bench.start("c", "c1")
    await bench.until_begun("b1", "b2", "c1")
    bench.end("b1", "b2", "c1")
    await until(lambda: bench.pool._free == 3, "the end of the others")
    assert not second.done()
    ends[0]()
    await second
    ends[1]()
    assert bench.pool._lines == {}


async def test_shares_differ(bench: Bench) -> None:
    """An owner may have another share than the pool gives: one thread, and a short line."""
    share = Share(threads=1, waiting=1)
    work = [bench._work(name) for name in ("a1", "a2", "a3")]
    tasks = [asyncio.create_task(bench.pool.run("a", one, share)) for one in work[:2]]
    await bench.until_begun("a1")
    with pytest.raises(LimitReached):
        await bench.pool.run("a", work[2], share)
    bench.end("a1", "a2")
    assert await asyncio.gather(*tasks) == ["a1", "a2"]
    refused.pop("too much")


async def test_work_that_fails_is_freed_at_once(bench: Bench) -> None:
    """An error keeps nothing of its work once it is handled: the collector, which comes rarely, is not needed."""

    class Body:
        """Something long."""

    def fail(body: Body) -> None:
        raise BadRequest("no")

    gc.collect()
    gc.disable()
    try:
        body = Body()
        kept = weakref.ref(body)
        work = partial(fail, body)
        del body
        with contextlib.suppress(BadRequest):
            await bench.pool.run("a", work)
        del work
        await until(lambda: kept() is None, "the end of the body")
    finally:
        gc.enable()
