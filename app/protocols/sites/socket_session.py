"""The Socket.IO side of one session: its namespaces, from CONNECT to disconnect, and the order of what is sent.

Synchronous but for the application's `connect`, which runs as one task; knows neither transports nor sites.
"""

from __future__ import annotations

import enum
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

from socketio import packet as socketio_packet

from app.protocols.sites.deadline_wheel import NOT_WAITING
from app.protocols.sites.engine_packet import EncodedPacket, MalformedPacket
from app.protocols.sites.engine_request import Handshake, Headers, parse_query
from app.protocols.sites.engine_session import EngineSession
from app.protocols.sites.socket_packet import (
    ROOT,
    WITH_ATTACHMENTS,
    ConnectPacket,
    ack_prefix,
    add_attachment,
    read_ack,
    read_ack_id,
    read_connect,
    read_packet,
    write_connect,
    write_disconnect,
    write_packet,
    write_refusal,
)

INVALID_NAMESPACE = "Invalid namespace"


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


class SocketOwner(Protocol):
    """What a session needs of its server."""

    def accepts_namespace(self, namespace: str) -> bool:
        """Whether the application has such a namespace."""

    def start_connect(self, connection: NamespaceConnection, request: ConnectRequest) -> None:
        """Run the application's connect() as a task."""

    def new_sid(self) -> str:
        """Make an unguessable id."""

    def event_received(self, connection: NamespaceConnection, arguments: list[Any], ack_id: int | None) -> None:
        """Tell the application of an event; `arguments` begins with its name."""

    def ack_received(self, connection: NamespaceConnection, ack_id: int) -> None:
        """Tell the application of an ack."""

    def disconnected(self, connection: NamespaceConnection, reason: str) -> None:
        """Tell the application of the end."""

    def session_joined(self, session: SocketSession) -> None:
        """The session has a namespace: it may stay."""

    @property
    def max_payload_bytes(self) -> int:
        """What the attachments of one packet may come to."""


class NamespaceConnection:
    """One namespace of one session; lives from the CONNECT packet until the application has heard `disconnected`."""

    __slots__ = ("_held", "_owner", "namespace", "phase", "session", "sid", "state")

    def __init__(self, owner: SocketSession, namespace: str, sid: str) -> None:
        """Create a connection that is not confirmed yet."""
        self._owner = owner
        self.session: EngineSession = owner.engine
        self.namespace = namespace
        self.sid = sid
        self.phase = NamespaceState.CONNECTING
        self.state: Any = None
        """Free for the application."""
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


class SocketSession:
    """The listener of one Engine.IO session; lives as long as that."""

    __slots__ = (
        "_ack_prefix",
        "_attachment_bytes",
        "_handshake",
        "_joined",
        "_owner",
        "_partial",
        "bucket",
        "deadline",
        "engine",
        "namespaces",
    )

    def __init__(self, owner: SocketOwner, engine: EngineSession, handshake: Handshake) -> None:
        """Bind to a session that has not started yet."""
        self._owner = owner
        self._handshake = handshake
        self._joined: NamespaceConnection | None = None
        """The namespace joined last, with the beginning of its acks: the way of nearly all that arrives."""
        self._ack_prefix = b""
        self._partial: Any = None
        self._attachment_bytes = 0
        self.engine = engine
        self.namespaces: dict[str, NamespaceConnection] = {}
        self.bucket = NOT_WAITING
        self.deadline = 0.0

    # What the Engine.IO session tells

    def session_started(self) -> None:
        """Version 3 clients are in the root namespace without asking."""
        if self.engine.version == 3:
            self._connect(ConnectPacket(ROOT, {}, None, has_comma=False))

    def message_received(self, packet: bytes) -> None:
        """Handle one packet; acks, by far the most, are known by their first bytes."""
        joined = self._joined
        if joined is not None and packet.startswith(self._ack_prefix):
            # Mostly there is but one namespace: no need to look for its name.
            start = len(self._ack_prefix)
            ack_id = read_ack_id(packet, start)
            if ack_id is not None:
                self._owner.ack_received(joined, ack_id)
                return
        if packet[:2] == b"43":
            ack = read_ack(packet)
            if ack is not None:
                connection = self.namespaces.get(ack[0])
                if connection is not None and connection.phase is _CONNECTED:
                    self._owner.ack_received(connection, ack[1])
                return
        self._packet_received(packet)

    def binary_received(self, data: bytes) -> None:
        """Add an attachment to the packet that announced it."""
        read = self._partial
        self._attachment_bytes += len(data)
        if read is None or self._attachment_bytes > self._owner.max_payload_bytes:
            raise MalformedPacket
        if add_attachment(read, data):
            self._partial = None
            self._dispatch(read)

    def session_closed(self, reason: str) -> None:
        """End all namespaces."""
        self._partial = None
        self._owner.session_joined(self)  # it need not be waited for any more
        for connection in list(self.namespaces.values()):
            self.remove(connection, reason)

    # What namespace connections tell

    def joined(self, connection: NamespaceConnection) -> None:
        """A namespace has been joined: the handshake's headers have served."""
        self._joined = connection
        self._ack_prefix = ack_prefix(connection.namespace)
        self._handshake.headers = []
        self._owner.session_joined(self)

    def remove(self, connection: NamespaceConnection, reason: str) -> None:
        """Take a namespace connection out, once."""
        if connection.is_closed:
            return
        connection.close()
        if self._joined is connection:
            self._joined = None
        if self.namespaces.get(connection.namespace) is connection:
            del self.namespaces[connection.namespace]
        self._owner.disconnected(connection, reason)

    def deadline_passed(self, now: float) -> None:
        """No namespace was joined in time; one that is being decided on counts."""
        if not self.namespaces:
            self.engine.close("no namespace joined")

    # Packets

    def _packet_received(self, packet: bytes) -> None:
        if self._partial is not None:
            raise MalformedPacket  # its attachments have to come first
        if packet[:2] == b"40":
            self._connect(read_connect(packet))
            return
        read = read_packet(packet)
        if read.packet_type in WITH_ATTACHMENTS:
            self._partial = read
            self._attachment_bytes = 0
        else:
            self._dispatch(read)

    def _dispatch(self, read: Any) -> None:
        connection = self.namespaces.get(read.namespace)
        if connection is None:
            return  # it has just been removed from there
        if read.packet_type == socketio_packet.DISCONNECT:
            self.remove(connection, "client disconnect")
        elif connection.phase is not NamespaceState.CONNECTED:
            return
        elif read.packet_type in (socketio_packet.EVENT, socketio_packet.BINARY_EVENT):
            self._owner.event_received(connection, read.data, read.id)
        else:
            self._owner.ack_received(connection, read.id)

    def _connect(self, packet: ConnectPacket) -> None:
        namespace = packet.namespace
        if self.engine.version == 3 and packet.has_comma:
            self.engine.is_encoded_twice = False
        if namespace in self.namespaces:
            return  # both generations of clients may ask twice when connect() is called twice
        if not self._owner.accepts_namespace(namespace):
            self._answer_unknown(namespace)
            return
        version = self.engine.version
        connection = NamespaceConnection(self, namespace, self._sid_for(namespace))
        self.namespaces[namespace] = connection
        handshake = self._handshake
        request = ConnectRequest(
            namespace=namespace,
            engine_version=version,
            client_address=handshake.client_address,
            origin=handshake.origin,
            auth=packet.auth,
            packet_query=packet.query,
            handshake_query=parse_query(handshake.query_string),
            headers=handshake.headers,
        )
        self._owner.start_connect(connection, request)

    def _answer_unknown(self, namespace: str) -> None:
        if namespace == ROOT and self.engine.version == 3:
            # Old clients take the transport for open only when they are in the root namespace, whoever lives there.
            self.engine.send_encoded(write_connect(ROOT, "", 3))
            self._owner.session_joined(self)
        else:
            self.engine.send_encoded(write_refusal(namespace, INVALID_NAMESPACE, self.engine.version))

    def _sid_for(self, namespace: str) -> str:
        """Version 3 clients know their id without being told: it is made of the session's."""
        if self.engine.version == 4:
            return self._owner.new_sid()
        return self.engine.sid if namespace == ROOT else f"{namespace}#{self.engine.sid}"
