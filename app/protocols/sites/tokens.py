"""Tokens that a site checks by itself: the parts of a JWT, its claims, and the user and rooms that follow from them.

Plain decisions: keys are tried elsewhere, and the time is passed in. No text here holds a part of a token.
"""

import base64
from collections.abc import Mapping
from typing import Any

import msgspec
from msgspec import Struct

from app.config.settings import JwtIssuer, Site
from app.core.address import MAX_ROOM_BYTES, MAX_ROOMS, Room, are_within_bounds, room_texts, user_rooms
from app.errors import RecadoError

#: A longer token is not read.
MAX_TOKEN_BYTES = 8_192
_MILLISECONDS = 1000
#: The end of the year 9999: a later time is this one.
_LAST_SECONDS = 253_402_300_799


class TokenRefused(RecadoError):
    """The token is not valid"""

    def __init__(self, message: str | None = None, result: str = "invalid") -> None:
        super().__init__(message)
        #: The result as the metric `recado_tokens` names it.
        self.result = result


class JoseHeader(Struct, frozen=True):
    """The header of a token, without the fields that do not matter here."""

    alg: str
    kid: str | None = None
    #: A token that names extensions is refused: none is known here (RFC 7515, 4.1.11).
    crit: Any = None


class ReadToken(Struct, frozen=True):
    """A token that was taken apart and not verified. Lives while it is checked; its repr holds nothing of it."""

    header: JoseHeader
    claims: dict[str, Any]
    signed: bytes
    signature: bytes

    @property
    def issuer(self) -> object:
        """The claim `iss`, which may be anything."""
        return self.claims.get("iss")

    def __repr__(self) -> str:
        return f"ReadToken({self.header.alg!r})"


class TokenIdentity(Struct, frozen=True):
    """The client whose token was verified. Lives as long as its connection."""

    issuer: str
    #: The user's name in the token; None: it has none.
    user: str | None
    rooms: list[str]
    #: The end of the token, and the time until when it is taken, in ms since the epoch.
    expires_at_ms: int
    ends_at_ms: int

    def is_same_user(self, site: Site, other: "TokenIdentity") -> bool:
        """Whether another token is of the same user."""
        mine, others = set(user_rooms(site, self.rooms)), set(user_rooms(site, other.rooms))
        return (self.issuer, self.user) == (other.issuer, other.user) and mine == others


def read_token(token: str) -> ReadToken | None:
    """The parts of a JWT; None for every other text."""
    if len(token) > MAX_TOKEN_BYTES or not token.isascii() or token.count(".") != 2:
        return None
    signed, _, signature = token.rpartition(".")
    header, _, payload = signed.partition(".")
    try:
        return ReadToken(
            msgspec.json.decode(_decode(header), type=JoseHeader),
            msgspec.json.decode(_decode(payload), type=dict[str, Any]),
            signed.encode(),
            _decode(signature),
        )
    except (ValueError, msgspec.MsgspecError, RecursionError):
        return None


def judge(site: Site, issuer: JwtIssuer, claims: Mapping[str, Any], now_ms: int) -> TokenIdentity:
    """The client of a token whose signature is the issuer's. Raises TokenRefused, whose text tells the reason."""
    leeway_ms = int(issuer.leeway_seconds * _MILLISECONDS)
    expires_at_ms = _time_ms(claims, "exp")
    if expires_at_ms is None:
        raise TokenRefused("the token has no time of expiry (exp)", "incomplete")
    if expires_at_ms + leeway_ms <= now_ms:
        raise TokenRefused("the token has expired", "expired")
    for name in ("nbf", "iat"):
        begin_ms = _time_ms(claims, name)
        if begin_ms is not None and begin_ms - leeway_ms > now_ms:
            raise TokenRefused(f"the token is of a later time ({name})", "early")
    _check_audience(issuer, claims.get("aud"))
    user = _user(claims.get(issuer.user_claim))
    rooms = _rooms(issuer, claims)
    if site.user_room_prefix and user and not _has_private_room(site, rooms):
        rooms = [*rooms, site.user_room_prefix + user]
    if not are_within_bounds(rooms):
        raise TokenRefused(f"expected at most {MAX_ROOMS} rooms of {MAX_ROOM_BYTES} bytes each", "malformed")
    return TokenIdentity(issuer.issuer, user, rooms, expires_at_ms, expires_at_ms + leeway_ms)


def _check_audience(issuer: JwtIssuer, given: object) -> None:
    named = given if isinstance(given, list) else [] if given is None else [given]
    if issuer.audience and not any(one in issuer.audience for one in named):
        raise TokenRefused("the token is for another audience (aud)", "foreign")
    if named and not issuer.audience:
        # A reader that the audience does not name refuses the token (RFC 7519, 4.1.3).
        raise TokenRefused("the token names an audience (aud), and the site's settings none", "foreign")


def _rooms(issuer: JwtIssuer, claims: Mapping[str, Any]) -> list[str]:
    value = _claim(claims, issuer.rooms_claim)
    given = [] if value is None else [value] if isinstance(value, str) else value
    try:
        return list(dict.fromkeys(room_texts(msgspec.convert(given, list[Room]))))
    except msgspec.ValidationError:
        raise TokenRefused(f"expected an array of rooms in the claim {issuer.rooms_claim}", "malformed") from None


def _claim(claims: Mapping[str, Any], name: str) -> Any:
    """The claim of this name; `a.b` is also the field b of the claim a."""
    if name in claims or "." not in name:
        return claims.get(name)
    found: Any = claims
    for part in name.split("."):
        found = found.get(part) if isinstance(found, dict) else None
    return found


def _user(value: object) -> str | None:
    if isinstance(value, int) and not isinstance(value, bool):
        return str(value)
    return value if isinstance(value, str) and value else None


def _has_private_room(site: Site, rooms: list[str]) -> bool:
    return any(room != site.public_channel for room in user_rooms(site, rooms))


def _time_ms(claims: Mapping[str, Any], name: str) -> int | None:
    value = claims.get(name)
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise TokenRefused(f"expected a number of seconds in the claim {name}", "malformed")
    return int(max(0, min(value, _LAST_SECONDS)) * _MILLISECONDS)


def _decode(text: str) -> bytes:
    # A JWT has no padding, and only the characters of its alphabet: one signature has one spelling.
    if "=" in text or "+" in text or "/" in text:
        raise ValueError
    return base64.b64decode(text + "=" * (-len(text) % 4), altchars=b"-_", validate=True)
