"""`OnlineStore` on Redis; see `redis_keys.py`. The core's own state of devices says who is connected."""

from collections.abc import Sequence

from app.config.settings import Site
from app.redis.client import Commands
from app.store.keys import prefix

#: Users of one run of a script.
_PART = 500


class RedisOnline:
    """The users who are online, for one node. Holds no state; lives as long as the node."""

    def __init__(self, redis: Commands) -> None:
        self._redis = redis

    async def come(self, site: Site, users: Sequence[int], at: int) -> list[int]:
        """Notes users who have come; see `OnlineStore`."""
        came: list[int] = []
        for start in range(0, len(users), _PART):
            part = users[start : start + _PART]
            came += map(int, await self._redis.run("chat_come", prefix(site.name), at, *part))
        return came

    async def leave(self, site: Site, users: Sequence[int]) -> list[int]:
        """Takes users out; see `OnlineStore`."""
        gone: list[int] = []
        for start in range(0, len(users), _PART):
            gone += map(int, await self._redis.run("chat_go", prefix(site.name), *users[start : start + _PART]))
        return gone

    async def sweep(self, site: Site) -> list[int]:
        """Takes out all who have no connection; see `OnlineStore`."""
        gone: list[int] = []
        cursor = b"0"
        while True:
            cursor, *users = await self._redis.run("chat_sweep", prefix(site.name), cursor, _PART)
            gone += map(int, users)
            if cursor == b"0":
                return gone

    async def online(self, site: Site) -> set[int]:
        """The users who are online; see `OnlineStore`."""
        return set(map(int, await self._redis.command("HKEYS", prefix(site.name) + "chat_online")))

    async def online_among(self, site: Site, users: Sequence[int]) -> set[int]:
        """The users among these who are online; see `OnlineUsers`."""
        found: set[int] = set()
        for start in range(0, len(users), _PART):
            part = users[start : start + _PART]
            since = await self._redis.command("HMGET", prefix(site.name) + "chat_online", *part)
            found |= {user for user, at in zip(part, since, strict=True) if at is not None}
        return found
