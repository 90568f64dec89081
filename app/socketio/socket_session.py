"""The Socket.IO side of one session: its namespaces from CONNECT to disconnect, and the way of each packet to one.

Synchronous; the application's `connect` runs elsewhere. Knows neither transports nor sites.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from functools import lru_cache, partial
from typing import Any, Protocol

from socketio import packet as socketio_packet

from app.socketio.engine_packet import MalformedPacket
from app.socketio.engine_request import Handshake
from app.socketio.engine_session import EngineSession
from app.socketio.newcomers import MAX_BYTES, JoinGate, check_connects
from app.socketio.socket_connection import ConnectRequest, NamespaceConnection, NamespaceState
from app.socketio.socket_packet import (
    MAX_ACK_DIGITS,
    ROOT,
    ClientPacket,
    ConnectPacket,
    Unread,
    add_attachment,
    check_ack,
    read_arguments,
    read_connect,
    read_packet,
    write_connect,
    write_refusal,
)
from app.transport.deadline_wheel import NOT_WAITING, Timed
from app.transport.refusals import NO_NAMESPACE, refused

_logger = logging.getLogger(__name__)

INVALID_NAMESPACE = "Invalid namespace"
UNREAD_AUTH = "The auth of this connect is too long or nested too deeply"
# The look-up of a member in its enum costs more than the comparison.
_CONNECTING, _CONNECTED = NamespaceState.CONNECTING, NamespaceState.CONNECTED
_MAX_KNOWN_BYTES = 125
_MOST_KNOWN = 64
"""The short acks that are remembered: those of the messages that are on their way now."""
_MAX_NAMESPACE_BYTES = 256
"""A longer name is nobody's, and is not said back to the client."""


class SocketOwner(Protocol):
    """The server, as its sessions see it."""

    def accepts_namespace(self, namespace: str) -> bool:
        """Whether any application serves the namespace."""

    def start_connect(self, connection: NamespaceConnection, request: ConnectRequest) -> None:
        """Give the client to an application, and run that application's connect() as a task."""

    def new_sid(self) -> str:
        """Make an unguessable id."""

    def refuse(self, address: str, answer: Callable[[], None]) -> None:
        """Give a client its refusal, late if its address is refused again and again."""

    def event_received(self, connection: NamespaceConnection, arguments: list[Any], ack_id: int | None) -> None:
        """Tell the application of an event; `arguments` begins with its name."""

    def disconnected(self, connection: NamespaceConnection, reason: str) -> None:
        """Tell the application of the end."""

    def session_joined(self, session: Timed) -> None:
        """Note that the session may stay, or is over: it has no deadline any more."""

    def session_left(self, session: Timed) -> None:
        """Note that the session is in no site: it has to join one in time."""

    def waited_ms(self, session: Timed) -> int | None:
        """The time that a session has been in no site; None: it is in one."""

    def count_newcomer(self, address: str, by: int) -> None:
        """Count a session that is in no site and asks for none, or count it no longer."""

    @property
    def max_payload_bytes(self) -> int:
        """The bound for a message, and for the attachments of one packet together, of a session in a site."""

    @property
    def max_outbox_bytes(self) -> int:
        """The bound for the bytes that wait for a client, until an application sets another."""


class SocketSession:
    """The listener of one Engine.IO session; lives as long as that."""

    __slots__ = (
        "_attachment_bytes",
        "_handshake",
        "_is_counted",
        "_is_late",
        "_joined",
        "_owner",
        "_partial",
        "_to_pass_over",
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
        """The namespace joined last: nearly every packet that arrives is an ack of it."""
        self._partial: ClientPacket | None = None
        self._attachment_bytes = 0
        self._to_pass_over = 0
        """The attachments still to come of a packet that nobody reads."""
        self._is_counted = False
        """Whether the session counts as a newcomer of its address."""
        self._is_late = False
        """Whether its deadline has passed once, while an application decided."""
        self.engine = engine
        self.namespaces: dict[str, NamespaceConnection] = {}
        self.bucket = NOT_WAITING
        self.deadline = 0.0

    @property
    def client_address(self) -> str:
        """The address of the client; "" when it is unknown."""
        return self._handshake.client_address

    # Called by the Engine.IO session

    def session_started(self) -> None:
        """Bound the newcomer. Version 3 clients are in the root namespace without asking."""
        self.engine.limit_message(min(MAX_BYTES, self._owner.max_payload_bytes))
        self.engine.limit_outbox(min(MAX_BYTES, self._owner.max_outbox_bytes))
        self._settle()
        if self.engine.version == 3:
            self._connect(ConnectPacket(ROOT, {}, None, has_comma=False))

    def message_received(self, packet: bytes) -> None:
        """Handle one packet. Acks, by far the most frequent, are recognised by their first bytes."""
        ack = read_known_ack(packet) if len(packet) <= _MAX_KNOWN_BYTES else read_ack(packet)
        if ack is not None:
            namespace, ack_id = ack
            joined = self._joined
            # Most sessions have one namespace: its name need not be looked up.
            if joined is not None and joined.namespace == namespace:
                try:
                    joined.ack_received(ack_id)
                except Exception:
                    _logger.exception("an ack could not be handled")
                return
            if namespace in self.namespaces:
                self._ack_received(self.namespaces[namespace], ack_id)
                return
        self._packet_received(packet)

    def binary_received(self, data: bytes) -> None:
        """Add an attachment to the packet that announced it."""
        read = self._partial
        if self._to_pass_over:
            self._to_pass_over -= 1
            return
        self._attachment_bytes += len(data)
        if read is None or self._attachment_bytes > self.engine.max_message_bytes:
            raise MalformedPacket
        if add_attachment(read, data):
            self._partial = None
            self._dispatch(read)

    def sender_changed(self) -> None:
        """Give the namespaces the other way."""
        for connection in self.namespaces.values():
            connection.sender_changed()

    def session_closed(self, reason: str) -> None:
        """End all namespaces."""
        self._partial = None
        for connection in list(self.namespaces.values()):
            self.remove(connection, reason)
        self._owner.session_joined(self)  # cancels the time-out
        self._count(False)

    # Called by namespace connections

    def joined(self, connection: NamespaceConnection) -> None:
        """Note that a namespace has been joined. One that holds the session lifts the bounds of a newcomer."""
        self._joined = connection
        engine = self.engine
        if connection.holds_session and engine.listener is not None:
            engine.listener = self
            engine.allowance = None
            engine.limit_message(self._owner.max_payload_bytes)
            self._owner.session_joined(self)
        self._settle()

    def remove(self, connection: NamespaceConnection, reason: str) -> None:
        """Remove a namespace connection, once."""
        if connection.is_closed:
            return
        connection.close()
        if self._joined is connection:
            self._joined = None
        if self.namespaces.get(connection.namespace) is connection:
            del self.namespaces[connection.namespace]
        self._owner.disconnected(connection, reason)
        if self.engine.listener is self and not self._holding():
            self.engine.listener = JoinGate(self.engine, self)
            self._is_late = False
            self._owner.session_left(self)
        self._settle()

    def leave(self, connection: NamespaceConnection, reason: str, *, is_final: bool) -> None:
        """Take the client out of a namespace. Where it may come back its transport closes, because a client connects
        again after that and not after a DISCONNECT; a transport that it shares with other namespaces stays."""
        if connection.phase is _CONNECTING and is_final:
            connection.refuse(INVALID_NAMESPACE)
        elif is_final or any(other.holds_session for other in self.namespaces.values() if other is not connection):
            connection.disconnect(reason=reason)
        else:
            self.engine.close(reason)

    def deadline_passed(self, now: float) -> None:
        """Close a session that has joined no site in time; a connect() that still runs has the same time once more."""
        if not self._is_late and self._connecting():
            self._is_late = True
            self._owner.session_left(self)
        else:
            refused[NO_NAMESPACE] += 1
            self.engine.close(NO_NAMESPACE)

    def _holding(self) -> bool:
        return any(c.holds_session and c.phase is _CONNECTED for c in self.namespaces.values())

    def _connecting(self) -> int:
        return sum(connection.phase is _CONNECTING for connection in self.namespaces.values())

    def _settle(self) -> None:
        """Count the session as a newcomer while it is in no site and asks for none."""
        is_newcomer = self.engine.listener is not None
        for connection in self.namespaces.values():
            if connection.phase is _CONNECTING or (connection.holds_session and connection.phase is _CONNECTED):
                is_newcomer = False
        self._count(is_newcomer)

    def _count(self, is_newcomer: bool) -> None:
        if is_newcomer is not self._is_counted:
            self._is_counted = is_newcomer
            self._owner.count_newcomer(self.client_address, 1 if is_newcomer else -1)

    # Packets

    def _packet_received(self, packet: bytes) -> None:
        if self._partial is not None or self._to_pass_over:
            raise MalformedPacket  # the attachments of the packet before have to come first
        if packet[:2] == b"40":
            self._connect(read_connect(packet))
            return
        read = read_packet(packet)
        if read.namespace not in self.namespaces:
            # The client has just been removed from the namespace, or never was in it.
            self._to_pass_over = read.attachments_due
        elif read.attachments_due:
            self._partial = read
            self._attachment_bytes = 0
        else:
            self._dispatch(read)

    def _dispatch(self, read: ClientPacket) -> None:
        connection = self.namespaces.get(read.namespace)
        if connection is None:
            return  # the client has just been removed from the namespace
        if read.packet_type == socketio_packet.DISCONNECT:
            self.remove(connection, "client disconnect")
        elif read.is_event:
            self._event_received(connection, read)
        else:
            check_ack(read)
            if read.id is not None:
                self._ack_received(connection, read.id)

    def _event_received(self, connection: NamespaceConnection, read: ClientPacket) -> None:
        if connection.phase is not _CONNECTED:
            return
        try:
            arguments = read_arguments(read)
        except Unread:
            return
        if arguments is not None:
            self._owner.event_received(connection, arguments, read.id)

    def _ack_received(self, connection: NamespaceConnection, ack_id: int) -> None:
        if connection.phase is _CONNECTED:
            try:
                connection.ack_received(ack_id)
            except Exception:
                _logger.exception("an ack could not be handled")

    def _connect(self, packet: ConnectPacket) -> None:
        namespace = packet.namespace
        if self.engine.version == 3 and packet.has_comma:
            self.engine.is_encoded_twice = False
        if namespace in self.namespaces:
            return  # clients of both versions may ask twice when their connect() is called twice
        if not self._owner.accepts_namespace(namespace):
            self._answer_unknown(namespace)
            return
        if packet.is_unread:
            self.engine.send_encoded(write_refusal(namespace, UNREAD_AUTH, self.engine.version))
            return
        check_connects(self._connecting() if self.namespaces else 0)
        version = self.engine.version
        connection = NamespaceConnection(self, namespace, self._sid_for(namespace))
        handshake = self._handshake
        request = ConnectRequest(
            namespace=namespace,
            engine_version=version,
            client_address=handshake.client_address,
            user_agent=handshake.user_agent,
            origins=self.engine.origins,
            auth=packet.auth,
            packet_query=packet.query,
            handshake_query=handshake.query,
            tls=handshake.tls,
            waited_ms=self._owner.waited_ms(self),
        )
        # It raises when too many are under way, and begins nothing within this call.
        self._owner.start_connect(connection, request)
        self.namespaces[namespace] = connection
        self._settle()

    def _answer_unknown(self, namespace: str) -> None:
        if namespace == ROOT and self.engine.version == 3:
            # Old clients report the transport as open only when they are in the root namespace, served or not.
            self.engine.send_encoded(write_connect(ROOT, "", 3))
        elif len(namespace) <= _MAX_NAMESPACE_BYTES:
            refusal = write_refusal(namespace, INVALID_NAMESPACE, self.engine.version)
            self._owner.refuse(self.client_address, partial(self.engine.send_encoded, refusal))

    def _sid_for(self, namespace: str) -> str:
        """Version 3 clients derive the id from the session's, so the server must do the same."""
        if self.engine.version == 4:
            return self._owner.new_sid()
        return self.engine.sid if namespace == ROOT else f"{namespace}#{self.engine.sid}"


def read_ack(packet: bytes) -> tuple[str, int] | None:
    """Recognise ``43/ns,17[...]`` or ``4317[...]`` without reading the arguments; None: another form."""
    if packet[:2] != b"43":
        return None
    comma = packet.find(b",") if packet[2:3] == b"/" else -1
    start = comma + 1 if comma > 0 else 2
    bracket = packet.find(b"[", start, start + MAX_ACK_DIGITS + 1)
    # An ack without arguments ends behind its id.
    digits = packet[start:bracket] if bracket > 0 else packet[start : start + MAX_ACK_DIGITS + 1]
    if not digits.isdigit() or len(digits) > MAX_ACK_DIGITS:
        return None
    return packet[2:comma].decode() if comma > 0 else ROOT, int(digits)


read_known_ack = lru_cache(maxsize=_MOST_KNOWN)(read_ack)
"""The same for a short packet. Many clients acknowledge a message with one text."""
