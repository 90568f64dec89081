"""This node among the others: its heartbeat, its lease on a worker id, and the chores that any one node has to do.

The chores: taking out what a dead node left behind, and forgetting devices whose time to live is over.
"""

import asyncio
import random
import secrets
from collections.abc import Callable, Iterable

import structlog

from app.errors import StoreError, StoreUnavailable
from app.ids import MAX_DATACENTER, MAX_WORKER
from app.settings import Site
from app.store.keys import NODES, worker_lease
from app.store.queues import RedisQueues
from app.store.redis import Redis

BEAT_SECONDS = 2.0
#: A node without a beat for so long counts as dead: its devices are disconnected within 10 s of its end.
DEAD_AFTER_SECONDS = 7.0
EXPIRE_SECONDS = 0.5
_LEASE_MS = 60_000

_log = structlog.get_logger(__name__)


def new_node_id() -> str:
    """A name for one run of one process; hexadecimal, because scripts put it between `.` and `,`."""
    return secrets.token_hex(5)


class Node:
    """This process in Redis. Lives as long as the process: `start` announces it, `close` takes it out."""

    def __init__(
        self, redis: Redis, queues: RedisQueues, node: str, sites: Iterable[Site], on_taken_for_dead: Callable[[], None]
    ) -> None:
        self.id = node
        self._redis = redis
        self._queues = queues
        self._sites = list(sites)
        self._on_taken_for_dead = on_taken_for_dead
        self._lease: str | None = None
        self._is_known = False
        self._tasks: list[asyncio.Task[None]] = []

    async def start(self) -> None:
        """Announces the node. Raises StoreUnavailable when Redis is away."""
        await self._beat()
        self._tasks = [
            asyncio.create_task(self._keep_beating(), name="node beat"),
            asyncio.create_task(self._keep_expiring(), name="device expiry"),
        ]

    async def close(self) -> None:
        """Takes the node out: what it still holds counts as disconnected now."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        if self._redis.is_available:
            await self._bury(self.id, "")
            if self._lease is not None:
                await self._redis.command("DEL", self._lease)

    async def lease_worker(self, datacenter: int | None, worker: int | None) -> tuple[int, int]:
        """A (datacenter, worker) that no other node uses while this one lives; what is given stays as it is."""
        places = [
            (d, w)
            for d in ([datacenter] if datacenter is not None else range(MAX_DATACENTER + 1))
            for w in ([worker] if worker is not None else range(MAX_WORKER + 1))
        ]
        if len(places) > 1:
            random.shuffle(places)
            for place in places:
                key = worker_lease(*place)
                if await self._redis.command("SET", key, self.id, "NX", "PX", _LEASE_MS):
                    self._lease = key
                    return place
            raise StoreError("flakeid: every datacenter and worker id is in use")
        return places[0]

    async def _beat(self) -> None:
        is_new, *dead = await self._redis.run("beat", NODES, self.id, int(DEAD_AFTER_SECONDS * 1000))
        if is_new and self._is_known:
            _log.warning("node was taken for dead", node=self.id)
            self._on_taken_for_dead()
        self._is_known = True
        if self._lease is not None:
            await self._redis.command("SET", self._lease, self.id, "PX", _LEASE_MS)
        for node, last_beat in zip(dead[::2], dead[1::2], strict=True):
            await self._bury(node.decode(), int(float(last_beat)))

    async def _bury(self, node: str, last_beat_ms: int | str) -> None:
        connections = 0
        for site in self._sites:
            has_more = True
            while has_more:
                has_more, users = await self._queues.bury(site, node, last_beat_ms)
                connections += len(users)
        await self._redis.command("ZREM", NODES, node)
        if node != self.id:
            _log.warning("node buried", node=node, connections=connections)

    async def _keep_beating(self) -> None:
        while True:
            await asyncio.sleep(BEAT_SECONDS)
            try:
                await self._beat()
            except StoreUnavailable:
                continue
            except StoreError as error:
                _log.error("beat failed", reason=str(error))

    async def _keep_expiring(self) -> None:
        while True:
            await asyncio.sleep(EXPIRE_SECONDS)
            for site in self._sites:
                if site.has_queues and site.device_ttl_seconds:
                    await self._expire(site)

    async def _expire(self, site: Site) -> None:
        at_most = 200
        try:
            while await self._queues.expire(site, at_most) == at_most:
                pass
        except StoreUnavailable:
            return
        except StoreError as error:
            _log.error("expiry failed", site=site.name, reason=str(error))
