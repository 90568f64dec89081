"""This node among the others: its beat, its lease on a worker id, and the chores that some node has to do.

The chores: to take out what a dead node has left, and to forget devices whose time to live is over.
"""

import asyncio
import contextlib
import itertools
import math
import random
import secrets
from collections.abc import Awaitable, Callable, Iterable, Iterator, Sequence
from functools import partial
from time import monotonic
from typing import TypeVar

import structlog

from app.config.settings import Site
from app.core.ports import BuriedConnection
from app.errors import StoreError, StoreUnavailable
from app.ids import MAX_DATACENTER, MAX_WORKER, FlakeIds
from app.redis.beat import Beat
from app.redis.client import Commands, retry
from app.store.expiry import Expiry
from app.store.keys import LANDING_NODES, NODES, node_sites, worker_lease
from app.store.queues import RedisQueues

BEAT_SECONDS = 2.0
#: A node without a beat for this long counts as dead: its devices are disconnected within 10 s of its end.
DEAD_AFTER_SECONDS = 7.0
#: Once Redis is back, every living node has beaten again within this many beats.
_GRACE_BEATS = 2
_LEASE_MS = 60_000
_NAMES_PER_COMMAND = 1_000
#: The sites in which a node is buried at a time.
_SITES_AT_ONCE = 32

_T = TypeVar("_T")
#: Stands before the name of a dead node when only sites are left that no other node has known since.
_LEFT = "~"

_log = structlog.get_logger(__name__)


def new_node_id() -> str:
    """A name for one run of one process. It is hexadecimal, because scripts put it between `.` and `,`."""
    return secrets.token_hex(5)


def _parts_of(things: Iterable[_T], most: int) -> Iterator[list[_T]]:
    """The things in lists of at most so many."""
    left = iter(things)
    while part := list(itertools.islice(left, most)):
        yield part


class Node:
    """This process in Redis. Lives as long as the process: `start` announces it, `close` takes it out."""

    def __init__(
        self,
        redis: Commands,
        queues: RedisQueues,
        node: str,
        sites: Iterable[Site],
        on_taken_for_dead: Callable[[], None],
        on_buried: Callable[[BuriedConnection], None],
    ) -> None:
        """`on_taken_for_dead`: other nodes may have taken out what this node had in Redis, or Redis has lost it.

        `on_buried` is called with each connection of a dead node that this node, and no other, has taken out.
        """
        self.id = node
        self._redis = redis
        self._queues = queues
        self._sites = {site.name: site for site in sites}
        self._on_taken_for_dead = on_taken_for_dead
        self._on_buried = on_buried
        #: Called with a site and a dead node: a protocol takes out what the node has left there beside connections. It
        #: raises StoreUnavailable when it could not; then it is called again.
        self.burials: list[Callable[[Site, str], Awaitable[None]]] = []
        self._lease: str | None = None
        #: The ids that the lease is for, and the place that the configuration asks for.
        self._ids: FlakeIds | None = None
        self._wanted: tuple[int | None, int | None] = (None, None)
        self._beat = Beat(redis, node, NODES, self)
        #: Whether Redis has to be told the names of this node's sites.
        self._must_announce = False
        #: The last beat that Redis took, and the first one after a pause.
        self._beat_at = self._beating_since = -math.inf
        self._expiry = Expiry(redis, queues, self._sites.values())

    async def start(self) -> None:
        """Announces the node. Raises StoreUnavailable when Redis is away."""
        await self.beat()
        self._beat.start(BEAT_SECONDS)
        self._expiry.start()

    async def add(self, sites: Sequence[Site]) -> None:
        """Takes care of more sites. Returns when Redis knows that this node has them, however long Redis is away: the
        nodes that bury this one have to find its connections there."""
        self._sites |= {site.name: site for site in sites}
        self._expiry.add(sites)
        await retry(partial(self._announce, [site.name for site in sites]))

    async def remove(self, site: str) -> None:
        """Takes care of a site no more. Returns when Redis knows that this node has it no longer, however long Redis is
        away: its keys may be deleted then."""
        self._sites.pop(site, None)
        self._expiry.remove(site)
        await retry(partial(self._redis.command, "SREM", node_sites(self.id), site))

    async def close(self) -> None:
        """Takes the node out: connections that it still holds count as disconnected now."""
        await self._expiry.close()
        await self._beat.close()
        if self._redis.is_available:
            # Sites of a shard that is away are left to the other nodes, as those of a dead node.
            with contextlib.suppress(StoreUnavailable):
                await self.bury(self.id, "")
                await self._redis.command("SREM", LANDING_NODES, self.id)
                if self._lease is not None:
                    await self._redis.command("DEL", self._lease)

    async def lease_ids(self, ids: FlakeIds, datacenter: int | None, worker: int | None) -> None:
        """Moves the ids to a place that no other node uses while this one lives, and again when the lease is lost."""
        self._wanted = (datacenter, worker)
        ids.move(*await self.lease_worker(datacenter, worker))
        self._ids = ids

    async def lease_worker(self, datacenter: int | None, worker: int | None) -> tuple[int, int]:
        """A (datacenter, worker) that no other node uses while this one lives; a number that is given is kept."""
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

    async def beat(self) -> None:
        """Shows that this node lives; see `BeatOwner`."""
        if not self._queues.flights.is_noted:
            # Before the beat: no living node may seem to be one that does not land messages in flight.
            await self._queues.flights.note(self._redis, self.id)
        is_new, *dead = await self._redis.run("beat", NODES, self.id, int(DEAD_AFTER_SECONDS * 1000))
        # Also when an earlier attempt to announce them has failed.
        self._must_announce = self._must_announce or bool(is_new)
        if self._must_announce:
            await self._announce(list(self._sites))
        is_new, self._must_announce = self._must_announce, False
        self._beat.answered(is_new)
        if self._may_judge(monotonic()):
            self._beat.bury(dead)
        if await self._queues.flights.look(self._redis, self.id):
            # Readers of queues are there that know no messages in flight.
            _log.info("a node of an earlier version is there", node=self.id)
            landings = (self._queues.land(site) for site in self._sites.values() if site.has_queues)
            await asyncio.gather(*landings, return_exceptions=True)
        if self._lease is not None:
            await self._renew_lease(self._lease)

    def taken_for_dead(self) -> None:
        """Redis had forgotten this node; see `BeatOwner`."""
        self._on_taken_for_dead()

    def _may_judge(self, now: float) -> bool:
        """Whether silence of another node is its own: while Redis was away, or took no writes, no node could beat."""
        if now - self._beat_at > DEAD_AFTER_SECONDS / 2:
            self._beating_since = now
        self._beat_at = now
        return now - self._beating_since >= _GRACE_BEATS * BEAT_SECONDS

    async def _announce(self, sites: Sequence[str]) -> None:
        for names in _parts_of(sites, _NAMES_PER_COMMAND):
            await self._redis.command("SADD", node_sites(self.id), *names)

    async def _renew_lease(self, lease: str) -> None:
        if await self._redis.run("lease", lease, self.id, _LEASE_MS):
            return
        # Redis or this node was away for longer than the lease lasts.
        place = await self.lease_worker(*self._wanted)
        _log.warning("worker id lost", lease=lease, place=place)
        if self._ids is not None:
            self._ids.move(*place)

    # Burials

    async def bury(self, name: str, last_beat_ms: int | str) -> None:
        """Takes a node out of the sites that this node knows; the others are left to a node that knows them.

        Its connections count as gone since its last beat; "" is now. A site that cannot be reached keeps no other site
        waiting. See `BeatOwner`.
        """
        node = name.removeprefix(_LEFT)
        named = {site.decode() for site in await self._redis.command("SMEMBERS", node_sites(node))}
        known = [site for site in self._sites.values() if site.name in named or node == self.id]
        left = named - self._sites.keys()
        if left and name != node and not known:
            return
        connections = await self._bury_in_sites(known, node, last_beat_ms)
        if left and name == node:
            await self._redis.command("ZADD", NODES, last_beat_ms, _LEFT + node)
        # Last: a node that has woken up meanwhile is told by its next beat, now that all of this has happened to it.
        await self._redis.command("ZREM", NODES, node, *([] if left else [_LEFT + node]))
        if node != self.id:
            _log.warning("node buried", node=node, connections=connections, sites_left=len(left))

    async def _bury_in_sites(self, sites: Iterable[Site], node: str, last_beat_ms: int | str) -> int:
        connections, failure = 0, None
        for part in _parts_of(sites, _SITES_AT_ONCE):
            answers = await asyncio.gather(
                *(self._bury_in(site, node, last_beat_ms) for site in part), return_exceptions=True
            )
            done = [site.name for site, answer in zip(part, answers, strict=True) if isinstance(answer, int)]
            connections += sum(answer for answer in answers if isinstance(answer, int))
            failure = next((answer for answer in answers if isinstance(answer, BaseException)), failure)
            if done:
                await self._redis.command("SREM", node_sites(node), *done)
        if failure is not None:
            raise failure
        return connections

    async def _bury_in(self, site: Site, node: str, last_beat_ms: int | str) -> int:
        connections, has_more = 0, True
        while has_more:
            has_more, buried = await self._queues.bury(site, node, last_beat_ms)
            connections += len(buried)
            for connection in buried:
                self._on_buried(connection)
        for bury in self.burials:
            await bury(site, node)
        return connections
