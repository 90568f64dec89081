"""The HTTP server's life from its first connection to its exit: the meaning of signals, and the waits of the shutdown.

Knows the node's parts only by the methods that it calls at the end.
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
from app.node.reload import Reload
from app.node.signals import obeyed_signals
from app.observe.health import Health
from app.transport.http import HttpProtocol
from app.transport.peer_socket import PeerSocket
from app.transport.websocket import WebSocketProtocol

#: Longer than the 60 s after which load balancers drop an idle connection, so that the load balancer drops it, not we.
_KEEP_ALIVE_SECONDS = 65
#: A node that lacks one of its tasks may count as dead after 7 s: its connections leave before that.
_DRAIN_BROKEN_SECONDS = 5.0

_log = structlog.get_logger(__name__)


class Drainable(Protocol):
    """A protocol with connections that last. Lives as long as the node."""

    async def drain(self, seconds: float) -> None:
        """Accepts no more connections and tells each to leave, evenly over the time. Returns when all have left."""


class Servable(Drainable, Protocol):
    """The node behind the HTTP server. Lives longer than the HTTP server."""

    health: Health
    peer_socket: PeerSocket

    def listens(self, bound: socket.socket, has_tls: bool) -> None:
        """The node accepts connections on this socket."""

    async def release(self) -> None:
        """Makes other nodes answer the requests that wait here for them, until it is cancelled."""


class HttpServer(uvicorn.Server):
    """uvicorn with our WebSockets. It keeps serving while connections are told to leave, and exits with 0.

    serving --SIGTERM, SIGINT--> draining --all told--> ending: accepts no more, waits for requests, exits
                                    '------a second signal------^ without waiting
    """

    def __init__(
        self,
        application: Dispatcher,
        config: Config,
        services: Servable,
        reload: Reload,
        on_listening: Callable[[str], None],
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
        self._reload = reload
        self._on_listening = on_listening
        self._drain_seconds = config.drain_timeout_seconds
        self._drain: asyncio.Task[None] | None = None

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Starts to accept connections."""
        await super().startup(sockets)
        if self.started and sockets:
            await self._services.peer_socket.start(self.config, self.server_state, self.lifespan.state)
            port = sockets[0].getsockname()[1]
            self._on_listening(f"http://127.0.0.1:{port}")
            self._services.listens(sockets[0], self.config.is_ssl)

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """Tells connections to leave, then accepts no more and waits for requests, all within the configured times."""
        _log.info("draining", seconds=self._drain_seconds)
        self._reload.stop()
        self._application.refuse_websockets()
        # Each response asks its client to close: idle connections would have to be cut at the end, perhaps while a
        # request is on its way.
        self.server_state.default_headers = [(b"connection", b"close")]
        if not self.force_exit:
            self._drain = asyncio.create_task(self._services.drain(self._drain_seconds), name="drain")
            await asyncio.wait({self._drain})
            if not self._drain.cancelled() and (failure := self._drain.exception()):
                _log.error("drain failed", exc_info=failure)
        # The peer socket closes after the drain: other nodes fetch the last answers of polling sessions through it.
        self._services.peer_socket.close()
        # The release runs beside uvicorn's shutdown: from the first moment of that, no client sends its next poll here.
        release = asyncio.create_task(self._services.release(), name="release")
        try:
            await super().shutdown(sockets)
        finally:
            release.cancel()
            await asyncio.gather(release, return_exceptions=True)

    def end_soon(self, task: str) -> None:
        """Ends the server because a long-lived task of the node has ended: connections have little time to leave."""
        self._services.health.start_draining()
        self._drain_seconds = min(self._drain_seconds, _DRAIN_BROKEN_SECONDS)
        _log.error("the node ends", task=task)
        self.should_exit = True

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Does as uvicorn's, but does not raise an obeyed signal again at the end: the exit status is 0."""
        with obeyed_signals(self._obey, self._reload.ask):
            yield

    def _obey(self, number: int) -> None:
        if self.should_exit:
            # A second signal means that the operator does not want to wait.
            self.force_exit = True
            if self._drain is not None:
                self._drain.cancel()
            return
        # Readiness goes off at once: load balancers should know before the first session is closed.
        self._services.health.start_draining()
        if number == signal.SIGINT:
            # SIGINT comes from a terminal, where no other nodes exist that a rush of reconnects would hurt.
            self._drain_seconds = 0.0
        self.handle_exit(number, None)
