"""The two sides of a WebSocketConnection: the listener of its messages, and the upgrade request that it answers.

Names and interfaces only.
"""

from typing import Protocol

#: In the scope's `extensions` of a WebSocket: `{"connection": WebSocketConnection}`.
EXTENSION = "recado.websocket"

Header = tuple[bytes, bytes]


class Listener(Protocol):
    """The receiver of a connection's messages; the connection refers to it until `connection_lost`."""

    def text_received(self, payload: bytes) -> None:
        """Take one whole text message, valid UTF-8."""

    def binary_received(self, payload: bytes) -> None:
        """Take one whole binary message."""

    def pong_received(self) -> None:
        """Learn that the peer has received all frames before the oldest unanswered `write_ping`."""

    def writing_resumed(self) -> None:
        """Learn that a slow socket has drained."""

    def connection_lost(self, code: int, reason: str) -> None:
        """Learn the end: called exactly once after accept; code 1006 when the peer vanished."""


class Upgrade(Protocol):
    """The request at the beginning of a connection; released once it is answered."""

    def accept(self, subprotocol: str | None, headers: list[Header]) -> bytes:
        """Return the 101, which the connection writes; raises ValueError for a malformed header."""

    def write_refusal(self, status: int, body: bytes, headers: list[Header]) -> None:
        """Answer with another status; raises ValueError for a malformed header."""

    def take_early_bytes(self) -> bytes:
        """Hand over the bytes that the peer has sent behind its request."""

    def hand_over(self) -> bytes:
        """Release the request unanswered, and hand over the bytes behind it."""
