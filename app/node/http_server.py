"""The HTTP server's life from its first connection to its exit: what signals mean, what is waited for and how long.

Knows the parts of the server only by what it asks of them at the end.
"""

import asyncio
import contextlib
import signal
import socket
from collections.abc import Callable, Iterator
from typing import Protocol

import structlog
import uvicorn

from app.config.settings import Config
from app.node.dispatch import Dispatcher
from app.node.port import BACKLOG
from app.node.signals import end_signals
from app.observe.health import Health
from app.transport.http import HttpProtocol
from app.transport.peer_socket import PeerSocket
from app.transport.websocket import WebSocketProtocol

#: Longer than the 60 s after which load balancers drop an idle connection, so that it is they who do.
_KEEP_ALIVE_SECONDS = 65

_log = structlog.get_logger(__name__)


class Drainable(Protocol):
    """A protocol with connections that last. Lives as long as the node."""

    async def drain(self, seconds: float) -> None:
        """Takes no more connections and tells each to leave, evenly over the time; returns when they have."""


class Servable(Drainable, Protocol):
    """What answers behind the HTTP server: all of a node. Lives longer than the HTTP server."""

    health: Health
    peer_socket: PeerSocket

    async def release(self) -> None:
        """Has other nodes answer what waits here for them; until it is cancelled."""


class HttpServer(uvicorn.Server):
    """uvicorn with our WebSockets, that serves on while connections are told to leave, and exits with 0.

    serving --SIGTERM, SIGINT--> draining --all told--> ending: accepts no more, waits for requests, exits
                                    '------a second signal------^ without waiting
    """

    def __init__(
        self, application: Dispatcher, config: Config, services: Servable, on_listening: Callable[[str], None]
    ) -> None:
        super().__init__(
            uvicorn.Config(
                application,
                http=HttpProtocol,
                ws=WebSocketProtocol,
                loop="none",
                lifespan="off",
                log_config=None,
                access_log=False,
                proxy_headers=bool(config.trusted_proxies),
                forwarded_allow_ips=list(config.trusted_proxies),
                server_header=False,
                date_header=False,
                backlog=BACKLOG,
                timeout_keep_alive=_KEEP_ALIVE_SECONDS,
                timeout_graceful_shutdown=max(1, int(config.shutdown_timeout_seconds)),
            )
        )
        self._application = application
        self._services = services
        self._on_listening = on_listening
        self._drain_seconds = config.drain_timeout_seconds
        self._drain: asyncio.Task[None] | None = None

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Accepts connections from here on."""
        await super().startup(sockets)
        if self.started and sockets:
            await self._services.peer_socket.start(self.config, self.server_state, self.lifespan.state)
            port = sockets[0].getsockname()[1]
            self._on_listening(f"http://127.0.0.1:{port}")

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """Tells connections to leave, then accepts no more and waits for requests, all within the configured times."""
        _log.info("draining", seconds=self._drain_seconds)
        self._application.refuse_websockets()
        # Idle connections would have to be cut at the end, maybe in the middle of a request that is on its way.
        self.server_state.default_headers = [(b"connection", b"close")]
        if not self.force_exit:
            self._drain = asyncio.create_task(self._services.drain(self._drain_seconds), name="drain")
            await asyncio.wait({self._drain})
            if not self._drain.cancelled() and (failure := self._drain.exception()):
                _log.error("drain failed", exc_info=failure)
        # Not earlier: the last answers of polling sessions are fetched through other nodes too.
        self._services.peer_socket.close()
        # Beside it: from its first moment on no client comes back here with its next poll.
        release = asyncio.create_task(self._services.release(), name="release")
        try:
            await super().shutdown(sockets)
        finally:
            release.cancel()
            await asyncio.gather(release, return_exceptions=True)

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        """As uvicorn's, but a signal that was obeyed is not raised again at the end: the exit status is 0."""
        with end_signals(self._obey):
            yield

    def _obey(self, number: int) -> None:
        if self.should_exit:
            # The operator's patience is at its end.
            self.force_exit = True
            if self._drain is not None:
                self._drain.cancel()
            return
        # At once: load balancers should know before the first session is closed.
        self._services.health.start_draining()
        if number == signal.SIGINT:
            # Somebody at a terminal; there are no other nodes that a rush would hurt.
            self._drain_seconds = 0.0
        self.handle_exit(number, None)
