"""Presence of clients: their streams are counted over all nodes, and watchers of a client are told of each change.

Knows streams as numbers only. When a node dies, another node takes its counts out and publishes the departures.
"""

import asyncio
from collections.abc import Iterable, Mapping

import structlog

from app.config.settings import Site
from app.core.errands import Errands
from app.core.message import Message
from app.core.ports import Publish
from app.errors import BadRequest, LimitReached, StoreError, StoreUnavailable
from app.ids import FlakeIds
from app.protocols.topics.notice import Emitted, audience
from app.protocols.topics.settings import Topics
from app.protocols.topics.topic import CONNECTION_PREFIX, TopicRules, has_wildcard, levels_of
from app.protocols.topics.topic_store import TopicStore
from app.watched_tasks import start_logged

_RETRY_SECONDS = 1.0

_log = structlog.get_logger(__name__)


class ClientPresence:
    """The clients of this node in all sites with topics. Lives as long as the node, which calls `close`."""

    def __init__(
        self,
        sites: Iterable[tuple[Site, Mapping[str, int]]],
        publish: Publish,
        store: TopicStore,
        ids: FlakeIds,
        errands: Errands,
    ) -> None:
        """`sites` pairs each site with the live counts of streams on this node, by client."""
        self._streams = {site.name: (site, streams) for site, streams in sites}
        self._publish_message = publish
        self._store = store
        self._ids = ids
        self._errands = errands
        #: Names of the sites that have had streams here: in the others Redis holds no counts of this node.
        self._used: set[str] = set()
        #: Names of the sites whose counts Redis may have lost and that are not restored yet.
        self._to_restore: set[str] = set()
        self._restoring: asyncio.Task[None] | None = None
        self._is_closed = False

    def add(self, site: Site, streams: Mapping[str, int]) -> None:
        """Counts the streams of one more site."""
        self._streams[site.name] = (site, streams)

    def remove(self, site: str) -> None:
        """Restores no counts of a site any more."""
        self._used.discard(site)
        self._to_restore.discard(site)

    async def close(self) -> None:
        """Stops restoring. Counts of this node that are still in Redis are taken out with the node."""
        self._is_closed = True
        if self._restoring is not None:
            self._restoring.cancel()
            await asyncio.gather(self._restoring, return_exceptions=True)

    async def drained(self) -> None:
        """Waits until Redis knows of all ended streams and their watchers have been told."""
        await self._errands.drain()

    def opening(self, site: Site) -> None:
        """A stream of the site is about to be counted."""
        self._used.add(site.name)

    def opened(self, site: Site, client: str, number: int, instances: int) -> None:
        """A stream of a watched client has begun."""
        self._tell(site, client, "connect", instances, number)

    def ended(self, site: Site, client: str, number: int) -> None:
        """A stream has ended, and this node no longer counts it."""
        self._errands.start(self._close(site, client, number))

    def restore(self) -> None:
        """Writes this node's counts again: Redis may have lost them, or another node may have taken them out."""
        self._to_restore.update(self._used)
        if not self._is_closed and (self._restoring is None or self._restoring.done()):
            self._restoring = start_logged(self._restore(), "restore topics")

    async def bury(self, site: Site, node: str) -> None:
        """Takes out a dead node's streams of a site and publishes the departures. Raises StoreUnavailable."""
        has_more = site.name in self._streams
        while has_more:
            has_more, departures = await self._store.bury(site, node)
            for departure in departures:
                self._tell(site, departure.client, "disconnect", departure.instances, 0)

    async def _restore(self) -> None:
        failed: set[str] = set()
        while self._to_restore or failed:
            if not self._to_restore:
                await asyncio.sleep(_RETRY_SECONDS)
                self._to_restore, failed = self._to_restore | failed, set()
            # Take the name before the command starts: an interruption during the command then asks for another one.
            name = self._to_restore.pop()
            try:
                await self._store.restore(*self._streams[name])
            except StoreUnavailable:
                failed.add(name)
            except StoreError as error:
                _log.error("topics not restored", site=name, reason=str(error))

    async def _close(self, site: Site, client: str, number: int) -> None:
        _, streams = self._streams[site.name]
        closed = await self._errands.until_stored(
            lambda: self._store.close(site, client, streams.get(client, 0), number or None), site.name
        )
        if closed.is_watched and number:
            self._tell(site, client, "disconnect", closed.instances, number)

    def _tell(self, site: Site, client: str, type_: str, instances: int, origin: int) -> None:
        self._errands.start(self._publish(site, client, type_, instances, origin))

    async def _publish(self, site: Site, client: str, type_: str, instances: int, origin: int) -> None:
        topic = CONNECTION_PREFIX + client
        try:
            settings = site.section(Topics)
            # On a site that hears what es-web-notify's clients heard, a client at an original path may watch any name.
            levels_of(topic, TopicRules(takes_text=settings is not None and settings.reserved_under_hash))
        except BadRequest:
            return  # nobody can have subscribed to it
        if has_wildcard(topic):
            return
        body = b'["%s",{"clid_instances":%d}]' % (type_.encode(), instances)
        to = audience([Emitted(topic, origin=origin)], None)
        try:
            await self._publish_message(Message(site, self._ids.next_id(), (), type_, body, audiences=(to,)))
        except (StoreUnavailable, LimitReached) as error:
            _log.warning("presence not told", site=site.name, reason=str(error))
