"""The protocol Redis PUBLISH: its namespaces, and its life on a node."""

from collections.abc import Collection, Iterator

from app.config.settings import Site
from app.core.live import LiveConnection
from app.protocols.protocol import NodeProtocol, NodeServices, ProtocolSpec, SiteEnding
from app.protocols.redis_publish.figures import METRICS
from app.protocols.redis_publish.services import PublishServices, check_sites
from app.protocols.redis_publish.settings import SECTION, RedisPublish


class _NodePublish(NodeProtocol):
    """Redis PUBLISH on one node. Lives as long as the node."""

    #: `settle` hands the leases over, then waits for the mailboxes. Each of the two steps has its own time-out.
    settle_seconds = 5.0

    def __init__(self, services: NodeServices) -> None:
        sites = services.config.sites.values()
        self._services = PublishServices(sites, services.redis, services.node, services.limits, services.counts)
        self.namespaces = self._services.application
        self.notices = self._services.notices
        self.routes = self._services.pages()

    def live(self, site: str) -> Iterator[LiveConnection]:
        """Lists its connections of a site."""
        return self._services.application.live(site)

    async def start(self) -> None:
        """Starts listening to the applications."""
        await self._services.start()

    async def add(self, site: Site) -> None:
        """Starts one more site."""
        if site.section(RedisPublish) is not None:
            self._services.add(site)
            self.notices = self._services.notices
            self.routes = self._services.pages()

    def namespaces_of(self, site: Site) -> Collection[str]:
        """Its own, and its `route`."""
        settings = site.section(RedisPublish)
        route = settings.route if settings is not None else None
        return (f"/{site.name}", *([route] if route is not None else []))

    def built_from(self, site: Site) -> object:
        """Subscription, lease and mailboxes follow from its section."""
        return site.section(RedisPublish)

    async def remove(self, site: Site, ending: SiteEnding) -> None:
        """Stops a site."""
        if site.section(RedisPublish) is not None:
            await self._services.remove(site)
            self.notices = self._services.notices
            self.routes = self._services.pages()

    async def settle(self) -> None:
        """Hands the leases to other nodes, and waits for the mailboxes."""
        await self._services.drain()

    async def close(self) -> None:
        """Closes the services of all sites."""
        await self._services.close()


REDIS_PUBLISH = ProtocolSpec("redis_publish", _NodePublish, section=SECTION, check_sites=check_sites, metrics=METRICS)
