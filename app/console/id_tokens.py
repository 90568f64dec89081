"""ID tokens of a provider, checked as OpenID Connect Core 3.1.3.7 says. Pure: a token and keys in, claims out."""

import hmac
from collections.abc import Mapping, Sequence
from typing import Any

import jwt
from msgspec import Struct

from app.errors import RequestRefused

#: Signatures with the provider's private key. One with a secret that both know, or none at all, does not count.
ALGORITHMS = ("RS256", "RS384", "RS512", "PS256", "PS384", "PS512", "ES256", "ES384", "ES512", "EdDSA")
#: The longest token, and the keys of a provider that are looked at.
MAX_TOKEN = 32_768
MAX_KEYS = 100
#: How much the clocks may differ.
LEEWAY_SECONDS = 60
_REQUIRED = ["iss", "sub", "aud", "exp", "iat"]
_SUBJECT_CHARACTERS = 255


class Expected(Struct, frozen=True):
    """The claims that a token must have. Its repr has no secret."""

    issuer: str
    client_id: str
    nonce: str

    def __repr__(self) -> str:
        return f"Expected({self.issuer!r})"


def key_id_of(token: str) -> str | None:
    """The name of the key that a token is signed with; None: it names none. Raises RequestRefused."""
    if len(token) > MAX_TOKEN:
        raise refused("it is too long")
    try:
        header = jwt.get_unverified_header(token)
    except (jwt.PyJWTError, ValueError, RecursionError):
        raise refused("it is not readable") from None
    if header.get("alg") not in ALGORITHMS:
        raise refused("its signature is of no kind that counts")
    name = header.get("kid")
    return name if isinstance(name, str) else None


def find_key(keys: Sequence[Mapping[str, Any]], name: str | None) -> Mapping[str, Any] | None:
    """The key of this name, or without a name the only one for signatures; None: there is none."""
    fit = [key for key in keys[:MAX_KEYS] if key.get("use", "sig") == "sig" and key.get("kty") != "oct"]
    found = fit if name is None else [key for key in fit if key.get("kid") == name]
    return found[0] if len(found) == 1 else None


def read_claims(token: str, key: Mapping[str, Any], expected: Expected) -> dict[str, Any]:
    """The claims of a token that is right. Raises RequestRefused."""
    try:
        claims: dict[str, Any] = jwt.decode(
            token,
            jwt.PyJWK(dict(key), _algorithm(token, key)),
            algorithms=list(ALGORITHMS),
            audience=expected.client_id,
            issuer=expected.issuer,
            leeway=LEEWAY_SECONDS,
            options={"require": _REQUIRED},
        )
    except jwt.ExpiredSignatureError:
        raise refused("it has expired") from None
    except jwt.InvalidAudienceError:
        raise refused("it is for somebody else") from None
    except (jwt.PyJWTError, ValueError, TypeError, RecursionError):
        raise refused("its signature or its claims are wrong") from None
    party = claims.get("azp")
    if party not in (None, expected.client_id) or (party is None and _is_for_several(claims["aud"])):
        raise refused("it is for somebody else")
    nonce = claims.get("nonce")
    if not isinstance(nonce, str) or not hmac.compare_digest(_bytes(nonce), _bytes(expected.nonce)):
        raise refused("it belongs to another login")
    subject = claims["sub"]
    if not isinstance(subject, str) or not 0 < len(subject) <= _SUBJECT_CHARACTERS or "\0" in subject:
        raise refused("it names nobody")
    return claims


def refused(reason: str) -> RequestRefused:
    """The refusal of a token."""
    return RequestRefused(f"The provider's token is refused: {reason}.", "wrong_token", 401)


def _algorithm(token: str, key: Mapping[str, Any]) -> str:
    """The algorithm in the token's head, which the key must be for. `read_claims` allows no other."""
    named = str(jwt.get_unverified_header(token).get("alg"))
    if key.get("alg", named) != named:
        raise refused("its signature is not of its key's kind")
    return named


def _is_for_several(audience: object) -> bool:
    return isinstance(audience, list) and len(audience) > 1


def _bytes(text: str) -> bytes:
    return text.encode("utf-8", "replace")
