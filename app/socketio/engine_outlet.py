"""The sending half of an Engine.IO session: packets to its WebSocket at once, or to its mailbox for the next poll."""

from __future__ import annotations

from collections.abc import Callable

from app.socketio.engine_mailbox import Mailbox
from app.socketio.engine_packet import BinaryPacket, EncodedPacket, Packet
from app.socketio.engine_ports import FrameSocket, SessionOwner
from app.socketio.engine_state import ENDING, SessionState

OUTBOX_FULL = "outbox full"
_V3_BINARY_MESSAGE = b"\x04"


class EngineOutlet:
    """The session derives from it; lives and ends with the session."""

    __slots__ = (
        "_bytes_read",
        "_bytes_written",
        "_owner",
        "mailbox",
        "max_message_bytes",
        "socket",
        "state",
        "version",
    )

    def __init__(self, owner: SessionOwner, version: int) -> None:
        self._owner = owner
        # Of its requests, and once the WebSocket is given up also of that; -1 is unknown.
        self._bytes_read = self._bytes_written = 0
        self.version = version
        self.state = SessionState.POLLING
        self.socket: FrameSocket | None = None
        """Set while state is WEBSOCKET and only then: the hot path checks nothing else."""
        self.mailbox: Mailbox | None = None
        """Set while requests carry the session."""
        self.max_message_bytes = owner.settings.max_payload_bytes
        """The largest message that is taken; see `limit_message`."""

    @property
    def is_open(self) -> bool:
        """Whether the session may still send and receive."""
        return self.state not in ENDING

    @property
    def buffered_bytes(self) -> int:
        """The bytes in this process that wait for the client."""
        if self.socket is not None:
            return self.socket.buffered_bytes
        return self.mailbox.waiting_bytes if self.mailbox is not None else 0

    def count_bytes(self, read: int, written: int) -> None:
        """Count the body of a request, or of its answer."""
        self._bytes_read += read
        self._bytes_written += written

    def wire_bytes(self) -> tuple[int, int] | None:
        """The bytes of its socket and of the bodies of its requests, read and written; None is unknown."""
        found = (0, 0) if self.socket is None else self.socket.wire_bytes()
        if found is None or self._bytes_read < 0:
            return None
        return self._bytes_read + found[0], self._bytes_written + found[1]

    def _keep_wire_bytes(self) -> None:
        """Keep the count of the socket, which is about to be given up."""
        self._bytes_read, self._bytes_written = self.wire_bytes() or (-1, 0)

    def limit_outbox(self, max_bytes: int) -> None:
        """Bound the waiting bytes from here on, on either transport; until then the server's bound holds."""
        if self.mailbox is not None:
            self.mailbox.max_bytes = max_bytes
        if self.socket is not None:
            self.socket.limit_outbox(max_bytes)

    def limit_message(self, max_bytes: int) -> None:
        """Bound the messages of the client from here on, on either transport."""
        self.max_message_bytes = max_bytes
        if self.socket is not None:
            self.socket.limit_message(max_bytes)

    def send_encoded(self, packet: EncodedPacket) -> None:
        """Send a text packet behind all earlier packets; at once on a WebSocket, else with the next poll."""
        socket = self.socket
        if socket is not None:
            socket.write_frame(packet.frame if self.version == 4 else packet.ascii_frame)
        else:
            self._post(packet)

    @property
    def sender(self) -> Callable[[EncodedPacket], None]:
        """The shortest way of a text packet: `send_encoded`, or from a move to a WebSocket on that WebSocket's own."""
        socket = self.socket
        return self.send_encoded if socket is None or self.version != 4 else socket.write_packet

    def send_binary(self, data: bytes) -> None:
        """Send a binary message behind all earlier packets."""
        if self.socket is not None:
            self.socket.write_binary(data if self.version == 4 else _V3_BINARY_MESSAGE + data)
        else:
            self._post(BinaryPacket(data))

    def close(self, reason: str) -> None:
        """End the session."""
        raise NotImplementedError

    def _post(self, packet: Packet) -> None:
        if self.mailbox is not None and self.is_open and not self.mailbox.add(packet):
            self._owner.outbox_full_total += 1
            self.close(OUTBOX_FULL)
