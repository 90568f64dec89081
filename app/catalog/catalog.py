"""The changes of stored sites by an operator: each is checked, written to SQL, and told to every node through Redis."""

import asyncio
import secrets
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import structlog
from msgspec import structs

from app.catalog.redis_copy import RedisCopy
from app.catalog.site_rules import SiteRules
from app.catalog.sql_sites import Change, SqlSites
from app.catalog.stored_site import CatalogRefused, StoredSite, key_name
from app.clock import now_ms
from app.config.load import MOST_KEYS
from app.config.settings import Site
from app.errors import ConfigError, StoreError
from app.journal.database import JournalUnavailable

_KEY_BYTES = 32

_log = structlog.get_logger(__name__)


def new_api_key() -> str:
    """A random API key."""
    return secrets.token_urlsafe(_KEY_BYTES)


class Catalog:
    """The stored sites, to be read and changed. Lives as long as the process that asks.

    Methods raise JournalUnavailable when SQL is away: then nothing has changed. Changes raise CatalogRefused, and
    ConfigError with every mistake of a block, in the words of sites.yml. When Redis is away, a change is spread later:
    nodes look into SQL, too.
    """

    def __init__(self, rows: SqlSites, copy: RedisCopy, rules: SiteRules) -> None:
        self._rows = rows
        self._copy = copy
        self._rules = rules

    async def list_sites(self) -> list[StoredSite]:
        """The stored sites, by name."""
        return [site for site in await self._rows.read_all() if site.state != "gone"]

    async def show(self, name: str) -> StoredSite:
        """One site. Raises CatalogRefused when there is none."""
        return _present(await self._rows.read(name), name)

    async def add(self, name: str, block: Mapping[str, Any]) -> StoredSite:
        """Adds a site. One without an apiKey gets a new one."""
        self._rules.check_name(name)
        given = {"apiKey": new_api_key(), **block}
        await self._check(name, given)

        def change(before: StoredSite | None, version: int) -> StoredSite:
            if before is not None and before.state != "gone":
                is_leaving = before.state == "leaving"
                state = "is being removed: add it again in a minute" if is_leaving else "exists"
                raise CatalogRefused(f"site {name!r} {state}", "leaving" if is_leaving else "exists")
            now = now_ms()
            return _with_block(
                StoredSite(name=name, block={}, version=version, created_at=now, changed_at=now), given, version
            )

        return await self._write(name, change)

    async def change(self, name: str, block: Mapping[str, Any], version: int | None = None) -> StoredSite:
        """Gives a site another block. Without an apiKey in it the keys stay, and MASK stands for a secret that stays.
        With `version` only while that is still the site's."""
        before = await self.show(name)
        kept = {"apiKey": before.block["apiKey"]} if "apiKey" in before.block else {}
        given = kept | self._rules.unmasked(block, before.block)
        await self._check(name, given)
        return await self._replace(name, lambda _: given, before.version if version is None else version)

    async def remove(self, name: str) -> StoredSite:
        """Removes a site: its connections are closed, then its keys go from Redis in steps."""

        def change(before: StoredSite | None, version: int) -> StoredSite:
            site = _present(before, name)
            return structs.replace(site, state="leaving", version=version, changed_at=now_ms())

        return await self._write(name, change)

    async def add_key(self, name: str) -> tuple[StoredSite, str]:
        """Makes a new key, which is valid beside the present one, and returns it. One too many is refused."""
        key = new_api_key()

        def with_key(site: StoredSite) -> dict[str, Any]:
            if len(site.keys) >= MOST_KEYS:
                raise CatalogRefused(f"site {name!r} has {MOST_KEYS} keys: remove the old one first", "key")
            return {**site.block, "apiKey": [key, *site.keys]}

        return await self._replace(name, with_key), key

    async def remove_key(self, name: str, key: str) -> StoredSite:
        """Takes one of two keys away, by the name of the key."""

        def without_key(site: StoredSite) -> dict[str, Any]:
            left = [one for one in site.keys if key_name(one) != key]
            if len(left) == len(site.keys):
                raise CatalogRefused(f"site {name!r} has no such key", "key")
            if not left:
                raise CatalogRefused("the last key stays: make a new one first", "key")
            return {**site.block, "apiKey": left}

        return await self._replace(name, without_key)

    async def _check(self, name: str, block: Mapping[str, Any]) -> None:
        others = {site.name: site for site in await self._rows.read_all() if site.state == "live"}
        # In a thread: the check of keys takes a while.
        await asyncio.to_thread(self._check_beside, name, block, list(others.values()))

    def _check_beside(self, name: str, block: Mapping[str, Any], others: Sequence[StoredSite]) -> None:
        self._rules.check({**readable_sites(self._rules, others), name: self._rules.read(name, block)})

    async def _replace(
        self, name: str, block_of: Callable[[StoredSite], Mapping[str, Any]], expected: int | None = None
    ) -> StoredSite:
        def change(before: StoredSite | None, version: int) -> StoredSite:
            site = _present(before, name)
            if expected is not None and site.version != expected:
                raise CatalogRefused(f"site {name!r} has been changed meanwhile: look at it again", "changed")
            return _with_block(site, block_of(site), version)

        return await self._write(name, change)

    async def _write(self, name: str, change: Change) -> StoredSite:
        written, last = await self._rows.change(name, change)
        try:
            await tell(self._rows, self._copy, written, last)
        except (JournalUnavailable, StoreError) as error:
            _log.warning("change of a site not told", site=name, reason=str(error))
        return written


async def tell(rows: SqlSites, copy: RedisCopy, written: StoredSite, last: int) -> None:
    """Tells the nodes of a change in SQL, and of earlier ones of which Redis did not hear: it was away. `last` is the
    version of the change before it. Raises JournalUnavailable, StoreError."""
    if not await copy.put(written, last):
        await copy.replace(await rows.read_all())


def readable_sites(rules: SiteRules, stored: Sequence[StoredSite]) -> dict[str, Site]:
    """The sites among these that are valid by themselves; the log names the mistakes of the others."""
    found: dict[str, Site] = {}
    for one in stored:
        if rules.is_in_file(one.name):
            _log.error("stored site not served", site=one.name, mistakes=["sites.yml has a site of this name"])
            continue
        try:
            found[one.name] = rules.read(one.name, one.block)
        except ConfigError as error:
            _log.error("stored site not served", site=one.name, mistakes=error.mistakes)
    return found


def _present(site: StoredSite | None, name: str) -> StoredSite:
    if site is None or site.state == "gone":
        raise CatalogRefused(f"there is no stored site {name!r}", "not_found")
    if site.state == "leaving":
        raise CatalogRefused(f"site {name!r} is being removed", "leaving")
    return site


def _with_block(site: StoredSite, block: Mapping[str, Any], version: int) -> StoredSite:
    now = now_ms()
    after = structs.replace(site, block=dict(block), state="live", version=version, changed_at=now)
    made = {key_name(key): site.keys_made.get(key_name(key), now) for key in after.keys}
    return structs.replace(after, keys_made=made)
