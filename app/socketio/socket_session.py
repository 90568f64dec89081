"""The Socket.IO side of one session: its namespaces from CONNECT to disconnect, and whose each packet is.

Synchronous; the application's `connect` runs elsewhere. Knows neither transports nor sites.
"""

from __future__ import annotations

from typing import Any, Protocol

from socketio import packet as socketio_packet

from app.socketio.engine_packet import MalformedPacket
from app.socketio.engine_request import Handshake, parse_query
from app.socketio.engine_session import EngineSession
from app.socketio.socket_connection import ConnectRequest, NamespaceConnection, NamespaceState
from app.socketio.socket_packet import (
    EVENTS,
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
    write_refusal,
)
from app.transport.deadline_wheel import NOT_WAITING, Timed

INVALID_NAMESPACE = "Invalid namespace"


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

    def session_joined(self, session: Timed) -> None:
        """The session has a namespace: it may stay."""

    @property
    def max_payload_bytes(self) -> int:
        """What the attachments of one packet may come to."""


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
            connection = self.namespaces.get(ack[0]) if ack is not None else None
            if ack is not None and connection is not None:
                if connection.phase is NamespaceState.CONNECTED:
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
        elif read.packet_type in EVENTS:
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
