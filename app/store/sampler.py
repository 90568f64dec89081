"""How many messages wait in the sites' queues: a sample of a few devices at intervals, whose cost does not grow.

A round samples the sites that this node has run scripts for since the last one, and a few others in turn.
"""

import asyncio
import itertools
from collections.abc import Iterable

import structlog

from app.config.settings import Site
from app.errors import StoreError, StoreUnavailable
from app.observe.counts import Counts, QueueSample
from app.redis.client import Commands
from app.store.keys import prefix
from app.watched_tasks import start_watched

SAMPLE_SECONDS = 15.0
#: The most sites of one round that were touched, and the others: with many sites each has its turn later.
_TOUCHED_SITES = 300
_OTHER_SITES = 30
#: Devices of one site in a sample: some 200 commands in one script run, a tenth of a millisecond of Redis's time.
_MAX_DEVICES = 64

_log = structlog.get_logger(__name__)


class QueueSampler:
    """Lives as long as the node: `start` begins to sample, `close` ends it."""

    def __init__(self, redis: Commands, sites: Iterable[Site], counts: Counts, touched: set[str] | None = None) -> None:
        """Samples go to the counts of each site. `touched` are the sites with something new; a round takes them out."""
        self._redis = redis
        self._sites: set[str] = set()
        self.add(sites)
        self._counts = counts
        self._touched = set[str]() if touched is None else touched
        #: Sites that are sampled in a second.
        self.per_second = 20
        self._task: asyncio.Task[None] | None = None

    def add(self, sites: Iterable[Site]) -> None:
        """Samples more sites. The turns begin with the first one again."""
        self._sites.update(site.name for site in sites if site.has_queues)
        self._in_turn = itertools.cycle(sorted(self._sites))

    def remove(self, site: str) -> None:
        """Samples a site no more."""
        self._sites.discard(site)
        self._in_turn = itertools.cycle(sorted(self._sites))

    def start(self) -> None:
        """Begins a round at once, and then every SAMPLE_SECONDS."""
        self._task = start_watched(self._keep_sampling(), "queue samples")

    async def close(self) -> None:
        """Ends the samples."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)

    async def sample(self) -> None:
        """Samples the sites of one round, one after the other. Raises StoreUnavailable when Redis is away."""
        for number, name in enumerate(self._next_sites(), 1):
            if number % self.per_second == 0:
                await asyncio.sleep(1)
            answer = await self._redis.run("sample", prefix(name), "", _MAX_DEVICES)
            devices, sampled, messages, longest, oldest_ms = answer
            self._counts.of(name).queues = QueueSample(devices, sampled, messages, longest, oldest_ms / 1000)

    def _next_sites(self) -> Iterable[str]:
        touched = [self._touched.pop() for _ in range(min(len(self._touched), _TOUCHED_SITES))]
        others = itertools.islice(self._in_turn, min(len(self._sites), _OTHER_SITES))
        return dict.fromkeys([*filter(self._sites.__contains__, touched), *others])

    async def _keep_sampling(self) -> None:
        while True:
            try:
                await self.sample()
            except StoreUnavailable:
                pass
            except StoreError as error:
                _log.error("queue sample failed", reason=str(error))
            await asyncio.sleep(SAMPLE_SECONDS)
