"""Facts of sites that every node tells the others through Redis: when each key was used, and for each site how many
connections the node has and how authUrl does.

A node writes what has changed since its last look, some seconds ago; idle sites cost nothing.
"""

import asyncio
from collections.abc import Iterable, Mapping

import msgspec
import structlog
from msgspec import Struct

from app.backends.figures import BackendCounts
from app.catalog.stored_site import key_name, name_of_digest
from app.clock import now_ms
from app.config.settings import Site
from app.errors import StoreError
from app.observe.counts import Counts
from app.redis.client import Commands
from app.store.keys import NODES, prefix
from app.watched_tasks import start_watched

#: The pause between two looks of a node.
TELL_SECONDS = 2.0
#: The sites of one look; the others have their turn in a later one.
MOST_TOLD = 200
_LOOKS_A_TURN = 500

_BREAKER = ("closed", "half-open", "open")

_log = structlog.get_logger(__name__)


class SiteOnNode(Struct, frozen=True):
    """One site on one node. Lives as long as the look."""

    #: When it was written, in ms.
    at: int
    connections: int
    #: Of authUrl. `closed`: it is asked; `open`: it is left alone for a while; `half-open`: one request looks whether
    #: it is back.
    breaker: str
    in_flight: int
    #: Connects that wait for their turn.
    waiting: int
    #: Answers since the node began, and by result.
    asked: int
    results: dict[str, int]
    #: The mean time of an answer since the last look that had one.
    ms: float


class SiteFacts:
    """The facts of one node. Lives as long as the node: `start` begins, `close` ends it."""

    def __init__(self, redis: Commands, node: str, sites: Mapping[str, Site], counts: Counts) -> None:
        self._redis = redis
        self._node = node
        self._sites = sites
        self._counts = counts
        #: The last numbers of each site: answers, seconds, and what was written.
        self._seen: dict[str, tuple[int, float, SiteOnNode]] = {}
        #: The keys of each site whose last uses were told, as they were then.
        self._keys: dict[str, tuple[str, ...]] = {}
        self._task: asyncio.Task[None] | None = None

    def start(self) -> None:
        """Begins to tell."""
        self._task = start_watched(self._keep_telling(), "site facts")

    async def close(self) -> None:
        """Ends it."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)

    async def _keep_telling(self) -> None:
        told = ""
        while True:
            await asyncio.sleep(TELL_SECONDS)
            try:
                await self.tell()
                told = ""
            except StoreError as error:
                if str(error) != told:
                    told = str(error)
                    _log.info("site facts not told", reason=told)

    async def tell(self) -> None:
        """Writes what has changed. Raises StoreError; the rest is written at the next look."""
        uses = self._counts.key_uses
        for used in list(uses)[:MOST_TOLD]:
            name, key = used
            at, site = uses.pop(used), self._sites.get(name)
            if site is not None and not site.is_hidden and name_of_digest(key) in map(key_name, site.keys):
                await self._redis.command("HSET", prefix(name) + "key_uses", name_of_digest(key), at)
                self._keys.setdefault(name, ())
        await self._forget_keys()
        for name in [name for name in self._seen if name not in self._sites]:
            del self._seen[name]
        changed: list[str] = []
        for number, one in enumerate(list(self._sites.values()), 1):
            if not one.is_hidden and self._has_news(one.name):
                changed.append(one.name)
            if number % _LOOKS_A_TURN == 0:
                await asyncio.sleep(0)
        for name in changed[:MOST_TOLD]:
            await self._tell_site(name)

    async def _forget_keys(self) -> None:
        """Takes the last uses of removed keys away."""
        for name, keys in list(self._keys.items()):
            site = self._sites.get(name)
            if site is None:
                del self._keys[name]
            elif site.keys != keys:
                await forget_key_uses(self._redis, name, map(key_name, site.keys))
                self._keys[name] = site.keys

    def _has_news(self, site: str) -> bool:
        counts = self._backend(site)
        before = self._seen.get(site)
        connections = self._counts.of(site).connections
        if before is None:
            return bool(connections or counts.auths or counts.auths_in_flight or counts.auths_waiting)
        asked, _, told = before
        state = (connections, _BREAKER[counts.auth_breaker], counts.auths_in_flight, counts.auths_waiting)
        return asked != _answers(counts) or state != (told.connections, told.breaker, told.in_flight, told.waiting)

    async def _tell_site(self, site: str) -> None:
        counts = self._backend(site)
        answers, seconds = _answers(counts), counts.auth_seconds.total_seconds
        last_answers, last_seconds, last = self._seen.get(site, (0, 0.0, None))
        ms = last.ms if last is not None else 0.0
        if answers > last_answers:
            ms = round((seconds - last_seconds) * 1000 / (answers - last_answers), 1)
        load = (_BREAKER[counts.auth_breaker], counts.auths_in_flight, counts.auths_waiting)
        connections = self._counts.of(site).connections
        fact = SiteOnNode(now_ms(), connections, *load, answers, dict(counts.auths), ms)
        if last is None:
            # Takes away what nodes before this one have left.
            await on_nodes(self._redis, site)
        await self._redis.command("HSET", prefix(site) + "on_nodes", self._node, msgspec.json.encode(fact))
        self._seen[site] = (answers, seconds, fact)

    def _backend(self, site: str) -> BackendCounts:
        return self._counts.of(site).part(BackendCounts)


async def key_uses(redis: Commands, site: str) -> dict[str, int]:
    """When each key of a site was last used, in ms, by the name of the key. Raises StoreError."""
    words = await redis.command("HGETALL", prefix(site) + "key_uses")
    return {name.decode(): int(at) for name, at in zip(words[::2], words[1::2], strict=True)}


async def forget_key_uses(redis: Commands, site: str, kept: Iterable[str]) -> None:
    """Takes the last uses of all keys but these away, by the names of the keys. Raises StoreError."""
    key = prefix(site) + "key_uses"
    known = set(map(bytes.decode, await redis.command("HKEYS", key)))
    if removed := known - set(kept):
        await redis.command("HDEL", key, *removed)


async def on_nodes(redis: Commands, site: str) -> dict[str, SiteOnNode]:
    """The site on each living node that has had connections of it. Raises StoreError."""
    living = {name for name in await redis.command("ZRANGE", NODES, 0, -1) if not name.startswith(b"~")}
    key = prefix(site) + "on_nodes"
    words = await redis.command("HGETALL", key)
    rows = dict(zip(words[::2], words[1::2], strict=True))
    if gone := [node for node in rows if node not in living]:
        await redis.command("HDEL", key, *gone)
    decode = msgspec.json.Decoder(SiteOnNode).decode
    return {node.decode(): decode(row) for node, row in rows.items() if node in living}


def _answers(counts: BackendCounts) -> int:
    return sum(counts.auth_seconds.buckets)
