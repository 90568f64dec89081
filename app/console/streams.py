"""Live pages: Server-Sent Events with a page's live part, whenever it has changed.

Everybody who has the same view open shares one question every few seconds, and what it shows is drawn once. A stream
ends with its session. Without an open page nothing is asked.
"""

import asyncio
import time
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable
from hashlib import sha256
from typing import Any
from zlib import crc32

import msgspec
from msgspec import Struct

from app.errors import RecadoError, RequestRefused
from app.watched_tasks import start_logged

#: LiveStreams of a node, and of one session.
MAX_STREAMS = 100
MAX_OF_SESSION = 10
#: After this time without an event a comment shows proxies that the stream lives.
QUIET_SECONDS = 15.0
#: A session that was looked at is taken as living for this time, and for two looks at its page at most.
ALIVE_SECONDS = 4.0
#: The operator may not see the page any more, or its site is gone.
_GONE = (403, 404)
_OVER = b"event: over\ndata:\n\n"


class LiveView(Struct, frozen=True):
    """A live page in one state. Lives as long as a stream of it."""

    #: Equal for all who see the same.
    key: tuple[object, ...]
    #: The time between two looks.
    seconds: float
    #: The values that it shows. Raises RecadoError.
    look: Callable[[], Awaitable[Any]]
    #: These values as HTML, with a place for the token of the forms.
    draw: Callable[[Any], str]
    #: This place, which is no other text of a page.
    token_place: str = ""


class _Shared:
    """The parts that all streams of a view share. Lives while there is one."""

    def __init__(self) -> None:
        self.streams = 0
        self.turn = -1
        self.is_done = asyncio.Event()
        self.error: RecadoError | None = None
        self.event = b""
        self._values_mark = b""

    async def renew(self, view: LiveView) -> None:
        """Looks, and draws what has changed."""
        try:
            self.error = None
            values = await view.look()
            mark = sha256(msgspec.json.encode(values)).digest()
            if mark != self._values_mark:
                self.event = b"event: live\ndata: " + msgspec.json.encode(view.draw(values)) + b"\n\n"
                self._values_mark = mark
        except RecadoError as error:
            self.error = error
        finally:
            self.is_done.set()


class LiveStreams:
    """The streams of one node. Lives as long as the node; `close` ends them."""

    def __init__(self) -> None:
        self._open: Counter[str] = Counter()
        self._views: dict[tuple[object, ...], _Shared] = {}
        #: When a session was last found to live.
        self._alive: dict[str, float] = {}
        self._closing = asyncio.Event()

    def close(self) -> None:
        """Ends every stream; browsers come again, to another node."""
        self._closing.set()

    def begin(
        self, session: str, view: LiveView, lives: Callable[[], Awaitable[bool]], token: str = ""
    ) -> AsyncIterator[bytes]:
        """The bytes of a stream, with the token of the session's forms. Raises RequestRefused at the bounds."""
        if self._open.total() >= MAX_STREAMS or self._open[session] >= MAX_OF_SESSION:
            raise RequestRefused("Too many live pages are open.", "too_many_streams", 429)
        return self._events(session, view, lives, token.encode())

    async def _events(
        self, session: str, view: LiveView, lives: Callable[[], Awaitable[bool]], token: bytes
    ) -> AsyncIterator[bytes]:
        self._open[session] += 1
        shared = self._views.setdefault(view.key, _Shared())
        shared.streams += 1
        try:
            last, quiet = b"", 0.0
            while not self._closing.is_set():
                try:
                    if not await self._is_alive(session, view.seconds, lives):
                        yield _OVER
                        return
                    event = await _look(shared, view)
                except RecadoError as error:
                    if isinstance(error, RequestRefused) and error.status in _GONE:
                        yield _OVER
                        return
                    # Redis or SQL is away for a moment: the page stays as it is.
                    event = last
                quiet += view.seconds
                if event != last:
                    last, quiet = event, 0.0
                    yield event.replace(view.token_place.encode(), token) if view.token_place else event
                elif quiet >= QUIET_SECONDS:
                    quiet = 0.0
                    yield b":\n\n"
                await self._pause(_until_next(view))
        finally:
            self._forget(session, view.key)

    async def _is_alive(self, session: str, seconds: float, lives: Callable[[], Awaitable[bool]]) -> bool:
        """Whether the session lasts: several pages of one login ask once."""
        now = time.monotonic()
        if now - self._alive.get(session, -ALIVE_SECONDS) < min(ALIVE_SECONDS, 2 * seconds):
            return True
        # Before the answer: the others need not ask too.
        self._alive[session] = now
        is_alive = False
        try:
            is_alive = await lives()
        finally:
            if not is_alive:
                self._alive.pop(session, None)
        return is_alive

    def _forget(self, session: str, key: tuple[object, ...]) -> None:
        self._open[session] -= 1
        if not self._open[session]:
            del self._open[session]
            self._alive.pop(session, None)
        self._views[key].streams -= 1
        if not self._views[key].streams:
            del self._views[key]

    async def _pause(self, seconds: float) -> None:
        try:
            async with asyncio.timeout(seconds):
                await self._closing.wait()
        except TimeoutError:
            return


async def _look(shared: _Shared, view: LiveView) -> bytes:
    """The event of this turn. The first stream that asks in a turn has it looked at, in a task that lasts when this
    stream ends."""
    if (turn := _turn(view)) > shared.turn and (shared.turn < 0 or shared.is_done.is_set()):
        shared.turn = turn
        shared.is_done.clear()
        start_logged(shared.renew(view), "live page")
    await shared.is_done.wait()
    if shared.error is not None:
        raise shared.error
    return shared.event


def _turn(view: LiveView) -> int:
    """The number of the look that is due."""
    return int((time.monotonic() - _phase(view)) // view.seconds)


def _until_next(view: LiveView) -> float:
    return (_turn(view) + 1) * view.seconds + _phase(view) - time.monotonic()


def _phase(view: LiveView) -> float:
    """All streams of a view look at the same time, and different views at different times."""
    return crc32(repr(view.key).encode()) / 2**32 * view.seconds
