"""The interfaces between an Engine.IO session and its server, its socket and its listener. No behaviour."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from typing import Protocol

from app.socketio.engine_packet import EncodedPacket
from app.transport.deadline_wheel import DeadlineWheel


@dataclass(frozen=True, slots=True)
class EngineSettings:
    """The settings of all sessions of one server; lives as long as the server."""

    ping_interval_seconds: float = 25.0
    ping_timeout_seconds: float = 20.0
    max_payload_bytes: int = 1_000_000
    """The largest request body and WebSocket message taken from a client."""
    max_outbox_bytes: int = 1_000_000
    """The bytes that may wait for one client before it is closed; a single packet may be larger."""
    sid_prefix: str = ""
    """The first characters of every session id, by which other nodes find the session's owner."""
    readable_origins: Collection[str] | None = None
    """The origins whose pages may read the answers to polling requests; None: any."""


class FrameSocket(Protocol):
    """A WebSocket as the transport offers it; no method raises, all are no-ops after the close."""

    @property
    def buffered_bytes(self) -> int:
        """The bytes in this process that wait for the socket."""

    def wire_bytes(self) -> tuple[int, int] | None:
        """The bytes that the socket has read and written so far; None is unknown."""

    def write_frame(self, frame: bytes) -> None:
        """Send a ready, unmasked text frame."""

    def write_packet(self, packet: EncodedPacket) -> None:
        """Send the frame of a text packet, at once if it is the first of its turn."""

    def write_binary(self, payload: bytes) -> None:
        """Send a binary message."""

    def write_ping(self) -> None:
        """Send a ping of the WebSocket protocol."""

    def pause_reading(self) -> None:
        """Leave further messages in the kernel; those of the bytes that were read before still come."""

    def resume_reading(self) -> None:
        """Read on."""

    def limit_outbox(self, max_bytes: int) -> None:
        """Bound the waiting bytes from here on."""

    def limit_message(self, max_bytes: int) -> None:
        """Bound the messages of the client from here on."""

    def close(self, code: int = 1000, reason: str = "") -> None:
        """Start the close handshake."""

    def abort(self) -> None:
        """Drop the WebSocket now."""

    def leave(self, code: int = 1000, reason: str = "") -> None:
        """Start the close handshake; messages that the client sends before it learns of that are still received."""


class SessionListener(Protocol):
    """The reader of a session's messages; one object per session, released with it."""

    def session_started(self) -> None:
        """Learn that the client has been greeted: the listener may send."""

    def message_received(self, packet: bytes) -> None:
        """Take a text message: valid UTF-8 with its leading ``4``. MalformedPacket, if raised, closes the session."""

    def binary_received(self, data: bytes) -> None:
        """Take a binary message, without prefix. MalformedPacket, if raised, closes the session."""

    def sender_changed(self) -> None:
        """Learn that the session has another `sender`: it has moved to a WebSocket, or gives its WebSocket up."""

    def session_closed(self, reason: str) -> None:
        """Learn the end: called exactly once; no message is received or sent any more."""


class SessionOwner(Protocol):
    """The server, as its sessions see it."""

    settings: EngineSettings
    heartbeats: DeadlineWheel
    outbox_full_total: int

    def open_packet(self, sid: str, has_upgrade: bool) -> EncodedPacket:
        """Make the packet that tells the client its sid and the server's settings."""

    def forget(self, sid: str) -> None:
        """Drop the id of a session that is over."""
