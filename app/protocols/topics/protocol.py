"""Topics as one of the protocols: routes, settings, metrics, and the life on a node."""

from collections.abc import Iterator

from app.config.settings import Config, Site
from app.core.live import LiveConnection
from app.protocols.protocol import NodeProtocol, NodeServices, ProtocolSpec, SiteEnding
from app.protocols.topics.bind_keys import BindKeys
from app.protocols.topics.figures import METRICS
from app.protocols.topics.http_bind_directory import HttpBindDirectory
from app.protocols.topics.importing import ES_WEB_NOTIFY
from app.protocols.topics.redis_topics import RedisTopics
from app.protocols.topics.server import TopicsParts, TopicsServer
from app.protocols.topics.settings import SECTION, Topics

#: The paths of es-web-notify.
_MOUNTS = {("http", "/"): ""} | {
    ("http", path): path for path in ("/event", "/connections", "/state", "/memory", "/alive")
}


class _NodeTopics(NodeProtocol):
    """The topics of one node. Lives as long as the node."""

    def __init__(self, services: NodeServices) -> None:
        config = services.config
        self._directory = HttpBindDirectory(config.auth_timeout_seconds)
        store = RedisTopics(services.redis, services.node)
        bounds = (services.counts, services.node, config.max_body_bytes, services.reading)
        parts = TopicsParts(services.delivery, store, self._directory, services.limits, services.ids, *bounds)
        self._server = TopicsServer(config.sites, parts)
        self.application = self._server
        services.burials.append(self._server.hub.bury)

    def live(self, site: str) -> Iterator[LiveConnection]:
        """Lists its connections of a site."""
        return self._server.hub.live(site)

    async def start(self) -> None:
        """Announces that the node lives, and listens to the other nodes."""
        await self._server.start()

    async def add(self, site: Site) -> None:
        """Serves one more site."""
        await self._server.add(site)

    def built_from(self, site: Site) -> object:
        """Keys, index and rules follow from its section."""
        return site.section(Topics)

    async def remove(self, site: Site, ending: SiteEnding) -> None:
        """Ends the streams of a site."""
        await self._server.remove(site, ending.reason)

    async def drain(self, seconds: float) -> None:
        """Ends every stream."""
        await self._server.drain(seconds)

    async def settle(self) -> None:
        """Waits until the ends of streams are in Redis."""
        await self._server.hub.drained()

    async def close(self) -> None:
        """Stops everything that `start` has started."""
        await self._server.close()
        await self._directory.aclose()


def _check_keys(config: Config) -> None:
    """Raises ConfigError for a key that cannot be read."""
    for site in config.sites.values():
        if site.section(Topics) is not None:
            BindKeys(site)


TOPICS = ProtocolSpec(
    "topics",
    _NodeTopics,
    section=SECTION,
    check_sites=_check_keys,
    metrics=METRICS,
    mounts=_MOUNTS,
    importers=(ES_WEB_NOTIFY,),
)
