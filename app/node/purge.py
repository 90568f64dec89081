"""Deletes the keys of a site that is in no sites.yml any more: no server reads them, and most have no expiry."""

import re
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from app.config.settings import CANARY_SITE, Config
from app.errors import RecadoError
from app.node.location import running_redis
from app.redis.client import Commands
from app.redis.topology import new_redis
from app.store.keys import NODES, node_sites, prefix

#: Keys that one step looks at, and so deletes at most: each takes Redis some milliseconds.
_KEYS_OF_STEP = 1_000
#: Signs that stand for others in a pattern of Redis.
_WILD = re.compile(r"([*?\[\]^\\])")
#: Stands before a dead node's name; see `app/store/nodes.py`.
_DEAD = "~"


class PurgeRefused(RecadoError):
    """The site's keys are not deleted."""


async def check_purge(config: Config, site: str) -> None:
    """Raises PurgeRefused for a site that may not be purged, or of which there is nothing; StoreError, ConfigError."""
    async with _redis_of(config, site) as redis:
        async for _ in _keys_of(redis, site):
            return
        raise PurgeRefused(f"no such site: {site!r} is not in sites.yml, and Redis holds nothing of it")


async def purge(config: Config, site: str) -> int:
    """Deletes every key of a site, and returns how many there were. Raises RecadoError."""
    async with _redis_of(config, site) as redis:
        shard = _shard_of(redis, site)
        return sum([int(await shard.command("UNLINK", *keys)) async for keys in _keys_of(redis, site)])


@asynccontextmanager
async def _redis_of(config: Config, site: str) -> AsyncIterator[Commands]:
    """The Redis of a site that no server has any more."""
    if site == CANARY_SITE:
        raise PurgeRefused(f"no such site: {site!r} is the server's own")
    if site in config.sites:
        raise PurgeRefused(f"site {site!r} is in sites.yml: take it out, and restart the servers, first")
    redis = new_redis(running_redis(config), config.redis_timeout_seconds)
    await redis.start()
    try:
        await _refuse_while_served(redis, site)
        yield redis
    finally:
        await redis.close()


async def _refuse_while_served(redis: Commands, site: str) -> None:
    for name in await redis.command("ZRANGE", NODES, 0, -1):
        node = name.decode()
        if not node.startswith(_DEAD) and await redis.command("SISMEMBER", node_sites(node), site):
            raise PurgeRefused(f"node {node} still serves site {site!r}: restart it without the site first")


def _shard_of(redis: Commands, site: str) -> Commands:
    shard = redis.shard_of(prefix(site))
    if shard is None:
        raise PurgeRefused("the Cluster has no server for the site's keys at the moment, try again")
    return shard


async def _keys_of(redis: Commands, site: str) -> AsyncIterator[list[bytes]]:
    """The keys of a site in parts, none of them empty."""
    shard = _shard_of(redis, site)
    pattern = _WILD.sub(r"\\\1", prefix(site)) + "*"
    cursor = b"0"
    while True:
        cursor, keys = await shard.command("SCAN", cursor, "MATCH", pattern, "COUNT", _KEYS_OF_STEP)
        if keys:
            yield keys
        if cursor == b"0":
            return
