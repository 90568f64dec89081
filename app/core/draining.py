"""How a node that ends tells its connections to leave: in even steps, so that the other nodes do not get all of its
clients at one moment. Knows nothing of what a connection is."""

import asyncio
from collections.abc import Callable, Sequence
from typing import TypeVar

STEP_SECONDS = 0.1

_T = TypeVar("_T")


async def close_in_steps(living: Callable[[], Sequence[_T]], close: Callable[[_T], None], seconds: float) -> None:
    """Calls `close` for an even share of the `living` every 0.1 s until `seconds` are over or none is left.

    The first are closed at once, and each time at least one, so a few connections take no longer than they must.
    """
    loop = asyncio.get_running_loop()
    begun = loop.time()
    steps = max(1, round(seconds / STEP_SECONDS))
    for step in range(steps):
        left = living()
        # Rounded up: nothing is left over for behind the last step.
        for connection in left[: -(-len(left) // (steps - step))]:
            close(connection)
        if step + 1 == steps or not living():
            return
        await asyncio.sleep(begun + (step + 1) * STEP_SECONDS - loop.time())
