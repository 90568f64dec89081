"""Draining: a node that ends closes its connections evenly over its time, so that its clients do not reach the other
nodes all at once. Knows nothing of a connection."""

import asyncio
import math
from collections.abc import Callable, Sequence
from typing import TypeVar

STEP_SECONDS = 0.1

#: The connections of a site that is served no more are told to leave, so many a second, in this time at most.
_LEAVING_PER_SECOND = 2_000
_LONGEST_LEAVE_SECONDS = 10.0

_T = TypeVar("_T")


def leave_seconds(count: int) -> float:
    """The time over which so many connections of one site are told to leave: they do not all come back at once."""
    return min(_LONGEST_LEAVE_SECONDS, count / _LEAVING_PER_SECOND)


async def close_in_steps(living: Callable[[], Sequence[_T]], close: Callable[[_T], None], seconds: float) -> None:
    """Calls `close` for the `living`: for the k-th of n after k/n of the time, in steps that are 0.1 s apart or more.

    The first step is at once. When connections leave by themselves, the others share the time that is left. Returns as
    soon as no connection is left.
    """
    loop = asyncio.get_running_loop()
    end = loop.time() + seconds
    left_seconds = seconds
    while left := living():
        if (wait := end - left_seconds - loop.time()) > 0:
            # Sleep no longer than a step: all connections may leave by themselves meanwhile.
            await asyncio.sleep(min(wait, STEP_SECONDS))
            continue
        share = _share(len(left), left_seconds)
        for connection in left[:share]:
            close(connection)
        if share == len(left):
            return
        left_seconds -= left_seconds * share / len(left)


def _share(count: int, seconds: float) -> int:
    """How many of `count` connections are closed in this step."""
    if seconds <= STEP_SECONDS:
        return count
    # Round first: 2.0000000000000004 connections are 2.
    return min(count, math.ceil(round(count * STEP_SECONDS / seconds, 6)))
