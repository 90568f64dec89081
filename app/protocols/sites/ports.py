"""The ports of the sites' protocol: the store of its tickets, and the tenants' backends."""

from collections.abc import Awaitable, Callable, Sequence
from datetime import datetime
from typing import Any, Protocol

from app.config.settings import Site
from app.protocols.sites.token_keys import KeySet


class TicketStore(Protocol):
    """The shared state of each site's resume tickets, for all nodes. Raises StoreUnavailable; each method is atomic."""

    def ticket_state(self, site: Site, new_key: str, rooms: Sequence[str]) -> Awaitable[tuple[int, bytes, int, int]]:
        """(the store's clock in ms, the site's key, the generation of its tickets, the time of the last revocation of
        one of the rooms or 0). `new_key` becomes the key of a site that has none, once for all nodes."""

    def revoke_tickets(self, site: Site, max_age_ms: int, rooms: Sequence[str]) -> Awaitable[None]:
        """Revokes all tickets issued so far that name one of the rooms; without rooms all tickets of the site. The
        store may forget the revocation after `max_age_ms`."""


class TransportStore(Protocol):
    """The transports of clients, as receipts show them. Raises StoreUnavailable."""

    def note_upgrades(self, site: Site, handles: Sequence[bytes]) -> Awaitable[None]:
        """The newest clients of these devices, which polled at their connect, use a WebSocket now. Idempotent."""


class RoomDirectory(Protocol):
    """The tenant's backend that knows the owner of a token."""

    async def fetch_rooms(self, site: Site, token: str | None, meta: str | None) -> list[str]:
        """The rooms of the user. Raises AuthRefused with the text for the client."""


class UserUpdates(Protocol):
    """The tenant's backend that records the last visits of its users. Best effort, at most once, never blocks."""

    def update_user(self, site: Site, user_id: str, token: str | None, connected: bool, at: datetime) -> None:
        """Reports that a user has connected or disconnected; returns at once, never raises."""


class KeySource(Protocol):
    """The public keys of issuers, by the URL of their JWKS."""

    async def keys(self, site: Site, url: str, suffices: Callable[[KeySet], bool]) -> KeySet | None:
        """The newest keys, read again within bounds when they do not suffice; None: there are none."""


class ClientLink(Protocol):
    """The way to one client of a site, as `NamespaceConnection` is one."""

    @property
    def is_closed(self) -> bool:
        """Whether nothing can be sent any more."""

    def send_event(self, event: str, args: Sequence[Any]) -> None:
        """Sends an event to this client alone."""
