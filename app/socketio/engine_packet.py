"""Engine.IO packets as they wait and travel: ready bytes, made once per message and shared by all its receivers.

Knows neither sessions nor sockets.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Protocol

from app.errors import RecadoError
from app.transport.frames import text_frame

_NON_ASCII = re.compile(r"[^\x00-\x7f]")
_PER_PACKET_BYTES = 64
"""The cost of a waiting packet besides its bytes (object and list slot): a million empty ones must pass the bound."""


class MalformedPacket(RecadoError):
    """The packet does not follow the protocol."""

    reason = "parse error"
    """The reason with which the session closes."""


class PacketFlood(MalformedPacket):
    """A client sends more packets than it may."""

    def __init__(self, reason: str) -> None:
        """Take the reason with which the session closes."""
        super().__init__()
        self.reason = reason


class EncodedPacket:
    """A text packet with its leading type digit; made once per message, lives until its last receiver has it.

    `packet` is UTF-8. The other three forms are made at their first use and kept: `frame` is a whole WebSocket text
    frame; `ascii` and `ascii_frame` spell characters outside ASCII as JSON escapes, which all Engine.IO 3 clients read
    alike, whether they expect UTF-8 once (2.x) or twice (1.x).
    """

    __slots__ = ("_ascii", "_ascii_frame", "is_first", "packet", "ready_frame")

    def __init__(self, packet: bytes, is_first: bool = False) -> None:
        """Take the packet's text, e.g. ``b'42/site,17["event",1]'``; see `LiveMessage.is_first`."""
        self.packet = packet
        self.is_first = is_first
        self.ready_frame: bytes | None = None
        """The frame, once it is made: the hot path reads it without a call."""
        self._ascii: bytes | None = None
        self._ascii_frame: bytes | None = None

    @property
    def frame(self) -> bytes:
        """The whole frame."""
        if self.ready_frame is None:
            self.ready_frame = text_frame(self.packet)
        return self.ready_frame

    @property
    def ascii(self) -> bytes:
        """The packet in ASCII."""
        if self._ascii is None:
            self._ascii = escape_non_ascii(self.packet)
        return self._ascii

    @property
    def ascii_frame(self) -> bytes:
        """The whole frame of the packet in ASCII."""
        if self._ascii_frame is None:
            self._ascii_frame = self.frame if self.packet.isascii() else text_frame(self.ascii)
        return self._ascii_frame

    @property
    def waiting_bytes(self) -> int:
        """The size that counts against a session's bound while the packet waits."""
        return len(self.packet) + _PER_PACKET_BYTES


class PacketReceiver(Protocol):
    """An object with a copy of `NamespaceConnection.send_encoded`, which that keeps up to date."""

    send: Callable[[EncodedPacket], None]


class BinaryPacket:
    """A binary message (a Socket.IO attachment); lives until it is written or handed to the listener."""

    __slots__ = ("data",)

    def __init__(self, data: bytes) -> None:
        """Take the message itself, without any prefix."""
        self.data = data

    @property
    def waiting_bytes(self) -> int:
        """The size that counts against a session's bound while the packet waits."""
        return len(self.data) + _PER_PACKET_BYTES


Packet = EncodedPacket | BinaryPacket

CLOSE = EncodedPacket(b"1")
PING = EncodedPacket(b"2")
PONG = EncodedPacket(b"3")
PONG_PROBE = EncodedPacket(b"3probe")
NOOP = EncodedPacket(b"6")


def escape_non_ascii(packet: bytes) -> bytes:
    """Spell characters outside ASCII in the packet's JSON as ``\\uXXXX``; a namespace before it stays as it is."""
    if packet.isascii():
        return packet
    text = packet.decode()
    start = min((at for at in map(text.find, '[{"') if at >= 0), default=len(text))
    return text[:start].encode() + _NON_ASCII.sub(_escape, text[start:]).encode()


def _escape(match: re.Match[str]) -> str:
    code = ord(match[0])
    if code < 0x10000:
        return f"\\u{code:04x}"
    code -= 0x10000
    return f"\\u{0xD800 + (code >> 10):04x}\\u{0xDC00 + (code & 0x3FF):04x}"
