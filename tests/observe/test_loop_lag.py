"""The measured lag is the time for which the loop was blocked."""

import asyncio
import time

from app.observe.counts import Durations
from app.observe.loop_lag import TICK_SECONDS, LoopLag
from tests.support.store import until


async def test_held_up_loop_is_measured() -> None:
    """A loop that is blocked across a tick shows a lag of about that time."""
    lag = Durations()
    measured = LoopLag(lag)
    measured.start()
    # The loop itself must be blocked here.
    time.sleep(TICK_SECONDS + 0.3)  # noqa: ASYNC251
    await until(lambda: sum(lag.buckets) == 1, "a tick")
    measured.close()
    assert 0.25 < lag.total_seconds < 5


async def test_closed_measure_ticks_no_more() -> None:
    """After `close` no timer is left."""
    lag = Durations()
    measured = LoopLag(lag)
    measured.start()
    measured.close()
    done = asyncio.Event()
    asyncio.get_running_loop().call_later(TICK_SECONDS * 1.2, done.set)
    await done.wait()
    assert sum(lag.buckets) == 0
