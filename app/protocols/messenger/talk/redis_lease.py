"""`RelayLease` on Redis, and the place of the core among the changes of rooms; see `redis_keys.py`."""

from collections.abc import Sequence

from app.config.settings import Site
from app.redis.client import Commands
from app.store.keys import prefix


class RedisRelayLease:
    """The leases of all sites, for one node. Holds no state; lives as long as the node."""

    def __init__(self, redis: Commands, node: str) -> None:
        self._redis = redis
        self._node = node

    async def beat(self, site: Site, lease_ms: int) -> bool:
        """Takes or keeps the lease; see `RelayLease`."""
        return bool(await self._redis.run("chat_lease", prefix(site.name), self._node, lease_ms))

    async def wake(self, site: Site) -> None:
        """Wakes the holder; see `RelayLease`."""
        await self._redis.run("chat_wake", prefix(site.name))

    async def settle(self, site: Site, keys: Sequence[str]) -> None:
        """Forgets idempotency keys; see `RelayLease`."""
        await self._redis.run("chat_settle", prefix(site.name), *keys)

    async def rooms_at(self, site: Site) -> int:
        """The number of the last change of rooms that Redis has; 0: it has none."""
        return int(await self._redis.command("GET", prefix(site.name) + "rooms_at") or 0)
