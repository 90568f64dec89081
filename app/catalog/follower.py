"""A node follows the stored sites: it looks at the copy in Redis twice a second, and into SQL now and then.

Redis or SQL away, or a copy that is lost or older: what is served goes on as it is.
"""

import asyncio
import contextlib
from collections.abc import Awaitable, Callable, Sequence
from time import monotonic

import structlog
from msgspec import Struct

from app.catalog.catalog import readable_sites, tell
from app.catalog.redis_copy import RedisCopy
from app.catalog.site_rules import SiteRules
from app.catalog.sql_sites import SqlSites
from app.catalog.stored_site import StoredSite
from app.clock import now_ms
from app.config.settings import Config, Site
from app.errors import ConfigError, RecadoError, StoreError
from app.journal.database import JournalUnavailable
from app.watched_tasks import start_watched

#: Every node serves a change within this time and the next look.
LOOK_SECONDS = 0.5
#: How often SQL is asked for a change that Redis was not told of.
SQL_SECONDS = 10.0
#: A site leaves for this long before its keys go: the writer of the journal has read its last entries by then.
GRACE_MS = 5_000
#: The sites whose keys one turn removes.
_PURGES_A_TURN = 1

_log = structlog.get_logger(__name__)


class Serving(Struct, frozen=True):
    """How a node serves other sites. Lives as long as the node."""

    #: The node's name.
    node: str
    add: Callable[[Sequence[Site]], Awaitable[None]]
    change: Callable[[Site], Awaitable[None]]
    remove: Callable[[str], Awaitable[None]]
    #: Removes the keys of a site from Redis; False while a node still serves it.
    purge: Callable[[str], Awaitable[bool]]
    #: Reads the files again.
    reload: Callable[[], None]


class CatalogFollower:
    """Lives as long as the node: `load` reads the sites before the node serves, `start` begins, `close` ends it."""

    def __init__(self, config: Config, rows: SqlSites | None, copy: RedisCopy, rules: SiteRules) -> None:
        """`rows` is None where there is no database: then there are no stored sites."""
        self._config = config
        self._rows = rows
        self._copy = copy
        self._rules = rules
        #: The version of the copy that is served, and the versions of its sites.
        self._version = 0
        self._known: dict[str, int] = {}
        self._leaving: dict[str, StoredSite] = {}
        #: How often a reload was asked for, as far as this node knows; None: it has not looked yet.
        self._reloads: int | None = None
        self._looked_into_sql = 0.0
        self._told = ""
        self._task: asyncio.Task[None] | None = None

    async def load(self) -> None:
        """Adds the stored sites to the configuration of a node that does not serve yet. SQL away: those of the copy."""
        with contextlib.suppress(StoreError):
            # A reload that is asked for from here on counts, also before the first look.
            self._reloads = (await self._copy.marks()).reload
        if self._rows is None:
            _log.info("stored sites off", expected="DATABASE_URL")
            return
        try:
            await self._look_into_sql()
        except (JournalUnavailable, StoreError) as error:
            _log.warning("stored sites taken from redis", reason=str(error))
        try:
            version, known = (await self._copy.marks()).version, await self._copy.versions()
            stored = await self._copy.read(list(known))
        except StoreError as error:
            _log.error("stored sites not read", reason=str(error))
            return
        self._version, self._known = version, known
        self._leaving = {site.name: site for site in stored if site.state == "leaving"}
        live = [site for site in stored if site.state == "live"]
        self._config.sites.update(await asyncio.to_thread(self._servable, live))
        _log.info("stored sites read", sites=len(live))

    def start(self, serving: Serving) -> None:
        """Begins to follow."""
        self._task = start_watched(self._keep_following(serving), "stored sites")

    async def close(self) -> None:
        """Ends it."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)
        if self._rows is not None:
            await self._rows.close()

    async def _keep_following(self, serving: Serving) -> None:
        while True:
            await asyncio.sleep(LOOK_SECONDS)
            try:
                await self._follow(serving)
            except (StoreError, JournalUnavailable) as error:
                self._tell(str(error))
            except Exception:
                # An unreadable row keeps no other change, and nothing that is served, from its way.
                _log.exception("stored sites not followed")
            else:
                self._told = ""

    def _tell(self, reason: str) -> None:
        """Logs the reason of an outage once."""
        if reason != self._told:
            self._told = reason
            _log.warning("stored sites not followed", reason=reason)

    async def _follow(self, serving: Serving) -> None:
        marks = await self._copy.marks()
        if self._reloads is not None and marks.reload > self._reloads:
            serving.reload()
        self._reloads = marks.reload
        if self._rows is None:
            return
        if marks.version > self._version:
            await self._take_over(serving, marks.version)
        await self._purge(serving)
        if marks.version < self._version or monotonic() - self._looked_into_sql >= SQL_SECONDS:
            await self._look_into_sql()

    async def _look_into_sql(self) -> None:
        """Writes the copy where SQL is newer: Redis was away during a change, or has lost it."""
        assert self._rows is not None, "the callers have looked"
        self._looked_into_sql = monotonic()
        newest = await self._rows.newest()
        if newest > (await self._copy.marks()).version:
            await self._copy.replace(await self._rows.read_all())

    async def _take_over(self, serving: Serving, version: int) -> None:
        versions = await self._copy.versions()
        changed = [name for name, at in versions.items() if at > self._known.get(name, 0)]
        stored = await self._copy.read(changed)
        for name in self._known.keys() - versions.keys():
            self._leaving.pop(name, None)
            await self._stop(serving, name)
        for one in stored:
            if one.state == "live":
                self._leaving.pop(one.name, None)
            else:
                await self._stop(serving, one.name)
                self._leaving[one.name] = one
        live = [one for one in stored if one.state == "live"]
        servable = await asyncio.to_thread(self._servable, live)
        await serving.add([site for name, site in servable.items() if name not in self._config.sites])
        for name, site in servable.items():
            if self._config.sites[name] != site:
                await serving.change(site)
        self._version, self._known = version, versions

    async def _stop(self, serving: Serving, name: str) -> None:
        served = self._config.sites.get(name)
        if served is not None and served.is_stored:
            await serving.remove(name)

    def _servable(self, stored: Sequence[StoredSite]) -> dict[str, Site]:
        """The sites among these that can be served beside the others; the log names the mistakes of the rest."""
        read = readable_sites(self._rules, stored)
        present = {name: site for name, site in self._config.sites.items() if site.is_stored}
        if self._fit({**present, **read}):
            return read
        servable: dict[str, Site] = {}
        for name, site in read.items():
            if self._fit({**present, **servable, name: site}, name):
                servable[name] = site
        return servable

    def _fit(self, sites: dict[str, Site], name: str = "") -> bool:
        try:
            self._rules.check(sites)
        except ConfigError as error:
            if name:
                _log.error("stored site not served", site=name, mistakes=error.mistakes)
            return False
        return True

    async def _purge(self, serving: Serving) -> None:
        """Removes the keys of sites that leave, on one node at a time, once no node serves them."""
        due = [site for site in self._leaving.values() if now_ms() - site.changed_at >= GRACE_MS]
        if not due or not await self._copy.may_purge(serving.node):
            return
        for site in due[:_PURGES_A_TURN]:
            try:
                is_done = await serving.purge(site.name)
            except StoreError:
                raise
            except RecadoError as error:
                _log.error("keys of a site not removed", site=site.name, reason=str(error))
                is_done = False
            if is_done:
                await self._forget(site)
            else:
                # The others have their turn first.
                self._leaving[site.name] = self._leaving.pop(site.name)

    async def _forget(self, site: StoredSite) -> None:
        assert self._rows is not None, "without SQL no site leaves"

        def change(before: StoredSite | None, version: int) -> StoredSite:
            if before is None or before.state != "leaving":
                return before or site
            return StoredSite(
                name=site.name,
                block={},
                state="gone",
                version=version,
                created_at=before.created_at,
                changed_at=before.changed_at,
            )

        await tell(self._rows, self._copy, *await self._rows.change(site.name, change))
        self._leaving.pop(site.name, None)
        _log.info("keys of a site removed", site=site.name)
