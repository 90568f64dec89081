"""The WebSocket as a subscriber needs it, its heartbeat and its ways to end."""

from enum import Enum
from typing import Protocol

from msgspec import Struct

from app.transport.deadline_wheel import DeadlineWheel

#: Close codes of RFC 6455, 7.4.1, and of the registry there.
GOING_AWAY = 1001
POLICY_VIOLATION = 1008
INTERNAL_ERROR = 1011
SERVICE_RESTART = 1012
TRY_AGAIN_LATER = 1013


class Ending(Enum):
    """The reasons to end a connection: the code and the reason in the close frame, and the label of the metric."""

    PING_TIMEOUT = (POLICY_VIOLATION, "ping timeout")
    #: Decided by the transport.
    OUTBOX_FULL = (POLICY_VIOLATION, "outbox full")
    RESTART = (SERVICE_RESTART, "the server restarts")
    #: The close is the only way to tell a plain subscriber about a loss.
    MISSED = (SERVICE_RESTART, "pushes were missed")
    #: Another connection on this node has resumed the subscriber: the newer one counts.
    TAKEN_OVER = (SERVICE_RESTART, "resumed by another connection")
    #: A connection on another node has resumed the subscriber, or Redis no longer knows it.
    GONE = (SERVICE_RESTART, "resumed elsewhere, or forgotten")
    #: An operator has ended it.
    OPERATOR = (SERVICE_RESTART, "ended by an operator")
    LIMIT = (TRY_AGAIN_LATER, "limit reached")
    STORE_AWAY = (TRY_AGAIN_LATER, "message store not available")
    SITE_CHANGED = (SERVICE_RESTART, "site changed")
    SITE_REMOVED = (GOING_AWAY, "site removed")
    FAULT = (INTERNAL_ERROR, "internal error")


class SubscriberSocket(Protocol):
    """The WebSocket of a subscriber, as far as the subscriber uses it."""

    @property
    def buffered_bytes(self) -> int:
        """The bytes in this process that wait for it."""

    def wire_bytes(self) -> tuple[int, int] | None:
        """The bytes that it has read and written so far; None is unknown."""

    def write_frame(self, frame: bytes) -> None:
        """Sends a frame behind the others."""

    def write_ping(self) -> None:
        """Sends a ping, which asks for a pong."""

    def close(self, code: int = 1000, reason: str = "") -> None:
        """Sends a close frame behind the others."""

    def pause_reading(self) -> None:
        """Stops reading until `resume_reading`."""

    def resume_reading(self) -> None:
        """Reads again."""


class Heartbeat(Struct, frozen=True):
    """The timing that keeps WebSockets alive and finds the dead ones."""

    wheel: DeadlineWheel
    interval_seconds: float
    timeout_seconds: float
