"""Redis PUBLISH as one of the protocols: its namespaces, and its life on a node."""

from app.protocols.protocol import NodeProtocol, NodeServices, ProtocolSpec
from app.protocols.redis_publish.figures import METRICS
from app.protocols.redis_publish.services import PublishServices
from app.protocols.redis_publish.settings import SECTION, check_sections


class _NodePublish(NodeProtocol):
    """Redis PUBLISH on one node. Lives as long as the node."""

    #: It hands its leases over, then waits for its mailboxes; both have bounds of their own.
    settle_seconds = 5.0

    def __init__(self, services: NodeServices) -> None:
        sites = services.config.sites.values()
        self._services = PublishServices(sites, services.redis, services.node, services.limits, services.counts)
        self.namespaces = self._services.application

    async def start(self) -> None:
        """Begins to hear the applications."""
        await self._services.start()

    async def settle(self) -> None:
        """Hands the leases on."""
        await self._services.drain()

    async def close(self) -> None:
        """Ends everything."""
        await self._services.close()


REDIS_PUBLISH = ProtocolSpec(
    "redis_publish", _NodePublish, section=SECTION, check_sites=check_sections, metrics=METRICS
)
