"""The HTTP side of Engine.IO: handshakes, refusals, the bodies of requests, answers.

Thin over ASGI; knows no sessions. Never logs: the query holds the user's token.
"""

from __future__ import annotations

import enum
from collections.abc import Collection, Iterable, MutableMapping
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import parse_qsl

Headers = list[tuple[bytes, bytes]]

_UNAVAILABLE = 503
Scope = MutableMapping[str, Any]


class Refusal(enum.Enum):
    """Why a request is refused: HTTP status, and the Engine.IO protocol's code and message for the body."""

    UNKNOWN_TRANSPORT = (400, 0, "Transport unknown")
    UNKNOWN_SID = (400, 1, "Session ID unknown")
    BAD_HANDSHAKE_METHOD = (400, 2, "Bad handshake method")
    BAD_REQUEST = (400, 3, "Bad request")
    TOO_SLOW = (408, 3, "Request timeout")
    TOO_LARGE = (413, 3, "Payload too large")
    FORBIDDEN_ORIGIN = (403, 4, "Forbidden")
    UNSUPPORTED_VERSION = (400, 5, "Unsupported protocol version")
    DRAINING = (503, 3, "Server is shutting down")

    @property
    def status(self) -> int:
        """The HTTP status."""
        return int(self.value[0])

    @property
    def headers(self) -> Headers:
        """The headers of the answer besides the usual ones."""
        return [(b"retry-after", b"1")] if self.status == _UNAVAILABLE else []

    @property
    def body(self) -> bytes:
        """The JSON that Engine.IO clients expect."""
        return b'{"code":%d,"message":"%b"}' % (self.value[1], self.value[2].encode())


@dataclass(slots=True)
class Response:
    """One answer; lives until it is sent."""

    status: int
    body: bytes
    content_type: bytes
    headers: Headers = field(default_factory=list)

    @classmethod
    def refusing(cls, refusal: Refusal) -> Response:
        """Make the answer to a refused request."""
        return cls(refusal.status, refusal.body, b"application/json", refusal.headers)

    async def send(self, send: Any) -> None:
        """Write the answer; it is never to be cached."""
        headers = [
            (b"content-type", self.content_type),
            (b"content-length", b"%d" % len(self.body)),
            (b"cache-control", b"no-store"),
            *self.headers,
        ]
        await send({"type": "http.response.start", "status": self.status, "headers": headers})
        await send({"type": "http.response.body", "body": self.body})


@dataclass(slots=True)
class Handshake:
    """The parts of the request that opened a session, as far as they are read: a session keeps no other header."""

    query_string: bytes = field(repr=False)
    client_address: str
    origin: str | None

    @classmethod
    def of(cls, scope: Scope) -> Handshake:
        """Take it from the ASGI scope."""
        client = scope.get("client")
        return cls(scope.get("query_string", b""), client[0] if client else "", origin_of(scope["headers"]))


def parse_query(query_string: bytes) -> dict[str, str]:
    """Decode a query; of a repeated name the first value counts. Bad bytes are replaced, never an error."""
    pairs = parse_qsl(query_string.decode(errors="replace"), keep_blank_values=True)
    return dict(reversed(pairs))


def origin_of(headers: Iterable[tuple[bytes, bytes]]) -> str | None:
    """Return the Origin header; None: the client is no browser."""
    return next((value.decode("latin-1") for name, value in headers if name == b"origin"), None)


def cross_origin_headers(scope: Scope, allowed_origins: Collection[str] | None) -> Headers:
    """Return the headers that let a page of an allowed origin (None: any) read the answer; none for other clients."""
    given = dict(scope["headers"])
    origin = given.get(b"origin")
    if origin is None:
        return []
    headers: Headers = []
    if allowed_origins is None or origin.decode("latin-1") in allowed_origins:
        headers.append((b"access-control-allow-origin", origin))
    if scope["method"] == "OPTIONS":
        headers.append((b"access-control-allow-methods", b"OPTIONS, GET, POST"))
    if b"access-control-request-headers" in given:
        headers.append((b"access-control-allow-headers", given[b"access-control-request-headers"]))
    return [*headers, (b"access-control-allow-credentials", b"true"), (b"vary", b"origin")]


async def wait_for_disconnect(receive: Any) -> None:
    """Return when the client has given the request up."""
    while (await receive())["type"] != "http.disconnect":
        pass
