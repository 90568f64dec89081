"""The removal of unfinished uploads whose time has passed: a round for each site now and then, by one node."""

import asyncio
import random
from collections.abc import Awaitable, Callable, Iterable

import structlog

from app.config.settings import Site
from app.errors import StoreError
from app.protocols.messenger.files.ports import FilesUnavailable
from app.protocols.messenger.files.redis_keys import files_round_key
from app.redis.client import Commands
from app.watched_tasks import start_watched

#: The time between two rounds.
ROUND_SECONDS = 300.0
#: A round belongs to the node that begins it: another one may begin the next, also when this one was killed.
_ROUND_LEASE_MS = 240_000

_log = structlog.get_logger(__name__)


class FileExpiry:
    """Lives as long as the node: `start` begins the rounds, `close` ends them."""

    def __init__(
        self,
        redis: Commands,
        node: str,
        expire: Callable[[Site], Awaitable[int]],
        sites: Callable[[], Iterable[Site]],
        seconds: float = ROUND_SECONDS,
    ) -> None:
        """`expire` removes those of a site, `sites` returns the sites that have files now."""
        self._redis = redis
        self._node = node
        self._expire = expire
        self._sites = sites
        self._seconds = seconds
        self._task: asyncio.Task[None] | None = None

    def start(self) -> None:
        """Begins the rounds, the first one after a part of the time, so that nodes do not ask together."""
        self._task = start_watched(self._keep_going(), "file expiry")

    async def close(self) -> None:
        """Ends the rounds."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)

    async def go_round(self) -> None:
        """Removes what has expired, of each site whose round no other node has begun."""
        for site in list(self._sites()):
            try:
                words = ("SET", files_round_key(site.name), self._node, "NX", "PX", _ROUND_LEASE_MS)
                if await self._redis.command(*words) and (removed := await self._expire(site)):
                    _log.info("unfinished uploads removed", site=site.name, files=removed)
            except (StoreError, FilesUnavailable) as error:
                _log.warning("unfinished uploads not removed", site=site.name, reason=str(error))

    async def _keep_going(self) -> None:
        while True:
            await asyncio.sleep(self._seconds * random.uniform(0.5, 1.0))
            await self.go_round()
