"""The paths of Pusher's HTTP API: `/apps/<app id>/...`. A request is checked by its signature before its body is read.

Answers and statuses are those of Pusher: JSON, or a text that says what is wrong.
"""

from collections.abc import Awaitable, Callable, Mapping, Sequence
from functools import partial
from typing import Any

import msgspec
import structlog
from msgspec import Struct

from app.config.settings import Site
from app.core.limits import check_message
from app.errors import BadRequest, LimitReached, OtherRequest, RequestRefused, StoreError, StoreUnavailable
from app.observe.counted_lines import CountedLines
from app.observe.counts import Counts
from app.protocols.fair_pool import FairPool
from app.protocols.http_request import Receive, Scope, Send, fields_in, read_body, segments_of
from app.protocols.reading import read_aside
from app.protocols.sites.figures import SitesCounts, StrangerCounts
from app.protocols.sites.pusher.apps import PusherApps
from app.protocols.sites.pusher.events import (
    SUBSCRIPTIONS,
    USERS,
    EventDraft,
    checked_channel,
    read_event,
    read_events,
    read_info,
    room_of,
    user_room_of,
)
from app.protocols.sites.pusher.occupancy import ChannelFacts, Occupancy
from app.protocols.sites.pusher.signature import SignedRequest, check_body, signed_request
from app.protocols.sites.send_answer import SendFailure
from app.protocols.sites.sender import BatchSender, Sender, key_of, once_of

#: The query of a request, which a stranger may make as long as a head. That of a package has some 300 bytes.
MAX_SIGNED_QUERY_BYTES = 4_096
_PRESENCE = "presence-"
_log = structlog.get_logger(__name__)


class PusherParts(Struct, frozen=True):
    """The parts of a node behind the API. Lives as long as the node."""

    apps: PusherApps
    sender: Sender
    occupancy: Occupancy
    #: Ends the connections of a user, by its room; answers how many nodes have not answered.
    terminate: Callable[[Site, str], Awaitable[int]]
    reading: FairPool
    counts: Counts
    max_body_bytes: int


class _AppRequest(Struct, frozen=True):
    """A request that is signed for a site. Lives until its answer."""

    site: Site
    #: The segments of the path behind the app's id.
    place: Sequence[str]
    fields: Mapping[str, str]
    body: bytes
    #: Its Idempotency-Key.
    key: str | None


_Handler = Callable[[_AppRequest], Awaitable[dict[str, Any]]]


class PusherEndpoint:
    """The paths of all apps. Lives as long as the node, and keeps no state of a request."""

    def __init__(self, parts: PusherParts) -> None:
        self._parts = parts
        self._batch_sender = BatchSender(parts.sender)
        self._refused = CountedLines(_log, "warning", "pusher request refused")
        #: By the segments behind the app's id; None stands for any.
        self._handlers: dict[tuple[str | None, ...], tuple[str, _Handler]] = {
            ("events",): ("POST", self._trigger),
            ("batch_events",): ("POST", self._trigger_batch),
            ("channels",): ("GET", self._list_channels),
            ("channels", None): ("GET", self._show_channel),
            ("channels", None, "users"): ("GET", self._list_users),
            ("users", None, "terminate_connections"): ("POST", self._terminate),
        }

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answers one request."""
        site: Site | None = None
        status, more = 200, list[tuple[bytes, bytes]]()
        try:
            place = segments_of(scope)[1:]
            method, handler = self._handler_of(place[1:])
            if scope["method"] != method:
                more = [(b"allow", method.encode())]
                raise BadRequest(f"Expected {method}.", status=405)
            if len(scope["query_string"]) > MAX_SIGNED_QUERY_BYTES:
                raise BadRequest(f"Query: expected at most {MAX_SIGNED_QUERY_BYTES} bytes.")
            signed = signed_request(method, _paths_of(scope), fields_in(scope))
            site = self._parts.apps.site_of(place[0], signed)
            answer = await handler(await self._read(site, place[1:], signed, scope, receive))
            text, kind = msgspec.json.encode(answer), b"application/json"
        except (BadRequest, LimitReached, RequestRefused, OtherRequest, StoreError) as error:
            failure = _failure_of(error)
            status, text, kind = failure.status, f"{failure.reason}\n".encode(), b"text/plain; charset=utf-8"
            more = more or failure.headers
            self._note(site, failure)
        self._count(site, status)
        await _write(send, status, kind, text, more)

    def _handler_of(self, place: Sequence[str]) -> tuple[str, _Handler]:
        is_named = len(place) > 1 and bool(place[1])
        found = self._handlers.get((place[0], None, *place[2:]) if is_named else tuple(place)) if place else None
        if found is None:
            raise BadRequest("Not found.", status=404)
        return found

    async def _read(
        self, site: Site, place: Sequence[str], signed: SignedRequest, scope: Scope, receive: Receive
    ) -> _AppRequest:
        headers: dict[bytes, bytes] = dict(scope["headers"])
        body = await read_body(headers, receive, self._parts.max_body_bytes)
        await read_aside(self._parts.reading, site.name, partial(check_body, signed), body)
        return _AppRequest(site, place, signed.fields, body, key_of(headers))

    def _note(self, site: Site | None, failure: SendFailure) -> None:
        if site is None:
            self._refused.tell(site=None, reason=str(failure.status))
        elif failure.result == "refused":
            _log.info("pusher request refused", site=site.name, status=failure.status, reason=failure.reason)
        elif failure.result != "limited":
            _log.error("pusher request failed", site=site.name, status=failure.status, reason=failure.reason)

    def _count(self, site: Site | None, status: int) -> None:
        # A caller without a signature does not count in a site's numbers.
        if site is None:
            self._parts.counts.part(StrangerCounts).pusher += 1
        else:
            self._parts.counts.of(site.name).part(SitesCounts).pusher[_RESULTS.get(status, "refused")] += 1

    # Events

    async def _trigger(self, request: _AppRequest) -> dict[str, Any]:
        site = request.site
        events = await read_aside(self._parts.reading, site.name, partial(read_event, site), request.body)
        (event,) = events
        message = self._parts.sender.message(site, event.draft, once_of(site, request.key, [event.draft])[0])
        await self._parts.sender.send(message)
        shown = await self._info_of(site, events)
        return {"channels": shown[0]} if event.info else {}

    async def _trigger_batch(self, request: _AppRequest) -> dict[str, Any]:
        site = request.site
        events = await read_aside(self._parts.reading, site.name, partial(read_events, site), request.body)
        drafts = [event.draft for event in events]
        for draft in drafts:
            # All or none, as far as it is known before.
            check_message(self._parts.sender.message(site, draft, None))
        answers = await self._batch_sender.send(site, drafts, request.key)
        for number, answer in enumerate(answers):
            if isinstance(answer, SendFailure):
                reason = f"batch[{number}]: {answer.reason} The others may be sent."
                raise RequestRefused(reason, answer.code, _of_pusher(answer.status))
        if not any(event.info for event in events):
            return {}
        return {"batch": [next(iter(one.values()), {}) for one in await self._info_of(site, events)]}

    async def _info_of(self, site: Site, events: Sequence[EventDraft]) -> list[dict[str, dict[str, int]]]:
        """The attributes of the channels of each event; none when they cannot be had, because the events are sent."""
        asked = {channel for event in events if event.info for channel in event.channels}
        if not asked:
            return [{} for _ in events]
        rooms = {channel: room_of(site, channel) for channel in asked}
        with_users = any(USERS in event.info for event in events)
        try:
            found = await self._parts.occupancy.ask(site, list(rooms.values()), with_users=with_users)
        except (RequestRefused, StoreError) as error:
            _log.warning("channels not counted", site=site.name, reason=str(error))
            return [{} for _ in events]
        return [
            {channel: _shown(channel, found.get(rooms[channel].lower()), event.info) for channel in event.channels}
            if event.info
            else {}
            for event in events
        ]

    # Channels and users

    async def _list_channels(self, request: _AppRequest) -> dict[str, Any]:
        prefix, info = request.fields.get("filter_by_prefix", ""), read_info(request.fields.get("info"))
        if USERS in info and not prefix.startswith(_PRESENCE):
            raise BadRequest(f"info: expected {USERS} with a filter_by_prefix that begins with {_PRESENCE}.")
        found = await self._parts.occupancy.ask(request.site, None, prefix, with_users=USERS in info)
        return {"channels": {facts.name: _shown(facts.name, facts, info) for facts in found.values()}}

    async def _show_channel(self, request: _AppRequest) -> dict[str, Any]:
        channel, info = checked_channel(request.place[1]), read_info(request.fields.get("info"))
        if USERS in info and not channel.startswith(_PRESENCE):
            raise BadRequest(f"info: expected {USERS} of a channel that begins with {_PRESENCE}.")
        facts = await self._facts_of(request.site, channel, with_users=USERS in info)
        return {"occupied": facts is not None, **_shown(channel, facts, info)}

    async def _list_users(self, request: _AppRequest) -> dict[str, Any]:
        channel = checked_channel(request.place[1])
        if not channel.startswith(_PRESENCE):
            raise BadRequest(f"channel: expected one that begins with {_PRESENCE}.")
        facts = await self._facts_of(request.site, channel, with_users=True)
        return {"users": [{"id": user} for user in sorted(facts.users)] if facts else []}

    async def _facts_of(self, site: Site, channel: str, *, with_users: bool) -> ChannelFacts | None:
        room = room_of(site, channel)
        return (await self._parts.occupancy.ask(site, [room], with_users=with_users)).get(room.lower())

    async def _terminate(self, request: _AppRequest) -> dict[str, Any]:
        room = user_room_of(request.site, request.place[1])
        if await self._parts.terminate(request.site, room):
            raise RequestRefused("Not every node has answered, try again.", "silent_node", 503)
        return {}


_RESULTS = {200: "accepted", 403: "limited", 413: "refused", 429: "limited", 500: "failed", 503: "unavailable"}


def _paths_of(scope: Scope) -> tuple[str, str]:
    """The path as the client wrote it, and decoded."""
    raw: bytes = scope.get("raw_path") or scope["path"].encode()
    return raw.partition(b"?")[0].decode("utf-8", "replace"), scope["path"]


def _shown(channel: str, facts: ChannelFacts | None, info: frozenset[str]) -> dict[str, int]:
    shown: dict[str, int] = {}
    if USERS in info and channel.startswith(_PRESENCE):
        shown[USERS] = len(facts.users) if facts else 0
    if SUBSCRIPTIONS in info:
        shown[SUBSCRIPTIONS] = facts.subscriptions if facts else 0
    return shown


def _of_pusher(status: int) -> int:
    """The status of a limit: Pusher answers 403 to an app that is over its quota."""
    return 403 if status == 429 else status


def _failure_of(error: Exception) -> SendFailure:
    """The answer to a request that failed, by the statuses of Pusher."""
    match error:
        case BadRequest():
            return SendFailure(error.status, str(error), "refused")
        case RequestRefused():
            result = _RESULTS.get(error.status, "refused")
            return SendFailure(error.status, str(error), result, retry_after_seconds=None if result == "refused" else 1)
        case LimitReached():
            status = _of_pusher(error.status)
            return SendFailure(status, str(error), "limited", error.limit, error.retry_after_seconds)
        case OtherRequest():
            return SendFailure(400, str(error), "refused")
        case StoreUnavailable():
            return SendFailure(503, "The event is not stored, try again.", "unavailable", retry_after_seconds=1)
        case _:
            return SendFailure(500, "The event is not stored.", "failed")


async def _write(send: Send, status: int, kind: bytes, body: bytes, more: Sequence[tuple[bytes, bytes]]) -> None:
    headers = [(b"content-type", kind), (b"content-length", b"%d" % len(body)), *more]
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": body})
