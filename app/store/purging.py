"""The removal of all keys of a site that no node serves: most of them have no expiry. In steps, so that Redis is free
between them."""

import re
from collections.abc import AsyncIterator

from app.errors import StoreUnavailable
from app.redis.client import Commands
from app.store.keys import NODES, node_sites, prefix

#: Keys that one step looks at, and so deletes at most: each takes Redis some milliseconds.
_KEYS_OF_STEP = 1_000
#: Signs that stand for others in a pattern of Redis.
_WILD = re.compile(r"([*?\[\]^\\])")
#: Stands before a dead node's name; see `app/store/nodes.py`.
_DEAD = "~"


async def node_with(redis: Commands, site: str) -> str | None:
    """A living node that serves the site; None: there is none. Raises StoreUnavailable."""
    for name in await redis.command("ZRANGE", NODES, 0, -1):
        node: str = name.decode()
        if not node.startswith(_DEAD) and await redis.command("SISMEMBER", node_sites(node), site):
            return node
    return None


async def keys_of(redis: Commands, site: str) -> AsyncIterator[list[bytes]]:
    """The keys of a site in parts, none of them empty. Raises StoreUnavailable."""
    shard = _shard_of(redis, site)
    pattern = _WILD.sub(r"\\\1", prefix(site)) + "*"
    cursor = b"0"
    while True:
        cursor, keys = await shard.command("SCAN", cursor, "MATCH", pattern, "COUNT", _KEYS_OF_STEP)
        if keys:
            yield keys
        if cursor == b"0":
            return


async def delete_keys(redis: Commands, site: str) -> int:
    """Deletes every key of a site, and returns how many there were. The remains of dead nodes in it go with them.
    Raises StoreUnavailable."""
    shard = _shard_of(redis, site)
    deleted = sum([int(await shard.command("UNLINK", *keys)) async for keys in keys_of(redis, site)])
    for name in await redis.command("ZRANGE", NODES, 0, -1):
        node = name.decode()
        left = node_sites(node.removeprefix(_DEAD))
        is_left = node.startswith(_DEAD) and await redis.command("SREM", left, site)
        if is_left and not await redis.command("EXISTS", left):
            await redis.command("ZREM", NODES, node)
    return deleted


def _shard_of(redis: Commands, site: str) -> Commands:
    shard = redis.shard_of(prefix(site))
    if shard is None:
        raise StoreUnavailable("The Cluster has no server for the site's keys at the moment, try again")
    return shard
