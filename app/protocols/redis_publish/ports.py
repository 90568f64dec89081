"""The interface that this protocol needs of a Socket.IO server's connections. It imports no class of that server."""

from collections.abc import Callable, Collection, Sequence
from typing import Any, Protocol


class ClientSession(Protocol):
    """The transport under a connection."""

    def confirm_receipt(self, received: Callable[[], None]) -> None:
        """Calls `received` once the client has everything that was sent before, if that ever becomes known."""

    def limit_outbox(self, max_bytes: int) -> None:
        """Closes the connection when more than `max_bytes` wait for it."""

    def allow_origins(self, origins: Collection[str] | None) -> bool:
        """Binds the transport to these origins (None: any). False when its requests have told another one."""

    def wire_bytes(self) -> tuple[int, int] | None:
        """The bytes that it has read and written so far; None is unknown."""

    def close(self, reason: str) -> None:
        """Ends the transport. The client reconnects by itself."""


class ClientConnection(Protocol):
    """One client in a namespace."""

    state: Any
    #: Whether the session may stay for this namespace; without it the session has a deadline and counts per address.
    holds_session: bool

    @property
    def log_name(self) -> str:
        """The connection in log lines."""

    @property
    def session(self) -> ClientSession:
        """Its transport."""

    @property
    def transport(self) -> str:
        """The name of its transport."""

    @property
    def buffered_bytes(self) -> int:
        """The bytes in this process that wait for it."""

    @property
    def is_closed(self) -> bool:
        """Whether nothing can be sent any more."""

    def confirm(self) -> None:
        """Tells the client that it has joined the namespace."""

    def hold_session(self) -> None:
        """Lets the session stay for this namespace."""

    def refuse(self, message: str) -> None:
        """Tells the client that it may not join."""

    def send_event(self, event: str, args: Sequence[Any]) -> None:
        """Sends an event."""

    def send_body(self, body: bytes, ack_id: int | None = None) -> None:
        """Sends an event that is already encoded as `["event",arg,...]`. With an id, the event asks for an ack."""

    def send_ack(self, ack_id: int, args: Sequence[Any]) -> None:
        """Sends the ack of a client's event."""

    def disconnect(self) -> None:
        """Removes the client from the namespace, after everything that was sent. The client does not reconnect by
        itself."""


class JoinRequest(Protocol):
    """A client's request to join a namespace."""

    namespace: str
    client_address: str
    user_agent: str
    engine_version: int
    #: The protocol and cipher of TLS at this server.
    tls: str | None
    #: The time since the begin of the session.
    waited_ms: int | None
