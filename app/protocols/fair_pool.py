"""Threads for work that would hold the loop. Each owner, such as a site, has a share of the threads, and a line of its
own before them: an owner with much work waits for itself, and takes turns with the others.
"""

import asyncio
import contextlib
from collections import deque
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from time import thread_time
from typing import Any, TypeVar

from msgspec import Struct

from app.errors import LimitReached
from app.transport.refusals import refused

T = TypeVar("T")


class Share(Struct, frozen=True):
    """The part of a pool that one owner has."""

    #: Its threads at a time, and its works that wait. A further one is refused with 429.
    threads: int
    waiting: int
    #: Whether behind each of its works it begins none for as long as that took: for work that holds the interpreter.
    has_rest: bool = False


class PoolBounds(Struct, frozen=True):
    """The size of a pool and the share of one owner."""

    threads: int
    #: The threads that one owner may have at a time.
    threads_of_owner: int
    #: The works of one owner that may wait. A further one is refused with 429.
    waiting_of_owner: int
    #: The reason in `recado_refused_total`, and the text of the refusal.
    reason: str
    text: str


class _Line:
    """The work of one owner. Lives while there is any."""

    __slots__ = ("is_ready", "share", "under_way", "waiting")

    def __init__(self, share: Share) -> None:
        self.share = share
        self.waiting: deque[tuple[Callable[[], Any], asyncio.Future[Any]]] = deque()
        self.under_way = 0
        #: Whether the owner is among those whose next work may begin.
        self.is_ready = False


class FairPool:
    """A pool of threads. Lives as long as its owner, which calls `close`."""

    def __init__(self, name: str, bounds: PoolBounds) -> None:
        self._bounds = bounds
        self._share = Share(bounds.threads_of_owner, bounds.waiting_of_owner)
        self._threads = ThreadPoolExecutor(bounds.threads, thread_name_prefix=name)
        self._free = bounds.threads
        self._lines: dict[str, _Line] = {}
        #: The owners whose next work may begin, in the order of their turns.
        self._ready: deque[str] = deque()

    async def run(self, owner: str, work: Callable[[], T], share: Share | None = None) -> T:
        """The result of the work, done in a thread in the owner's turn. Raises its errors, and LimitReached when too
        much work of the owner waits. An owner has always the same share."""
        line = self._lines.get(owner)
        if line is None:
            line = self._lines[owner] = _Line(share or self._share)
        if len(line.waiting) >= line.share.waiting:
            refused[self._bounds.reason] += 1
            raise LimitReached(self._bounds.text, self._bounds.reason, retry_after_seconds=1)
        result: asyncio.Future[T] = asyncio.get_running_loop().create_future()
        line.waiting.append((work, result))
        self._note_ready(owner, line)
        self._fill()
        try:
            return await result
        except asyncio.CancelledError:
            # A caller that has gone takes no place in the line.
            with contextlib.suppress(ValueError):
                line.waiting.remove((work, result))
            raise
        finally:
            # An error holds this frame, and the future holds the error.
            del result

    def close(self) -> None:
        """Begins no more work; does not wait for the work that is under way."""
        self._threads.shutdown(wait=False, cancel_futures=True)

    def _note_ready(self, owner: str, line: _Line) -> None:
        if line.waiting and not line.is_ready and line.under_way < line.share.threads:
            line.is_ready = True
            self._ready.append(owner)

    def _fill(self) -> None:
        while self._free and self._ready:
            owner = self._ready.popleft()
            line = self._lines[owner]
            line.is_ready = False
            if line.waiting:
                work, result = line.waiting.popleft()
                self._start(owner, line, work, result)
            self._note_ready(owner, line)
            self._forget_idle(owner, line)

    def _start(self, owner: str, line: _Line, work: Callable[[], Any], result: asyncio.Future[Any]) -> None:
        self._free -= 1
        line.under_way += 1
        loop = asyncio.get_running_loop()
        timed = _Timed(work)

        def ended(done: asyncio.Future[Any]) -> None:
            # A caller that has gone leaves its thread busy until here.
            self._free += 1
            _pass_on(done, result)
            if line.share.has_rest:
                loop.call_later(timed.seconds, self._give_back, owner, line)
                self._fill()
            else:
                self._give_back(owner, line)

        loop.run_in_executor(self._threads, timed).add_done_callback(ended)

    def _give_back(self, owner: str, line: _Line) -> None:
        line.under_way -= 1
        self._note_ready(owner, line)
        self._forget_idle(owner, line)
        self._fill()

    def _forget_idle(self, owner: str, line: _Line) -> None:
        if not line.waiting and not line.under_way and not line.is_ready:
            del self._lines[owner]


class _Timed:
    """One work with the CPU time that it took. Lives as long as the work."""

    __slots__ = ("_work", "seconds")

    def __init__(self, work: Callable[[], Any]) -> None:
        self._work = work
        self.seconds = 0.0

    def __call__(self) -> Any:
        began = thread_time()
        try:
            return self._work()
        finally:
            self.seconds = thread_time() - began


def _pass_on(done: asyncio.Future[Any], result: asyncio.Future[Any]) -> None:
    if done.cancelled():
        result.cancel()
    elif result.done():
        # Nobody waits for it; an error is retrieved all the same, or the loop would complain.
        done.exception()
    elif error := done.exception():
        result.set_exception(error)
    else:
        result.set_result(done.result())
