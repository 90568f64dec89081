"""The publishers' side: POST /channel/create, /channel/ping, /channel/delete and /push of a site, answered in JSON."""

import secrets
from collections.abc import Sequence

import structlog
from msgspec import Struct

from app.config.settings import HistoryLimit, Site
from app.core.delivery import Delivery
from app.core.errands import Errands
from app.core.message import Audience, Guard, Message
from app.digests import digest, is_same_secret
from app.errors import BadRequest, GuardRefused, LimitReached, StoreAway, StoreError, StoreUnavailable
from app.ids import FlakeIds
from app.observe.counted_lines import CountedLines
from app.observe.counts import Counts
from app.protocols.channels import messages
from app.protocols.channels.channel_store import ChannelStore, Creation
from app.protocols.channels.detail import Detail, encode_detail
from app.protocols.channels.figures import ChannelsCounts
from app.protocols.channels.messages import (
    CreateAction,
    DeleteAction,
    LongPushAction,
    LongPushData,
    Malformed,
    PingAction,
    PushAction,
    PushData,
)
from app.protocols.channels.settings import Channels
from app.protocols.channels.sysadmin import Sysadmin
from app.protocols.fair_pool import FairPool
from app.protocols.http_request import Receive, Scope, Send, is_mounted, key_in, query_of, read_body
from app.protocols.reading import new_reading_pool, read_aside
from app.protocols.site_keys import ApiKeys

#: Base64 makes 128 characters of these.
_TOKEN_BYTES = 96
_FOR_EVER_SECONDS = 1_000_000_000
#: The hash of ChannelStore with the existing channels.
_CHANNELS = "channels"
#: Names of errors that the contract does not name.
_SHORT = {408: "Request timeout", 413: "Payload too large", 429: "Too many requests"}
_RETRY_AFTER_SECONDS = 1
_CREATE = "channel/create"
_SYSADMIN = "sysadmin"
_KEY_MISSING = (
    "Expected the apiKey in this site's block of sites.yml: X-API-Key: KEY, Authorization: Bearer KEY or ?apiKey=KEY."
)
#: The paths where the site's key makes a difference.
_KEYED = (_CREATE, _SYSADMIN)
_POST = ("POST",)
#: The methods of paths that are not for POST alone.
_METHODS = {_SYSADMIN: ("GET", "HEAD", "POST")}

_log = structlog.get_logger(__name__)


class PublisherAnswer(Struct, frozen=True):
    """The answer to a publisher; its code is also the HTTP status."""

    code: int
    body: bytes
    retry_after_seconds: int | None = None
    #: The methods that the path takes, when the answer is 405.
    allow: str = ""


class Publishers:
    """The actions of publishers of all sites. Lives as long as the node; keeps nothing of a request."""

    def __init__(
        self,
        delivery: Delivery,
        store: ChannelStore,
        ids: FlakeIds,
        errands: Errands,
        reading: FairPool | None = None,
    ) -> None:
        self._delivery = delivery
        self._store = store
        self._ids = ids
        self._errands = errands
        self._reading = reading or new_reading_pool()

    async def create(self, site: Site, body: bytes, is_owner: bool = False) -> PublisherAnswer:
        """Creates a channel; only this answer contains its token. With `recreate` the owner of the site, who has its
        key, gets a fresh token for a channel that exists. Raises Malformed, StoreError."""
        is_renewable = is_owner and site.require_section(Channels).recreate
        channel = messages.decode(body, CreateAction).data.channel
        token = secrets.token_urlsafe(_TOKEN_BYTES)
        try:
            creation = await self._store.create_channel(site, channel, digest(token), is_renewable)
        except StoreAway:
            raise
        except StoreUnavailable:
            # It is unknown whether Redis has created the channel; without its token
            # it could never be deleted, so withdraw it.
            withdraw = self._store.withdraw_channel
            self._errands.start(self._errands.until_stored(lambda: withdraw(site, channel, digest(token)), site.name))
            raise
        if creation is Creation.EXISTS:
            return _refuse(409, "Conflict", f'A WebSocketChannel called "{channel}" already exists')
        if creation is Creation.FULL:
            return _refuse(507, "Insufficient storage", "The site has as many channels as it may have (max_channels).")
        _log.info("channel created", site=site.name, channel=channel, is_renewed=creation is Creation.RENEWED)
        return PublisherAnswer(200, messages.server_ack("Created", channel, token))

    async def ping(self, site: Site, body: bytes) -> PublisherAnswer:
        """Answers whether a channel exists and the token is right. Raises Malformed, StoreError."""
        data = messages.decode(body, PingAction).data
        found = await self._store.find_channel(site, data.channel)
        if found is None:
            return _refuse_unknown(data.channel)
        if data.channel_token is None:
            return _refuse(401, "Unauthorized", "No channel token provided")
        if not is_same_secret(data.channel_token, found.token):
            return _refuse_token()
        return PublisherAnswer(200, messages.server_ack("OK", data.channel))

    async def push(self, site: Site, body: bytes) -> PublisherAnswer:
        """Pushes into a channel: one run of one script, which also checks the token. Raises Malformed, LimitReached,
        StoreError."""
        if len(body) > messages.LONG_BYTES:
            return await self._push_long(site, messages.decode(body, LongPushAction).data)
        return await self._push(site, messages.decode(body, PushAction).data)

    async def _push_long(self, site: Site, data: LongPushData) -> PublisherAnswer:
        """Reads the recipients of a caller with the channel's token only: 10,000 uuids take milliseconds."""
        found = await self._store.find_channel(site, data.channel)
        if found is None:
            return _refuse_unknown(data.channel)
        if not is_same_secret(data.channel_token, found.token):
            return _refuse_token()
        recipients = bytes(data.recipients)
        read = await read_aside(self._reading, site.name, messages.read_recipients, recipients)
        return await self._push(site, PushData(data.channel, data.channel_token, read, data.message))

    async def _push(self, site: Site, data: PushData) -> PublisherAnswer:
        # A push to uuids is for these alone, so it does not go to the room that the channel is bound to.
        bound = [] if data.recipients else [data.channel]
        # Capitals make no other uuid.
        detail = encode_detail(Detail(recipients=[recipient.lower() for recipient in data.recipients]))
        audience = Audience("channels", [data.channel], detail, history_of(site), bound)
        packed = messages.pack(data.channel, data.message)
        guard = Guard(_CHANNELS, data.channel, digest(data.channel_token))
        message = Message(site, self._ids.next_id(), [], data.channel, packed, audiences=[audience], guard=guard)
        return await self._publish(message, "Sent", data.channel)

    async def delete(self, site: Site, body: bytes) -> PublisherAnswer:
        """Deletes a channel; every node hears of it in the order of the pushes, and unsubscribes its subscribers.
        Raises Malformed, StoreError."""
        data = messages.decode(body, DeleteAction).data
        found = await self._store.find_channel(site, data.channel)
        if found is None:
            return _refuse_unknown(data.channel)
        if data.channel_token is None:
            return _refuse_token()
        audience = Audience(
            "channels", [data.channel], encode_detail(Detail(deleted=found.first.hex())), history_of(site)
        )
        # A channel that has taken the place of this one meanwhile has another token.
        guard = Guard(_CHANNELS, data.channel, digest(data.channel_token), is_removed=True)
        packed = messages.pack(data.channel, "")
        message = Message(site, self._ids.next_id(), [], data.channel, packed, audiences=[audience], guard=guard)
        return await self._publish(message, "Deleted", data.channel)

    async def _publish(self, message: Message, done: str, channel: str) -> PublisherAnswer:
        try:
            await self._delivery.publish(message)
        except GuardRefused as refusal:
            return _refuse_unknown(channel) if refusal.is_missing else _refuse_token()
        return PublisherAnswer(200, messages.server_ack(done, channel))


class PublisherEndpoint:
    """The ASGI endpoint for requests of publishers. Lives as long as the node."""

    def __init__(self, publishers: Publishers, sysadmin: Sysadmin, max_body_bytes: int, counts: Counts) -> None:
        self._keys = ApiKeys({}, counts)
        self._publishers = publishers
        self._sysadmin = sysadmin
        self._max_body_bytes = max_body_bytes
        self._counts = counts
        # A caller needs no key for most of these lines.
        self._refusals = CountedLines(_log, "info", "channel request refused")
        self._failures = CountedLines(_log, "error", "channel request failed")
        self._wrong_keys = CountedLines(_log, "warning", "channel request refused")
        self._actions = {
            _CREATE: publishers.create,
            "channel/ping": publishers.ping,
            "channel/delete": publishers.delete,
            "push": publishers.push,
            _SYSADMIN: self._report,
        }

    async def __call__(self, site: Site, path: str, scope: Scope, receive: Receive, send: Send) -> None:
        """Answers one request to a path below the site's."""
        answer = await self._answer(site, path, scope, receive)
        if path in self._actions:
            self._counts.of(site.name).part(ChannelsCounts).requests[f"{path.rpartition('/')[2]} {answer.code}"] += 1
        if answer.code >= 400:
            self._refusals.tell(site=site.name, path=path if path in self._actions else None, status=answer.code)
        await send_answer(send, answer)

    async def _answer(self, site: Site, path: str, scope: Scope, receive: Receive) -> PublisherAnswer:
        action = self._actions.get(path)
        if action is None:
            return _refuse(404, "Not found", "There is nothing at this path.")
        # WS-PushServer looks at no method, so none is refused at its own paths.
        if scope["method"] not in _METHODS.get(path, _POST) and not is_mounted(scope):
            return _refuse_method(_METHODS.get(path, _POST))
        headers: dict[bytes, bytes] = dict(scope["headers"])
        origin = headers.get(b"origin")
        if site.origins is not None and origin is not None and origin.decode("latin-1") not in site.origins:
            return _refuse(403, "Forbidden", "Origin: pages of this origin may not publish.")
        key = key_in(query_of(scope), headers) if path in _KEYED else ""
        is_owner = bool(key) and self._keys.match(site, key)
        if not is_owner and self._needs_key(site, path):
            return self._refuse_key(site, path, is_given=bool(key))
        try:
            body = await read_body(headers, receive, self._max_body_bytes)
            if path == _CREATE:
                return await self._publishers.create(site, body, is_owner)
            return await action(site, body)
        except Malformed as error:
            return _refuse(400, "Bad Request", f"{error}: {error.details}")
        except BadRequest as error:
            return _refuse(error.status, _SHORT.get(error.status, "Bad Request"), str(error))
        except LimitReached as error:
            return _refuse(error.status, _SHORT[error.status], str(error), error.retry_after_seconds)
        except StoreUnavailable as error:
            self._failures.tell(site=site.name, path=path, reason=str(error))
            return _refuse(503, "Service unavailable", "Nothing is stored, try again.", _RETRY_AFTER_SECONDS)
        except StoreError as error:
            _log.error("channel request failed", site=site.name, path=path, reason=str(error))
            return _refuse(500, "Internal server error", "Nothing is stored.")

    async def _report(self, site: Site, body: bytes) -> PublisherAnswer:
        return PublisherAnswer(200, await self._sysadmin.report(site))

    def _needs_key(self, site: Site, path: str) -> bool:
        """Whether only the owner of the site may do this. With `open_create` anybody may create channels."""
        return path == _SYSADMIN or (path == _CREATE and not site.require_section(Channels).open_create)

    def _refuse_key(self, site: Site, path: str, is_given: bool) -> PublisherAnswer:
        if not is_given:
            return _refuse(401, "Unauthorized", _KEY_MISSING)
        self._wrong_keys.tell(site=site.name, path=path, reason="wrong key")
        return _refuse(403, "Forbidden", "The key is not the apiKey in this site's block of sites.yml.")


def history_of(site: Site) -> HistoryLimit:
    """The limits of the history of pushes of a site, for subscribers that resume."""
    messages = site.require_section(Channels).history_messages
    return HistoryLimit(messages=messages, seconds=site.device_ttl_seconds or _FOR_EVER_SECONDS)


def refuse_not_found() -> PublisherAnswer:
    """The answer for a site that does not exist or has no channels."""
    return _refuse(404, "Not found", "There is no such site, or it has no channels.")


def _refuse(code: int, message: str, details: str, retry_after_seconds: int | None = None) -> PublisherAnswer:
    return PublisherAnswer(code, messages.error(code, message, details), retry_after_seconds)


def _refuse_method(methods: Sequence[str]) -> PublisherAnswer:
    details = f"Expected {' or '.join(methods)}."
    return PublisherAnswer(405, messages.error(405, "Method not allowed", details), allow=", ".join(methods))


def _refuse_unknown(channel: str) -> PublisherAnswer:
    return _refuse(404, "Not found", messages.unknown_channel(channel))


def _refuse_token() -> PublisherAnswer:
    return _refuse(403, "Forbidden", "Channel token is invalid")


async def send_answer(send: Send, answer: PublisherAnswer) -> None:
    """Sends an answer as the response."""
    headers = [(b"content-type", b"application/json"), (b"content-length", str(len(answer.body)).encode())]
    if answer.retry_after_seconds is not None:
        headers.append((b"retry-after", str(answer.retry_after_seconds).encode()))
    if answer.code == 405:
        headers.append((b"allow", answer.allow.encode()))
    await send({"type": "http.response.start", "status": answer.code, "headers": headers})
    await send({"type": "http.response.body", "body": answer.body})
