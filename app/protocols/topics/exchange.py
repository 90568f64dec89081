"""One HTTP request to a site's topics, and its answer: CORS, the site's key, the body. Knows no topic."""

from collections.abc import Sequence
from typing import TypeAlias

import msgspec

from app.config.settings import Site
from app.errors import BadRequest
from app.protocols.http_request import (
    Receive,
    Scope,
    Send,
    fields_in,
    first_values,
    is_mounted,
    key_in,
    read_body,
    shown_origin,
)
from app.protocols.site_keys import ApiKeys
from app.transport.streaming import EXTENSION, StatusLine

Header: TypeAlias = tuple[bytes, bytes]

TEXT = b"text/plain;charset=utf-8"
JSON = b"application/json;charset=utf-8"

_ALLOWED_HEADERS = (
    b"Authorization, X-API-KEY, Origin, X-Requested-With, Content-Type, Accept, Access-Control-Allow-Request-Method, "
    b"Cache-Control, Last-Event-ID"
)
_PREFLIGHT_SECONDS = b"7200"
#: The fields of a query. A subscription that has more topics comes in a body.
MAX_FIELDS = 2_048


class Exchange:
    """One request and its answer. Lives as long as its request."""

    def __init__(self, site: Site, scope: Scope, receive: Receive, send: Send) -> None:
        self.site = site
        self.scope = scope
        self.receive = receive
        self.send = send
        self.method: str = scope["method"]
        #: Whether it came to a path of es-web-notify.
        self.is_mounted = is_mounted(scope)
        #: Whether it has no key, at a path that the site has opened.
        self.is_open = False
        self.headers: dict[bytes, bytes] = dict(scope["headers"])
        #: Every parameter of the query, in order, and one more than there may be.
        self.parameters = fields_in(scope, MAX_FIELDS + 1)
        self.query = first_values(self.parameters)

    @property
    def is_from_foreign_page(self) -> bool:
        """Whether a browser asks on behalf of a page whose origin the site does not list."""
        origin, known = self.headers.get(b"origin"), self.site.origins
        return known is not None and origin is not None and origin.decode("latin-1") not in known

    @property
    def shown_origin(self) -> str:
        """The origin of the page that asks, for a log line."""
        return shown_origin(self.headers.get(b"origin", b"").decode("latin-1"))

    def cors_headers(self) -> list[Header]:
        """The headers that let a page read the answer; none for a page whose origin the site does not list."""
        if self.site.origins is None:
            return [(b"access-control-allow-origin", b"*")]
        origin = self.headers.get(b"origin")
        named = [(b"access-control-allow-origin", origin)] if origin and not self.is_from_foreign_page else []
        return [*named, (b"vary", b"Origin")]

    def check_key(self, keys: ApiKeys) -> None:
        """Raises BadRequest unless the request presents a key of the site: in `token=`, or as for /send."""
        if not keys.match(self.site, self.query.get("token") or key_in(self.query, self.headers)):
            raise BadRequest("Token invalid, expected the site's apiKey as token=, X-API-Key or Bearer.", status=401)

    async def read_body(self, max_bytes: int, *, may_be_compressed: bool = False) -> bytes:
        """Reads the body; a compressed one only where the request has presented a key. Raises BadRequest."""
        return await read_body(self.headers, self.receive, max_bytes, may_be_compressed=may_be_compressed)

    async def answer(
        self, status: int, body: bytes = b"", content_type: bytes = TEXT, more: Sequence[Header] = ()
    ) -> None:
        """Sends the answer."""
        length = [] if status == 204 else [(b"content-length", str(len(body)).encode())]
        kind = [(b"content-type", content_type), (b"x-content-type-options", b"nosniff")] if body else []
        headers = [*kind, *length, (b"cache-control", b"no-store"), *self.cors_headers(), *more]
        await self.send({"type": "http.response.start", "status": status, "headers": headers})
        await self.send({"type": "http.response.body", "body": b"" if self.method == "HEAD" else body})

    async def answer_json(self, value: object, status: int = 200, more: Sequence[Header] = ()) -> None:
        """Answers with this value as JSON."""
        await self.answer(status, msgspec.json.encode(value), JSON, more)

    async def answer_error(self, status: int, reason: str, more: Sequence[Header] = (), phrase: str = "") -> None:
        """Answers with the reason as text. `phrase` stands in the status line; "": the reason."""
        line: StatusLine | None = self.scope.get("extensions", {}).get(EXTENSION)
        if line is not None:
            line.give_reason(phrase or reason)
        if status in (408, 413):
            # The rest of the body may be on its way, so the connection must close.
            more = [*more, (b"connection", b"close")]
        if status == 503:
            more = [*more, (b"retry-after", b"1")]
        await self.answer(status, reason.encode("utf-8", "replace"), TEXT, more)

    async def answer_preflight(self, methods: Sequence[str]) -> None:
        """Answers OPTIONS with the methods and headers that a page may send."""
        allow = ", ".join([*methods, "OPTIONS"]).encode()
        permitted = [
            (b"allow", allow),
            (b"access-control-allow-methods", allow),
            (b"access-control-allow-headers", _ALLOWED_HEADERS),
            (b"access-control-max-age", _PREFLIGHT_SECONDS),
        ]
        await self.answer(200, more=permitted)
