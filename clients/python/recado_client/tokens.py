"""Signs the tokens of a site's users: JWTs with the user and the rooms, which the server checks by itself."""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
import time
from collections.abc import Mapping, Sequence
from typing import Any

from recado_client.errors import BadInput
from recado_client.settings import Settings

#: Tokens count until they run out, so they run out soon.
EXPIRES_IN_SECONDS = 600
_OWN = ("iss", "aud", "sub", "rooms", "iat", "exp")


def sign_token(
    settings: Settings,
    user: str | int,
    rooms: Sequence[str | int] = (),
    expires_in: int = EXPIRES_IN_SECONDS,
    claims: Mapping[str, Any] | None = None,
) -> str:
    """A token (HS256) of this user in these rooms for so many seconds, with claims of one's own."""
    if not settings.token_secret:
        raise BadInput("token_secret: expected the secret of the site's tokens")
    if str(user) == "" or isinstance(user, bool):
        raise BadInput("user: expected the user's id")
    if expires_in <= 0:
        raise BadInput("expires_in: expected more than 0 seconds")
    if taken := [name for name in claims or () if name in _OWN]:
        raise BadInput(f"claims: {taken[0]} is a claim of the token itself")
    now = int(time.time())
    told = {"iss": settings.token_issuer, "sub": str(user), "rooms": list(rooms), "iat": now, "exp": now + expires_in}
    if settings.token_audience:
        told["aud"] = settings.token_audience
    signed = _encode(b'{"alg":"HS256","typ":"JWT"}') + b"." + _encode(json.dumps(told | dict(claims or {})).encode())
    digest = hmac.new(settings.token_secret.encode(), signed, hashlib.sha256).digest()
    return (signed + b"." + _encode(digest)).decode()


def _encode(data: bytes) -> bytes:
    return base64.urlsafe_b64encode(data).rstrip(b"=")
