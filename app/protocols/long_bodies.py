"""Long bodies from outside, decoded in a thread, one of a site at a time: a thread too takes the CPU from the others.

Knows no site and no form of a body.
"""

import asyncio
from collections.abc import Callable
from time import thread_time
from typing import TypeVar

from app.errors import LimitReached
from app.protocols.validation import LARGE_BYTES
from app.transport.refusals import TOO_MANY_LONG_BODIES, refused

#: The long bodies of a site that wait for their turn. Each holds its bytes.
MOST_WAITING = 16
_RETRY_AFTER_SECONDS = 1

T = TypeVar("T")


class _Row:
    """The row of one site. Lives as long as its owner."""

    __slots__ = ("turn", "waiting")

    def __init__(self) -> None:
        self.turn = asyncio.Lock()
        self.waiting = 0


class LongBodies:
    """The rows of all sites at one door. Lives as long as the node."""

    def __init__(self) -> None:
        self._rows: dict[str, _Row] = {}

    async def read(self, site: str, read: Callable[[bytes], T], text: bytes, long_bytes: int = LARGE_BYTES) -> T:
        """The result of `read` for the text of a site: of a short text at once, of a long one in a thread.

        Raises LimitReached when the row is full, and the errors of `read`.
        """
        if len(text) <= long_bytes:
            return read(text)
        row = self._rows.get(site)
        if row is None:
            row = self._rows[site] = _Row()
        if row.waiting >= MOST_WAITING:
            refused[TOO_MANY_LONG_BODIES] += 1
            raise LimitReached("Too many long bodies at once, try again.", retry_after_seconds=_RETRY_AFTER_SECONDS)
        row.waiting += 1
        try:
            await row.turn.acquire()
        finally:
            row.waiting -= 1
        pause_seconds = 0.0

        def timed() -> T:
            nonlocal pause_seconds
            began = thread_time()
            try:
                return read(text)
            finally:
                pause_seconds = thread_time() - began

        try:
            return await asyncio.to_thread(timed)
        finally:
            # A pause as long as the reading: whatever a site sends, half of the time is the others'.
            asyncio.get_running_loop().call_later(pause_seconds, row.turn.release)
