"""What a subscriber needs of its WebSocket, whichever server it is under, and how one is kept alive and closed."""

from typing import Protocol

from msgspec import Struct

from app.transport.deadline_wheel import DeadlineWheel

#: Close codes of RFC 6455, 7.4.1, and of the registry there.
POLICY_VIOLATION = 1008
SERVICE_RESTART = 1012
TRY_AGAIN_LATER = 1013
INTERNAL_ERROR = 1011


class Socket(Protocol):
    """What a subscriber needs of its WebSocket, the fast one or the ordinary one."""

    @property
    def buffered_bytes(self) -> int:
        """What waits to be sent."""

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
    #: Whether pings can be sent: not under any other ASGI server, which sends its own.
    has_pings: bool
