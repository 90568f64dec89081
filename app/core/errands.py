"""Errands: commands for the store that nobody waits for. While the store is away they wait in one queue for each site.

One timer asks for all queues. The first errand of a queue tries the store; when it succeeds, the others follow in
batches. So an outage costs nothing while it lasts, and its end brings no storm.
"""

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable, Coroutine
from typing import TypeVar

import structlog

from app.errors import StoreError, StoreUnavailable

#: The pauses between two tries for all queues together.
_RETRY_SECONDS = (0.1, 0.25, 0.5, 1.0)
#: The most errands of one queue that are under way at a time after the store's return.
BATCH = 64
#: The most of those that begin in one turn of the loop, where very many begin at once.
PER_TURN = 64
#: The most errands of one node that wait. Each stands for something that Redis knows of, e.g. a connection that has
#: ended: the bound is far above the connections of one node.
MOST_WAITING = 200_000

_T = TypeVar("_T")

_log = structlog.get_logger(__name__)


class _Queue:
    """The errands of one site that wait for the store. Lives from the first failure until the queue is empty."""

    __slots__ = ("under_way", "waiting")

    def __init__(self) -> None:
        self.waiting: deque[asyncio.Future[None]] = deque()
        self.under_way = 0

    def release(self, most: int) -> None:
        """Lets errands try the store, until so many are under way."""
        while self.waiting and self.under_way < most:
            turn = self.waiting.popleft()
            if not turn.done():
                self.under_way += 1
                turn.set_result(None)


class Errands:
    """The errands of one node or of a part of it. Lives as long as the node; `drain` waits for them."""

    def __init__(self, is_away: Callable[[str], bool] = lambda site: False) -> None:
        """`is_away` says whether there is no link at all to the store of a site; then nothing is tried."""
        self.is_away = is_away
        self._tasks: set[asyncio.Task[None]] = set()
        #: Errands that begin in the next turns of the loop.
        self._later: deque[Callable[[], Coroutine[None, None, object]]] = deque()
        self._queues: dict[str, _Queue] = {}
        self._timer: asyncio.TimerHandle | None = None
        #: Tries in a row without a success.
        self._failures = 0

    @property
    def waiting(self) -> int:
        """The number of errands that wait for the store."""
        return sum(len(queue.waiting) for queue in self._queues.values())

    def start(self, work: Coroutine[None, None, object]) -> None:
        """Starts a task for the work; returns at once. A refusal of the store is logged."""
        task = asyncio.ensure_future(self._run(work))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    def start_in_turns(self, work: Callable[[], Coroutine[None, None, object]]) -> None:
        """The same for one of very many: a bounded number begins in a turn of the loop, in the order of the calls."""
        self._later.append(work)
        if len(self._later) == 1:
            asyncio.get_running_loop().call_soon(self._start_next)

    async def until_stored(self, attempt: Callable[[], Awaitable[_T]], site: str = "") -> _T:
        """Retries an idempotent command until Redis has taken it; answers its result. Raises StoreError when the store
        refuses it, or when too many errands wait."""
        while True:
            queue = self._queues.get(site)
            if queue is not None:
                await self._turn(queue)
            try:
                answer = await attempt()
            except StoreUnavailable:
                self._postpone(site, queue)
            except BaseException:
                self._passed(site, queue)
                raise
            else:
                self._passed(site, queue)
                return answer

    def wake(self) -> None:
        """The store is back: the first errand of each queue tries it at once."""
        self._failures = 0
        self._try_again()

    async def drain(self) -> None:
        """Waits until all tasks have ended. Called at the end, with a time-out."""
        self.wake()
        while self._tasks or self._later:
            await (asyncio.wait(self._tasks) if self._tasks else asyncio.sleep(0))

    def _start_next(self) -> None:
        for _ in range(min(PER_TURN, len(self._later))):
            self.start(self._later.popleft()())
        if self._later:
            asyncio.get_running_loop().call_soon(self._start_next)

    async def _turn(self, queue: _Queue) -> None:
        if len(queue.waiting) >= MOST_WAITING:
            raise StoreError(f"More than {MOST_WAITING} errands wait for Redis")
        turn = asyncio.get_running_loop().create_future()
        queue.waiting.append(turn)
        try:
            await turn
        except asyncio.CancelledError:
            if turn.done() and not turn.cancelled():
                queue.under_way -= 1
            raise

    def _postpone(self, site: str, queue: _Queue | None) -> None:
        if queue is not None:
            queue.under_way -= 1
        self._queues.setdefault(site, _Queue())
        if self._timer is None:
            self._set_timer()

    def _passed(self, site: str, queue: _Queue | None) -> None:
        if queue is None:
            return
        queue.under_way -= 1
        self._failures = 0
        queue.release(BATCH)
        if not queue.under_way and self._queues.get(site) is queue:
            del self._queues[site]

    def _set_timer(self) -> None:
        seconds = _RETRY_SECONDS[min(self._failures, len(_RETRY_SECONDS) - 1)]
        self._failures += 1
        self._timer = asyncio.get_running_loop().call_later(seconds, self._try_again)

    def _try_again(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        for site, queue in list(self._queues.items()):
            if not queue.waiting and not queue.under_way:
                del self._queues[site]
            elif not self.is_away(site):
                queue.release(1)
        if self._queues:
            self._set_timer()

    async def _run(self, work: Coroutine[None, None, object]) -> None:
        try:
            await work
        except StoreError as error:
            _log.error("store refused", reason=str(error))
        except Exception:
            _log.exception("errand failed")
