"""`OnlineStore` on Redis; see `redis_keys.py`. The core's own state of devices says who is connected."""

from collections.abc import Sequence

from app.config.settings import Site
from app.protocols.messenger.chat_names import ChatNames
from app.redis.client import Commands
from app.store.keys import prefix

#: Users of one run of a script.
_PART = 500


class RedisOnline:
    """The users who are online, for one node. Holds no state; lives as long as the node."""

    def __init__(self, redis: Commands, names: ChatNames) -> None:
        self._redis = redis
        self._names = names

    async def come(self, site: Site, users: Sequence[int], at: int) -> list[int]:
        """Notes users who have come; see `OnlineStore`."""
        came: list[bytes] = []
        texts = await self._names.user_texts(site, users)
        for start in range(0, len(texts), _PART):
            came += await self._redis.run("chat_come", prefix(site.name), at, *texts[start : start + _PART])
        return await self._users_of(site, came)

    async def leave(self, site: Site, users: Sequence[int]) -> list[int]:
        """Takes users out; see `OnlineStore`."""
        gone: list[bytes] = []
        texts = await self._names.user_texts(site, users)
        for start in range(0, len(texts), _PART):
            gone += await self._redis.run("chat_go", prefix(site.name), *texts[start : start + _PART])
        return await self._users_of(site, gone)

    async def sweep(self, site: Site) -> list[int]:
        """Takes out all who have no connection; see `OnlineStore`."""
        gone: list[bytes] = []
        cursor = b"0"
        while True:
            cursor, *users = await self._redis.run("chat_sweep", prefix(site.name), cursor, _PART)
            gone += users
            if cursor == b"0":
                return await self._users_of(site, gone)

    async def online(self, site: Site) -> set[int]:
        """The users who are online; see `OnlineStore`."""
        return set(await self._users_of(site, await self._redis.command("HKEYS", prefix(site.name) + "chat_online")))

    async def online_among(self, site: Site, users: Sequence[int]) -> set[int]:
        """The users among these who are online; see `OnlineUsers`."""
        found: set[int] = set()
        texts = await self._names.user_texts(site, users)
        for start in range(0, len(users), _PART):
            part = users[start : start + _PART]
            names = texts[start : start + _PART]
            since = await self._redis.command("HMGET", prefix(site.name) + "chat_online", *names)
            found |= {user for user, at in zip(part, since, strict=True) if at is not None}
        return found

    async def _users_of(self, site: Site, texts: Sequence[bytes]) -> list[int]:
        return await self._names.user_numbers(site, [text.decode() for text in texts])
