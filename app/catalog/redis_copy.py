"""The copy of the stored sites in Redis: nodes hear of a change from it, and start with it while SQL is away."""

from collections.abc import Iterable, Sequence

import msgspec

from app.catalog.redis_keys import PREFIX
from app.catalog.stored_site import StoredSite
from app.redis.client import Commands

_PURGE_LEASE_MS = 30_000
#: The rows of one command.
_PART = 100


class CopyMarks(msgspec.Struct, frozen=True):
    """The two numbers that every node looks at. Lives as long as the look."""

    #: 0: Redis has no copy.
    version: int
    reload: int


class RedisCopy:
    """The copy. Holds no state; lives as long as the process that asks. Each method raises StoreError."""

    def __init__(self, redis: Commands) -> None:
        self._redis = redis

    async def marks(self) -> CopyMarks:
        """The numbers as they are now."""
        version, reload = await self._redis.command("HMGET", PREFIX + "marks", "version", "reload")
        return CopyMarks(int(version or 0), int(reload or 0))

    async def ask_reload(self) -> int:
        """Has every node read its files again; returns how often that was asked for."""
        return int(await self._redis.command("HINCRBY", PREFIX + "marks", "reload", 1))

    async def versions(self) -> dict[str, int]:
        """The version of each site in the copy."""
        words = await self._redis.command("ZRANGE", PREFIX + "versions", 0, -1, "WITHSCORES")
        return {name.decode(): int(float(score)) for name, score in zip(words[::2], words[1::2], strict=True)}

    async def read(self, names: Sequence[str]) -> list[StoredSite]:
        """The rows of these sites, as far as the copy has them."""
        found: list[StoredSite] = []
        for start in range(0, len(names), _PART):
            rows = await self._redis.command("HMGET", PREFIX + "sites", *names[start : start + _PART])
            found += [msgspec.json.decode(row, type=StoredSite) for row in rows if row is not None]
        return found

    async def put(self, site: StoredSite, after: int) -> bool:
        """Writes the row of one change, unless the copy has a later version of it. `after` is the version of the change
        before it: False where the copy lacks that one, and has to be replaced. A site that is gone leaves the copy."""
        return await self._put([site], after)

    async def replace(self, sites: Sequence[StoredSite]) -> None:
        """Writes all rows, and removes the sites that have none."""
        newest = max((site.version for site in sites), default=0)
        known = {site.name for site in sites}
        gone = [
            StoredSite(name=name, block={}, state="gone", version=version, created_at=0, changed_at=0)
            for name, version in (await self.versions()).items()
            if name not in known and version <= newest
        ]
        # In the order of the versions: a copy that is replaced by half does not count as newer than it is.
        given = sorted([*sites, *gone], key=lambda site: site.version)
        for start in range(0, len(given), _PART):
            await self._put(given[start : start + _PART], 0)

    async def _put(self, sites: Iterable[StoredSite], after: int) -> bool:
        words: list[str | int | bytes] = []
        for site in sites:
            row = b"" if site.state == "gone" else msgspec.json.encode(site)
            words += [site.name, site.version, row]
        return bool(await self._redis.run("catalog_put", PREFIX, after, *words))

    async def may_purge(self, node: str) -> bool:
        """Whether this node, and no other, removes keys of sites for the next while."""
        key = PREFIX + "purger"
        if await self._redis.command("SET", key, node, "NX", "PX", _PURGE_LEASE_MS):
            return True
        if await self._redis.command("GET", key) != node.encode():
            return False
        return bool(await self._redis.command("PEXPIRE", key, _PURGE_LEASE_MS))
