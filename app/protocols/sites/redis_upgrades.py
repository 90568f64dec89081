"""`TransportStore` on Redis."""

from collections.abc import Sequence

from app.config.settings import Site
from app.redis.client import Commands
from app.store.keys import prefix


class RedisUpgrades:
    """The transports of devices' clients, for one node. Holds no state; lives as long as the node."""

    def __init__(self, redis: Commands) -> None:
        self._redis = redis

    async def note_upgrades(self, site: Site, handles: Sequence[bytes]) -> None:
        """Notes that clients use a WebSocket now; see `TransportStore`."""
        await self._redis.run("note_upgrades", prefix(site.name), *handles)
