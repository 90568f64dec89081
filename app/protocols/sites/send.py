"""POST /send and POST /send/batch: check the site's key, read messages, and answer when they are stored. The endpoint
is bare ASGI, without a framework between uvicorn and it, because every message passes through it."""

import asyncio
from collections.abc import Awaitable, Mapping
from functools import partial
from typing import Any, TypeVar

import structlog
from msgspec import Struct

from app.config.settings import Site
from app.core.delivery import Delivery
from app.core.message import Message
from app.core.ports import Outcome
from app.errors import BadRequest, LimitReached, OtherRequest, StoreError, StoreUnavailable
from app.ids import FlakeIds
from app.observe.counted_lines import CountedLines
from app.observe.counts import Counts
from app.protocols.fair_pool import FairPool
from app.protocols.http_request import Receive, Scope, Send, body_at_hand, read_body, shortcut_of
from app.protocols.reading import LARGE_BYTES, new_reading_pool, read_aside
from app.protocols.site_keys import ApiKeys
from app.protocols.sites.figures import SitesCounts, StrangerCounts
from app.protocols.sites.send_answer import Accepted, Answer, SendFailure, answer_of, answer_of_batch, write
from app.protocols.sites.send_body import SendBody, is_form, read_send_body
from app.protocols.sites.sender import BatchSender, Sender, key_of, once_of, read_batch, read_draft

BATCH_PATH = "/send/batch"
_RETRY_AFTER_SECONDS = 1
#: A form is read in Python, so a smaller one than of JSON is read in a thread.
_LONG_FORM_BYTES = 4_096

_T = TypeVar("_T")

_log = structlog.get_logger(__name__)


class _ReadRequest(Struct, frozen=True):
    """A request whose body is read. Lives until its answer."""

    query: Mapping[str, str]
    #: Its Idempotency-Key.
    key: str | None
    content_type: str
    body: bytes


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
        self._counts = counts or Counts()
        self._keys = ApiKeys(sites, self._counts, CountedLines(_log, "warning", "send refused"))
        self._sender = Sender(delivery, ids)
        self._batch_sender = BatchSender(self._sender)
        self._max_body_bytes = max_body_bytes
        self._reading = reading or new_reading_pool()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answers one request."""
        headers: dict[bytes, bytes] = dict(scope["headers"])
        site: Site | None = None
        try:
            if scope["method"] != "POST":
                raise BadRequest("Expected POST.", status=405)
            query, site = self._keys.caller_of(scope["query_string"], headers)
            is_batch = scope.get("path", "").rstrip("/") == BATCH_PATH
            key = key_of(headers)
            body = body_at_hand(scope, headers, self._max_body_bytes)
            if body is None:
                body = await read_body(headers, receive, self._max_body_bytes, may_be_compressed=True)
            request = _ReadRequest(query, key, headers.get(b"content-type", b"").decode("latin-1"), body)
            answer = await (self._batch(site, request) if is_batch else self._single(site, request, receive))
        except (BadRequest, LimitReached, OtherRequest, StoreError) as error:
            answer = _failure(site, error)
        self._count(site, answer)
        await write(shortcut_of(scope), send, answer, b"application/json" in headers.get(b"accept", b""))

    def _count(self, site: Site | None, answer: Answer) -> None:
        # A caller without a site's key does not count in that site's numbers.
        if site is None:
            self._counts.part(StrangerCounts).sends += 1
        else:
            self._counts.of(site.name).part(SitesCounts).sends[answer.result] += 1

    async def _single(self, site: Site, request: _ReadRequest, receive: Receive) -> Answer:
        content_type, body = request.content_type, request.body
        long_bytes = _LONG_FORM_BYTES if is_form(content_type) else LARGE_BYTES
        if len(body) <= long_bytes:
            sent = read_send_body(content_type, body)
        else:
            sent = await read_aside(self._reading, site.name, partial(read_send_body, content_type), body, long_bytes)
        message = self._message(site, request.query, request.key, sent)
        sending = self._sender.send(message)
        outcome: Outcome = await (_unless_gone(sending, receive) if message.options.wait else sending)
        return answer_of(message, outcome)

    async def send_body(
        self, site: Site, query: Mapping[str, str], key: str | None, body: bytes, *, is_dry: bool = False
    ) -> Accepted | SendFailure | None:
        """The answer to a body of JSON that an operator sends, counted like every other. With `is_dry` it is checked
        and not sent; None: it is as it should be."""
        try:
            sent = await read_aside(self._reading, site.name, partial(read_send_body, ""), body)
            message = self._message(site, query, key, sent)
            if is_dry:
                return None
            answer: Accepted | SendFailure = answer_of(message, await self._sender.send(message))
        except (BadRequest, LimitReached, OtherRequest, StoreError) as error:
            answer = _failure(site, error)
        self._count(site, answer)
        return answer

    def _message(self, site: Site, query: Mapping[str, str], key: str | None, sent: SendBody) -> Message:
        """The message of a body that was read. Raises BadRequest."""
        if len(sent.packed) > self._max_body_bytes:
            raise BadRequest(f"Body: expected at most {self._max_body_bytes} bytes as JSON.", status=413)
        draft = read_draft(site, query, sent)
        once = once_of(site, key, [draft])[0] if key else None
        return self._sender.message(site, draft, once)

    async def _batch(self, site: Site, request: _ReadRequest) -> Answer:
        read = partial(read_batch, site, request.query, request.content_type)
        drafts = await read_aside(self._reading, site.name, read, request.body)
        return answer_of_batch(await self._batch_sender.send(site, drafts, request.key))


def _failure(site: Site | None, error: Exception) -> SendFailure:
    """The answer to a request that failed, with its line in the log."""
    name = site.name if site else None
    match error:
        case BadRequest():
            if site is not None:
                _log.info("send refused", site=name, status=error.status, reason=str(error))
            return SendFailure(error.status, str(error), "refused")
        case LimitReached():
            # The metrics count these refusals. A line for each would let one tenant fill the disk of all tenants.
            _log.debug("send refused", site=name, status=error.status, reason=str(error))
            return SendFailure(error.status, str(error), "limited", error.limit, error.retry_after_seconds)
        case OtherRequest():
            return SendFailure(422, str(error), "refused", "idempotency_key_reused")
        case StoreUnavailable():
            _log.error("send failed", site=name, reason=str(error))
            text = "The message is not stored, try again."
            return SendFailure(503, text, "unavailable", "unavailable", _RETRY_AFTER_SECONDS)
        case _:
            _log.error("send failed", site=name, reason=str(error))
            return SendFailure(500, "The message is not stored.", "failed")


async def _unless_gone(sending: Awaitable[_T], receive: Receive) -> _T:
    """The result of a send that waits for acks. A caller that leaves ends the wait, not the message."""
    task = asyncio.ensure_future(sending)
    gone = asyncio.ensure_future(_disconnected(receive))
    try:
        await asyncio.wait((task, gone), return_when=asyncio.FIRST_COMPLETED)
        if not task.done():
            raise BadRequest("The caller has left.")
        return await task
    finally:
        for one in (task, gone):
            one.cancel()
        await asyncio.gather(task, gone, return_exceptions=True)


async def _disconnected(receive: Receive) -> Any:
    while (await receive())["type"] != "http.disconnect":
        pass
