"""Errors of this node as messages to a room of a site: whoever looks after the server sees them at once, and later what
was missed, as with every message."""

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable, Mapping
from typing import Any

import msgspec

from app.clock import now_ms, rfc3339
from app.config.settings import ErrorRoom, Site
from app.core.message import Message
from app.errors import RecadoError
from app.watched_tasks import start_watched

#: The event of the messages.
EVENT = "log"
#: Errors of one message, and the characters of one of them; past it they are counted.
MAX_LINES = 20
MAX_CHARACTERS = 2_000
#: At most one message in this time, so that a failure to send is no cause of the next one.
_PAUSE_SECONDS = 1.0


class ErrorSender:
    """Lives as long as the node: `start` begins, `close` ends it."""

    def __init__(
        self,
        place: ErrorRoom,
        node: str,
        sites: Mapping[str, Site],
        next_id: Callable[[], int],
        publish: Callable[[Message], Awaitable[object]],
    ) -> None:
        """`sites` may grow and shrink: while the site is not there, errors are dropped."""
        self._place = place
        self._node = node
        self._sites = sites
        self._next_id = next_id
        self._publish = publish
        self._lines: deque[dict[str, Any]] = deque()
        self._left_out = 0
        self._task: asyncio.Task[None] | None = None

    def start(self) -> None:
        """Sends from now on."""
        self._task = start_watched(self._keep_sending(), "errors to a room")

    async def close(self) -> None:
        """Ends it."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)

    def note(self, event: Mapping[str, Any]) -> None:
        """Keeps an error, whose secrets are masked by then. May be called from any thread."""
        if event.get("level") == "warning":
            return
        if len(self._lines) >= MAX_LINES:
            self._left_out += 1
            return
        text = {name: _text(value) for name, value in event.items() if name != "timestamp"}
        self._lines.append({"at": rfc3339(now_ms()), "node": self._node, **text})

    async def send(self) -> None:
        """Sends the errors that are kept. Redis may be away: they are dropped then, and stand in the log."""
        site = self._sites.get(self._place.site)
        if not self._lines:
            return
        lines, left_out = list(self._lines), self._left_out
        self._lines.clear()
        self._left_out = 0
        if site is None:
            return
        body = msgspec.json.encode([EVENT, {"lines": lines, "left_out": left_out}])
        try:
            await self._publish(Message(site, self._next_id(), (self._place.room,), EVENT, body))
        except RecadoError:
            return

    async def _keep_sending(self) -> None:
        while True:
            await asyncio.sleep(_PAUSE_SECONDS)
            await self.send()


def _text(value: object) -> str:
    """A value as text of UTF-8: half of a surrogate pair may come from a client's text."""
    return str(value)[:MAX_CHARACTERS].encode("utf-8", "replace").decode()
