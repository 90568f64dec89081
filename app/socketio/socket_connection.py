"""The application's view of Socket.IO: the interface that an application implements, and one namespace of one client.

Synchronous except for `connect`. Knows neither transports nor sites.
"""

from __future__ import annotations

import enum
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

from socketio import packet as socketio_packet

from app.digests import digest
from app.errors import RecadoError
from app.socketio.engine_packet import EncodedPacket, PacketReceiver
from app.socketio.engine_session import EngineSession
from app.socketio.socket_packet import (
    namespace_prefix,
    write_connect,
    write_disconnect,
    write_packet,
    write_refusal,
)

_LOGGED_DIGITS = 16


class ConnectRefused(RecadoError):
    """Connection refused"""


@dataclass(slots=True)
class ConnectRequest:
    """The credentials and circumstances of a client that joins a namespace; released after `connect`.

    Its repr hides secrets.
    """

    namespace: str
    engine_version: int
    client_address: str
    user_agent: str
    origins: tuple[str, ...]
    """The origins that the session's requests have told; none: the client is no browser, as far as one can tell."""
    auth: dict[str, Any] | None = field(repr=False)
    packet_query: dict[str, str] = field(repr=False)
    handshake_query: dict[str, str] = field(repr=False)
    tls: str | None = None
    """The protocol and cipher of the request that opened the session; None without TLS at this server."""
    waited_ms: int | None = None
    """The time since the begin of the session; None: it has joined a namespace before."""


class SocketApplication(Protocol):
    """A protocol behind the Socket.IO server; one object serves all its connections."""

    def accepts_namespace(self, namespace: str) -> bool:
        """Whether the application serves this namespace; clients of any other are told `Invalid namespace`."""

    def claims(self, request: ConnectRequest) -> bool:
        """Whether the client belongs to this application; asked only for a namespace that several applications serve.

        The first application that claims the client gets it (see `NamespaceRouter`).
        """

    async def connect(self, connection: NamespaceConnection, request: ConnectRequest) -> None:
        """Decide on a client. Each call is a task of its own; reading from the client goes on meanwhile.

        `connection.confirm()` sends the CONNECT packet; a normal return does the same. Packets sent earlier are held
        until then. Raise ConnectRefused(message) to refuse. The connection may close while this runs: check
        `is_closed`. Until the session's `limit_outbox` is called, little may wait for it.
        """

    def event_received(self, connection: NamespaceConnection, event: str, args: list[Any], ack_id: int | None) -> None:
        """Handle an event of the client; with an `ack_id` the client waits for `connection.send_ack`."""

    def ack_received(self, connection: NamespaceConnection, ack_id: int) -> None:
        """Handle an ack of the client; its arguments are dropped.

        `connect` may set `connection.ack_received` to a shorter way; then this method is not called.
        """

    def disconnected(self, connection: NamespaceConnection, reason: str) -> None:
        """Handle the end of a connection for which `connect` was called or is due.

        Called exactly once, also if `connect` refused or still runs.
        """


class NamespaceState(enum.Enum):
    """The life of a namespace connection."""

    CONNECTING = "the application's connect() decides; packets are held"
    CONNECTED = "the CONNECT packet has been sent"
    CLOSED = "over"


class ConnectionOwner(Protocol):
    """The session, as its namespace connections see it."""

    engine: EngineSession

    def joined(self, connection: NamespaceConnection) -> None:
        """Note that the connection has been confirmed."""

    def remove(self, connection: NamespaceConnection, reason: str) -> None:
        """End the connection and tell the application, once."""


class NamespaceConnection:
    """One namespace of one session; lives from the CONNECT packet until the application has heard `disconnected`."""

    __slots__ = (
        "_held",
        "_owner",
        "ack_received",
        "application",
        "holds_session",
        "namespace",
        "phase",
        "receiver",
        "send_encoded",
        "session",
        "sid",
        "state",
    )

    def __init__(self, owner: ConnectionOwner, namespace: str, sid: str) -> None:
        """Create a connection that is not confirmed yet."""
        self._owner = owner
        self.session: EngineSession = owner.engine
        self.namespace = namespace
        self.sid = sid
        self.holds_session = True
        """Whether the session may stay for this namespace. An application denies it where nothing happens, and to a
        client that has not shown who it is; see `hold_session`."""
        self.phase = NamespaceState.CONNECTING
        self.state: Any = None
        """Free for the application."""
        self.application: SocketApplication
        """The application that serves this client; set before its `connect` is called."""
        self.ack_received: Callable[[int], None] = _ignore_ack
        """The hot path of acks: called with each ack id; `application.ack_received` unless `connect` sets another."""
        self.send_encoded: Callable[[EncodedPacket], None] = self._hold_encoded
        """The hot path of messages: sends a packet that many connections share. It holds packets until `confirm`,
        which replaces it by the session's `sender`; `receiver` has a copy."""
        self.receiver: PacketReceiver | None = None
        """Where an application keeps a copy of `send_encoded` for the hot path."""
        self._held: list[EncodedPacket | bytes] | None = None

    @property
    def log_name(self) -> str:
        """The connection in log lines. In version 3 the id is made of the session's, which is a secret."""
        return self.sid if self.session.version == 4 else f"#{digest(self.sid).hex()[:_LOGGED_DIGITS]}"

    @property
    def engine_version(self) -> int:
        """The Engine.IO version of the client, 3 or 4."""
        return self.session.version

    @property
    def transport(self) -> str:
        """The transport that carries the session, or did at its end, as its query names it."""
        return "websocket" if self.session.mailbox is None else "polling"

    @property
    def buffered_bytes(self) -> int:
        """The bytes in this process that wait for the client."""
        return self.session.buffered_bytes

    @property
    def is_closed(self) -> bool:
        """Whether nothing can be sent any more."""
        return self.phase is NamespaceState.CLOSED

    def confirm(self) -> None:
        """Send the CONNECT packet, then the held packets; no-op unless the connection is CONNECTING."""
        if self.phase is not NamespaceState.CONNECTING:
            return
        self.phase = NamespaceState.CONNECTED
        # Before the first write, which may close the session and with it this connection.
        self._send_by(self.session.sender)
        held, self._held = self._held, None
        self.session.send_encoded(write_connect(self.namespace, self.sid, self.session.version))
        self._send(held or [])
        self._owner.joined(self)

    def hold_session(self) -> None:
        """Let the session stay for this namespace from here on: the client has shown who it is."""
        self.holds_session = True
        if self.phase is NamespaceState.CONNECTED:
            self._owner.joined(self)

    def refuse(self, message: str) -> None:
        """Send CONNECT_ERROR with this text instead; the transport stays open for other namespaces."""
        if self.phase is NamespaceState.CONNECTING:
            self.session.send_encoded(write_refusal(self.namespace, message, self.session.version))
            self._owner.remove(self, "connect refused")

    def send_event(self, event: str, args: Sequence[Any], ack_id: int | None = None) -> None:
        """Send an event to this client alone; bytes among the arguments travel as binary attachments."""
        self._send_or_hold(write_packet(socketio_packet.EVENT, self.namespace, [event, *args], ack_id))

    def send_body(self, body: bytes, ack_id: int | None = None) -> None:
        """Send an event whose JSON (`["event",arg,...]`) is ready; with an id the client is asked for an ack."""
        number = b"" if ack_id is None else str(ack_id).encode()
        self.send_encoded(EncodedPacket(b"42" + self.namespace.encode() + b"," + number + body))

    def send_ack(self, ack_id: int, args: Sequence[Any]) -> None:
        """Answer an event of the client that asked for an ack."""
        self._send_or_hold(write_packet(socketio_packet.ACK, self.namespace, list(args), ack_id))

    def send_ack_body(self, ack_id: int, body: bytes) -> None:
        """Answer an event with arguments whose JSON (`[arg,...]`) is ready."""
        prefix = f"43{namespace_prefix(self.namespace)}{ack_id}"
        self._send_or_hold([EncodedPacket(prefix.encode() + body)])

    def disconnect(self, close_transport: bool = False, reason: str = "server disconnect") -> None:
        """Remove the client from the namespace, behind earlier packets; the application hears `disconnected`."""
        if self.phase is not NamespaceState.CLOSED:
            self.session.send_encoded(write_disconnect(self.namespace))
            self._owner.remove(self, reason)
        if close_transport:
            self.session.close("server disconnect")

    def close(self) -> None:
        """Drop every later packet and ack; called by the session."""
        self.phase = NamespaceState.CLOSED
        self._send_by(_drop)
        self.receiver = None
        self.ack_received = _ignore_ack
        self._held = None

    def sender_changed(self) -> None:
        """Take the session's other way of packets; called by the session."""
        if self.phase is NamespaceState.CONNECTED:
            self._send_by(self.session.sender)

    def _send_by(self, send: Callable[[EncodedPacket], None]) -> None:
        self.send_encoded = send
        if self.receiver is not None:
            self.receiver.send = send

    def _send_or_hold(self, parts: list[EncodedPacket | bytes]) -> None:
        if self.phase is NamespaceState.CONNECTED:
            self._send(parts)
        elif self.phase is NamespaceState.CONNECTING:
            self._held = [*(self._held or ()), *parts]

    def _send(self, parts: list[EncodedPacket | bytes]) -> None:
        for part in parts:
            if isinstance(part, bytes):
                self.session.send_binary(part)
            else:
                self.session.send_encoded(part)

    def _hold_encoded(self, encoded: EncodedPacket) -> None:
        self._send_or_hold([encoded])


def _drop(_encoded: EncodedPacket) -> None:
    """A closed connection sends nothing."""


def _ignore_ack(_ack_id: int) -> None:
    """A connection without an application, or a closed one, waits for no ack."""
