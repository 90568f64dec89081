"""Work that costs up to some hundred microseconds a piece, of which a turn of the event loop has few."""

import asyncio
from collections import deque


class PacedWork:
    """The pieces of one kind. Lives as long as the node. The number of waiting pieces is bounded by their callers."""

    def __init__(self, most_a_turn: int) -> None:
        self._most = most_a_turn
        self._left = most_a_turn
        self._waiting: deque[asyncio.Future[None]] = deque()
        self._is_turning = False

    async def turn(self) -> None:
        """Returns when a piece may be done, in the order of the calls. May be cancelled."""
        loop = asyncio.get_running_loop()
        if not self._is_turning:
            self._is_turning = True
            loop.call_soon(self._next_turn)
        if self._left and not self._waiting:
            self._left -= 1
            return
        waiting = loop.create_future()
        self._waiting.append(waiting)
        await waiting

    def _next_turn(self) -> None:
        """A turn has passed: as many as it may have go on."""
        self._left = self._most
        self._is_turning = bool(self._waiting)
        while self._left and self._waiting:
            waiting = self._waiting.popleft()
            if not waiting.done():
                waiting.set_result(None)
                self._left -= 1
        if self._is_turning:
            asyncio.get_running_loop().call_soon(self._next_turn)
