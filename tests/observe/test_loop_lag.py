"""The measured lag is the time for which the loop was blocked."""

from __future__ import annotations

import asyncio

import pytest

from app.observe.counts import Durations
from app.observe.loop_lag import TICK_SECONDS, LoopLag
from tests.support.waiting import until


class MovedClock:
    """The running loop's clock, which the test puts forward: nothing runs meanwhile, as in a loop that is held up."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """Begin at the time that it is."""
        self._ahead_seconds = 0.0
        loop = asyncio.get_running_loop()
        real = loop.time
        monkeypatch.setattr(loop, "time", lambda: real() + self._ahead_seconds)

    def move(self, seconds: float) -> None:
        """Put it forward."""
        self._ahead_seconds += seconds


async def test_held_up_loop_is_measured(monkeypatch: pytest.MonkeyPatch) -> None:
    """A loop that is blocked across a tick shows a lag of about that time."""
    clock = MovedClock(monkeypatch)
    lag = Durations()
    measured = LoopLag(lag)
    measured.start()
    clock.move(TICK_SECONDS + 0.3)
    await until(lambda: sum(lag.buckets) == 1, "a tick")
    measured.close()
    assert 0.25 < lag.total_seconds < 5


async def test_closed_measure_ticks_no_more(monkeypatch: pytest.MonkeyPatch) -> None:
    """After `close` no timer is left."""
    clock = MovedClock(monkeypatch)
    lag = Durations()
    measured = LoopLag(lag)
    measured.start()
    measured.close()
    # A later timer than the measure's has come, so that would have come too.
    done = asyncio.Event()
    asyncio.get_running_loop().call_later(TICK_SECONDS * 1.2, done.set)
    clock.move(TICK_SECONDS * 1.2)
    await done.wait()
    assert sum(lag.buckets) == 0
