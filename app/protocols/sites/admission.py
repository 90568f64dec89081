"""Admission to a site: reads a client's credentials, asks the site's backend for its rooms, and reserves a seat.

Knows the contract's texts. It knows no sockets, and nothing of a client's life after the admission.
"""

from collections.abc import Sequence

import structlog
from msgspec import Struct

from app.config.settings import Site
from app.core.address import user_rooms
from app.core.limits import Limits
from app.core.live import TICKET_TAKEN
from app.core.seat import Seat
from app.errors import AuthRefused, LimitReached, TicketRefused
from app.protocols.sites.ports import RoomDirectory
from app.protocols.sites.settings import ResumeTicket
from app.protocols.sites.tickets import MAX_TICKET_BYTES, Claims, Credentials, Tickets, new_claims
from app.socketio.socket_connection import ConnectRefused, ConnectRequest
from app.surrogates import encode_text

#: The longest deviceId: it stands in Redis and in log lines.
MAX_DEVICE_BYTES = 256
#: The longest token and meta: they travel in a header to authUrl, and few backends read a longer line.
MAX_CREDENTIAL_BYTES = 8_192
#: The credentials, and the longest of each that is read.
QUERY_FIELDS = {
    "token": MAX_CREDENTIAL_BYTES,
    "deviceId": MAX_DEVICE_BYTES,
    "meta": MAX_CREDENTIAL_BYTES,
    "ticket": MAX_TICKET_BYTES,
}
MISSING_USER_ROOM = "User is missing a private room"

_log = structlog.get_logger(__name__)


class Refused(ConnectRefused):
    """Connection refused"""

    def __init__(self, message: str | None = None, result: str = "refused") -> None:
        super().__init__(message)
        #: The result in the metric `recado_connects`.
        self.result = result


class Guest(Struct, frozen=True):
    """An admitted client. Lives until it is registered. Every path gives its seat back with `Admission.leave`."""

    device_id: str
    token: str | None
    rooms: Sequence[str]
    #: The user rooms among `rooms`.
    users: Sequence[str]
    seat: Seat
    #: The claims of its resume tickets; None: it gets no tickets.
    claims: Claims | None
    #: See `ConnectionFacts.ticket`.
    ticket: str | None = None

    def __repr__(self) -> str:
        return f"Guest({self.device_id!r})"


class Admission:
    """The door of all sites on one node. Lives as long as the server."""

    def __init__(self, directory: RoomDirectory, limits: Limits, tickets: Tickets) -> None:
        self._directory = directory
        self._limits = limits
        self.tickets = tickets

    async def admit(self, site: Site, request: ConnectRequest) -> Guest:
        """Admits a client, or raises Refused with the text for the client, or StoreUnavailable. May be cancelled."""
        if site.origins is not None and not all(origin in site.origins for origin in request.origins):
            raise Refused("Origin not allowed", "origin")
        credentials = credentials_of(request)
        _check_sizes(credentials)
        rooms, claims, ticket = await self._identify(site, credentials)
        users = user_rooms(site, rooms)
        if site.has_queues and not users:
            raise Refused(MISSING_USER_ROOM, "no user room")
        # The seat is taken last: an unknown client takes no seat from others, and no later step can fail and keep it.
        private = [room for room in users if room != site.public_channel]
        try:
            seat = await self._limits.connect(site, request.client_address, private, len(rooms))
        except LimitReached as reached:
            raise Refused(str(reached), "limited") from None
        return Guest(credentials.device_id, credentials.token, rooms, users, seat, claims, ticket)

    def leave(self, seat: Seat) -> None:
        """Gives a guest's seat back. Idempotent."""
        self._limits.disconnect(seat)

    async def _identify(self, site: Site, credentials: Credentials) -> tuple[list[str], Claims | None, str | None]:
        """Returns the client's rooms, by its ticket or else by its token, the claims of its next tickets, and what
        became of the ticket."""
        if site.section(ResumeTicket) is None:
            return await self._fetch_rooms(site, credentials), None, None
        # Read before the request to authUrl: a revocation during that request then also covers the new ticket.
        state, refused = await self.tickets.look_up(site, credentials.ticket), None
        if credentials.ticket:
            try:
                claims = self.tickets.redeem(site, credentials, state)
                return claims.rooms, claims, TICKET_TAKEN
            except TicketRefused as refusal:
                if not credentials.token:
                    raise Refused(f"Auth error: {refusal}") from None
                _log.info("ticket refused", site=site.name, reason=str(refusal))
                refused = str(refusal)
        rooms = await self._fetch_rooms(site, credentials)
        # A client without a token gets no ticket: it has no token to fall back to when the ticket expires.
        return rooms, new_claims(site, credentials, rooms, state) if credentials.token else None, refused

    async def _fetch_rooms(self, site: Site, credentials: Credentials) -> list[str]:
        try:
            return await self._directory.fetch_rooms(site, credentials.token, credentials.meta)
        except AuthRefused as refusal:
            raise Refused(str(refusal)) from None


def credentials_of(request: ConnectRequest) -> Credentials:
    """Returns the client's credentials as text. The CONNECT payload wins over its query, its query over the
    handshake's query."""
    found: dict[str, str] = {}
    for source in (request.auth or {}, request.packet_query, request.handshake_query):
        for name in QUERY_FIELDS:
            value = source.get(name)
            if name not in found and isinstance(value, str | int | float):
                found[name] = value if isinstance(value, str) else str(value)
    return Credentials(found.get("token"), found.get("meta"), found.get("deviceId", ""), found.get("ticket"))


def _check_sizes(credentials: Credentials) -> None:
    """Raises Refused for a value that is longer than any honest one, before it is kept or logged anywhere."""
    values = (
        ("deviceId", credentials.device_id, MAX_DEVICE_BYTES),
        ("token", credentials.token, MAX_CREDENTIAL_BYTES),
        ("meta", credentials.meta, MAX_CREDENTIAL_BYTES),
    )
    for name, value, most in values:
        if value is not None and len(encode_text(value)) > most:
            raise Refused(f"{name}: expected at most {most} bytes", "too long")
