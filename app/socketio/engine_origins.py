"""The origins of a session's requests, as far as browsers tell them, and the headers that let a page read an answer.

Knows no sites: an application says which origins a session may have.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable
from typing import Protocol
from urllib.parse import urlsplit

from app.socketio.engine_request import Headers, Scope

_MAX_ORIGINS = 4
"""A page has one origin, and perhaps `null` for some of its requests."""


class OriginHolder(Protocol):
    """The session, as the judge of its origins sees it."""

    origins: tuple[str, ...]
    allowed_origins: Collection[str] | None


def origin_of(headers: Iterable[tuple[bytes, bytes]]) -> str | None:
    """Return the Origin header; None: the client is no browser, or a browser that sends none with this request."""
    return _value(headers, b"origin")


def origin_of_request(scope: Scope, query: dict[str, str]) -> str | None:
    """Return the Origin header, or for JSONP, whose requests for scripts have none, the origin in the Referer."""
    origin = origin_of(scope["headers"])
    if origin is not None or "j" not in query:
        return origin
    referer = _value(scope["headers"], b"referer")
    if referer is None:
        return None
    try:
        parts = urlsplit(referer)
    except ValueError:
        return "null"
    return f"{parts.scheme}://{parts.netloc}".lower()


def hear_origin(session: OriginHolder, origin: str | None) -> bool:
    """Note the origin that a request of the session tells; False: the session may not have it.

    A session may be opened without one, or by another page than the one that posts: all of them are noted until the
    session joins a site, whose `origins` judge them all, and later ones too.
    """
    if origin is None or origin in session.origins:
        return True
    if session.allowed_origins is not None and origin not in session.allowed_origins:
        return False
    if len(session.origins) >= _MAX_ORIGINS:
        return False
    session.origins = (*session.origins, origin)
    return True


def allow_origins(session: OriginHolder, allowed: Collection[str] | None) -> bool:
    """Bind the session to these origins (None: any) from here on; False: it has told another one."""
    if allowed is None:
        return True
    if not all(origin in allowed for origin in session.origins):
        return False
    before = session.allowed_origins
    session.allowed_origins = allowed if before is None else [origin for origin in before if origin in allowed]
    return True


def cross_origin_headers(scope: Scope, readable: Collection[str] | None) -> Headers:
    """Return the headers that let a page of a readable origin (None: any) read the answer; none for other clients.

    No request here uses credentials. The clients of 1.x and 2.x ask for them all the same, as do pages of later clients
    with `withCredentials`, and a browser hides an answer from them that does not allow it: so the contract allows it.
    """
    origin = origin_of(scope["headers"])
    if origin is None:
        return []
    headers: Headers = [(b"vary", b"origin")]
    if readable is not None and origin not in readable:
        return headers
    headers.append((b"access-control-allow-origin", origin.encode("latin-1")))
    headers.append((b"access-control-allow-credentials", b"true"))
    if scope["method"] == "OPTIONS":
        headers.append((b"access-control-allow-methods", b"OPTIONS, GET, POST"))
    asked = _value(scope["headers"], b"access-control-request-headers")
    if asked is not None:
        headers.append((b"access-control-allow-headers", asked.encode("latin-1")))
    return headers


def _value(headers: Iterable[tuple[bytes, bytes]], wanted: bytes) -> str | None:
    for name, value in headers:
        if name == wanted:
            return value.decode("latin-1")
    return None
