"""The answers that a client does not read: it has to take some of their bytes within each deadline.

A client on a slow line takes them in pieces and is never cut off; a client that stops reading keeps its connection, the
unsent bytes and perhaps a request that waits behind them, for a bounded time. Knows nothing of requests. The names of
uvicorn that this module overrides are listed in `internals`.
"""

import asyncio
import logging
from collections import deque
from typing import Any

from uvicorn.config import Config
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol
from uvicorn.server import ServerState

from app.transport.refusals import ANSWER_UNREAD, refused

#: The time in which a client has to take some bytes of those that wait for it.
UNREAD_SECONDS = 30.0


_LOGGER = logging.getLogger("uvicorn.error")
_ACCESS_LOGGER = logging.getLogger("uvicorn.access")


class ReadWatch:
    """The deadlines of one transport whose bytes wait. Lives until they are written, or the client is cut off."""

    __slots__ = ("_left", "_timer", "_transport")

    def __init__(self, transport: asyncio.Transport) -> None:
        self._transport = transport
        self._wait()

    def cancel(self) -> None:
        """Wait no longer."""
        self._timer.cancel()

    def _wait(self) -> None:
        self._left = self._transport.get_write_buffer_size()
        self._timer = asyncio.get_running_loop().call_later(UNREAD_SECONDS, self._look)

    def _look(self) -> None:
        left = self._transport.get_write_buffer_size()
        if left and left >= self._left:
            refused[ANSWER_UNREAD] += 1
            self._transport.abort()
        elif left:
            self._wait()


class ReadProtocol(HttpToolsProtocol):
    """uvicorn's HTTP protocol with a deadline for a client that does not read. Lives as that does."""

    __slots__ = ("_read_watch",)

    def __init__(
        self,
        config: Config,
        server_state: ServerState,
        app_state: dict[str, Any],
        _loop: asyncio.AbstractEventLoop | None = None,
    ) -> None:
        """Do as uvicorn's own does, whose look-ups of loggers cost as much as all else here."""
        if not config.loaded:
            config.load()
        self.config = config
        self.app = config.loaded_app
        self.loop = _loop or asyncio.get_running_loop()
        self.logger, self.access_logger = _LOGGER, _ACCESS_LOGGER
        self.access_log = _ACCESS_LOGGER.hasHandlers()
        self.parser = self.new_parser()
        self.ws_protocol_class = config.ws_protocol_class
        self.root_path = config.root_path
        self.asgi_version = config.asgi_version
        self.limit_concurrency = config.limit_concurrency
        self.app_state = app_state
        self.timeout_keep_alive_task = None
        self.timeout_keep_alive = config.timeout_keep_alive
        self.server_state = server_state
        self.connections = server_state.connections
        self.tasks = server_state.tasks
        self.transport = self.flow = None  # type: ignore[assignment]
        self.server = self.client = self.scheme = None
        self.pipeline = deque()
        self.scope = self.headers = self.cycle = None  # type: ignore[assignment]
        self.expect_100_continue = False
        # Set while bytes wait: more than the high-water mark, or any behind the end of the connection.
        self._read_watch: ReadWatch | None = None

    def new_parser(self) -> Any:
        """A parser of httptools."""
        raise NotImplementedError

    def pause_writing(self) -> None:
        """Learn that the client is slow."""
        super().pause_writing()
        self._watch()

    def resume_writing(self) -> None:
        """Learn that it has caught up."""
        super().resume_writing()
        self.end_watch()

    def on_response_complete(self) -> None:
        """Watch a connection that ends behind this response."""
        super().on_response_complete()
        if self.transport.is_closing():
            self._watch()

    def timeout_keep_alive_handler(self) -> None:
        """Watch a connection that ends because no further request has come."""
        super().timeout_keep_alive_handler()
        self._watch()

    def connection_lost(self, exc: Exception | None) -> None:
        """End the watch."""
        self.end_watch()
        super().connection_lost(exc)

    def end_watch(self) -> None:
        """Leave the transport to its next owner, or to nobody."""
        watch, self._read_watch = self._read_watch, None
        if watch is not None:
            watch.cancel()

    def _watch(self) -> None:
        if self._read_watch is None and self.transport.get_write_buffer_size():
            self._read_watch = ReadWatch(self.transport)
