"""How many messages wait in the sites' queues: a sample of a few devices at intervals, whose cost does not grow."""

import asyncio
from collections.abc import Iterable

import structlog

from app.config.settings import Site
from app.errors import StoreError, StoreUnavailable
from app.observe.counts import Counts, QueueSample
from app.redis.client import Commands
from app.store.keys import prefix
from app.watched_tasks import start_watched

SAMPLE_SECONDS = 15.0
#: Sites that are sampled in a second: with many sites each has its turn later.
_SITES_AT_ONCE = 20
#: Devices of one site in a sample: some 200 commands in one script run, a tenth of a millisecond of Redis's time.
_MAX_DEVICES = 64

_log = structlog.get_logger(__name__)


class QueueSampler:
    """Lives as long as the node: `start` begins to sample, `close` ends it."""

    def __init__(self, redis: Commands, sites: Iterable[Site], counts: Counts) -> None:
        """Samples go to the counts of each site."""
        self._redis = redis
        self._sites = [site for site in sites if site.has_queues]
        self._counts = counts
        self._task: asyncio.Task[None] | None = None

    def start(self) -> None:
        """Samples at once, and then every SAMPLE_SECONDS."""
        self._task = start_watched(self._keep_sampling(), "queue samples")

    async def close(self) -> None:
        """Ends the samples."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)

    async def sample(self) -> None:
        """Samples each site once, one after the other. Raises StoreUnavailable when Redis is away."""
        for number, site in enumerate(self._sites, 1):
            if number % _SITES_AT_ONCE == 0:
                await asyncio.sleep(1)
            answer = await self._redis.run("sample", prefix(site.name), "", _MAX_DEVICES)
            devices, sampled, messages, longest, oldest_ms = answer
            sample = QueueSample(devices, sampled, messages, longest, oldest_ms / 1000)
            self._counts.of(site.name).queues = sample

    async def _keep_sampling(self) -> None:
        while True:
            try:
                await self.sample()
            except StoreUnavailable:
                pass
            except StoreError as error:
                _log.error("queue sample failed", reason=str(error))
            await asyncio.sleep(SAMPLE_SECONDS)
