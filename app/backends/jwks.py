"""The public keys of issuers of tokens: reads each JWKS, keeps the last good set, and reads again when it has to.

Knows nothing of keys or tokens: the owner reads the answer. Like authUrl, the URL is the site's own and may lead to a
private address; a redirect is not followed, and nothing of an answer is shown to anybody.
"""

import asyncio
from collections.abc import Callable
from time import monotonic
from typing import Generic, TypeVar

import structlog

from app.backends.exact_pool import ExactPool
from app.backends.exchange import BackendError
from app.backends.figures import BackendCounts
from app.backends.site_pools import SitePools
from app.config.settings import Site
from app.errors import RecadoError
from app.observe.counts import Counts
from app.watched_tasks import start_logged

#: A set is read again after this time, while the old one serves.
REFRESH_SECONDS = 600.0
#: The least time between two readings because of keys that are not in the set.
UNKNOWN_SECONDS = 60.0
#: The pause after a reading that failed. It doubles with each further one.
FIRST_PAUSE_SECONDS = 1.0
LONGEST_PAUSE_SECONDS = 60.0

_T = TypeVar("_T")

_log = structlog.get_logger(__name__)


class _Entry(Generic[_T]):
    """One JWKS. Lives as long as its site."""

    def __init__(self) -> None:
        self.keys: _T | None = None
        self.read_at = 0.0
        #: When it may be read again: after a failure, and because of an unknown key.
        self.not_before = 0.0
        self.unknown_not_before = 0.0
        self.pause_seconds = FIRST_PAUSE_SECONDS
        self.task: asyncio.Task[None] | None = None


class JwksCache(Generic[_T]):
    """The sets of all sites. Lives as long as the node, which calls `aclose`."""

    def __init__(
        self,
        timeout_seconds: float,
        read: Callable[[bytes], _T],
        counts: Counts | None = None,
        clock: Callable[[], float] = monotonic,
    ) -> None:
        """`read` makes a set of the answer, or raises RecadoError with the reason; `timeout_seconds` is for the whole
        of a request."""
        self._pools = SitePools(timeout_seconds, ExactPool)
        self._read = read
        self._counts = counts or Counts()
        self._clock = clock
        self._entries: dict[tuple[str, str], _Entry[_T]] = {}

    async def keys(self, site: Site, url: str, suffices: Callable[[_T], bool]) -> _T | None:
        """The newest set; None: none was read yet, and none can be now. May be cancelled.

        A set that does not suffice is read again, once in a minute at most, and then the newer one is the answer.
        """
        entry = self._entries.setdefault((site.name, url), _Entry())
        now = self._clock()
        if entry.keys is not None and suffices(entry.keys):
            if now >= max(entry.read_at + REFRESH_SECONDS, entry.not_before):
                self._begin(site, url, entry)
            return entry.keys
        if entry.task is None and now >= max(entry.not_before, entry.unknown_not_before):
            entry.unknown_not_before = now + UNKNOWN_SECONDS if entry.keys is not None else 0.0
            self._begin(site, url, entry)
        if entry.task is not None:
            # The reading is for all that wait for it.
            await asyncio.shield(entry.task)
        return entry.keys

    def forget(self, site: str, urls: frozenset[str] = frozenset()) -> None:
        """Drops the sets of a site, but those of these URLs."""
        for name, url in [key for key in self._entries if key[0] == site and key[1] not in urls]:
            del self._entries[name, url]

    async def aclose(self) -> None:
        """Ends the readings and closes the connections."""
        tasks = [entry.task for entry in self._entries.values() if entry.task is not None]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        await self._pools.aclose()

    def _begin(self, site: Site, url: str, entry: _Entry[_T]) -> None:
        if entry.task is None:
            entry.task = start_logged(self._renew(site.name, url, entry), "jwks")

    async def _renew(self, site: str, url: str, entry: _Entry[_T]) -> None:
        results = self._counts.of(site).part(BackendCounts).jwks_reads
        try:
            entry.keys = await self._fetch(site, url)
        except RecadoError as error:
            entry.not_before = self._clock() + entry.pause_seconds
            entry.pause_seconds = min(2 * entry.pause_seconds, LONGEST_PAUSE_SECONDS)
            results["failed"] += 1
            cause = error.cause if isinstance(error, BackendError) else type(error).__name__
            # The last good set serves on.
            _log.warning("jwks not read", site=site, reason=str(error), error=cause, has_keys=entry.keys is not None)
        else:
            entry.read_at = self._clock()
            entry.not_before, entry.pause_seconds = 0.0, FIRST_PAUSE_SECONDS
            results["read"] += 1
        finally:
            entry.task = None

    async def _fetch(self, site: str, url: str) -> _T:
        answer = await self._pools.exchange(site, "GET", url, [])
        if answer.status != 200:
            raise BackendError(f"status {answer.status}", "UnexpectedStatus")
        return self._read(answer.body)
