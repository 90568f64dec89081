"""Deletes the keys of a site that is in no sites.yml any more: no server reads them, and most have no expiry."""

import re

from app.config.settings import Config
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


async def purge(config: Config, site: str) -> int:
    """Deletes every key of a site, and returns how many there were. Raises RecadoError."""
    if site in config.sites:
        raise PurgeRefused(f"site {site!r} is in sites.yml: take it out, and restart the servers, first")
    redis = new_redis(running_redis(config), config.redis_timeout_seconds)
    await redis.start()
    try:
        await _refuse_while_served(redis, site)
        return await _delete(redis, site)
    finally:
        await redis.close()


async def _refuse_while_served(redis: Commands, site: str) -> None:
    for name in await redis.command("ZRANGE", NODES, 0, -1):
        node = name.decode()
        if not node.startswith(_DEAD) and await redis.command("SISMEMBER", node_sites(node), site):
            raise PurgeRefused(f"node {node} still serves site {site!r}: restart it without the site first")


async def _delete(redis: Commands, site: str) -> int:
    shard = redis.shard_of(prefix(site))
    if shard is None:
        raise PurgeRefused("the Cluster has no server for the site's keys at the moment, try again")
    pattern = _WILD.sub(r"\\\1", prefix(site)) + "*"
    deleted, cursor = 0, b"0"
    while True:
        cursor, keys = await shard.command("SCAN", cursor, "MATCH", pattern, "COUNT", _KEYS_OF_STEP)
        if keys:
            deleted += int(await shard.command("UNLINK", *keys))
        if cursor == b"0":
            return deleted
