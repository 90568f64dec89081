"""Devices whose time to live is over are forgotten: one list of due times for all sites of a node.

The node notes a site when a device there goes away by a command of its own. Devices that other nodes have left behind,
and those from before its start, are found by looking at a few sites a turn. So the cost is that of what expires: idle
sites add nothing to it.
"""

import asyncio
import itertools
from collections.abc import Awaitable, Iterable
from time import monotonic
from typing import Any

import structlog

from app.config.settings import Site
from app.core.due_sites import DueSites
from app.errors import StoreError, StoreUnavailable
from app.redis.client import Commands
from app.store.keys import prefix
from app.store.queues import RedisQueues
from app.watched_tasks import start_watched

EXPIRE_SECONDS = 0.5
#: The due sites of one turn; the others are next. A device that is past its time counts as expired before it is found
#: here; only its memory is freed later.
DUE_SITES = 20
#: The sites that one turn looks at, besides: 10,000 of them have had their turn after 17 minutes.
LOOKED_AT_SITES = 5
#: The pause before the next try at a site whose script has failed.
_RETRY_SECONDS = 5.0

_log = structlog.get_logger(__name__)


class Expiry:
    """Forgets devices past their time. Lives as long as the node: `start` begins, `close` ends it."""

    def __init__(self, redis: Commands, queues: RedisQueues, sites: Iterable[Site]) -> None:
        self._redis = redis
        self._queues = queues
        self._sites: dict[str, Site] = {}
        self.add(sites)
        self._due = DueSites()
        self._task: asyncio.Task[None] | None = None
        queues.on_due = self.note

    def add(self, sites: Iterable[Site]) -> None:
        """Looks at more sites. The turns begin with the first one again."""
        sites = list(sites)
        for site in sites:
            # One that is added again may have no queues any more.
            self._sites.pop(site.name, None)
        self._sites |= {site.name: site for site in sites if site.has_queues}
        self._in_turn = itertools.cycle(list(self._sites))

    def remove(self, site: str) -> None:
        """Looks at a site no more."""
        self._sites.pop(site, None)
        self._in_turn = itertools.cycle(list(self._sites))

    def start(self) -> None:
        """Begins to look for sites with devices to forget."""
        self._task = start_watched(self._keep_expiring(), "device expiry")

    async def close(self) -> None:
        """Ends it. The other nodes find what this one has noted when they look at the site."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)

    def note(self, site: Site, seconds: float) -> None:
        """The site may have something to forget after this time."""
        if site.name in self._sites:
            self._due.note(site.name, monotonic() + seconds)

    async def _keep_expiring(self) -> None:
        while True:
            await asyncio.sleep(EXPIRE_SECONDS)
            if not self._redis.is_available:
                continue
            due = self._due.take(monotonic(), DUE_SITES)
            for name in (*due, *await self._left_by_others()):
                if name in self._sites:
                    await self._expire(self._sites[name])

    async def _left_by_others(self) -> list[str]:
        """Of the next few sites, those with devices that are away, a large message or messages in flight that this node
        has not noted."""
        names = list(itertools.islice(self._in_turn, min(len(self._sites), LOOKED_AT_SITES)))
        answers = await asyncio.gather(*map(self._has_any, names), return_exceptions=True)
        return [name for name, has_any in zip(names, answers, strict=True) if isinstance(has_any, int) and has_any]

    def _has_any(self, name: str) -> Awaitable[Any]:
        # The `expiry` of a noted site is known; its large message may be another node's.
        keys = ("large", "flights") if name in self._due else ("large", "flights", "expiry", "ttl", "within")
        return self._redis.command("EXISTS", *(prefix(name) + key for key in keys))

    async def _expire(self, site: Site) -> None:
        try:
            forgotten, next_seconds = await self._queues.expire(site)
            while forgotten:
                forgotten, next_seconds = await self._queues.expire(site)
        except StoreUnavailable:
            self.note(site, _RETRY_SECONDS)
        except StoreError as error:
            self.note(site, _RETRY_SECONDS)
            _log.error("expiry failed", site=site.name, reason=str(error))
        else:
            if next_seconds is not None:
                self.note(site, next_seconds)
