"""The HTTP side of Engine.IO: handshakes, refusals, the bodies of requests, answers.

Thin over ASGI; knows no sessions. Never logs: the query holds the user's token.
"""

from __future__ import annotations

import enum
import re
import sys
from collections.abc import Mapping, MutableMapping
from dataclasses import dataclass, field
from typing import Any

import msgspec

from app.transport.query import fields_of
from app.transport.tls_text import tls_of_scope
from app.transport.user_agent import user_agent_of

Headers = list[tuple[bytes, bytes]]

_TRY_AGAIN = (429, 503)
Scope = MutableMapping[str, Any]
_packed = msgspec.msgpack.Decoder(dict[str, str])
_NO_FIELDS = msgspec.msgpack.encode({})


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
    TOO_MANY_SESSIONS = (429, 3, "Too many connections")
    DRAINING = (503, 3, "Server is shutting down")

    @property
    def status(self) -> int:
        """The HTTP status."""
        return int(self.value[0])

    @property
    def headers(self) -> Headers:
        """The headers of the answer besides the usual ones."""
        return [(b"retry-after", b"1")] if self.status in _TRY_AGAIN else []

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
            (b"x-content-type-options", b"nosniff"),
            *self.headers,
        ]
        await send({"type": "http.response.start", "status": self.status, "headers": headers})
        await send({"type": "http.response.body", "body": self.body})


class Handshake:
    """The parts of the request that opened a session, as far as they are read: a session keeps no header of it but the
    user agent's, of which equal ones share their memory.

    Its repr shows no secret.
    """

    __slots__ = ("_is_packed", "_query", "client_address", "tls", "user_agent")

    def __init__(
        self,
        query: bytes,
        client_address: str,
        user_agent: str = "",
        tls: str | None = None,
        *,
        is_packed: bool = False,
    ) -> None:
        """Take the parts; a query is packed by `keep`."""
        self.client_address = client_address
        self.user_agent = user_agent
        # One of few texts: most sessions share it.
        self.tls = sys.intern(tls) if tls else None
        self._query = query
        self._is_packed = is_packed

    @classmethod
    def of(cls, scope: Scope) -> Handshake:
        """Take it from the ASGI scope."""
        client = scope.get("client")
        address = client[0] if client else ""
        agent = user_agent_of(scope.get("headers", ()))
        return cls(scope.get("query_string", b""), address, agent, tls_of_scope(scope))

    @property
    def query(self) -> dict[str, str]:
        """The query, read at each use: what was read takes four times the memory."""
        if self._query is _NO_FIELDS:
            return {}
        return _packed.decode(self._query) if self._is_packed else parse_query(self._query)

    def keep(self, fields: KeptFields) -> Handshake:
        """Make a handshake of these fields of the query alone, for a session that lives on.

        The query of a stranger has up to 64 KB. A value longer than its number of bytes is cut behind one more: an
        application that refuses a longer one still refuses it.
        """
        packed = _NO_FIELDS
        if fields.may_be_in(self._query):
            query = self.query
            kept = {name: _cut(query[name], most) for name, most in fields.most_bytes.items() if name in query}
            packed = msgspec.msgpack.encode(kept)
        return Handshake(packed, self.client_address, self.user_agent, self.tls, is_packed=True)


class KeptFields:
    """The fields of a query that a session keeps. Lives as long as the server."""

    def __init__(self, most_bytes: Mapping[str, int]) -> None:
        """Take the names, each with as many bytes as are read of its value."""
        self.most_bytes = most_bytes
        # A name may be written with percent signs.
        names = [re.escape(name.encode()) for name in most_bytes]
        self._pattern = re.compile(b"|".join([b"%", *names]))

    def may_be_in(self, query: bytes) -> bool:
        """Whether the query may have one of the fields."""
        return self._pattern.search(query) is not None


def _cut(value: str, most: int) -> str:
    data = value.encode(errors="replace")
    return value if len(data) <= most else data[: most + 1].decode(errors="replace")


def parse_query(query_string: bytes) -> dict[str, str]:
    """Decode a query; of a repeated name the first value counts. Bad bytes are replaced, never an error."""
    return dict(reversed(fields_of(query_string))) if query_string else {}


async def wait_for_disconnect(receive: Any) -> None:
    """Return when the client has given the request up."""
    while (await receive())["type"] != "http.disconnect":
        pass
