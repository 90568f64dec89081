"""POST /send: checks the site's key, reads the message, and answers when the message is stored. The endpoint is bare
ASGI, without a framework between uvicorn and it, because every message passes through it."""

from functools import partial

import msgspec
import structlog

from app.config.settings import Site
from app.core.delivery import Delivery
from app.core.message import Message
from app.core.ports import Stored
from app.digests import digest, is_same_secret
from app.errors import BadRequest, LimitReached, StoreError, StoreUnavailable
from app.ids import FlakeIds
from app.observe.counted_lines import CountedLines
from app.observe.counts import Counts
from app.protocols.fair_pool import FairPool
from app.protocols.http_request import Receive, Scope, Send, key_in, query_of, read_body
from app.protocols.reading import LARGE_BYTES, new_reading_pool, read_aside
from app.protocols.sites.figures import SitesCounts, StrangerCounts
from app.protocols.sites.send_body import is_form, read_send_body

MISSING = "Missing query param 'site' or 'apiKey'."
INVALID = "ApiKey invalid."
_RETRY_AFTER_SECONDS = 1
#: A form is read in Python, so a smaller one than of JSON is read in a thread.
_LONG_FORM_BYTES = 4_096
_FALSE = frozenset(("", "false", "0", "no", "off"))
_TEXT = (b"content-type", b"text/plain; charset=utf-8")
_JSON = (b"content-type", b"application/json")
_OK = ([_TEXT, (b"content-length", b"2")], b"OK")

_log = structlog.get_logger(__name__)


class SendEndpoint:
    """The endpoint of all sites. Lives as long as the server, and keeps no state of a request."""

    def __init__(
        self,
        sites: dict[str, Site],
        delivery: Delivery,
        ids: FlakeIds,
        max_body_bytes: int,
        counts: Counts | None = None,
        reading: FairPool | None = None,
    ) -> None:
        self._sites = sites
        self._keys = {name: digest(site.api_key) for name, site in sites.items()}
        self._delivery = delivery
        self._ids = ids
        self._max_body_bytes = max_body_bytes
        self._counts = counts or Counts()
        self._unauthorized = CountedLines(_log, "warning", "send refused")
        self._reading = reading or new_reading_pool()

    def add(self, site: Site) -> None:
        """Knows the key of a site before `sites` has it."""
        self._keys[site.name] = digest(site.api_key)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answers one request."""
        headers: dict[bytes, bytes] = dict(scope["headers"])
        as_json = b"application/json" in headers.get(b"accept", b"")
        site: Site | None = None
        result = "failed"
        try:
            if scope["method"] != "POST":
                raise BadRequest("Expected POST.", status=405)
            query = query_of(scope)
            site = self._authorized_site(query, headers)
            message = await self._read(site, query, headers, receive)
            stored = await self._delivery.publish(message)
        except BadRequest as error:
            result = "refused"
            if site is not None:
                _log.info("send refused", site=site.name, status=error.status, reason=str(error))
            await _answer_error(send, error.status, str(error), as_json)
        except LimitReached as error:
            result = "limited"
            # The metrics count these refusals. A log line for each would let one tenant fill the disk of all tenants.
            _log.debug("send refused", site=site.name if site else None, status=error.status, reason=str(error))
            await _answer_error(send, error.status, str(error), as_json, error.retry_after_seconds)
        except StoreUnavailable as error:
            result = "unavailable"
            _log.error("send failed", site=site.name if site else None, reason=str(error))
            await _answer_error(send, 503, "The message is not stored, try again.", as_json, _RETRY_AFTER_SECONDS)
        except StoreError as error:
            _log.error("send failed", site=site.name if site else None, reason=str(error))
            await _answer_error(send, 500, "The message is not stored.", as_json)
        else:
            result = "accepted"
            await _answer_ok(send, message, stored, as_json)
        finally:
            self._count(site, result)

    def _count(self, site: Site | None, result: str) -> None:
        # A caller without a site's key does not count in that site's numbers.
        if site is None:
            self._counts.part(StrangerCounts).sends += 1
        else:
            self._counts.of(site.name).part(SitesCounts).sends[result] += 1

    async def _read(self, site: Site, query: dict[str, str], headers: dict[bytes, bytes], receive: Receive) -> Message:
        body = await read_body(headers, receive, self._max_body_bytes, may_be_compressed=True)
        content_type = headers.get(b"content-type", b"").decode("latin-1")
        large_bytes = _LONG_FORM_BYTES if is_form(content_type) else LARGE_BYTES
        sent = await read_aside(self._reading, site.name, partial(read_send_body, content_type), body, large_bytes)
        if len(sent.packed) > self._max_body_bytes:
            raise BadRequest(f"Body: expected at most {self._max_body_bytes} bytes as JSON.", status=413)
        resync = query.get("resync", "").lower() not in _FALSE
        return Message(site, self._ids.next_id(), sent.rooms, sent.event, sent.packed, resync)

    def _authorized_site(self, query: dict[str, str], headers: dict[bytes, bytes]) -> Site:
        """Returns the site whose key the caller presents. An unknown site and a wrong key take the same time and get
        the same answer."""
        name = query.get("site", "")
        key = key_in(query, headers)
        if not name or not key:
            raise BadRequest(MISSING)
        site = self._sites.get(name)
        expected = self._keys[name] if site else digest("")
        if not is_same_secret(key, expected) or site is None:
            self._unauthorized.tell(site=name if site else None, reason="wrong key" if site else "unknown site")
            raise BadRequest(INVALID, status=401)
        return site


async def _answer_ok(send: Send, message: Message, stored: Stored, as_json: bool) -> None:
    headers, body = _OK
    if as_json:
        # The id is sent as text: it is larger than the numbers that JavaScript represents exactly.
        body = msgspec.json.encode({"ok": True, "id": str(message.id), "recipients": stored.recipients})
        headers = [_JSON, (b"content-length", str(len(body)).encode())]
    await send({"type": "http.response.start", "status": 200, "headers": headers})
    await send({"type": "http.response.body", "body": body})


async def _answer_error(
    send: Send, status: int, reason: str, as_json: bool, retry_after_seconds: int | None = None
) -> None:
    body = msgspec.json.encode({"ok": False, "error": reason}) if as_json else reason.encode()
    headers = [_JSON if as_json else _TEXT, (b"content-length", str(len(body)).encode())]
    if retry_after_seconds is not None:
        headers.append((b"retry-after", b"%d" % retry_after_seconds))
    if status == 405:
        headers.append((b"allow", b"POST"))
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": body})
