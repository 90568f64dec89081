"""The two sides of a connection: who receives its messages, and who answers its upgrade request.

Interfaces only.
"""

from typing import Protocol

#: In the scope's `extensions` of a WebSocket: `{"connection": WebSocketConnection}`.
EXTENSION = "recado.websocket"

Header = tuple[bytes, bytes]


class Listener(Protocol):
    """Who receives a connection's messages; the connection refers to it until `connection_lost`."""

    def text_received(self, payload: bytes) -> None:
        """Take one whole text message, valid UTF-8."""

    def binary_received(self, payload: bytes) -> None:
        """Take one whole binary message."""

    def pong_received(self) -> None:
        """Learn that the peer has received what was written before the oldest `write_ping` not answered yet."""

    def writing_resumed(self) -> None:
        """Learn that a slow socket has drained."""

    def connection_lost(self, code: int, reason: str) -> None:
        """Learn the end: called exactly once after accept; code 1006 when the peer vanished."""


class Upgrade(Protocol):
    """The request a connection begins with; let go of once it is answered."""

    def write_accept(self, subprotocol: str | None, headers: list[Header]) -> None:
        """Answer 101; raises ValueError for a header that is none."""

    def write_refusal(self, status: int, body: bytes, headers: list[Header]) -> None:
        """Answer with another status; raises ValueError for a header that is none."""

    def take_early_bytes(self) -> bytes:
        """Hand over what the peer has sent behind its request."""

    def hand_over(self) -> bytes:
        """Let go of the request unanswered, and hand over what came behind it."""
