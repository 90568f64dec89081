"""The port between the protocol that admits the clients of a site and the one that handles their events.

The first asks the tenant's backend, opens the device in the core and ends it. The second hears of the client in
between. So two protocols serve one connection, and neither imports the other.
"""

from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Any, Protocol

from msgspec import Struct

from app.config.settings import Site
from app.core.connection import Connection

#: Opens the device with rooms of the core, up to a number: see `Delivery.open` and `Connection.rooms_at`. Raises
#: RoomsChanged when the rooms lack a change since, and StoreError.
Opening = Callable[[Sequence[str], int], Awaitable[None]]


class AdmittedClient(Struct, frozen=True):
    """A client that the backend knows, before its device is open. Lives until it is. Its repr has no secret."""

    site: Site
    #: Its namespace; see `NamespaceConnection`.
    link: Any
    #: Its words; see `ConnectRequest`.
    request: Any
    device_id: str
    #: The rooms that the backend has named, and the user rooms among them.
    rooms: Sequence[str]
    users: Sequence[str]
    #: Whether the backend has named them just now; a ticket names those of an earlier connect.
    is_fresh: bool

    def __repr__(self) -> str:
        return f"AdmittedClient({self.site.name!r}, {self.device_id!r})"


class HandledClient(Protocol):
    """One client whose events are handled. Lives from its admission until `left`, which is called in every case."""

    #: Beside the settings that the admitting protocol sends in `_settings`.
    settings: Mapping[str, Any]

    @property
    def sync_ms(self) -> int | None:
        """How long its first synchronisation has taken; None: it has not ended."""

    async def open(self, opening: Opening) -> None:
        """Has its device opened, with the backend's rooms and those that it has here. Raises StoreError."""

    def greeted(self) -> None:
        """The client has its `_settings`. Nothing is written to it before."""

    def opened(self, connection: Connection) -> None:
        """The core knows its devices."""

    def event_received(self, event: str, args: list[Any], ack_id: int | None) -> None:
        """The client has sent an event that the admitting protocol does not know."""

    def left(self) -> None:
        """The connection is over. Idempotent."""


class EventHandling(Protocol):
    """A protocol that handles the events of clients which another one admits. Lives as long as the node."""

    def serves(self, site: Site) -> bool:
        """Whether it handles the events of this site."""

    async def receive(self, client: AdmittedClient) -> HandledClient | None:
        """Takes a client; None: it has no user, and sends no events. Raises ConnectRefused with the text for the
        client, and StoreError."""

    def check(self, rooms: Sequence[str]) -> None:
        """Raises RequestRefused for rooms of the backend that nobody may join."""

    async def move(self, site: Site, user: str, join: Sequence[str], leave: Sequence[str]) -> None:
        """A user (its user room) has joined and left rooms of the backend, which were checked. Raises StoreError; a
        second call does no harm."""

    async def revoke(self, site: Site, rooms: Sequence[str], device: str | None) -> None:
        """Ends what it has given to the clients in any of these rooms of the backend (none: in all), on this device
        (None: on all). Raises StoreError; a second call does no harm."""
