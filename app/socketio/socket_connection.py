"""One namespace of one session, as the application sees it: what is sent, in which order, until which end.

Synchronous; knows neither transports nor sites.
"""

from __future__ import annotations

import enum
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

from socketio import packet as socketio_packet

from app.socketio.engine_packet import EncodedPacket
from app.socketio.engine_request import Headers
from app.socketio.engine_session import EngineSession
from app.socketio.socket_packet import write_connect, write_disconnect, write_packet, write_refusal


@dataclass(slots=True)
class ConnectRequest:
    """What a client brings when it joins a namespace; let go after `connect`. Secrets stay out of its repr."""

    namespace: str
    engine_version: int
    client_address: str
    origin: str | None
    auth: dict[str, Any] | None = field(repr=False)
    packet_query: dict[str, str] = field(repr=False)
    handshake_query: dict[str, str] = field(repr=False)
    headers: Headers = field(repr=False)
    """Those of the handshake; empty once a namespace of this session has been joined."""


class NamespaceState(enum.Enum):
    """Where a namespace connection is."""

    CONNECTING = "the application's connect() decides; what is sent is held back"
    CONNECTED = "the CONNECT packet has been sent"
    CLOSED = "over"


# The hot path compares with a global, not with an attribute of the enum.
_CONNECTED = NamespaceState.CONNECTED


class ConnectionOwner(Protocol):
    """What a connection needs of its session."""

    engine: EngineSession

    def joined(self, connection: NamespaceConnection) -> None:
        """The connection has been confirmed."""

    def remove(self, connection: NamespaceConnection, reason: str) -> None:
        """End the connection and tell the application, once."""


class NamespaceConnection:
    """One namespace of one session; lives from the CONNECT packet until the application has heard `disconnected`."""

    __slots__ = ("_held", "_owner", "application", "namespace", "phase", "session", "sid", "state")

    def __init__(self, owner: ConnectionOwner, namespace: str, sid: str) -> None:
        """Create a connection that is not confirmed yet."""
        self._owner = owner
        self.session: EngineSession = owner.engine
        self.namespace = namespace
        self.sid = sid
        self.phase = NamespaceState.CONNECTING
        self.state: Any = None
        """Free for the application."""
        self.application: Any = None
        """Whose it is, where namespaces have several owners; see `namespace_router`."""
        self._held: list[EncodedPacket | bytes] | None = None

    @property
    def engine_version(self) -> int:
        """The Engine.IO version of the client, 3 or 4."""
        return self.session.version

    @property
    def buffered_bytes(self) -> int:
        """What waits for this client in this process."""
        return self.session.buffered_bytes

    @property
    def is_closed(self) -> bool:
        """Whether nothing can be sent any more."""
        return self.phase is NamespaceState.CLOSED

    def confirm(self) -> None:
        """Send the CONNECT packet, then what was sent before it; no-op unless the connection is being decided on."""
        if self.phase is not NamespaceState.CONNECTING:
            return
        self.phase = NamespaceState.CONNECTED
        self.session.send_encoded(write_connect(self.namespace, self.sid, self.session.version))
        held, self._held = self._held, None
        self._send(held or [])
        self._owner.joined(self)

    def refuse(self, message: str) -> None:
        """Send CONNECT_ERROR with this text instead; the transport stays open for other namespaces."""
        if self.phase is NamespaceState.CONNECTING:
            self.session.send_encoded(write_refusal(self.namespace, message, self.session.version))
            self._owner.remove(self, "connect refused")

    def send_encoded(self, encoded: EncodedPacket) -> None:
        """Send a packet that is shared by many connections: the hot path."""
        if self.phase is _CONNECTED:
            self.session.send_encoded(encoded)
        else:
            self._hold([encoded])

    def send_event(self, event: str, args: Sequence[Any], ack_id: int | None = None) -> None:
        """Send an event to this client alone; bytes among the arguments travel as binary attachments."""
        self._send_or_hold(write_packet(socketio_packet.EVENT, self.namespace, [event, *args], ack_id))

    def send_body(self, body: bytes, ack_id: int | None = None) -> None:
        """Send an event whose JSON (`["event",arg,...]`) is ready; with an id the client is asked for an ack."""
        number = b"" if ack_id is None else str(ack_id).encode()
        self.send_encoded(EncodedPacket(b"42" + self.namespace.encode() + b"," + number + body))

    def send_ack(self, ack_id: int, args: Sequence[Any]) -> None:
        """Answer the client's event that asked for it."""
        self._send_or_hold(write_packet(socketio_packet.ACK, self.namespace, list(args), ack_id))

    def disconnect(self, close_transport: bool = False) -> None:
        """Remove the client from the namespace, behind what was sent; the application hears `disconnected`."""
        if self.phase is not NamespaceState.CLOSED:
            self.session.send_encoded(write_disconnect(self.namespace))
            self._owner.remove(self, "server disconnect")
        if close_transport:
            self.session.close("server disconnect")

    def close(self) -> None:
        """Let nothing be sent any more; called by the session."""
        self.phase = NamespaceState.CLOSED
        self._held = None

    def _send_or_hold(self, parts: list[EncodedPacket | bytes]) -> None:
        if self.phase is _CONNECTED:
            self._send(parts)
        else:
            self._hold(parts)

    def _send(self, parts: list[EncodedPacket | bytes]) -> None:
        for part in parts:
            if isinstance(part, bytes):
                self.session.send_binary(part)
            else:
                self.session.send_encoded(part)

    def _hold(self, parts: list[EncodedPacket | bytes]) -> None:
        if self.phase is NamespaceState.CONNECTING:
            self._held = [*(self._held or ()), *parts]
