"""An operator of stored sites, who uses the catalog as commands and pages do; for tests without a loop."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from typing import Any, TypeVar

from app.catalog.catalog import Catalog
from app.catalog.redis_copy import RedisCopy
from app.catalog.site_rules import SiteRules
from app.catalog.sql_sites import SqlSites
from app.catalog.stored_site import StoredSite
from app.config.settings import Config, Site
from app.protocols.listed import PROTOCOLS
from app.redis.address import read_redis_url
from app.redis.client import Commands
from app.redis.topology import new_redis

T = TypeVar("T")


class Operator:
    """Changes stored sites. Keeps nothing open between two calls."""

    def __init__(self, database_url: str, redis_url: str, sites: Mapping[str, Site] | None = None) -> None:
        """`sites` are those of sites.yml."""
        self._database_url = database_url
        self._redis_url = redis_url
        self._sites = dict(sites or {})

    def run(self, ask: Callable[[Catalog, Commands], Awaitable[T]]) -> T:
        """The answer of the catalog."""
        return asyncio.run(self._run(ask))

    def add(self, name: str, block: Mapping[str, Any]) -> StoredSite:
        """Add a site."""
        return self.run(lambda catalog, _: catalog.add(name, block))

    def change(self, name: str, block: Mapping[str, Any]) -> StoredSite:
        """Change a site."""
        return self.run(lambda catalog, _: catalog.change(name, block))

    def remove(self, name: str) -> StoredSite:
        """Remove a site."""
        return self.run(lambda catalog, _: catalog.remove(name))

    def state(self, name: str) -> str:
        """The state of a site: gone when the list has it no more."""
        found = self.run(lambda catalog, _: catalog.list_sites())
        return next((site.state for site in found if site.name == name), "gone")

    async def _run(self, ask: Callable[[Catalog, Commands], Awaitable[T]]) -> T:
        rows = SqlSites.open(self._database_url)
        redis = new_redis(read_redis_url(self._redis_url), 5.0)
        try:
            await rows.make_table()
            await redis.start()
            catalog = Catalog(rows, RedisCopy(redis), SiteRules(Config(sites=self._sites), PROTOCOLS))
            return await ask(catalog, redis)
        finally:
            await redis.close()
            await rows.close()
