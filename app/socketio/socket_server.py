"""Socket.IO for an application that handles namespaces: the tasks of connects, time-outs of the idle, guarded calls.

Knows nothing of sites. Derives from python-socketio's server and uses its packet class; rooms, broadcasts, handlers and
`emit` of that class are not kept up, since addressing connections is the hub's work.
"""

from __future__ import annotations

import asyncio
import logging
from typing import Any, Protocol

import socketio

from app.errors import RecadoError
from app.socketio.engine_packet import EncodedPacket
from app.socketio.engine_ports import EngineSettings
from app.socketio.engine_request import Handshake, Scope
from app.socketio.engine_server import EngineServer
from app.socketio.engine_session import EngineSession
from app.socketio.socket_connection import ConnectRequest, NamespaceConnection
from app.socketio.socket_session import SocketSession
from app.transport.deadline_wheel import DeadlineWheel, Timed

__all__ = [
    "ConnectRefused",
    "ConnectRequest",
    "EncodedPacket",
    "EngineSettings",
    "NamespaceConnection",
    "SocketApplication",
    "SocketServer",
]

_logger = logging.getLogger(__name__)

_TICKS_PER_TIMEOUT = 20
_MAX_TICK_SECONDS = 1.0


class ConnectRefused(RecadoError):
    """Connection refused"""


class SocketApplication(Protocol):
    """What a server calls; one object for all its connections."""

    def accepts_namespace(self, namespace: str) -> bool:
        """Whether clients may ask for this namespace; if not they are told `Invalid namespace`."""

    async def connect(self, connection: NamespaceConnection, request: ConnectRequest) -> None:
        """Decide on a client, one task per call, many at once; reading goes on meanwhile.

        `connection.confirm()` sends the CONNECT packet; returning does it too. What is sent before is held until then.
        Raise ConnectRefused(message) to refuse. The connection may be closed while this runs: look at `is_closed`.
        """

    def event_received(self, connection: NamespaceConnection, event: str, args: list[Any], ack_id: int | None) -> None:
        """An event; with an `ack_id` the client waits for `connection.send_ack`."""

    def ack_received(self, connection: NamespaceConnection, ack_id: int) -> None:
        """The client acknowledges what was sent with this id; its arguments are not kept."""

    def disconnected(self, connection: NamespaceConnection, reason: str) -> None:
        """The end of a connection for which `connect` was called: exactly once, also if that refused or still runs."""


class SocketServer(socketio.AsyncServer):
    """Lives as long as the application; closed by `shutdown`. Its `asgi` serves whatever path is routed to it."""

    def __init__(
        self,
        application: SocketApplication,
        settings: EngineSettings | None = None,
        connect_timeout_seconds: float = 45.0,
    ) -> None:
        """Take the application; a session that has joined no namespace after `connect_timeout_seconds` is closed."""
        super().__init__(  # type: ignore[no-untyped-call]
            logger=_logger, open_session=self._open_session, settings=settings
        )
        self.eio: EngineServer
        self._application = application
        self._connect_timeout_seconds = connect_timeout_seconds
        self._joining = DeadlineWheel(min(_MAX_TICK_SECONDS, connect_timeout_seconds / _TICKS_PER_TIMEOUT))
        self._connects: set[asyncio.Task[None]] = set()

    async def asgi(self, scope: Scope, receive: Any, send: Any) -> None:
        """Serve one HTTP request or WebSocket."""
        await self.eio.asgi(scope, receive, send)

    def release_poll(self, sid: str) -> None:
        """Answer the poll of a session at once."""
        self.eio.release_poll(sid)

    async def drain(self, seconds: float) -> None:
        """Close every session, spread over the time, and end the connects that still run."""
        await self.eio.drain(seconds)
        await self._end_connects()

    async def shutdown(self) -> None:
        """Close every session at once, and end the connects that still run."""
        await self.eio.shutdown()
        await self._end_connects()

    async def _end_connects(self) -> None:
        connects = list(self._connects)
        for task in connects:
            task.cancel()
        await asyncio.gather(*connects, return_exceptions=True)

    # What sessions ask for

    @property
    def max_payload_bytes(self) -> int:
        """What the attachments of one packet may come to."""
        return self.eio.settings.max_payload_bytes

    def accepts_namespace(self, namespace: str) -> bool:
        """Whether the application has such a namespace."""
        return self._application.accepts_namespace(namespace)

    def new_sid(self) -> str:
        """Make an unguessable id."""
        return self.eio.new_sid()

    def start_connect(self, connection: NamespaceConnection, request: ConnectRequest) -> None:
        """Run the application's connect() as a task."""
        task = asyncio.get_running_loop().create_task(self._connect(connection, request))
        self._connects.add(task)
        task.add_done_callback(self._connects.discard)

    def event_received(self, connection: NamespaceConnection, arguments: list[Any], ack_id: int | None) -> None:
        """Tell the application of an event."""
        try:
            self._application.event_received(connection, arguments[0], arguments[1:], ack_id)
        except Exception:
            _logger.exception("an event could not be handled")

    def ack_received(self, connection: NamespaceConnection, ack_id: int) -> None:
        """Tell the application of an ack."""
        try:
            self._application.ack_received(connection, ack_id)
        except Exception:
            _logger.exception("an ack could not be handled")

    def disconnected(self, connection: NamespaceConnection, reason: str) -> None:
        """Tell the application of the end."""
        try:
            self._application.disconnected(connection, reason)
        except Exception:
            _logger.exception("a disconnect could not be handled")

    def session_joined(self, session: Timed) -> None:
        """The session may stay."""
        self._joining.cancel(session)

    async def _connect(self, connection: NamespaceConnection, request: ConnectRequest) -> None:
        try:
            await self._application.connect(connection, request)
        except ConnectRefused as refusal:
            connection.refuse(str(refusal))
        except Exception:
            _logger.exception("a connect could not be handled")
            connection.refuse("Internal error")
        else:
            connection.confirm()

    def _open_session(self, engine: EngineSession, handshake: Handshake) -> SocketSession:
        session = SocketSession(self, engine, handshake)
        now = asyncio.get_running_loop().time()
        self._joining.schedule(session, now + self._connect_timeout_seconds)
        return session

    def _engineio_server_class(self) -> type[EngineServer]:
        return EngineServer
