"""What a subscriber needs of its WebSocket, and how a WebSocket is kept alive and closed."""

from enum import Enum
from typing import Protocol

from msgspec import Struct

from app.transport.deadline_wheel import DeadlineWheel

#: Close codes of RFC 6455, 7.4.1, and of the registry there.
POLICY_VIOLATION = 1008
INTERNAL_ERROR = 1011
SERVICE_RESTART = 1012
TRY_AGAIN_LATER = 1013


class Ending(Enum):
    """Why we end a connection: the code and the reason that the client is told, and the metric."""

    PING_TIMEOUT = (POLICY_VIOLATION, "ping timeout")
    #: Decided by the transport.
    OUTBOX_FULL = (POLICY_VIOLATION, "outbox full")
    RESTART = (SERVICE_RESTART, "the server restarts")
    #: A plain subscriber learns in no other way that something was lost.
    MISSED = (SERVICE_RESTART, "pushes were missed")
    #: On this node; the newer connection of a subscriber counts.
    TAKEN_OVER = (SERVICE_RESTART, "resumed by another connection")
    #: On another node, or Redis knows the subscriber no more.
    GONE = (SERVICE_RESTART, "resumed elsewhere, or forgotten")
    LIMIT = (TRY_AGAIN_LATER, "limit reached")
    STORE_AWAY = (TRY_AGAIN_LATER, "message store not available")
    FAULT = (INTERNAL_ERROR, "internal error")


class SubscriberSocket(Protocol):
    """What a subscriber needs of its WebSocket."""

    def write_frame(self, frame: bytes) -> None:
        """Send a frame behind the others."""

    def write_ping(self) -> None:
        """Ask for a pong."""

    def close(self, code: int = 1000, reason: str = "") -> None:
        """Send a close frame behind the others."""

    def pause_reading(self) -> None:
        """Hear nothing more for now."""

    def resume_reading(self) -> None:
        """Hear on."""


class Heartbeat(Struct, frozen=True):
    """How WebSockets are kept alive, and the dead ones found."""

    wheel: DeadlineWheel
    interval_seconds: float
    timeout_seconds: float
