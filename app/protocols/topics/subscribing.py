"""The two ways to subscribe: POST / with es-web-notify's frames, GET /stream with Server-Sent Events."""

from functools import partial
from typing import Protocol

import structlog

from app.core.limits import Limits
from app.errors import BadRequest, StoreError
from app.protocols.fair_pool import FairPool
from app.protocols.reading import read_aside
from app.protocols.topics.exchange import MAX_FIELDS, TEXT, Exchange
from app.protocols.topics.frames import Encoding
from app.protocols.topics.identity import Identities
from app.protocols.topics.level_budget import LevelBudget
from app.protocols.topics.requests import RequestedTopic, TopicSubscription, read_subscription, subscription_of
from app.protocols.topics.secret_names import is_secret
from app.protocols.topics.site_topics import SiteTopics, rules_of
from app.protocols.topics.stream import Caller, Stream
from app.protocols.topics.topic import levels_of
from app.transport.streaming import EXTENSION, StreamHead, StreamingResponse, StreamOffer, open_stream
from app.transport.tls_text import shared_tls_of
from app.transport.user_agent import user_agent_of

_MAX_HEADER_BYTES = 8_192
_MAX_SEQ = 2**53
# No proxy may cache, buffer or compress a stream: nginx obeys x-accel-buffering, others no-transform.
_STREAM_HEADERS = [
    (b"x-content-type-options", b"nosniff"),
    (b"cache-control", b"no-cache, no-store, max-age=0, must-revalidate, no-transform"),
    (b"pragma", b"no-cache"),
    (b"x-accel-buffering", b"no"),
]

_log = structlog.get_logger(__name__)


class StreamHost(Protocol):
    """The streams of a node, as these endpoints need them. Lives as long as the server."""

    async def join(self, topics: SiteTopics, caller: Caller) -> tuple[Stream, str]:
        """A new stream, which holds messages from now on, and its secret. Raises StoreUnavailable; then nothing is left
        behind."""

    async def begin(self, stream: Stream, secret: str, response: StreamingResponse, after_seq: int | None) -> None:
        """Writes the greeting, the history behind `after_seq`, and then live events. Raises StoreError."""

    def give_up(self, stream: Stream, reason: str) -> None:
        """Ends a stream that has joined, whether or not it has a response."""


class Subscribing:
    """The endpoints of all sites. Lives as long as the server; holds nothing of a request."""

    def __init__(
        self, hub: StreamHost, identities: Identities, limits: Limits, max_body_bytes: int, reading: FairPool
    ) -> None:
        self._hub = hub
        self._identities = identities
        self._limits = limits
        self._max_body_bytes = max_body_bytes
        self._reading = reading
        self._levels = LevelBudget()

    def caller_gone(self, caller: Caller) -> None:
        """A stream has ended. Called by the hub."""
        self._limits.disconnect(caller.seat)
        self._levels.give(caller.site, caller.address, caller.subscription.levels)

    async def post(self, exchange: Exchange, topics: SiteTopics) -> None:
        """A subscription whose events come as frames. Raises BadRequest, AuthRefused, StoreError."""
        body = await exchange.read_body(self._max_body_bytes)
        rules = rules_of(topics, exchange.is_mounted)
        read = partial(read_subscription, max_topics=topics.settings.max_topics, rules=rules)
        # Anybody may subscribe: the site's own bodies have another share of the threads.
        subscription = await read_aside(self._reading, f"{topics.site.name} subscriptions", read, body)
        await self._subscribe(exchange, topics, subscription, Encoding.FRAMES, None)

    async def get(self, exchange: Exchange, topics: SiteTopics) -> None:
        """A subscription whose events come as SSE: to each `topic=`, and bound to each `binded=`. Raises as `post`."""
        if len(exchange.parameters) > MAX_FIELDS:
            raise BadRequest(f"Expected at most {MAX_FIELDS} parameters.")
        points = [(value, name == "binded") for name, value in exchange.parameters if name in ("topic", "binded")]
        if not points:
            raise BadRequest("topic: expected at least one.")
        if len(points) > topics.settings.max_topics:
            raise BadRequest(f"topic: expected at most {topics.settings.max_topics}.")
        rules = rules_of(topics, exchange.is_mounted)
        wishes = [RequestedTopic(topic, levels_of(topic, rules), is_binded) for topic, is_binded in points]
        subscription = subscription_of(wishes, exchange.query.get("clid"), exchange.query.get("bind_key"))
        await self._subscribe(exchange, topics, subscription, Encoding.SSE, _last_seq(exchange))

    async def _subscribe(
        self,
        exchange: Exchange,
        topics: SiteTopics,
        subscription: TopicSubscription,
        encoding: Encoding,
        after_seq: int | None,
    ) -> None:
        user = await self._identities.of_subscriber(topics.site, subscription.bind_key)
        caller = await self._admit(exchange, topics, subscription, user, encoding)
        stream, secret = await self._hub.join(topics, caller)
        kind = TEXT if encoding is Encoding.FRAMES else b"text/event-stream"
        headers = [(b"content-type", kind), *_STREAM_HEADERS, *exchange.cors_headers()]
        head = StreamHead(headers, max_outbox_bytes=topics.site.outbox_limit_bytes)
        _log.info(
            "stream opened",
            site=topics.site.name,
            connection=stream.number,
            topics=len(subscription.wishes),
            encoding=encoding.value,
            is_bound=user is not None,
        )
        offer: StreamOffer = exchange.scope["extensions"][EXTENSION]
        response = open_stream(offer, head, stream)
        if response is None:
            self._hub.give_up(stream, "client left")
            return
        # From here on ASGI has no part in the response: this call returns and the response goes on.
        await self._begin(stream, secret, response, after_seq)

    async def _admit(
        self,
        exchange: Exchange,
        topics: SiteTopics,
        subscription: TopicSubscription,
        user: str | None,
        encoding: Encoding,
    ) -> Caller:
        """Counts a caller. The end of its stream, for any reason, gives back what it takes. Raises LimitReached."""
        site = topics.site
        client = exchange.scope.get("client")
        address = client[0] if client else ""
        users = () if user is None else (user,)
        self._levels.take(site.name, address, subscription.levels, topics.settings.max_levels_per_address)
        try:
            seat = await self._limits.connect(site, address, users, len(subscription.wishes))
        except BaseException:
            self._levels.give(site.name, address, subscription.levels)
            raise
        return Caller(
            subscription,
            user,
            encoding,
            seat,
            shown_headers(exchange.scope["headers"]),
            site=site.name,
            address=address,
            is_original=exchange.is_mounted,
            hears_reserved=topics.settings.reserved_under_hash,
            user_agent=user_agent_of(exchange.scope["headers"]),
            tls=shared_tls_of(exchange.scope),
        )

    async def _begin(self, stream: Stream, secret: str, response: StreamingResponse, after_seq: int | None) -> None:
        try:
            await self._hub.begin(stream, secret, response, after_seq)
        except StoreError as error:
            _log.error("stream failed", site=stream.site.name, connection=stream.number, reason=str(error))
            self._hub.give_up(stream, "message store not available")
        except BaseException:
            self._hub.give_up(stream, "server stopped")
            raise


def shown_headers(headers: list[tuple[bytes, bytes]]) -> bytes:
    """The headers of a request for /connections: without credentials, one `name: value` on a line."""
    lines = []
    for name, value in headers:
        if is_secret(name):
            value = b"(removed)"
        elif name == b"referer":
            # Its query may be secret, too.
            value = value.partition(b"?")[0]
        lines.append(name + b": " + value)
    return b"\n".join(lines)[:_MAX_HEADER_BYTES]


def _last_seq(exchange: Exchange) -> int | None:
    """The seq behind which the client wants to go on. For an id that is not one of ours it is 0, which replays the
    whole history."""
    given = exchange.headers.get(b"last-event-id", b"").decode("latin-1") or exchange.query.get("lastEventId")
    if given is None:
        return None
    return int(given) if given.isascii() and given.isdigit() and len(given) < 17 and int(given) < _MAX_SEQ else 0
