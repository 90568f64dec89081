"""The row of clients that wait for a seat at a site's limit: a node that died holds the seats of its connections for a
while.

Decides how long each client waits, and asks again; knows nothing of the counts.
"""

import asyncio
from collections.abc import Awaitable, Callable
from time import monotonic

from app.errors import StoreError

#: How long every client waits: its own earlier connection may be about to end.
PATIENCE_SECONDS = 2.5
#: A node beats every 2 s. Less than the patience, so that a client sees its own node silent that has just died.
SILENT_SECONDS = 2.4
#: How long a client waits in all for a silent node: by then it is buried, or nobody can say when it will be.
MOST_SECONDS = 10.0
ASK_SECONDS = 0.25
#: How often all waiting clients together ask Redis at most.
MOST_ASKS_PER_SECOND = 2_000
MOST_WAITING = 10_000

#: Asks for a seat: 0, or the number of the bound that is reached.
Ask = Callable[[], Awaitable[int]]


def pause_seconds(waited_seconds: float, waiting: int) -> float:
    """How long one of so many waiting clients pauses before it asks again; 0 once its patience is over. The last
    question comes at the end of the patience."""
    left = PATIENCE_SECONDS - waited_seconds
    return max(0.0, min(left, max(ASK_SECONDS, waiting / MOST_ASKS_PER_SECOND)))


class SeatRow:
    """The clients that wait at one node for a seat in one site. Lives as long as the limits, which call `close`."""

    def __init__(self, silence: Callable[[], Awaitable[float]]) -> None:
        """`silence` says how many seconds ago the quietest of the nodes with seats in the site has beaten."""
        self._silence = silence
        self._waiting = 0
        #: Watches the nodes for all waiting clients; see `_watch`.
        self._watching: asyncio.Task[bool] | None = None

    async def wait(self, ask: Ask, reached: int) -> int:
        """0 once there is a seat, otherwise the number of the bound that stays reached. May be cancelled; raises the
        errors of `ask`."""
        if self._waiting >= MOST_WAITING:
            return reached
        began = monotonic()
        self._waiting += 1
        try:
            while reached and (pause := pause_seconds(monotonic() - began, self._waiting)):
                await asyncio.sleep(pause)
                reached = await ask()
            if reached and await self._was_silent(began + MOST_SECONDS - monotonic()):
                reached = await ask()
            return reached
        finally:
            self._waiting -= 1

    async def close(self) -> None:
        """Ends the watch."""
        if self._watching is not None:
            self._watching.cancel()
            await asyncio.wait([self._watching])

    async def _was_silent(self, timeout_seconds: float) -> bool:
        """Whether a node was silent, and is buried or beats again by now: then it is worth asking once more."""
        if self._watching is None or self._watching.done():
            self._watching = asyncio.create_task(self._watch(), name="watch silent nodes")
        watching = self._watching
        await asyncio.wait([watching], timeout=timeout_seconds)
        return watching.done() and not watching.cancelled() and watching.result()

    async def _watch(self) -> bool:
        """Polls for all waiting clients, until no node is silent or no client waits."""
        was_silent = False
        try:
            while self._waiting and await self._silence() > SILENT_SECONDS:
                was_silent = True
                await asyncio.sleep(ASK_SECONDS)
        except StoreError:
            return True  # the next question raises the same error
        return was_silent
