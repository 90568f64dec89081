"""The lag of the event loop: a timer that measures by how much it is late. Knows none of the causes."""

import asyncio

from app.observe.counts import Durations

TICK_SECONDS = 0.25


class LoopLag:
    """The measurement of one loop. Lives as long as the node: `start` begins to measure, `close` ends it."""

    def __init__(self, lag: Durations) -> None:
        """`lag` receives one duration a tick."""
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
        # A timer of the loop may come early, by up to the resolution of its clock.
        self._lag.observe(max(0.0, asyncio.get_running_loop().time() - self._due))
        self.start()
