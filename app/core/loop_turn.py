"""Tells the first of the things that happen in one turn of the event loop."""

import asyncio


class LoopTurn:
    """Lives as long as its owner."""

    def __init__(self) -> None:
        self._is_taken = False

    def take_first(self) -> bool:
        """Whether this is the first call in this turn of the loop."""
        if self._is_taken:
            return False
        self._is_taken = True
        asyncio.get_running_loop().call_soon(self._end)
        return True

    def _end(self) -> None:
        self._is_taken = False
