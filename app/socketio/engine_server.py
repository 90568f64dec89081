"""Engine.IO versions 3 and 4 on one URL: handshakes, polling requests, WebSockets and upgrades, over plain ASGI.

Knows nothing of Socket.IO. python-engineio's server is not used: its sessions (a queue and two tasks each) cost too
much for each connection, and its answers differ from the protocol's own test suite.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections.abc import Callable
from typing import Any

from app.core.draining import close_in_steps
from app.socketio.engine_origins import cross_origin_headers, hear_origin, origin_of_request
from app.socketio.engine_packet import EncodedPacket
from app.socketio.engine_payload import TEXT_TYPE
from app.socketio.engine_polling import answer_poll, answer_post, payload_response, release_poll
from app.socketio.engine_ports import EngineSettings, SessionListener
from app.socketio.engine_request import (
    Handshake,
    Refusal,
    Response,
    Scope,
    parse_query,
    wait_for_disconnect,
)
from app.socketio.engine_session import SERVER_DISCONNECT, EngineSession
from app.socketio.engine_state import SessionState
from app.socketio.engine_upgrade import SpareSocket, UpgradeProbe
from app.socketio.repeats import Repeats
from app.socketio.session_ids import SessionIds
from app.transport.deadline_wheel import DeadlineWheel
from app.transport.listener import EXTENSION
from app.transport.refusals import FOREIGN_ORIGIN, TOO_MANY_SESSIONS, refused

_TICKS_PER_DEADLINE = 100
_MAX_TICK_SECONDS = 0.25
_TRANSPORTS = ("polling", "websocket")
_VERSIONS = {"2": 3, "3": 3, "4": 4}
"""The version that a client names, and the one that it is served. Version 2 differs in nothing that is served."""
# Longer than a round trip, in which a client polls again or answers a close frame: a client without either is gone.
_FAREWELL_SECONDS = 2.5

OpenSession = Callable[[EngineSession, Handshake], SessionListener]
"""Makes the listener of a new session. It may send from its `session_started` on."""
MayOpen = Callable[[str], bool]
"""Tells whether a client of this address may open another session; "" is an unknown address."""


class EngineServer:
    """Lives as long as the application; closed by `shutdown`. An ASGI application for whatever path it is routed to."""

    def __init__(
        self,
        open_session: OpenSession,
        settings: EngineSettings | None = None,
        may_open: MayOpen | None = None,
        repeats: Repeats | None = None,
    ) -> None:
        """Take the maker of the sessions' listeners, the settings, the judge of addresses, and their attempts."""
        self.settings = settings or EngineSettings()
        self.sessions: dict[str, EngineSession] = {}
        self.outbox_full_total = 0
        shortest = min(self.settings.ping_interval_seconds, self.settings.ping_timeout_seconds)
        self.heartbeats = DeadlineWheel(min(_MAX_TICK_SECONDS, shortest / _TICKS_PER_DEADLINE))
        self._open_session = open_session
        self._may_open = may_open
        self._repeats = repeats or Repeats()
        self._ids = SessionIds()
        self._open_packet_ends = {has_upgrade: self._open_packet_end(has_upgrade) for has_upgrade in (False, True)}
        self._unheard: set[str] = set()
        """The polling sessions whose client has not come again since its handshake."""
        self._is_draining = False
        self._emptied = asyncio.Event()

    async def asgi(self, scope: Scope, receive: Any, send: Any) -> None:
        """Serve one HTTP request or WebSocket."""
        if scope["type"] == "websocket":
            self._serve_websocket(scope)
            return
        response = await self._answer(scope, receive)
        if response is not None:
            response.headers += cross_origin_headers(scope, self.settings.readable_origins)
            await response.send(send)

    async def drain(self, seconds: float) -> None:
        """Open no more sessions, and close the open ones, spread over the time.

        Returns when their clients know of it; a client that has vanished is not waited for.
        """
        self._is_draining = True

        def open_sessions() -> list[EngineSession]:
            return [session for session in self.sessions.values() if session.is_open]

        await close_in_steps(open_sessions, lambda session: session.close(SERVER_DISCONNECT), seconds)
        if self.sessions:
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._emptied.wait(), _FAREWELL_SECONDS)
        for session in list(self.sessions.values()):
            session.give_up()

    async def shutdown(self) -> None:
        """Close every session at once."""
        for session in list(self.sessions.values()):
            session.close("server shutdown")

    def release_poll(self, sid: str) -> None:
        """Answer the poll of a session at once."""
        session = self.sessions.get(sid)
        if session is not None:
            release_poll(session)

    def new_sid(self) -> str:
        """Make an unguessable id."""
        return self._ids.next_id()

    # Called by sessions

    def open_packet(self, sid: str, has_upgrade: bool) -> EncodedPacket:
        """Make the packet that opens a session; milliseconds are whole, but not rounded to seconds."""
        return EncodedPacket(b'0{"sid":"%b",%b' % (sid.encode(), self._open_packet_ends[has_upgrade]))

    def _open_packet_end(self, has_upgrade: bool) -> bytes:
        content = {
            "upgrades": ["websocket"] if has_upgrade else [],
            "pingInterval": round(self.settings.ping_interval_seconds * 1000),
            "pingTimeout": round(self.settings.ping_timeout_seconds * 1000),
            "maxPayload": self.settings.max_payload_bytes,
        }
        return json.dumps(content, separators=(",", ":")).encode().removeprefix(b"{")

    def forget(self, sid: str) -> None:
        """Drop a session that is over."""
        self.sessions.pop(sid, None)
        self._unheard.discard(sid)
        if self._is_draining and not self.sessions:
            self._emptied.set()

    # Requests

    def _refusal_of(self, scope: Scope, query: dict[str, str]) -> Refusal | None:
        """Judge a request before any other step, in the order of the reference server."""
        is_websocket = scope["type"] == "websocket"
        transport = query.get("transport")
        if transport not in _TRANSPORTS:
            return Refusal.UNKNOWN_TRANSPORT
        if "sid" in query:
            return self._refusal_of_session(scope, query, transport, is_websocket)
        if self._is_draining:
            return Refusal.DRAINING
        if not is_websocket and scope["method"] != "GET":
            return Refusal.BAD_HANDSHAKE_METHOD
        if is_websocket != (transport == "websocket"):
            return Refusal.BAD_REQUEST
        if query.get("EIO") not in _VERSIONS:
            return Refusal.UNSUPPORTED_VERSION
        return self._refusal_of_address(scope)

    def _refusal_of_address(self, scope: Scope) -> Refusal | None:
        if self._may_open is None or self._may_open(_address(scope)):
            return None
        return _too_many_sessions()

    def _refusal_of_session(
        self, scope: Scope, query: dict[str, str], transport: str, is_websocket: bool
    ) -> Refusal | None:
        sid = query["sid"]
        session = self.sessions.get(sid)
        if session is not None:
            session.check_deadline(asyncio.get_running_loop().time())
            session = self.sessions.get(sid)
        if session is None:
            return Refusal.UNKNOWN_SID
        if is_websocket != (transport == "websocket"):
            return Refusal.BAD_REQUEST
        if session.state is SessionState.WEBSOCKET and not is_websocket:
            return Refusal.BAD_REQUEST
        if not hear_origin(session, origin_of_request(scope, query)):
            refused[FOREIGN_ORIGIN] += 1
            return Refusal.FORBIDDEN_ORIGIN
        return None

    async def _answer(self, scope: Scope, receive: Any) -> Response | None:
        """Handle one HTTP request; None when the client is gone."""
        if scope["method"] == "OPTIONS":
            return Response(200, b"", TEXT_TYPE)
        query = parse_query(scope.get("query_string", b""))
        refusal = self._refusal_of(scope, query)
        if refusal is not None:
            return Response.refusing(refusal)
        if "sid" not in query:
            return await self._open_in_time(scope, query, receive)
        session = self.sessions[query["sid"]]
        if session.sid in self._unheard:
            self._unheard.discard(session.sid)
            self._repeats.count(_address(scope), -1)
        if scope["method"] == "GET":
            return await answer_poll(session, query, receive)
        if scope["method"] == "POST":
            return await answer_post(session, scope, query, receive)
        return Response.refusing(Refusal.BAD_REQUEST)

    async def _open_in_time(self, scope: Scope, query: dict[str, str], receive: Any) -> Response | None:
        """Open a session; late for an address that opens sessions again and again and does not come back."""
        address = _address(scope)
        if self._repeats.are_too_many(address):
            is_held = await self._repeats.hold(address, lambda: wait_for_disconnect(receive))
            if is_held is None:
                return None
            refusal = self._refusal_of(scope, query) if is_held else _too_many_sessions()
            if refusal is not None:
                return Response.refusing(refusal)
        self._repeats.count(address)
        return self._open_polling(scope, query)

    def _open_polling(self, scope: Scope, query: dict[str, str]) -> Response:
        session = self._new_session(scope, query)
        self._unheard.add(session.sid)
        # A client says once, when it connects, whether it reads binary (b64=1, JSONP: it does not).
        session.supports_binary = not (query.get("b64") or "j" in query)
        listener = self._open_session(session, Handshake.of(scope))
        session.start(listener, None, asyncio.get_running_loop().time())
        # The open packet goes alone: the listener's own packets follow with the first poll.
        response = payload_response(session, query)
        listener.session_started()
        return response

    def _new_session(self, scope: Scope, query: dict[str, str]) -> EngineSession:
        session = EngineSession(self, self.settings.sid_prefix + self.new_sid(), _VERSIONS[query["EIO"]])
        hear_origin(session, origin_of_request(scope, query))
        self.sessions[session.sid] = session
        return session

    # WebSockets

    def _serve_websocket(self, scope: Scope) -> None:
        """Answer an upgrade request. The session hears the transport itself: the ASGI call returns, no task stays."""
        connection: Any = scope["extensions"][EXTENSION]["connection"]
        listener = self._websocket_listener(connection, scope)
        if isinstance(listener, Refusal):
            headers = [(b"content-type", b"application/json"), *listener.headers]
            connection.reject(listener.status, listener.body, headers)
            return
        connection.accept(
            listener,
            max_message_bytes=listener.max_message_bytes,
            max_outbox_bytes=self.settings.max_outbox_bytes,
            # A browser fails a connection whose offer is not answered; all subprotocols are treated alike.
            subprotocol=next(filter(None, scope.get("subprotocols", ())), None),
        )
        if isinstance(listener, EngineSession):
            self.start_on_socket(listener, connection, scope)
        elif isinstance(listener, SpareSocket):
            connection.close()

    def _websocket_listener(
        self, connection: Any, scope: Scope
    ) -> EngineSession | UpgradeProbe | SpareSocket | Refusal:
        query = parse_query(scope.get("query_string", b""))
        refusal = self._refusal_of(scope, query)
        if refusal is not None:
            return refusal
        if "sid" not in query:
            return self._new_session(scope, query)
        session = self.sessions[query["sid"]]
        # The protocol wants the WebSocket that is one too many accepted and closed, not refused.
        return UpgradeProbe(session, connection) if session.offer_socket(connection) else SpareSocket()

    def start_on_socket(self, session: EngineSession, connection: Any, scope: Scope) -> None:
        """Greet the client of a WebSocket that has just been accepted."""
        listener = self._open_session(session, Handshake.of(scope))
        session.start(listener, connection, asyncio.get_running_loop().time())
        listener.session_started()


def _too_many_sessions() -> Refusal:
    refused[TOO_MANY_SESSIONS] += 1
    return Refusal.TOO_MANY_SESSIONS


def _address(scope: Scope) -> str:
    client = scope.get("client")
    return client[0] if client else ""
