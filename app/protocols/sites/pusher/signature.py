"""Pusher's signature of a request, version 1: HMAC-SHA256 over method, path and query, and MD5 of the body. Pure."""

import hashlib
import hmac
from collections.abc import Mapping, Sequence

from msgspec import Struct

from app.errors import BadRequest

#: How far the time of a request may be from this server's clock.
SIGNED_SECONDS = 600
#: Stands for the secret of an app or key that does not exist: the check takes the same time.
_NO_SECRET = "-"
_SIGNATURE = "auth_signature"
_NEEDED = ("auth_key", "auth_timestamp", "auth_version", _SIGNATURE)


class NotSigned(BadRequest):
    """The signature does not count."""

    def __init__(self, message: str) -> None:
        super().__init__(message, status=401)


class SignedRequest(Struct, frozen=True):
    """The parts of a request that its signature covers. Lives as long as the request."""

    method: str
    #: As the client wrote it, and with its percent signs decoded: packages sign either.
    paths: Sequence[str]
    #: The fields of the query, their names in lower case.
    fields: Mapping[str, str]

    def text(self, path: str) -> bytes:
        """The text that is signed."""
        pairs = [f"{name}={self.fields[name]}" for name in sorted(self.fields) if name != _SIGNATURE]
        return "\n".join((self.method, path, "&".join(pairs))).encode()


def signed_request(method: str, paths: Sequence[str], fields: Sequence[tuple[str, str]]) -> SignedRequest:
    """The parts of a request. Raises NotSigned for a query that no signature can cover."""
    by_name = {name.lower(): value for name, value in fields}
    if len(by_name) < len(fields):
        raise NotSigned("Query: expected each field once.")
    if missing := [name for name in _NEEDED if not by_name.get(name)]:
        raise NotSigned(f"{missing[0]}: is missing.")
    if by_name["auth_version"] != "1.0":
        raise NotSigned("auth_version: expected 1.0.")
    return SignedRequest(method, tuple(dict.fromkeys(paths)), by_name)


def has_signature(request: SignedRequest, secret: str | None) -> bool:
    """Whether the request is signed with the secret, in a time that does not tell; False for no secret."""
    given = request.fields[_SIGNATURE].encode()
    key = (_NO_SECRET if secret is None else secret).encode()
    texts = [request.text(path) for path in request.paths]
    found = [hmac.compare_digest(given, hmac.digest(key, text, "sha256").hex().encode()) for text in texts]
    return any(found) and secret is not None


def check_time(request: SignedRequest, now_seconds: float) -> None:
    """Raises NotSigned for a request of another time."""
    text = request.fields["auth_timestamp"]
    is_number = text.isascii() and text.isdigit() and len(text) <= 12
    if not is_number or abs(now_seconds - int(text)) > SIGNED_SECONDS:
        now = int(now_seconds)
        raise NotSigned(f"auth_timestamp: expected a time within {SIGNED_SECONDS} s of this server's, which is {now}.")


def check_body(request: SignedRequest, body: bytes) -> None:
    """Raises NotSigned for a body that the signature does not cover. Without a body `body_md5` may be absent."""
    given = request.fields.get("body_md5", "")
    if not body and not given:
        return
    if not hmac.compare_digest(given.encode(), hashlib.md5(body, usedforsecurity=False).hexdigest().encode()):
        raise NotSigned("body_md5: expected the MD5 of the body, in hex.")
