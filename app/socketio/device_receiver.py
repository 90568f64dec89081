"""The way by which the core writes to a connection of a device over Socket.IO: messages that ask for an ack, `_batch`,
`_resync`, `_withdraw`. Knows no protocol; several use it."""

from collections.abc import Callable, Sequence
from typing import Protocol

import msgspec

from app.core.connection import Connection, ConnectionPhase
from app.core.live import ConnectionFacts, Measures
from app.core.message import LiveMessage
from app.core.seat import NO_SEAT
from app.socketio.engine_packet import EncodedPacket, PacketReceiver


class LinkSession(Protocol):
    """The session that carries a link; see `EngineSession`."""

    @property
    def answers_ahead(self) -> bool:
        """Whether its client answers a ping ahead of what it has written before."""

    def close(self, reason: str) -> None:
        """Ends the transport."""

    def confirm_receipt(self, received: Callable[[], None]) -> None:
        """Calls back once the client has everything that was sent before."""

    def wire_bytes(self) -> tuple[int, int] | None:
        """The bytes read and written."""

    def limit_outbox(self, max_bytes: int) -> None:
        """Bounds what may wait for the client."""


class DeviceLink(Protocol):
    """One namespace of one client, as it is written to; see `NamespaceConnection`."""

    send_encoded: Callable[[EncodedPacket], None]
    receiver: PacketReceiver | None

    @property
    def session(self) -> LinkSession:
        """Its session."""

    @property
    def transport(self) -> str:
        """The transport, as its query names it."""

    @property
    def buffered_bytes(self) -> int:
        """The bytes in this process that wait for the client."""


class DeviceReceiver:
    """One connection of a device; `Receiver` of the ports. Lives as long as the connection."""

    __slots__ = (
        "_link",
        "_prefix",
        "_with_ack",
        "connection",
        "device_id",
        "facts",
        "seat",
        "send",
    )

    def __init__(self, link: DeviceLink, prefix: bytes, with_ack: bool) -> None:
        """`prefix` is `42/<site>,`; `with_ack` says whether messages ask for an ack."""
        self._link = link
        self._prefix = prefix
        self._with_ack = with_ack
        #: Writes an encoded packet. The hot path: runs once for each delivery. Changes with the link's state.
        self.send = link.send_encoded
        link.receiver = self
        self.connection: Connection | None = None
        self.seat = NO_SEAT
        #: The device in log lines.
        self.device_id = ""
        #: Only with a journal, once the client is in.
        self.facts: ConnectionFacts | None = None

    def encode(self, message: LiveMessage) -> EncodedPacket:
        """The packet of a message; the site's seq is its ack id, so one packet serves every recipient."""
        ack_id = str(message.seq).encode() if self._with_ack else b""
        return EncodedPacket(self._prefix + ack_id + message.body, message.is_first)

    def send_batch(self, batch_id: int, entries: Sequence[tuple[int, bytes]]) -> None:
        """Writes a `_batch`."""
        bodies = b",".join([body for _, body in entries])
        parts = (self._prefix, str(batch_id).encode(), b'["_batch",[', bodies, b"]]")
        self.send(EncodedPacket(b"".join(parts)))

    def send_withdrawn(self, id: str) -> None:
        """Writes a `_withdraw`."""
        self.send(EncodedPacket(self._prefix + msgspec.json.encode(["_withdraw", {"id": id}])))

    def send_whisper(self, body: bytes) -> None:
        """Writes an event without an ack."""
        self.send(EncodedPacket(self._prefix + body))

    def send_resync(self, received: Callable[[], None], is_repeat: bool) -> None:
        """Writes a `_resync`. Clients cannot acknowledge it: it has no arguments, and a callback would be one.

        Receipts are asked for before and behind it. A client that had left the site before the `_resync` answers both,
        but its DISCONNECT arrives before the first answer. (A client that leaves because of it leaves after that.)
        Where answers run ahead, that DISCONNECT may still wait for the end of an earlier write: it comes before the
        answer to one more ping, sent after the others. A repeated `_resync` has no such ping: a page that reloads on
        each, faster than that, would do so for ever.
        """
        session, connection = self._link.session, self.connection
        if connection is None:
            return  # the client has left
        was_here: list[bool] = []

        def look() -> None:
            was_here.append(connection.phase is not ConnectionPhase.CLOSED)

        def settle() -> None:
            if was_here[-1]:
                received()

        def look_and_settle() -> None:
            look()
            settle()

        session.confirm_receipt(look)
        self.send(EncodedPacket(self._prefix + b'["_resync"]'))
        is_sure = is_repeat or not session.answers_ahead
        session.confirm_receipt(settle if is_sure else lambda: session.confirm_receipt(look_and_settle))

    @property
    def live_id(self) -> str:
        """The number of its connection; see `LiveConnection`."""
        return str(self.connection.number) if self.connection is not None else ""

    def measures(self) -> Measures:
        """Measures it; see `LiveConnection`."""
        connection, link = self.connection, self._link
        read, written = link.session.wire_bytes() or (None, None)
        if connection is None:
            return Measures(link.transport, read, written)
        sync_ms = connection.sync_ms if connection.sync_ms >= 0 else None
        counted = (connection.messages, connection.replay, sync_ms)
        return Measures(link.transport, read, written, *counted, link.buffered_bytes)

    def disconnect(self, reason: str) -> None:
        """Ends it; see `LiveConnection`."""
        self.close(reason)

    def close(self, reason: str) -> None:
        """Closes the transport. A Socket.IO client then reconnects by itself, which it does not after a DISCONNECT."""
        self._link.session.close(reason)
