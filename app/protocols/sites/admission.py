"""Who may join a site: what a client brings, what the site's backend says of it, and whether there is room for it.

Knows the contract's texts; neither sockets nor what happens to those who are let in.
"""

from collections.abc import Sequence

import structlog
from msgspec import Struct

from app.config.settings import Site
from app.core.address import user_rooms
from app.core.limits import Limits, Seat
from app.errors import AuthRefused, LimitReached, TicketRefused
from app.protocols.sites.ports import RoomDirectory
from app.protocols.sites.settings import ResumeTicket
from app.protocols.sites.tickets import Claims, Credentials, Tickets, new_claims
from app.socketio.socket_connection import ConnectRefused, ConnectRequest

MISSING_USER_ROOM = "User is missing a private room"

_log = structlog.get_logger(__name__)


class Refused(ConnectRefused):
    """Connection refused"""

    def __init__(self, message: str | None = None, result: str = "refused") -> None:
        super().__init__(message)
        #: As the metric `recado_connects` calls it.
        self.result = result


class Guest(Struct, frozen=True):
    """Who was let in. Lives until it is registered; its seat is given back with `Admission.leave` on every path."""

    device_id: str
    token: str | None
    rooms: Sequence[str]
    #: The user rooms among them.
    users: Sequence[str]
    seat: Seat
    #: What its resume tickets say; None: it gets none.
    claims: Claims | None

    def __repr__(self) -> str:
        return f"Guest({self.device_id!r})"


class Admission:
    """The door of all sites on one node. Lives as long as the server."""

    def __init__(self, directory: RoomDirectory, limits: Limits, tickets: Tickets) -> None:
        self._directory = directory
        self._limits = limits
        self.tickets = tickets

    async def admit(self, site: Site, request: ConnectRequest) -> Guest:
        """Lets a client in, or raises Refused with the text for it, or StoreUnavailable. May be cancelled."""
        if site.origins is not None and request.origin is not None and request.origin not in site.origins:
            raise Refused("Origin not allowed", "origin")
        credentials = credentials_of(request)
        rooms, claims = await self._identify(site, credentials)
        users = user_rooms(site, rooms)
        if site.has_queues and not users:
            raise Refused(MISSING_USER_ROOM, "no user room")
        # Last, so that those whom nobody knows take no seat from others, and that behind it nothing can fail.
        private = [room for room in users if room != site.public_channel]
        try:
            seat = await self._limits.connect(site, request.client_address, private, len(rooms))
        except LimitReached as reached:
            raise Refused(str(reached), "limited") from None
        return Guest(credentials.device_id, credentials.token, rooms, users, seat, claims)

    def leave(self, seat: Seat) -> None:
        """Gives a guest's seat back. Idempotent."""
        self._limits.disconnect(seat)

    async def _identify(self, site: Site, credentials: Credentials) -> tuple[list[str], Claims | None]:
        """The rooms of the client by its ticket or else its token, and what its next tickets are to say."""
        if site.section(ResumeTicket) is None:
            return await self._fetch_rooms(site, credentials), None
        # Before authUrl is asked: what is revoked while it answers is revoked.
        state = await self.tickets.look_up(site, credentials.ticket)
        if credentials.ticket:
            try:
                claims = self.tickets.redeem(site, credentials, state)
                return claims.rooms, claims
            except TicketRefused as refusal:
                if not credentials.token:
                    raise Refused(f"Auth error: {refusal}") from None
                _log.info("ticket refused", site=site.name, reason=str(refusal))
        rooms = await self._fetch_rooms(site, credentials)
        # Without a token there would be nothing to fall back to once the ticket has expired.
        return rooms, new_claims(site, credentials, rooms, state) if credentials.token else None

    async def _fetch_rooms(self, site: Site, credentials: Credentials) -> list[str]:
        try:
            return await self._directory.fetch_rooms(site, credentials.token, credentials.meta)
        except AuthRefused as refusal:
            raise Refused(str(refusal)) from None


def credentials_of(request: ConnectRequest) -> Credentials:
    """What the client brings, as text; the CONNECT payload wins over its query, that over the handshake's."""
    found: dict[str, str] = {}
    for source in (request.auth or {}, request.packet_query, request.handshake_query):
        for name in ("token", "deviceId", "meta", "ticket"):
            value = source.get(name)
            if name not in found and isinstance(value, str | int | float):
                found[name] = value if isinstance(value, str) else str(value)
    return Credentials(found.get("token"), found.get("meta"), found.get("deviceId", ""), found.get("ticket"))
