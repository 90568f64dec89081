"""Deletes the keys of a site that is in no sites.yml any more: no server reads them, and most have no expiry; and takes
the steps of the removal of a stored site."""

from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager

from app.config.settings import CANARY_SITE, Config
from app.errors import RecadoError
from app.node.location import running_redis
from app.protocols.protocol import NodeProtocol
from app.redis.client import Commands
from app.redis.topology import new_redis
from app.store.purging import delete_keys, keys_of, node_with


class PurgeRefused(RecadoError):
    """The site's keys are not deleted."""


async def check_purge(config: Config, site: str) -> None:
    """Raises PurgeRefused for a site that may not be purged, or of which there is nothing; StoreError, ConfigError."""
    async with _redis_of(config, site) as redis:
        async for _ in keys_of(redis, site):
            return
        raise PurgeRefused(f"no such site: {site!r} is not in sites.yml, and Redis holds nothing of it")


async def purge(config: Config, site: str) -> int:
    """Deletes every key of a site, and returns how many there were. Raises RecadoError."""
    async with _redis_of(config, site) as redis:
        return await delete_keys(redis, site)


async def purge_stored(redis: Commands, protocols: Iterable[NodeProtocol], site: str) -> bool:
    """Takes one step of the removal of a stored site; True: nothing of it is left. Raises RecadoError."""
    if await node_with(redis, site) is not None:
        return False
    for protocol in protocols:
        if not await protocol.forget(site):
            return False
    await delete_keys(redis, site)
    return True


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
        if node := await node_with(redis, site):
            raise PurgeRefused(f"node {node} still serves site {site!r}: restart it without the site first")
        yield redis
    finally:
        await redis.close()
