"""Who comes and goes: clients' streams are counted over all nodes, and whoever watches a client is told.

Knows streams as numbers; what a node that died has left is taken out by any other.
"""

import asyncio
from collections.abc import Iterable

import structlog

from app.core.delivery import Delivery
from app.core.errands import Errands
from app.core.message import Message
from app.errors import BadRequest, LimitReached, StoreError, StoreUnavailable
from app.ids import FlakeIds
from app.protocols.topics.notice import Emitted, audience
from app.protocols.topics.site_topics import SiteTopics
from app.protocols.topics.stream import Stream
from app.protocols.topics.topic import CONNECTION_PREFIX, has_wildcard, levels_of
from app.protocols.topics.topic_store import TopicStore

BEAT_SECONDS = 2.0

_log = structlog.get_logger(__name__)


class ClientPresence:
    """The comings and goings on this node. Lives as long as the node: `start` begins to beat, `close` ends it."""

    def __init__(self, sites: Iterable[SiteTopics], delivery: Delivery, store: TopicStore, ids: FlakeIds) -> None:
        self._sites = list(sites)
        self._delivery = delivery
        self._store = store
        self._ids = ids
        self._errands = Errands()
        #: Sites whose counts the store has lost, until it has them again.
        self._to_restore: set[SiteTopics] = set()
        self._beating: asyncio.Task[None] | None = None

    async def start(self) -> None:
        """Says that the node lives. Raises StoreUnavailable when Redis is away."""
        for topics in self._sites:
            await self.beat(topics)
        if self._sites:
            self._beating = asyncio.create_task(self._keep_beating(), name="topics beat")

    async def close(self) -> None:
        """Ends what `start` began."""
        if self._beating is not None:
            self._beating.cancel()
            await asyncio.gather(self._beating, return_exceptions=True)

    async def drained(self) -> None:
        """Waits until what has ended is known to Redis, and told."""
        await self._errands.drain()

    def opened(self, topics: SiteTopics, stream: Stream, instances: int) -> None:
        """A stream that somebody watches has begun."""
        self._tell(topics, stream.client, "connect", instances, stream.number)

    def ended(self, topics: SiteTopics, stream: Stream) -> None:
        """A stream has ended; `topics` counts it no more."""
        self._errands.start(self._close(topics, stream))

    async def beat(self, topics: SiteTopics) -> None:
        """Says that the node lives, and tells of what a dead one has left. Raises StoreError."""
        beat = await self._store.beat(topics.site)
        for departure in beat.departures:
            self._tell(topics, departure.client, "disconnect", departure.instances, 0)
        if beat.is_new:
            self._to_restore.add(topics)
        if topics in self._to_restore:
            await self._store.restore(topics.site, topics.clients)
            self._to_restore.discard(topics)

    async def _close(self, topics: SiteTopics, stream: Stream) -> None:
        store, site = self._store, topics.site
        closed = await self._errands.until_stored(
            lambda: store.close(site, stream.client, topics.clients[stream.client], stream.number or None)
        )
        if closed.is_watched and stream.number:
            self._tell(topics, stream.client, "disconnect", closed.instances, stream.number)

    def _tell(self, topics: SiteTopics, client: str, type_: str, instances: int, origin: int) -> None:
        self._errands.start(self._publish(topics, client, type_, instances, origin))

    async def _publish(self, topics: SiteTopics, client: str, type_: str, instances: int, origin: int) -> None:
        topic = CONNECTION_PREFIX + client
        try:
            levels_of(topic)
        except BadRequest:
            return  # nobody can have subscribed to it
        if has_wildcard(topic):
            return
        body = b'["%s",{"clid_instances":%d}]' % (type_.encode(), instances)
        to = audience([Emitted(topic, origin=origin)], None)
        try:
            await self._delivery.publish(Message(topics.site, self._ids.next_id(), (), type_, body, audiences=(to,)))
        except (StoreUnavailable, LimitReached) as error:
            _log.warning("presence not told", site=topics.site.name, reason=str(error))

    async def _keep_beating(self) -> None:
        while True:
            await asyncio.sleep(BEAT_SECONDS)
            for topics in self._sites:
                try:
                    await self.beat(topics)
                except StoreUnavailable:
                    continue
                except StoreError as error:
                    _log.error("topics beat failed", site=topics.site.name, reason=str(error))
