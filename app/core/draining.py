"""How a node that ends tells its connections to leave: evenly over its time, so that the other nodes do not get all of
its clients at one moment. Knows nothing of what a connection is."""

import asyncio
import math
from collections.abc import Callable, Sequence
from typing import TypeVar

STEP_SECONDS = 0.1

_T = TypeVar("_T")


async def close_in_steps(living: Callable[[], Sequence[_T]], close: Callable[[_T], None], seconds: float) -> None:
    """Calls `close` for the `living`, the k-th of n after k/n of the time, in steps that are 0.1 s apart or more.

    The first are closed at once. When some leave by themselves, the time that is left is for the others; returns as
    soon as none is left.
    """
    loop = asyncio.get_running_loop()
    end = loop.time() + seconds
    left_seconds = seconds
    while left := living():
        if (wait := end - left_seconds - loop.time()) > 0:
            # No longer: they may all leave by themselves meanwhile.
            await asyncio.sleep(min(wait, STEP_SECONDS))
            continue
        share = _share(len(left), left_seconds)
        for connection in left[:share]:
            close(connection)
        if share == len(left):
            return
        left_seconds -= left_seconds * share / len(left)


def _share(count: int, seconds: float) -> int:
    """How many of so many are closed in this step."""
    if seconds <= STEP_SECONDS:
        return count
    # Rounded: 2.0000000000000004 of them are 2.
    return min(count, math.ceil(round(count * STEP_SECONDS / seconds, 6)))
