"""The HTTP server's life from its first connection to its exit: the meaning of signals, and the waits of the shutdown.

Knows the node's parts only by the methods that it calls at the end.
"""

import asyncio
import contextlib
import signal
import socket
import ssl
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any, Protocol, cast

import structlog
import uvicorn

from app.config.settings import Config, url_on_loopback
from app.node.dispatch import Dispatcher
from app.node.port import BACKLOG
from app.node.reload import Reload
from app.node.signals import obeyed_signals
from app.node.tls_ports import NewProtocol, TlsPorts
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

    def listens(self, bound: socket.socket, tls: ssl.SSLContext | None) -> None:
        """The node accepts connections on this socket; with `tls` a client of its own reaches it."""

    async def release(self) -> None:
        """Makes other nodes answer the requests that wait here for them, until it is cancelled."""


def _uvicorn_config(application: Any, config: Config) -> uvicorn.Config:
    return uvicorn.Config(
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
        tls: TlsPorts | None = None,
    ) -> None:
        """With `tls` every port speaks TLS."""
        super().__init__(_uvicorn_config(application, config))
        self._settings = config
        self._tls = tls
        self._application = application
        self._services = services
        self._reload = reload
        self._on_listening = on_listening
        self._drain_seconds = config.drain_timeout_seconds
        self._drain: asyncio.Task[None] | None = None

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Starts to accept connections."""
        tls = self._tls
        await super().startup(sockets if tls is None else [])
        if self.started and sockets:
            if tls is not None:
                opened = await tls.open(sockets, self._new_protocol_of(self.config), self._new_of)
                self.servers += cast("list[asyncio.Server]", opened)
            await self._services.peer_socket.start(self.config, self.server_state, self.lifespan.state)
            port = sockets[0].getsockname()[1]
            self._on_listening(url_on_loopback(self._settings, port))
            self._services.listens(sockets[0], None if tls is None else tls.keeper.own_client_context())

    def _new_of(self, application: Any) -> NewProtocol:
        """The maker of protocols for another application than the node's."""
        config = _uvicorn_config(application, self._settings)
        config.load()
        return self._new_protocol_of(config)

    def _new_protocol_of(self, config: uvicorn.Config) -> NewProtocol:
        return partial(
            HttpProtocol, config=config, server_state=self.server_state, app_state=self.lifespan.state, _loop=None
        )

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
        with obeyed_signals(self._obey, self._read_again):
            yield

    def _read_again(self) -> None:
        self._reload.ask()
        if self._tls is not None:
            self._tls.keeper.ask()

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
