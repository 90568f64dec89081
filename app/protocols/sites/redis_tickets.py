"""`TicketStore` on Redis: the key of each site's resume tickets and their revocations; see `redis_keys.py`."""

from collections.abc import Sequence

from app.config.settings import Site
from app.redis.client import Commands
from app.store.keys import prefix
from app.surrogates import encode_text


class RedisTickets:
    """The tickets of all sites, for one node. Holds no state; lives as long as the node."""

    def __init__(self, redis: Commands) -> None:
        self._redis = redis
        #: The time for scripts in milliseconds since the epoch; "" means Redis's own clock. Tests set it.
        self.now_ms: int | str = ""

    async def ticket_state(self, site: Site, new_key: str, rooms: Sequence[str]) -> tuple[int, bytes, int, int]:
        """The state for checking tickets; see `TicketStore`."""
        now_ms, key, generation, revoked_at_ms = await self._redis.run(
            "ticket", prefix(site.name), self.now_ms, new_key, *map(encode_text, rooms)
        )
        return int(now_ms), key, int(generation), int(revoked_at_ms)

    async def revoke_tickets(self, site: Site, max_age_ms: int, rooms: Sequence[str]) -> None:
        """Revokes tickets; see `TicketStore`."""
        await self._redis.run("revoke", prefix(site.name), self.now_ms, max_age_ms, *map(encode_text, rooms))
