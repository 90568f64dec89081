"""Who waits for a place where a site's limit is reached: a node that died holds its connections' places for a while.

Decides who waits for how long, and asks again; what is counted, and how, it must not know.
"""

import asyncio
from collections.abc import Awaitable, Callable
from time import monotonic

from app.errors import StoreError

#: So long everybody waits: a client's own connection of before may be about to end.
PATIENCE_SECONDS = 2.5
#: A node beats every 2 s. Less than the patience, so that whoever was connected to a node until it died sees it silent.
SILENT_SECONDS = 2.4
#: So long one waits for a silent node in all: by then it is buried, or nobody can say when it will be.
MOST_SECONDS = 10.0
ASK_SECONDS = 0.25
#: However many wait, they ask Redis no oftener together.
MOST_ASKS_PER_SECOND = 2_000
MOST_WAITING = 10_000

#: Asks for the place: 0, or which bound is reached.
Ask = Callable[[], Awaitable[int]]


def pause_seconds(waited_seconds: float, waiting: int) -> float:
    """How long one of so many pauses before it asks again, 0 once its patience is over. It asks at the end of that."""
    left = PATIENCE_SECONDS - waited_seconds
    return max(0.0, min(left, max(ASK_SECONDS, waiting / MOST_ASKS_PER_SECOND)))


class SeatRow:
    """Those who wait at one node for a place in one site. Lives as long as the limits, which call `close`."""

    def __init__(self, silence: Callable[[], Awaitable[float]]) -> None:
        """`silence` says for how many seconds the quietest of the nodes with places in the site has not beaten."""
        self._silence = silence
        self._waiting = 0
        #: Looks at the nodes for all who wait; see `_watch`.
        self._watching: asyncio.Task[bool] | None = None

    async def wait(self, ask: Ask, reached: int) -> int:
        """0 once there is a place, else which bound is reached for good. May be cancelled; raises what `ask` raises."""
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
        """Ends what is under way."""
        if self._watching is not None:
            self._watching.cancel()
            await asyncio.wait([self._watching])

    async def _was_silent(self, timeout_seconds: float) -> bool:
        """Whether there was a silent node, which is buried or beats again: then it is worth to ask once more."""
        if self._watching is None or self._watching.done():
            self._watching = asyncio.create_task(self._watch(), name="watch silent nodes")
        watching = self._watching
        await asyncio.wait([watching], timeout=timeout_seconds)
        return watching.done() and not watching.cancelled() and watching.result()

    async def _watch(self) -> bool:
        """One look for all who wait, again and again until none is silent, or nobody waits any more."""
        was_silent = False
        try:
            while self._waiting and await self._silence() > SILENT_SECONDS:
                was_silent = True
                await asyncio.sleep(ASK_SECONDS)
        except StoreError:
            return True  # to ask once more says what the matter is
        return was_silent
