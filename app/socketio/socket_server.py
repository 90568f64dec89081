"""Socket.IO for applications that handle namespaces: tasks for connects, time-outs for idle sessions, guarded calls.

Knows nothing of sites. Of python-socketio it uses the packet class alone (`socket_packet`): rooms, broadcasts, handlers
and `emit` of that library's server have no use here, since addressing connections is the hub's work.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections import Counter
from collections.abc import Callable, Collection, Iterator, Mapping
from functools import partial
from typing import Any

from app.core.draining import close_in_steps, leave_seconds
from app.socketio.engine_ports import EngineSettings
from app.socketio.engine_request import Handshake, KeptFields, Scope
from app.socketio.engine_server import EngineServer
from app.socketio.engine_session import EngineSession
from app.socketio.namespace_router import NamespaceRouter
from app.socketio.newcomers import JoinGate, Newcomers
from app.socketio.repeats import Repeats
from app.socketio.socket_connection import (
    ConnectRefused,
    ConnectRequest,
    NamespaceConnection,
    SocketApplication,
)
from app.socketio.socket_session import SocketSession
from app.transport.deadline_wheel import NOT_WAITING, DeadlineWheel, Timed

_logger = logging.getLogger(__name__)

PAUSED = "site changed"
"""The reason of a close while the settings of a namespace change."""
JOIN_SECONDS = 45.0
"""The time of a session to join a site; also of the reference server."""
_TICKS_PER_TIMEOUT = 20
_MAX_TICK_SECONDS = 1.0


class SocketServer:
    """Lives as long as its applications; closed by `shutdown`. Its `asgi` serves whatever path is routed to it."""

    def __init__(
        self,
        router: NamespaceRouter,
        settings: EngineSettings | None = None,
        connect_timeout_seconds: float = JOIN_SECONDS,
        newcomers: Newcomers | None = None,
        repeats: Repeats | None = None,
        query_fields: Mapping[str, int] | None = None,
    ) -> None:
        """Take the applications; a session that has joined no site after `connect_timeout_seconds` is closed.

        Of its handshake's query a session keeps `query_fields`, each with as many bytes as are read; None: all fields.
        """
        self._newcomers = newcomers or Newcomers()
        self._repeats = repeats or Repeats()
        self.engine = EngineServer(self._open_session, settings, self._newcomers.may_open, self._repeats)
        self._router = router
        self._kept_fields = None if query_fields is None else KeptFields(query_fields)
        self._connect_timeout_seconds = connect_timeout_seconds
        self._joining = DeadlineWheel(min(_MAX_TICK_SECONDS, connect_timeout_seconds / _TICKS_PER_TIMEOUT))
        self._connects: set[asyncio.Task[None]] = set()
        #: The namespaces whose clients are to come again in a moment.
        self._paused: Counter[str] = Counter()

    async def asgi(self, scope: Scope, receive: Any, send: Any) -> None:
        """Serve one HTTP request or WebSocket."""
        await self.engine.asgi(scope, receive, send)

    def release_poll(self, sid: str) -> None:
        """Answer the poll of a session at once."""
        self.engine.release_poll(sid)

    async def drain(self, seconds: float) -> None:
        """Close every session, spread over the time, and cancel the connects that still run."""
        await self.engine.drain(seconds)
        await self._end_connects()

    async def shutdown(self) -> None:
        """Close every session at once, and cancel the connects that still run."""
        await self.engine.shutdown()
        await self._end_connects()

    async def leave(
        self, application: SocketApplication, namespaces: Collection[str], reason: str, *, is_final: bool
    ) -> None:
        """Take the clients of an application out of these namespaces, spread over a time by their number. `is_final`:
        they are not to come back."""

        def those_left() -> list[tuple[SocketSession, NamespaceConnection]]:
            return [
                (session, connection)
                for session in filter(None, map(_session_of, list(self.engine.sessions.values())))
                for connection in list(session.namespaces.values())
                if connection.namespace in namespaces and connection.application is application
            ]

        def tell(one: tuple[SocketSession, NamespaceConnection]) -> None:
            one[0].leave(one[1], reason, is_final=is_final)

        await close_in_steps(those_left, tell, leave_seconds(len(those_left())))

    @contextlib.contextmanager
    def paused(self, namespaces: Collection[str]) -> Iterator[None]:
        """Within this, a client that connects to one of the namespaces loses its transport, so that it comes again."""
        self._paused.update(namespaces)
        try:
            yield
        finally:
            self._paused.subtract(namespaces)

    async def _end_connects(self) -> None:
        connects = list(self._connects)
        for task in connects:
            task.cancel()
        await asyncio.gather(*connects, return_exceptions=True)

    # Called by sessions

    @property
    def max_payload_bytes(self) -> int:
        """The bound for a message, and for the attachments of one packet together, of a session in a site."""
        return self.engine.settings.max_payload_bytes

    @property
    def max_outbox_bytes(self) -> int:
        """The bound for the bytes that wait for a client, until an application sets another."""
        return self.engine.settings.max_outbox_bytes

    def accepts_namespace(self, namespace: str) -> bool:
        """Whether any application serves the namespace."""
        return self._router.accepts_namespace(namespace)

    def new_sid(self) -> str:
        """Make an unguessable id."""
        return self.engine.new_sid()

    def start_connect(self, connection: NamespaceConnection, request: ConnectRequest) -> None:
        """Give the client to an application, and run that application's connect() as a task.

        Raises PacketFlood when its address has too many connects under way.
        """
        self._newcomers.begin_connect(request.client_address)
        connection.application = application = self._router.choose(request)
        connection.ack_received = partial(application.ack_received, connection)
        task = asyncio.get_running_loop().create_task(self._connect(connection, request))
        self._connects.add(task)
        task.add_done_callback(partial(self._connect_ended, request.client_address))

    def _connect_ended(self, address: str, task: asyncio.Task[None]) -> None:
        self._connects.discard(task)
        self._newcomers.end_connect(address)

    def refuse(self, address: str, answer: Callable[[], None]) -> None:
        """Give a client its refusal, late if its address is refused again and again."""
        self._repeats.refuse(address, answer)

    def event_received(self, connection: NamespaceConnection, arguments: list[Any], ack_id: int | None) -> None:
        """Tell the application of an event."""
        try:
            connection.application.event_received(connection, arguments[0], arguments[1:], ack_id)
        except Exception:
            _logger.exception("an event could not be handled")

    def disconnected(self, connection: NamespaceConnection, reason: str) -> None:
        """Tell the application of the end."""
        try:
            connection.application.disconnected(connection, reason)
        except Exception:
            _logger.exception("a disconnect could not be handled")

    def session_joined(self, session: Timed) -> None:
        """Cancel the time-out of a session that may stay."""
        self._joining.cancel(session)

    def session_left(self, session: Timed) -> None:
        """Set the time-out of a session that is in no site."""
        self._joining.schedule(session, asyncio.get_running_loop().time() + self._connect_timeout_seconds)

    def waited_ms(self, session: Timed) -> int | None:
        """The time that a session has been in no site; None: it is in one."""
        if session.bucket == NOT_WAITING:
            return None
        began_at = session.deadline - self._connect_timeout_seconds
        return max(0, round((asyncio.get_running_loop().time() - began_at) * 1000))

    def count_newcomer(self, address: str, by: int) -> None:
        """Count a session that is in no site, or count it no longer."""
        self._newcomers.count_session(address, by)

    async def _connect(self, connection: NamespaceConnection, request: ConnectRequest) -> None:
        if connection.is_closed:
            return  # the client has gone before this began: nobody is asked
        if self._paused[connection.namespace] > 0:
            connection.session.close(PAUSED)
            return
        try:
            await connection.application.connect(connection, request)
        except ConnectRefused as refusal:
            self.refuse(request.client_address, partial(connection.refuse, str(refusal)))
        except Exception:
            _logger.exception("a connect could not be handled")
            connection.refuse("Internal error")
        else:
            connection.confirm()

    def _open_session(self, engine: EngineSession, handshake: Handshake) -> JoinGate:
        if self._kept_fields is not None:
            handshake = handshake.keep(self._kept_fields)
        session = SocketSession(self, engine, handshake)
        self.session_left(session)
        return JoinGate(engine, session)


def _session_of(engine: EngineSession) -> SocketSession | None:
    """The Socket.IO session of an Engine.IO session; None: it is over."""
    listener = engine.listener
    behind = listener.listener if isinstance(listener, JoinGate) else listener
    return behind if isinstance(behind, SocketSession) else None
