"""Resume tickets: a client that presents one reconnects without a request to authUrl.

A ticket is a JWT, signed with HMAC-SHA256 under a key that the nodes share. Its owner can read it. It is valid for one
site, device, token and meta alone, and it can be revoked. The decisions are plain functions: the state of the store and
the time are passed in.
"""

import hashlib
import hmac
import secrets
from collections.abc import Sequence
from time import monotonic
from typing import Any

import jwt
import msgspec
from msgspec import Struct

from app.config.settings import Site
from app.core.address import room_names
from app.errors import TicketRefused
from app.observe.counts import Counts
from app.protocols.sites.figures import SitesCounts
from app.protocols.sites.ports import TicketStore
from app.protocols.sites.settings import ResumeTicket
from app.surrogates import encode_text

#: A longer ticket is neither issued nor read: a ticket has to fit in a URL and to be cheap to check.
MAX_TICKET_BYTES = 6_000
_MILLISECONDS = 1000
_ALGORITHM = "HS256"
#: The header's `typ` (RFC 8725, 3.11). It keeps any other JWT from being accepted as a ticket.
_TYPE = "recado-ticket+jwt"
#: Keeps a ticket from being accepted as another JWT: a reader that expects no audience, or its own, refuses a ticket.
_AUDIENCE = "recado-ticket"


class Credentials(Struct, frozen=True):
    """The credentials that a client presents. Lives during the admission; its repr holds no secret."""

    token: str | None = None
    meta: str | None = None
    device_id: str = ""
    ticket: str | None = None

    def __repr__(self) -> str:
        return f"Credentials(device_id={self.device_id!r})"


class TokenTerms(Struct, frozen=True):
    """The token behind a ticket, where the site has checked it by itself: a ticket is valid for no longer."""

    issuer: str
    user: str | None
    expires_at_ms: int
    ends_at_ms: int


class Claims(Struct, frozen=True, omit_defaults=True):
    """The claims of a ticket. Lives as long as the connection, whose tickets are renewed from them."""

    site: str
    rooms: list[str]
    device_id: str
    #: The token and the meta of the request to authUrl, unreadable; see `_mark`.
    token_mark: str
    meta_mark: str
    #: The time of the last answer of authUrl. Revocation and the maximal age count from it, however often the ticket
    #: is renewed.
    asked_at_ms: int
    generation: int
    #: On the store's clock, like every time here but those of `terms`.
    expires_at_ms: int = 0
    #: None: authUrl was asked.
    terms: TokenTerms | None = None


class TicketState(Struct, frozen=True):
    """The store's state of a site's tickets at one moment."""

    now_ms: int
    key: bytes
    generation: int
    #: The time of the last revocation of tickets with one of the rooms in question; 0: never.
    revoked_at_ms: int = 0


class Tickets:
    """Issues, renews, checks and revokes the tickets of all sites. Lives as long as the node."""

    def __init__(self, store: TicketStore, counts: Counts | None = None) -> None:
        self._store = store
        self._counts = counts or Counts()
        #: The newest state of each site and the time of its arrival. Renewals use it and need no request to the store.
        self._heard: dict[str, tuple[TicketState, float]] = {}

    async def look_up(self, site: Site, ticket: str | None) -> TicketState:
        """The store's state, for checking this ticket and issuing others. Raises StoreUnavailable."""
        rooms = rooms_named_in(ticket) if ticket else ()
        now_ms, key, generation, revoked_at_ms = await self._store.ticket_state(
            site, secrets.token_hex(32), room_names(rooms)
        )
        state = TicketState(now_ms, key, generation, revoked_at_ms)
        self._heard[site.name] = (state, monotonic())
        return state

    def redeem(self, site: Site, credentials: Credentials, state: TicketState) -> Claims:
        """The claims of the ticket, if it is valid. Raises TicketRefused with the reason for the client."""
        results = self._counts.of(site.name).part(SitesCounts).tickets
        try:
            claims = judge(site, credentials, state)
        except TicketRefused as refusal:
            results[refusal.result] += 1
            raise
        results["accepted"] += 1
        return claims

    def issue(self, site: Site, claims: Claims) -> str | None:
        """A ticket with these claims, valid from now; None when the maximal age has passed or it would be too long."""
        state, now_ms = self._now(site)
        settings = site.require_section(ResumeTicket)
        end_ms = claims.asked_at_ms + settings.max_age_seconds * _MILLISECONDS
        if claims.terms is not None:
            end_ms = min(end_ms, claims.terms.ends_at_ms)
        expires_at_ms = min(now_ms + settings.ttl_seconds * _MILLISECONDS, end_ms)
        results = self._counts.of(site.name).part(SitesCounts).tickets
        if expires_at_ms <= now_ms:
            return None
        ticket = seal(msgspec.structs.replace(claims, expires_at_ms=expires_at_ms), state.key)
        results["too long" if ticket is None else "issued"] += 1
        return ticket

    def renewed(self, site: Site, claims: Claims, token: str, terms: TokenTerms) -> Claims:
        """The claims for a client that has handed in another token, which was checked now."""
        state, asked_at_ms = self._now(site)
        mark = _mark(state.key, "token", token)
        return msgspec.structs.replace(claims, token_mark=mark, asked_at_ms=asked_at_ms, terms=terms)

    def _now(self, site: Site) -> tuple[TicketState, int]:
        """The state of the site's tickets as Redis told it last, and the time on Redis's clock."""
        state, heard_at = self._heard[site.name]
        return state, state.now_ms + int((monotonic() - heard_at) * _MILLISECONDS)

    async def revoke(self, site: Site, rooms: Sequence[str]) -> None:
        """Revokes all tickets that name one of the rooms; without rooms all tickets of the site."""
        settings = site.section(ResumeTicket) or ResumeTicket()
        await self._store.revoke_tickets(site, settings.max_age_seconds * _MILLISECONDS, room_names(rooms))


def new_claims(
    site: Site, credentials: Credentials, rooms: list[str], state: TicketState, terms: TokenTerms | None = None
) -> Claims:
    """The claims for a fresh answer of authUrl about these credentials, or for a token with these terms. `state` is
    older than the request to authUrl, so a revocation during the request also revokes the new ticket."""
    marks = (_mark(state.key, "token", credentials.token), _mark(state.key, "meta", credentials.meta))
    about = (site.name, rooms, credentials.device_id, *marks, state.now_ms, state.generation)
    return Claims(*about, terms=terms)


def seal(claims: Claims, key: bytes) -> str | None:
    """The signed ticket; None if it would be too long."""
    content = {**msgspec.to_builtins(claims), "aud": _AUDIENCE}
    ticket = jwt.encode(content, key, _ALGORITHM, headers={"typ": _TYPE})
    return ticket if len(ticket) <= MAX_TICKET_BYTES else None


def judge(site: Site, credentials: Credentials, state: TicketState) -> Claims:
    """The claims of the ticket in the credentials. Raises TicketRefused, whose text tells the client the reason."""
    # The signature is checked first: the author of a forged ticket learns nothing else.
    claims = _open(credentials.ticket or "", state.key)
    if claims is None:
        raise TicketRefused("the resume ticket is not valid", "invalid")
    if claims.site != site.name or claims.device_id != credentials.device_id:
        raise TicketRefused("the resume ticket is of another site or device", "foreign")
    if credentials.token and claims.token_mark != _mark(state.key, "token", credentials.token):
        raise TicketRefused("the resume ticket is of another token", "foreign")
    if claims.meta_mark != _mark(state.key, "meta", credentials.meta):
        raise TicketRefused("the resume ticket is of another meta", "foreign")
    if claims.terms is not None and all(one.issuer != claims.terms.issuer for one in site.jwt):
        raise TicketRefused("the resume ticket is of an issuer that the site has no longer", "revoked")
    if claims.expires_at_ms <= state.now_ms:
        raise TicketRefused("the resume ticket has expired", "expired")
    if claims.generation != state.generation or claims.asked_at_ms <= state.revoked_at_ms:
        raise TicketRefused("the resume ticket was revoked", "revoked")
    return claims


def rooms_named_in(ticket: str) -> list[str]:
    """The rooms that a ticket names. The signature is not checked yet: one request to the store returns the key and the
    revocations of these rooms."""
    claims = _decode(ticket, b"", {"verify_signature": False})
    return claims.rooms if claims else []


def _open(ticket: str, key: bytes) -> Claims | None:
    """The claims of a ticket that is signed with the key; None for everything else."""
    # A ticket has no `exp`: PyJWT would compare it with this machine's clock, but `judge` uses the store's.
    return _decode(ticket, key, {"strict_aud": True, "require": ["aud"]})


def _decode(ticket: str, key: bytes, options: Any) -> Claims | None:
    # A JWT has no padding. PyJWT tolerates padding, so one signature would have several spellings.
    if len(ticket) > MAX_TICKET_BYTES or "=" in ticket:
        return None
    try:
        read = jwt.decode_complete(ticket, key, [_ALGORITHM], options, audience=_AUDIENCE)
        return msgspec.convert(read["payload"], Claims) if read["header"].get("typ") == _TYPE else None
    except (jwt.PyJWTError, msgspec.MsgspecError, ValueError):
        return None


def _mark(key: bytes, kind: str, value: str | None) -> str:
    """A keyed hash of a value: equal for equal values, and it reveals nothing else; "" for no value."""
    if not value:
        return ""
    return hmac.new(key, encode_text(f"{kind}:{value}"), hashlib.sha256).hexdigest()[:32]
