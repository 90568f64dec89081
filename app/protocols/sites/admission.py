"""Admission to a site: reads a client's credentials, has its token checked or asks the backend for its rooms, and
reserves a seat.

Knows the contract's texts. It knows no sockets, and nothing of a client's life after the admission.
"""

from collections.abc import Sequence
from typing import Any

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
from app.protocols.sites.tickets import MAX_TICKET_BYTES, Claims, Credentials, Tickets, TokenTerms, new_claims
from app.protocols.sites.token_gate import TokenGate
from app.protocols.sites.tokens import TokenIdentity, TokenRefused
from app.socketio.socket_connection import ConnectRefused, ConnectRequest
from app.surrogates import encode_text

#: The longest deviceId: it stands in Redis and in log lines.
MAX_DEVICE_BYTES = 256
#: The longest token and meta: they travel in a header to authUrl, and few backends read a longer line.
MAX_CREDENTIAL_BYTES = 8_192
#: The values that a client may present, and the longest of each that is read.
QUERY_FIELDS = {
    "token": MAX_CREDENTIAL_BYTES,
    "deviceId": MAX_DEVICE_BYTES,
    "meta": MAX_CREDENTIAL_BYTES,
    "ticket": MAX_TICKET_BYTES,
    "positions": 4,
}
MISSING_USER_ROOM = "User is missing a private room"
#: As for a 401 of authUrl: pages know this text. The log has the reason.
NOT_AUTHENTICATED = "Authentication failed"

_log = structlog.get_logger(__name__)


class Refused(ConnectRefused):
    """Connection refused"""

    def __init__(self, message: str | None = None, result: str = "refused", reason: str = "") -> None:
        super().__init__(message)
        #: The result in the metric `recado_connects`.
        self.result = result
        #: The reason for the log and the journal, where the client is told less.
        self.reason = reason or str(self)


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
    #: None: authUrl knows the client.
    identity: TokenIdentity | None = None

    def __repr__(self) -> str:
        return f"Guest({self.device_id!r})"


class _Known(Struct, frozen=True):
    """A client that is known. Lives during the admission."""

    rooms: list[str]
    claims: Claims | None = None
    ticket: str | None = None
    identity: TokenIdentity | None = None


class Admission:
    """The door of all sites on one node. Lives as long as the server."""

    def __init__(self, directory: RoomDirectory, limits: Limits, tickets: Tickets, gate: TokenGate) -> None:
        self._directory = directory
        self._limits = limits
        self.tickets = tickets
        self.gate = gate

    async def admit(self, site: Site, request: ConnectRequest) -> Guest:
        """Admits a client, or raises Refused with the text for the client, or StoreUnavailable. May be cancelled."""
        if site.origins is not None and not all(origin in site.origins for origin in request.origins):
            raise Refused("Origin not allowed", "origin")
        credentials = credentials_of(request)
        _check_sizes(credentials)
        known = await self._identify(site, credentials)
        rooms = known.rooms
        users = user_rooms(site, rooms)
        if site.has_queues and not users:
            raise Refused(MISSING_USER_ROOM, "no user room")
        # The seat is taken last: an unknown client takes no seat from others, and no later step can fail and keep it.
        private = [room for room in users if room != site.public_channel]
        try:
            seat = await self._limits.connect(site, request.client_address, private, len(rooms))
        except LimitReached as reached:
            raise Refused(str(reached), "limited") from None
        facts = (seat, known.claims, known.ticket, known.identity)
        return Guest(credentials.device_id, credentials.token, rooms, users, *facts)

    def leave(self, seat: Seat) -> None:
        """Gives a guest's seat back. Idempotent."""
        self._limits.disconnect(seat)

    async def _identify(self, site: Site, credentials: Credentials) -> _Known:
        """Returns the client's rooms, by its ticket or else by its token, the claims of its next tickets, and what
        became of the ticket."""
        if site.section(ResumeTicket) is None:
            rooms, identity = await self._identify_token(site, credentials)
            return _Known(rooms, identity=identity)
        # Read before the request to authUrl: a revocation during that request then also covers the new ticket.
        state, refused = await self.tickets.look_up(site, credentials.ticket), None
        if credentials.ticket:
            try:
                claims = self.tickets.redeem(site, credentials, state)
                return _Known(claims.rooms, claims, TICKET_TAKEN, _identity_behind(claims))
            except TicketRefused as refusal:
                if not credentials.token:
                    raise Refused(f"Auth error: {refusal}") from None
                _log.info("ticket refused", site=site.name, reason=str(refusal))
                refused = str(refusal)
        rooms, identity = await self._identify_token(site, credentials)
        # A client without a token gets no ticket: it has no token to fall back to when the ticket expires.
        claims_or_none = new_claims(site, credentials, rooms, state, terms_of(identity)) if credentials.token else None
        return _Known(rooms, claims_or_none, refused, identity)

    async def _identify_token(self, site: Site, credentials: Credentials) -> tuple[list[str], TokenIdentity | None]:
        """Returns the client's rooms, and its identity when the site has checked its token by itself."""
        try:
            identity = await self.gate.identify(site, credentials.token)
            if identity is not None:
                return identity.rooms, identity
            if site.auth_url is None:
                raise TokenRefused("there is no token of an issuer of this site" if credentials.token else "no token")
            return await self._directory.fetch_rooms(site, credentials.token, credentials.meta), None
        except TokenRefused as refusal:
            raise Refused(NOT_AUTHENTICATED, reason=f"{NOT_AUTHENTICATED}: {refusal}") from None
        except AuthRefused as refusal:
            raise Refused(str(refusal)) from None


def terms_of(identity: TokenIdentity | None) -> TokenTerms | None:
    """The part of an identity that its tickets keep."""
    if identity is None:
        return None
    return TokenTerms(identity.issuer, identity.user, identity.expires_at_ms, identity.ends_at_ms)


def _identity_behind(claims: Claims) -> TokenIdentity | None:
    """The identity of the token behind a ticket."""
    terms = claims.terms
    if terms is None:
        return None
    return TokenIdentity(terms.issuer, terms.user, claims.rooms, terms.expires_at_ms, terms.ends_at_ms)


def credentials_of(request: ConnectRequest) -> Credentials:
    """Returns the client's credentials as text."""
    sources = _sources_of(request)
    token, meta, device_id, ticket = [_value_of(sources, name) for name in ("token", "meta", "deviceId", "ticket")]
    return Credentials(token, meta, device_id or "", ticket)


def wants_positions(request: ConnectRequest) -> bool:
    """Whether the client asks for the position of each message."""
    return _value_of(_sources_of(request), "positions") in ("1", "true", "True")


def _sources_of(request: ConnectRequest) -> list[dict[str, Any]]:
    """The places of values, those that are not empty. The CONNECT payload wins over its query, its query over the
    handshake's."""
    return [source for source in (request.auth, request.packet_query, request.handshake_query) if source]


def _value_of(sources: list[dict[str, Any]], name: str) -> str | None:
    """A value that the client presents."""
    for source in sources:
        value = source.get(name)
        if isinstance(value, str | int | float):
            return value if isinstance(value, str) else str(value)
    return None


def _check_sizes(credentials: Credentials) -> None:
    """Raises Refused for a value that is longer than any honest one, before it is kept or logged anywhere."""
    values = (
        ("deviceId", credentials.device_id, MAX_DEVICE_BYTES),
        ("token", credentials.token, MAX_CREDENTIAL_BYTES),
        ("meta", credentials.meta, MAX_CREDENTIAL_BYTES),
    )
    for name, value, most in values:
        # No character has more than four bytes.
        if value is not None and len(value) * 4 > most and len(encode_text(value)) > most:
            raise Refused(f"{name}: expected at most {most} bytes", "too long")
