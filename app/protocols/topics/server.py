"""Topics as an ASGI application: routes each request to the endpoint of its site, and answers its errors."""

import time
from collections.abc import Awaitable, Callable, Mapping

import structlog
from msgspec import Struct

from app.config.settings import Site
from app.core.delivery import Delivery
from app.core.limits import Limits
from app.errors import AuthRefused, BadRequest, LimitReached, StoreAway, StoreError, StoreUnavailable
from app.ids import FlakeIds
from app.observe.counted_lines import CountedLines
from app.observe.counts import Counts
from app.protocols.fair_pool import FairPool
from app.protocols.http_request import Receive, Scope, Send, segments_of
from app.protocols.site_keys import ApiKeys
from app.protocols.topics.emitting import Emitting, Extending
from app.protocols.topics.exchange import Exchange
from app.protocols.topics.hub import TopicHub
from app.protocols.topics.identity import Identities
from app.protocols.topics.inspection import Inspection
from app.protocols.topics.open_status import OpenStatus
from app.protocols.topics.passwords import Passwords
from app.protocols.topics.permissions import Permissions
from app.protocols.topics.ports import BindDirectory
from app.protocols.topics.registering import Registering
from app.protocols.topics.settings import Topics
from app.protocols.topics.site_topics import SiteTopics
from app.protocols.topics.subscribing import Subscribing
from app.protocols.topics.topic_store import TopicStore

Endpoint = Callable[[Exchange, SiteTopics], Awaitable[None]]

_REGISTRY = "registry"
#: The paths without authentication; all others need the site's API key.
_OPEN = frozenset(("", "alive", "stream"))
#: The paths that a site may open.
_STATUS = frozenset(("connections", "state", "memory"))

_log = structlog.get_logger(__name__)


class TopicsParts(Struct, frozen=True):
    """The parts that a node's topics are built from. Lives while the server is built."""

    delivery: Delivery
    store: TopicStore
    directory: BindDirectory
    limits: Limits
    ids: FlakeIds
    counts: Counts
    #: The name of this node.
    node: str
    max_body_bytes: int
    #: The threads that read what is long.
    reading: FairPool


class TopicsServer:
    """The topics of all sites, under `/topics/<site>`. Lives as long as the
    node: `start` starts it, `close` ends it."""

    def __init__(self, sites: Mapping[str, Site], parts: TopicsParts) -> None:
        """Raises ConfigError for a site with a key that cannot be read."""
        self.hub = hub = TopicHub(sites.values(), parts.delivery, parts.store, parts.ids, parts.counts)
        self._identities = identities = Identities(
            sites.values(), parts.directory, parts.store, parts.counts, parts.reading
        )
        inspection = Inspection(parts.delivery, parts.store, parts.ids, parts.node, hub.slices)
        hub.on_question = inspection.question_asked
        subscribing = Subscribing(hub, identities, parts.limits, parts.max_body_bytes, parts.reading)
        hub.on_caller_gone = subscribing.caller_gone
        self._passwords = Passwords()
        permissions = Permissions(parts.store, hub.slices, self._passwords)
        emitting = Emitting(parts.delivery, permissions, identities, parts.ids, parts.max_body_bytes, parts.reading)
        self._open_status = OpenStatus()
        # A caller needs no key for most of these lines.
        self._refusals = CountedLines(_log, "info", "request refused")
        self._failures = CountedLines(_log, "error", "request failed")
        self._is_away = parts.delivery.is_away
        self._registering = Registering(parts.store, self._passwords, parts.reading, parts.max_body_bytes)
        #: The endpoints by path below the site's, then by method.
        self._endpoints: dict[str, dict[str, Endpoint]] = {
            "": {"POST": subscribing.post},
            "stream": {"GET": subscribing.get},
            "event": {"POST": emitting.post},
            "alive": {"POST": Extending(parts.store, parts.max_body_bytes).post},
            "connections": {"GET": inspection.connections},
            "state": {"GET": inspection.state},
            "memory": {"GET": inspection.memory},
        }
        self._keys = ApiKeys(sites, parts.counts)

    async def start(self) -> None:
        """Starts the hub. Raises StoreUnavailable when Redis is away."""
        await self.hub.start()

    async def add(self, site: Site) -> None:
        """Serves one more site, if it has topics. Raises ConfigError for a key that cannot be read."""
        if site.section(Topics):
            await self._identities.add(site)
            self.hub.add(site)

    async def remove(self, site: Site, reason: str) -> None:
        """Ends the streams of a site, and serves it no more."""
        await self.hub.remove(site.name, reason)

    async def drain(self, seconds: float) -> None:
        """Ends every stream, spread over this time."""
        await self.hub.drain(seconds)

    async def close(self) -> None:
        """Stops everything that `start` has started."""
        await self.hub.close()
        self._passwords.close()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serves one request; `scope["path"]` begins with `/topics/`."""
        if scope["type"] != "http":
            # Closing a WebSocket before its acceptance refuses it.
            await send({"type": "websocket.close"})
            return
        _, name, *rest = [*segments_of(scope), ""]
        topics = self.hub.sites.get(name)
        if topics is None or topics.is_ending:
            await _answer_not_found(send)
            return
        exchange = Exchange(topics.site, scope, receive, send)
        try:
            await self._serve(exchange, topics, rest[:-1])
        except BadRequest as error:
            await exchange.answer_error(error.status, str(error), _allow_of(error), error.phrase)
        except AuthRefused as error:
            await exchange.answer_error(502, str(error))
        except LimitReached as error:
            self._refusals.tell(site=name, limit=error.limit)
            await exchange.answer_error(error.status, str(error), _retry_after(error))
        except StoreUnavailable as error:
            self._failures.tell(site=name, method=exchange.method, reason=str(error))
            await exchange.answer_error(503, "The message store is not available at the moment, try again.")
        except StoreError as error:
            _log.error("request failed", site=name, method=exchange.method, reason=str(error))
            await exchange.answer_error(500, "The message store failed.")

    async def _serve(self, exchange: Exchange, topics: SiteTopics, segments: list[str]) -> None:
        path = "/".join(segments)
        resource, _, topic = path.partition("/")
        if resource == _REGISTRY and topic:
            methods = self._registry_of(topic)
        elif path in self._endpoints:
            methods = self._endpoints[path]
        else:
            raise BadRequest("There is nothing at this path.", status=404)
        if exchange.method == "OPTIONS":
            await exchange.answer_preflight([*methods])
            return
        endpoint = methods.get(exchange.method)
        if endpoint is None:
            raise MethodNotAllowed(list(methods))
        if exchange.is_from_foreign_page:
            self._refusals.tell(site=topics.site.name, reason="origin", shown={"origin": exchange.shown_origin})
            raise BadRequest("Origin: pages of this origin may not use the site's topics.", status=403)
        if path not in _OPEN:
            self._check_key(exchange, topics, path)
        if self._is_away(topics.site):
            # Before a backend is asked for what a bind key or a topic needs.
            raise StoreAway
        await endpoint(exchange, topics)

    def _check_key(self, exchange: Exchange, topics: SiteTopics, path: str) -> None:
        try:
            exchange.check_key(self._keys)
        except BadRequest:
            if path not in _STATUS or not topics.settings.open_status:
                raise
            self._open_status.take(topics.site.name, time.monotonic())
            exchange.is_open = True

    def _registry_of(self, topic: str) -> dict[str, Endpoint]:
        registering = self._registering
        return {
            "GET": lambda exchange, topics: registering.get(exchange, topics, topic),
            "PUT": lambda exchange, topics: registering.put(exchange, topics, topic),
            "DELETE": lambda exchange, topics: registering.delete(exchange, topics, topic),
        }


class MethodNotAllowed(BadRequest):
    """The path knows other methods."""

    def __init__(self, methods: list[str]) -> None:
        names = " or ".join(methods)
        super().__init__(f"Expected {names}.", 405, f"Method is not {names}")
        self.methods = methods


def _allow_of(error: BadRequest) -> list[tuple[bytes, bytes]]:
    if isinstance(error, MethodNotAllowed):
        return [(b"allow", ", ".join([*error.methods, "OPTIONS"]).encode())]
    return []


def _retry_after(error: LimitReached) -> list[tuple[bytes, bytes]]:
    seconds = error.retry_after_seconds
    return [] if seconds is None else [(b"retry-after", str(seconds).encode())]


async def _answer_not_found(send: Send) -> None:
    body = b"There is no such site with topics."
    headers = [
        (b"content-type", b"text/plain;charset=utf-8"),
        (b"content-length", str(len(body)).encode()),
        (b"access-control-allow-origin", b"*"),
    ]
    await send({"type": "http.response.start", "status": 404, "headers": headers})
    await send({"type": "http.response.body", "body": body})
