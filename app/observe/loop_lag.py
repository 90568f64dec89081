"""How late the event loop is: a timer that measures by how much it is missed. Knows nothing of what holds it up."""

import asyncio

from app.observe.counts import Durations

TICK_SECONDS = 0.25


class LoopLag:
    """Lives as long as the node: `start` begins to measure, `close` ends it."""

    def __init__(self, lag: Durations) -> None:
        """`lag` is given one duration a tick."""
        self._lag = lag
        self._due = 0.0
        self._timer: asyncio.TimerHandle | None = None

    def start(self) -> None:
        """Measures from now on."""
        loop = asyncio.get_running_loop()
        self._due = loop.time() + TICK_SECONDS
        self._timer = loop.call_at(self._due, self._tick)

    def close(self) -> None:
        """Measures no more."""
        if self._timer is not None:
            self._timer.cancel()

    def _tick(self) -> None:
        # A loop's timers may come up to their clock's resolution early.
        self._lag.observe(max(0.0, asyncio.get_running_loop().time() - self._due))
        self.start()
