"""The block of a login behind failed ones, as operators see it and lift it. The throttle itself is `RedisThrottle`."""

from app.config.settings import Site
from app.protocols.messenger.redis_throttle import login_mark
from app.protocols.messenger.scram import login_key
from app.redis.client import Commands
from app.store.keys import prefix


class RedisBlocks:
    """The blocks of all sites, for one node. Holds no state; lives as long as the node."""

    def __init__(self, redis: Commands) -> None:
        self._redis = redis

    async def seconds_left(self, site: Site, login: str) -> int:
        """The seconds for which a login is blocked; 0: it is not."""
        key = prefix(site.name) + "chat_blocked:" + login_mark(login_key(login))
        return max(0, -(-int(await self._redis.command("PTTL", key)) // 1000))

    async def lift(self, site: Site, login: str) -> bool:
        """Takes the block away, with that of the address whose failures have made it; whether there was one."""
        mark = login_mark(login_key(login))
        return bool(await self._redis.run("chat_unblock", prefix(site.name), mark))
