"""What an Engine.IO session is told, and what it asks of its server, its socket and its listener. No behaviour."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from app.socketio.engine_packet import EncodedPacket
from app.transport.deadline_wheel import DeadlineWheel


@dataclass(frozen=True, slots=True)
class EngineSettings:
    """What all sessions of one server share; lives as long as the server."""

    ping_interval_seconds: float = 25.0
    ping_timeout_seconds: float = 20.0
    max_payload_bytes: int = 1_000_000
    """The largest request body and WebSocket message taken from a client."""
    max_outbox_bytes: int = 1_000_000
    """What may wait for one client before it is closed; a single packet may be larger."""
    sid_prefix: str = ""
    """What the ids of sessions begin with, so that other nodes know whose they are."""
    allowed_origins: Sequence[str] | None = None
    """Values of the Origin header that may connect; None: any."""


class FrameSocket(Protocol):
    """A WebSocket as the transport offers it; no method raises, all are no-ops after the close."""

    @property
    def buffered_bytes(self) -> int:
        """What waits in this process for the socket."""

    def write_frame(self, frame: bytes) -> None:
        """Send a ready, unmasked text frame."""

    def write_binary(self, payload: bytes) -> None:
        """Send a binary message."""

    def write_ping(self) -> None:
        """Send a ping of the WebSocket protocol, if this kind of WebSocket can."""

    def limit_outbox(self, max_bytes: int) -> None:
        """Let no more than this wait from here on."""

    def close(self, code: int = 1000, reason: str = "") -> None:
        """Start the close handshake."""

    def abort(self) -> None:
        """Drop the WebSocket now."""

    def leave(self, code: int = 1000, reason: str = "") -> None:
        """Start the close handshake; what the client has sent before it learns of it is still received."""


class SessionListener(Protocol):
    """Who understands a session's messages; one object per session, let go with it."""

    def session_started(self) -> None:
        """The client has been greeted: the listener may send."""

    def message_received(self, packet: bytes) -> None:
        """A text message: valid UTF-8 with its leading ``4``. May raise MalformedPacket: the session is closed."""

    def binary_received(self, data: bytes) -> None:
        """A binary message, without prefix. May raise MalformedPacket: the session is closed."""

    def session_closed(self, reason: str) -> None:
        """Called exactly once; nothing is received or sent any more."""


class SessionOwner(Protocol):
    """What a session needs of its server."""

    settings: EngineSettings
    heartbeats: DeadlineWheel
    outbox_full_total: int

    def open_packet(self, sid: str, has_upgrade: bool) -> EncodedPacket:
        """The packet that tells the client its sid and the server's settings."""

    def forget(self, sid: str) -> None:
        """The session id is no longer known."""
