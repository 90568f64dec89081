"""Channels as one of the protocols: routes, settings, metrics, and the life on a node."""

from collections.abc import Iterator

from app.config.settings import Site
from app.core.live import LiveConnection
from app.protocols.channels.figures import METRICS
from app.protocols.channels.redis_channels import RedisChannels
from app.protocols.channels.server import ChannelsServer, ChannelsSettings
from app.protocols.channels.settings import SECTION, Channels
from app.protocols.channels.sockets import Ending
from app.protocols.protocol import ANY_REST, NodeProtocol, NodeServices, ProtocolSpec, SiteEnding

_PATHS = ("/channel/create", "/channel/ping", "/channel/delete", "/push", "/sysadmin", "/js/pushserver.js")
#: The paths of WS-PushServer, which looks at their beginning only. It accepts a WebSocket on any path.
_MOUNTS = (
    {("websocket", ANY_REST): ""}
    | {("http", f"{path}{slash}"): f"{path}{slash}" for path in _PATHS for slash in ("", "/")}
    | {("http", f"{path}{ANY_REST}"): path for path in _PATHS}
)


class _NodeChannels(NodeProtocol):
    """The channels of one node. Lives as long as the node."""

    def __init__(self, services: NodeServices) -> None:
        config = services.config
        settings = ChannelsSettings(
            ping_interval_seconds=config.ping_interval_ms / 1000,
            ping_timeout_seconds=config.ping_timeout_ms / 1000,
            max_body_bytes=config.max_body_bytes,
            max_payload_bytes=config.max_payload_bytes,
            counts=services.counts,
            reading=services.reading,
        )
        store = RedisChannels(services.redis, services.node)
        self._server = ChannelsServer(config.sites, services.delivery, store, services.ids, services.limits, settings)
        services.burials.append(self._server.bury)
        self.application = self._server

    def live(self, site: str) -> Iterator[LiveConnection]:
        """Lists its connections of a site."""
        return self._server.live(site)

    async def add(self, site: Site) -> None:
        """Serves one more site."""
        self._server.add(site)

    def built_from(self, site: Site) -> object:
        """A subscriber keeps what its section says."""
        return site.section(Channels)

    async def remove(self, site: Site, ending: SiteEnding) -> None:
        """Closes the subscribers of a site."""
        await self._server.remove(site, Ending.SITE_CHANGED if ending.comes_back else Ending.SITE_REMOVED)

    async def drain(self, seconds: float) -> None:
        """Tells all subscribers to reconnect elsewhere."""
        await self._server.drain(seconds)

    async def settle(self) -> None:
        """Waits until the positions of subscribers are in Redis."""
        await self._server.close()


CHANNELS = ProtocolSpec("channels", _NodeChannels, section=SECTION, metrics=METRICS, mounts=_MOUNTS, has_own_ports=True)
