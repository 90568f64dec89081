"""What this protocol needs of a Socket.IO server's connections: so much, and no class of it."""

from collections.abc import Callable, Sequence
from typing import Any, Protocol


class ClientSession(Protocol):
    """The transport under a connection."""

    def confirm_receipt(self, received: Callable[[], None]) -> None:
        """Calls `received` once the client has what was sent before, if that ever becomes known."""

    def limit_outbox(self, max_bytes: int) -> None:
        """Closes the connection when more than this waits for it."""

    def close(self, reason: str) -> None:
        """Ends the transport; the client connects anew by itself."""


class ClientConnection(Protocol):
    """One client in a namespace."""

    sid: str
    state: Any

    @property
    def session(self) -> ClientSession:
        """Its transport."""

    @property
    def is_closed(self) -> bool:
        """Whether nothing can be sent any more."""

    def confirm(self) -> None:
        """Tells the client that it has joined the namespace."""

    def refuse(self, message: str) -> None:
        """Tells it that it may not."""

    def send_event(self, event: str, args: Sequence[Any]) -> None:
        """Sends an event."""

    def send_body(self, body: bytes, ack_id: int | None = None) -> None:
        """Sends an event that is ready as `["event",arg,...]`, asking for an ack if it has an id."""

    def send_ack(self, ack_id: int, args: Sequence[Any]) -> None:
        """Answers an event of the client's."""

    def disconnect(self) -> None:
        """Removes the client from the namespace, behind what was sent; it does not come back by itself."""


class JoinRequest(Protocol):
    """What a client brings when it joins a namespace."""

    namespace: str
    origin: str | None
    client_address: str
