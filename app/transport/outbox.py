"""The frames that wait for one socket: collected during a turn of the loop, written once at its end, bounded in bytes.

Knows asyncio transports and bytes; nothing of WebSocket states or listeners.
"""

import asyncio
import logging
from collections import Counter
from typing import Protocol

from app.transport.tls_text import tls_of
from app.transport.wire_bytes import wire_bytes

logger = logging.getLogger(__name__)

# With more bytes the frames of one turn do not wait for its end, so that the bound takes effect when it is passed.
_MAX_COLLECTED_BYTES = 1 << 16
# With more waiting bytes asyncio reports the socket as slow; below this no bytes need counting.
_HIGH_WATER_BYTES = 1 << 16

OUTBOX_FULL = "outbox full"

# The closings that this layer decides on, by reason; metrics read it.
closings: Counter[str] = Counter()


class ReadyPacket(Protocol):
    """A packet that many connections share."""

    @property
    def frame(self) -> bytes:
        """Its whole frame."""

    @property
    def ready_frame(self) -> bytes | None:
        """The same; None until `frame` was asked for once."""

    @property
    def is_first(self) -> bool:
        """Whether it is the first of this turn of the loop that many connections share."""


class TurnFlusher:
    """The outboxes of one server that have collected something in this turn; lives as long as the server.

    One callback a turn serves them all, so a message to 10,000 sockets makes no timer or callback per socket.
    """

    __slots__ = ("_outboxes",)

    def __init__(self) -> None:
        self._outboxes: list[Outbox] = []

    def add(self, outbox: "Outbox") -> None:
        """Flush the outbox at the end of this turn."""
        if not self._outboxes:
            asyncio.get_running_loop().call_soon(self._flush)
        self._outboxes.append(outbox)

    def _flush(self) -> None:
        outboxes = self._outboxes
        self._outboxes = []
        for outbox in outboxes:
            try:
                outbox.flush()
            except Exception:
                # A broken socket must not hold back the frames of the others.
                logger.exception("a socket failed in write")


class Outbox(asyncio.Protocol):
    """The sending half of a connection, which derives from it; lives and ends with the connection."""

    __slots__ = (
        "_accepts_frames",
        "_collected",
        "_collected_bytes",
        "_flusher",
        "_is_slow",
        "_limit_bytes",
        "_max_outbox_bytes",
        "_transport",
    )

    def __init__(self, transport: asyncio.Transport, flusher: TurnFlusher) -> None:
        self._transport = transport
        self._flusher = flusher
        self._max_outbox_bytes = 0
        # The bound while the socket is slow: what waited when it became slow is added.
        self._limit_bytes = 0
        self._accepts_frames = False
        # None: not in the flusher's list. bytes: one frame, the common case. list: several, none after an early flush.
        self._collected: bytes | list[bytes] | None = None
        self._collected_bytes = 0
        self._is_slow = False

    def open_outbox(self, max_outbox_bytes: int) -> None:
        """Begin to take frames; when more bytes than this wait, `outbox_overflowed` is called.

        A write that begins while the socket keeps up may itself have that size, and the frames behind it are counted
        apart: a replay of a megabyte to a slow phone is no reason to close.
        """
        self.limit_outbox(max_outbox_bytes)
        self._accepts_frames = True

    def limit_outbox(self, max_bytes: int) -> None:
        """Bound the waiting bytes from here on."""
        self._max_outbox_bytes = self._limit_bytes = max_bytes
        self._transport.set_write_buffer_limits(min(_HIGH_WATER_BYTES, max_bytes))

    @property
    def buffered_bytes(self) -> int:
        """The bytes in this process that wait for the socket (under TLS: without the up to 64 KB in its layer)."""
        collected = self._collected
        waiting = len(collected) if isinstance(collected, bytes) else self._collected_bytes
        return waiting + self._transport.get_write_buffer_size()

    def wire_bytes(self) -> tuple[int, int] | None:
        """The bytes that the socket has read and written so far, until `connection_lost` returns; None is unknown."""
        return wire_bytes(self._transport)

    @property
    def tls(self) -> str | None:
        """The protocol and cipher of the socket; None without TLS."""
        return tls_of(self._transport)

    @property
    def is_slow(self) -> bool:
        """Whether the socket has not taken all written bytes; `resume_writing` ends that."""
        return self._is_slow

    def begin_slow(self) -> None:
        """Count from the first byte: asyncio told the socket's previous owner that it is slow, and tells us the end."""
        self._is_slow = True

    def write_frame(self, frame: bytes) -> None:
        """Let a ready frame leave at the end of this turn, in one write with the others for this socket."""
        if not self._accepts_frames:
            return
        if self._collected is None:
            self._collected = frame
            self._flusher.add(self)
        else:
            self._collect_further(frame)

    def write_packet(self, packet: ReadyPacket) -> None:
        """Let a packet that many share leave at once, if it is the first of this turn and nothing waits before it."""
        frame = packet.ready_frame
        if frame is None:
            frame = packet.frame
        if packet.is_first and self._collected is None and self._accepts_frames and not self._is_slow:
            self._transport.write(frame)
        else:
            self.write_frame(frame)

    def _collect_further(self, frame: bytes) -> None:
        collected = self._collected
        if not isinstance(collected, list):
            collected = [] if collected is None else [collected]
            self._collected = collected
            self._collected_bytes = sum(map(len, collected))
        collected.append(frame)
        self._collected_bytes += len(frame)
        if self._collected_bytes > _MAX_COLLECTED_BYTES:
            self.flush()
            # Still in the flusher's list.
            self._collected = []

    def flush(self) -> None:
        """Write the collected frames to the socket, unless the bound is passed."""
        collected = self._collected
        self._collected = None
        if collected is None:
            return
        if not isinstance(collected, bytes):
            collected = b"".join(collected)
            self._collected_bytes = 0
        if self._is_slow and len(collected) + self._transport.get_write_buffer_size() > self._limit_bytes:
            self.outbox_overflowed()
            return
        if collected:
            self._transport.write(collected)

    def discard_collected(self) -> None:
        """Drop the frames that have not been written; the socket is lost."""
        self._collected = None
        self._collected_bytes = 0

    def pause_writing(self) -> None:
        """Learn that the socket is slow (asyncio calls this above the high-water mark)."""
        self._is_slow = True
        waiting = self._transport.get_write_buffer_size()
        self._limit_bytes = self._max_outbox_bytes + min(waiting, self._max_outbox_bytes)
        if waiting > self._limit_bytes:
            self.outbox_overflowed()

    def resume_writing(self) -> None:
        """Learn that the socket has drained (asyncio calls this)."""
        self._is_slow = False

    def outbox_overflowed(self) -> None:
        """End a connection that has passed its bound."""
        raise NotImplementedError
