"""Live pages: Server-Sent Events with a page's live part, whenever it has changed.

A stream costs one question every few seconds while somebody looks, and ends with its session.
"""

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable
from hashlib import sha256

import msgspec

from app.errors import RecadoError, RequestRefused

#: LiveStreams of a node, and of one session.
MAX_STREAMS = 100
MAX_OF_SESSION = 10
#: After this time without an event a comment shows proxies that the stream lives.
QUIET_SECONDS = 15.0
#: The operator may not see the page any more, or its site is gone.
_GONE = (403, 404)


class LiveStreams:
    """The streams of one node. Lives as long as the node; `close` ends them."""

    def __init__(self) -> None:
        self._open: Counter[str] = Counter()
        self._closing = asyncio.Event()

    def close(self) -> None:
        """Ends every stream; browsers come again, to another node."""
        self._closing.set()

    def begin(
        self, session: str, seconds: float, lives: Callable[[], Awaitable[bool]], render: Callable[[], Awaitable[str]]
    ) -> AsyncIterator[bytes]:
        """The bytes of a stream, which asks every so many seconds. Raises RequestRefused at the bounds."""
        if self._open.total() >= MAX_STREAMS or self._open[session] >= MAX_OF_SESSION:
            raise RequestRefused("Too many live pages are open.", "too_many_streams", 429)
        return self._events(session, seconds, lives, render)

    async def _events(
        self, session: str, seconds: float, lives: Callable[[], Awaitable[bool]], render: Callable[[], Awaitable[str]]
    ) -> AsyncIterator[bytes]:
        self._open[session] += 1
        try:
            last, quiet = b"", 0.0
            while not self._closing.is_set():
                try:
                    if not await lives():
                        yield b"event: over\ndata:\n\n"
                        return
                    text = await render()
                except RecadoError as error:
                    if isinstance(error, RequestRefused) and error.status in _GONE:
                        yield b"event: over\ndata:\n\n"
                        return
                    # Redis or SQL is away for a moment: the page stays as it is.
                    text = ""
                mark = sha256(text.encode()).digest() if text else last
                quiet += seconds
                if mark != last:
                    last, quiet = mark, 0.0
                    yield b"event: live\ndata: " + msgspec.json.encode(text) + b"\n\n"
                elif quiet >= QUIET_SECONDS:
                    quiet = 0.0
                    yield b":\n\n"
                await self._pause(seconds)
        finally:
            self._open[session] -= 1
            if not self._open[session]:
                del self._open[session]

    async def _pause(self, seconds: float) -> None:
        try:
            async with asyncio.timeout(seconds):
                await self._closing.wait()
        except TimeoutError:
            return
