"""The builder of Redis PUBLISH: makes adapters, reader and mailroom for each site that has turned it on."""

import asyncio
import contextlib
from collections.abc import Callable, Iterable
from functools import partial

import structlog
from starlette.routing import Route

from app.config.settings import Config, Site
from app.core.limits import Limits
from app.errors import ConfigError, StoreError
from app.observe.counts import Counts
from app.protocols.redis_publish.application import PublishSite, RedisPublishApplication
from app.protocols.redis_publish.figures import RedisPublishCounts
from app.protocols.redis_publish.ingress import Ingress
from app.protocols.redis_publish.mailroom import Mailroom
from app.protocols.redis_publish.redis_feed import PublishFeed
from app.protocols.redis_publish.redis_lease import PublishLease
from app.protocols.redis_publish.redis_mailboxes import RedisMailboxes
from app.protocols.redis_publish.redis_queue_encoding import RedisQueueEncoding
from app.protocols.redis_publish.redis_stream import RedisPublishStream
from app.protocols.redis_publish.route_page import route_pages
from app.protocols.redis_publish.settings import RedisPublish, check_sections
from app.redis.address import Location, read_redis_url
from app.redis.client import Commands, retry
from app.redis.topology import new_redis
from app.watched_tasks import start_watched

#: The longest wait for the subscriptions before the server listens: a server that listens is expected to hear the
#: application. Without the application's Redis it listens all the same.
_START_SECONDS = 1.0
_DRAIN_SECONDS = 1.0

_log = structlog.get_logger(__name__)


class _SiteServices:
    """One site's parts on this node. Lives from `start` to `close`."""

    def __init__(self, site: Site, settings: RedisPublish, redis: Commands, node: str, counts: Counts) -> None:
        numbers = counts.of(site.name).part(RedisPublishCounts)
        self.mailboxes = RedisMailboxes(redis, node, site, settings)
        self.mailroom = Mailroom(node, self.mailboxes, numbers)
        self.mailroom.errands.is_away = lambda _: not redis.is_available
        self.stream = RedisPublishStream(redis, node, settings)
        self.feed = PublishFeed(redis, node, site, settings)
        self.feed.subscription.faults = counts.faults
        self.lease = PublishLease(redis, node, site, settings)
        self.encoding = RedisQueueEncoding(redis, site, settings)
        self.ingress = Ingress(site, settings, self.mailboxes, self.stream, self.encoding, numbers)
        self.feed.listener, self.feed.reader = self.mailroom, self.ingress
        self.lease.feed, self.lease.reader, self.lease.mailboxes = self.feed, self.ingress, self.mailboxes
        self.served = PublishSite(site, settings, self.mailboxes, self.mailroom)

    def start(self) -> None:
        self.encoding.start()
        self.feed.start()
        self.lease.start()

    async def settled(self) -> None:
        await self.lease.is_settled.wait()
        await self.encoding.is_settled.wait()

    async def close(self) -> None:
        await self.encoding.close()
        await self.lease.close()
        await self.feed.close()
        self.stream.close()


class PublishServices:
    """Redis PUBLISH on this node, for all its sites. Lives as long as the node: `start`, `drain`, `close`."""

    def __init__(self, sites: Iterable[Site], redis: Commands, node: str, limits: Limits, counts: Counts) -> None:
        """`redis` is the server's own Redis, for sites that name no other. Raises ConfigError."""
        self._redis = redis
        self._node = node
        self._counts = counts
        self._others: dict[str, Commands] = {}
        #: The names of the sites by the URL of their Redis.
        self._names: dict[str, list[str]] = {}
        #: By URL.
        self._connecting: dict[str, asyncio.Task[None]] = {}
        self._sites: list[_SiteServices] = []
        self.application = RedisPublishApplication((), limits, counts)
        for site in sites:
            settings = site.section(RedisPublish)
            if settings is not None:
                self._open(site, settings)

    @property
    def notices(self) -> dict[str, Callable[[], bool]]:
        """For each site with a Redis of its own, whether there is a link to it."""
        return {
            f"redisPublish.url of {name}": partial(_is_available, redis)
            for _, redis, names in self._users_of_others()
            for name in names
        }

    def pages(self) -> list[Route]:
        """The pages at the sites' routes."""
        return route_pages(site.served.site for site in self._sites)

    def _users_of_others(self) -> list[tuple[str, Commands, list[str]]]:
        return [(url, redis, self._names[url]) for url, redis in self._others.items()]

    def __bool__(self) -> bool:
        """Whether any site has turned it on."""
        return bool(self._sites)

    async def start(self) -> None:
        """Starts all sites. Returns when each subscription has an owner, or when an application's Redis cannot be
        reached yet."""
        for used in self._users_of_others():
            self._connect(*used)
        for site in self._sites:
            site.start()
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(_START_SECONDS):
                await asyncio.gather(*(site.settled() for site in self._sites))

    def add(self, site: Site) -> None:
        """Starts one more site, if it has turned it on. Raises ConfigError."""
        settings = site.section(RedisPublish)
        if settings is None:
            return
        url = settings.url
        is_new = url is not None and url not in self._others
        services = self._open(site, settings)
        if url is not None and is_new:
            self._connect(url, self._others[url], self._names[url])
        services.start()

    async def remove(self, site: Site) -> None:
        """Stops a site: hands its lease to another node, and waits a moment for its mailboxes."""
        services = next((one for one in self._sites if one.served.site.name == site.name), None)
        if services is None:
            return
        self._sites.remove(services)
        self.application.remove(services.served)
        await services.lease.give_up()
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(_DRAIN_SECONDS):
                await services.mailroom.drain()
        await services.close()
        for url, names in list(self._names.items()):
            if site.name in names:
                names.remove(site.name)
                if not names:
                    await self._leave(url)

    async def _leave(self, url: str) -> None:
        """Ends the link to a Redis that no site uses any more."""
        del self._names[url]
        connecting = self._connecting.pop(url, None)
        if connecting is not None:
            connecting.cancel()
        await self._others.pop(url).close()

    async def drain(self) -> None:
        """Hands the leases to other nodes, and waits until the clients' last acks and departures are in Redis. Called
        after the sessions are closed."""
        await asyncio.gather(*(site.lease.give_up() for site in self._sites))
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(_DRAIN_SECONDS):
                await asyncio.gather(*(site.mailroom.drain() for site in self._sites))

    async def close(self) -> None:
        """Closes all sites and their links to Redis."""
        for task in self._connecting.values():
            task.cancel()
        await asyncio.gather(*(site.close() for site in self._sites))
        for redis in self._others.values():
            await redis.close()

    def _open(self, site: Site, settings: RedisPublish) -> _SiteServices:
        used, seconds = self._redis, self._redis.timeout_seconds
        if settings.url is not None:
            used = self._other(site.name, settings.url, seconds)
        services = _SiteServices(site, settings, used, self._node, self._counts)
        self._sites.append(services)
        self.application.add(services.served)
        return services

    def _connect(self, url: str, redis: Commands, names: list[str]) -> None:
        """Connects to the Redis of these sites, with retries."""
        work = retry(redis.start, partial(_tell_away, names))
        self._connecting[url] = start_watched(work, "redis publish connect", may_return=True)

    def _other(self, site: str, url: str, timeout_seconds: float) -> Commands:
        self._names.setdefault(url, []).append(site)
        if url not in self._others:
            self._others[url] = new_redis(_read_url(site, url), timeout_seconds, self._counts)
        return self._others[url]


def check_sites(config: Config) -> None:
    """Raises ConfigError for sites that cannot be served together, or a URL that cannot be used."""
    check_sections(config)
    for site in config.sites.values():
        settings = site.section(RedisPublish)
        if settings is not None and settings.url is not None:
            _read_url(site.name, settings.url)


def _read_url(site: str, url: str) -> Location:
    try:
        return read_redis_url(url)
    except ConfigError as error:
        raise ConfigError(f"{site}.redisPublish.{str(error).removeprefix('redis.')}") from None


def _is_available(redis: Commands) -> bool:
    return redis.is_available


def _tell_away(sites: list[str], error: StoreError) -> None:
    """Once for each outage that the server starts in; the link itself logs later ones."""
    _log.error("redisPublish.url does not answer", sites=sites, reason=str(error))
