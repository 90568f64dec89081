"""The HTTP side of receipts: the key, the bounds of a request, errors with their codes. Bare ASGI, for any method."""

from collections.abc import Awaitable, Callable, Mapping
from typing import Any

import msgspec
import structlog

from app.config.settings import Site
from app.errors import BadRequest, RequestRefused, StoreError, StoreUnavailable
from app.observe.counts import Counts
from app.protocols.http_request import Receive, Scope, Send, query_of
from app.protocols.receipts.cursor import list_name
from app.protocols.receipts.figures import ReceiptsCounts, UnknownAskers
from app.protocols.receipts.parameters import Parameters
from app.protocols.receipts.refusal import ReceiptRefused
from app.protocols.receipts.settings import MAX_UNDER_WAY, REQUEST_SECONDS
from app.protocols.site_keys import ApiKeys
from app.protocols.turns import Turns

#: Answers a request with a JSON value. Raises ReceiptRefused, StoreError.
Handler = Callable[[Site, Parameters, Mapping[str, str]], Awaitable[dict[str, Any]]]

_RETRY_AFTER_SECONDS = b"1"
_TRY_AGAIN = (429, 503)
_KEY_CODES = {400: "missing_key", 401: "invalid_key"}

_log = structlog.get_logger(__name__)


class Gate:
    """The common part of all paths of one node: keys, counts, the requests of each site under way. Lives as long as the
    node."""

    def __init__(self, keys: ApiKeys, counts: Counts) -> None:
        self.keys = keys
        self._counts = counts
        self.turns = Turns(MAX_UNDER_WAY, REQUEST_SECONDS, "a site")

    def count(self, site: Site | None, result: str) -> None:
        """Counts a request. A caller without a site's key does not count in that site's numbers."""
        if site is None:
            self._counts.part(UnknownAskers).requests += 1
        else:
            self._counts.of(site.name).part(ReceiptsCounts).requests[result] += 1


class ReceiptEndpoint:
    """One path, with its methods. Lives as long as the node, and keeps no state of a request."""

    def __init__(self, gate: Gate, handlers: Mapping[str, Handler]) -> None:
        self._gate = gate
        self._handlers = handlers

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answers one request."""
        headers: dict[bytes, bytes] = dict(scope["headers"])
        wants_json = b"application/json" in headers.get(b"accept", b"")
        site: Site | None = None
        result = "failed"
        try:
            handler = self._handler_of(scope["method"])
            query = query_of(scope)
            site = self._site_of(query, headers)
            path: Mapping[str, str] = scope.get("path_params", {})
            parameters = Parameters(query, site.api_key, list_name(scope["path"], query))
            async with self._gate.turns.turn(site.name):
                answer = await handler(site, parameters, path)
            result = "answered"
        except RequestRefused as refusal:
            result = "limited" if refusal.status == 429 else "unavailable" if refusal.status == 503 else "refused"
            await self._refuse(send, refusal, wants_json)
        except StoreUnavailable as error:
            result = "unavailable"
            _log.error("receipts not read", site=site.name if site else None, reason=str(error))
            away = ReceiptRefused("The message store is away, try again.", "store_unavailable", 503)
            await self._refuse(send, away, wants_json)
        except StoreError as error:
            _log.error("receipts not read", site=site.name if site else None, reason=str(error))
            await self._refuse(send, ReceiptRefused("The message store failed.", "store_failed", 500), wants_json)
        else:
            await _answer(send, 200, answer, wants_json or scope["method"] == "GET")
        finally:
            self._gate.count(site, result)

    def _handler_of(self, method: str) -> Handler:
        if method not in self._handlers:
            expected = ", ".join(sorted(self._handlers))
            raise ReceiptRefused(f"Expected {expected}.", "method_not_allowed", 405)
        return self._handlers[method]

    def _site_of(self, query: dict[str, str], headers: dict[bytes, bytes]) -> Site:
        try:
            return self._gate.keys.authorized_site(query, headers)
        except BadRequest as error:
            raise ReceiptRefused(str(error), _KEY_CODES[error.status], error.status) from None

    async def _refuse(self, send: Send, refusal: RequestRefused, wants_json: bool) -> None:
        more: list[tuple[bytes, bytes]] = []
        if refusal.status in _TRY_AGAIN:
            more.append((b"retry-after", _RETRY_AFTER_SECONDS))
        if refusal.status == 405:
            more.append((b"allow", ", ".join(sorted(self._handlers)).encode()))
        if wants_json:
            answer = {"ok": False, "error": str(refusal), "code": refusal.code}
            await _write(send, refusal.status, b"application/json", msgspec.json.encode(answer), more)
        else:
            await _write(send, refusal.status, b"text/plain; charset=utf-8", str(refusal).encode(), more)


async def _answer(send: Send, status: int, answer: dict[str, Any], as_json: bool) -> None:
    """Answers JSON. The short answers of DELETE are text, as those of /send, unless JSON is asked for."""
    if as_json:
        await _write(send, status, b"application/json", msgspec.json.encode(answer), [])
    else:
        await _write(send, status, b"text/plain; charset=utf-8", f"OK {answer['devices']}".encode(), [])


async def _write(send: Send, status: int, kind: bytes, body: bytes, more: list[tuple[bytes, bytes]]) -> None:
    headers = [
        (b"content-type", kind),
        (b"content-length", str(len(body)).encode()),
        (b"cache-control", b"no-store"),
        (b"x-content-type-options", b"nosniff"),
        *more,
    ]
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": body})
