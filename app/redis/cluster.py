"""A Redis Cluster: which primary holds which slots, and a `Redis` for each primary. Does not know what keys mean.

A command whose slot has moved fails with StoreUnavailable, and the caller tries again with the new map. That keeps the
order of a site's commands: a redirected command would run after commands that were called later. ASK is not followed:
until a slot has moved as a whole, the scripts would find half of their keys.
"""

import asyncio
import contextlib
from binascii import crc_hqx
from collections.abc import Awaitable, Callable, Sequence
from functools import lru_cache
from typing import Any

import structlog
from msgspec import Struct

from app.errors import StoreAway, StoreError, StoreUnavailable
from app.observe.counts import Counts
from app.redis.address import Address, ClusterSeeds
from app.redis.client import Redis, RunScript
from app.redis.link import Link, Word
from app.watched_tasks import start_watched

SLOTS = 16_384
#: Pauses between questions for the map: while every primary answers, while one does not, and the shortest.
_REFRESH_SECONDS = 5.0
_REPAIR_SECONDS = 0.25
_PAUSE_SECONDS = 0.05

_log = structlog.get_logger(__name__)


class SlotMap(Struct, frozen=True):
    """The slots and their primaries, as one server of the Cluster sees them."""

    #: Whether that server sees a complete Cluster, and how new its view is.
    is_whole: bool
    epoch: int
    #: First slot, last slot, and their primary.
    ranges: list[tuple[int, int, Address]]
    #: All servers that it knows, replicas too.
    servers: list[Address]


@lru_cache(maxsize=65_536)
def slot_of(key: str) -> int:
    """The slot of a key: that of the text between its first braces, if there is any, else of all."""
    begin = key.find("{")
    end = key.find("}", begin + 1)
    tagged = key[begin + 1 : end] if begin >= 0 and end > begin + 1 else key
    return crc_hqx(tagged.encode(), 0) % SLOTS


class RedisCluster:
    """The commands of one node to a Cluster; see `Commands`. Lives as long as the node: `close` ends it."""

    is_sharded = True

    def __init__(
        self, seeds: ClusterSeeds, timeout_seconds: float, counts: Counts | None = None, journal_backlog: int = 0
    ) -> None:
        self._journal_backlog = journal_backlog
        self.timeout_seconds = timeout_seconds
        self.on_reconnect: Callable[[str, RunScript], Awaitable[None]] | None = None
        self.on_shards_changed: Callable[[], None] | None = None
        self._login = seeds.servers[0]
        #: The servers that can be asked for the map.
        self._servers = list(seeds.servers)
        self._seeds = seeds.servers
        self._counts = counts or Counts()
        self._primaries: dict[Address, Redis] = {}
        self._slots: list[Redis | None] = [None] * SLOTS
        self._is_stale = asyncio.Event()
        self._keeper: asyncio.Task[None] | None = None
        self._closing: set[asyncio.Task[None]] = set()

    async def start(self) -> None:
        """Finds the primaries and connects; a primary that is away is retried in the background.

        Raises StoreUnavailable when all are away, StoreError when they refuse us.
        """
        try:
            self._adopt(await self._ask(), lambda primary: None)
            primaries = self.shards
            results = await asyncio.gather(*(primary.start() for primary in primaries), return_exceptions=True)
            failures = [result for result in results if isinstance(result, BaseException)]
            if failures and len(failures) == len(results):
                raise failures[0]
        except BaseException:
            await self.close()
            raise
        for primary, result in zip(primaries, results, strict=True):
            if isinstance(result, BaseException):
                primary.begin()
        self._keeper = start_watched(self._keep_map(), "cluster map")

    async def close(self) -> None:
        """Ends all links."""
        if self._keeper is not None:
            self._keeper.cancel()
            await asyncio.gather(self._keeper, return_exceptions=True)
        await asyncio.gather(*(primary.close() for primary in self.shards), *self._closing)

    @property
    def is_available(self) -> bool:
        """Whether there is a link to any primary: its sites are served, whatever the others do."""
        return any(primary.is_available for primary in self._primaries.values())

    @property
    def shards(self) -> Sequence[Redis]:
        """The primaries."""
        return list(self._primaries.values())

    def shard_of(self, key: str) -> Redis | None:
        """The primary that holds the key's slot."""
        return self._slots[slot_of(key)]

    def deadline_ms(self, key: str) -> int:
        """See `Commands`."""
        primary = self.shard_of(key)
        return primary.deadline_ms(key) if primary else 0

    def command(self, *words: Word) -> "asyncio.Future[Any]":
        """Gives a command to the primary of its key, the second word."""
        primary = self.shard_of(str(words[1]))
        return primary.command(*words) if primary else _failed()

    def run(self, name: str, key: str, *arguments: Word) -> Awaitable[Any]:
        """Runs a script at the primary of its key."""
        primary = self.shard_of(key)
        return primary.run(name, key, *arguments) if primary else _failed()

    # The map

    async def _keep_map(self) -> None:
        while True:
            all_answer = all(primary.is_available for primary in self._primaries.values())
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(_REFRESH_SECONDS if all_answer else _REPAIR_SECONDS):
                    await self._is_stale.wait()
            self._is_stale.clear()
            try:
                self._adopt(await self._ask(), Redis.begin)
            except StoreError as error:
                _log.error("cluster map unknown", reason=str(error))
            await asyncio.sleep(_PAUSE_SECONDS)

    async def _ask(self) -> SlotMap:
        """The newest map that any server knows. Raises StoreUnavailable when none answers."""
        linked = [primary for primary in self.shards if primary.is_available]
        if linked:
            questions = [self._ask_over(primary.command, primary.address) for primary in linked]
        else:
            questions = [self._ask_at(server) for server in dict.fromkeys([*self._servers, *self._seeds])]
        answers = await asyncio.gather(*questions, return_exceptions=True)
        maps = [answer for answer in answers if isinstance(answer, SlotMap)]
        if maps:
            return max(maps, key=lambda map_: (map_.is_whole, map_.epoch))
        raise next(
            (e for e in answers if isinstance(e, StoreError)), StoreUnavailable("No server of the Cluster answers")
        )

    async def _ask_at(self, server: Address) -> SlotMap:
        link = await Link.open(server, self.timeout_seconds)
        try:
            return await self._ask_over(link.command, server)
        finally:
            link.abort()

    async def _ask_over(self, command: Callable[..., "asyncio.Future[Any]"], server: Address) -> SlotMap:
        async with asyncio.timeout(self.timeout_seconds):
            info, slots = await asyncio.gather(command("CLUSTER", "INFO"), command("CLUSTER", "SLOTS"))
        fields = dict(line.split(":", 1) for line in info.decode().split("\r\n") if ":" in line)
        ranges, servers = [], []
        for first, last, primary, *replicas in slots:
            ranges.append((first, last, self._address(primary, server)))
            servers += [self._address(one, server) for one in (primary, *replicas)]
        return SlotMap(fields["cluster_state"] == "ok", int(fields["cluster_current_epoch"]), ranges, servers)

    def _address(self, entry: list[Any], server: Address) -> Address:
        # A server that does not know its own name leaves it out: it is the server that was asked.
        host = entry[0].decode() if entry[0] not in (None, b"", b"?") else server.host
        return self._login.at(host, entry[1])

    def _adopt(self, map_: SlotMap, begin: Callable[[Redis], None]) -> None:
        slots: list[Redis | None] = [None] * SLOTS
        primaries: dict[Address, Redis] = {}
        for first, last, address in map_.ranges:
            primary = primaries.get(address) or self._primaries.get(address) or self._new_primary(address)
            primaries[address] = primary
            slots[first : last + 1] = [primary] * (last + 1 - first)
        if slots == self._slots:
            return
        losers = {old for old, new in zip(self._slots, slots, strict=True) if old is not None and old is not new}
        added = [primary for address, primary in primaries.items() if address not in self._primaries]
        gone = [primary for address, primary in self._primaries.items() if address not in primaries]
        self._slots, self._primaries, self._servers = slots, primaries, map_.servers
        _log.warning("cluster map", primaries=sorted(map(str, primaries)))
        for primary in gone:
            self._close(primary)
        for primary in losers.difference(gone):
            # Abort in-flight commands: their replies could arrive after replies from the slot's new primary and break
            # call order.
            primary.give_up()
        for primary in added:
            begin(primary)
        if self.on_shards_changed is not None:
            self.on_shards_changed()

    def _new_primary(self, address: Address) -> Redis:
        backlog = self._journal_backlog
        primary = Redis(address, self.timeout_seconds, self._counts, is_sharded=True, journal_backlog=backlog)
        primary.on_astray = self._is_stale.set

        async def recover(run_id: str, run: RunScript) -> None:
            async def run_if_held(name: str, key: str, *arguments: Word) -> Any:
                return await run(name, key, *arguments) if self.shard_of(key) is primary else [0, b"0"]

            if self.on_reconnect is not None:
                await self.on_reconnect(run_id, run_if_held)

        primary.on_reconnect = recover
        return primary

    def _close(self, primary: Redis) -> None:
        primary.give_up()
        task = asyncio.ensure_future(primary.close())
        self._closing.add(task)
        task.add_done_callback(self._closing.discard)


def _failed() -> "asyncio.Future[Any]":
    future: asyncio.Future[Any] = asyncio.get_running_loop().create_future()
    future.set_exception(StoreAway("No server of the Cluster holds this key's slot."))
    future.exception()  # so that asyncio does not complain when nobody awaits it
    return future
