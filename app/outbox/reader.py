"""The reader of an outbox: claims messages that have been committed, has them sent, and stores what became of them.

Several readers of one outbox may run, each in a process of its own.
"""

import asyncio
from collections.abc import Coroutine, Mapping, Sequence
from time import monotonic
from typing import Any

import structlog
from msgspec import Struct

from app.outbox.failures import OutboxAway
from app.outbox.http_door import SendDoor
from app.outbox.pauses import Pauses
from app.outbox.plan import SendPlan
from app.outbox.row import CommittedMessage, Meaning, Verdict
from app.outbox.tables import PRUNED_ROWS, OutboxTables, connected
from app.outbox.verdicts import judge

#: A claim is ended after this time, and the rest of its messages wait for the next one: other readers may take them.
_CLAIM_SECONDS = 20.0
#: How often a reader looks that nobody wakes.
_POLL_SECONDS = 1.0
#: The pause of a reader that cannot sleep, or whose messages wait for another reader.
_SHORT_SECONDS = 0.02
_TELL_SECONDS = 60.0
#: Lines about parked messages of one round; the table has all of them.
_PARKED_LINES = 5
_FIRST_AWAY_SECONDS = 0.1
_LONGEST_AWAY_SECONDS = 10.0

_log = structlog.get_logger(__name__)


class ReaderOptions(Struct, frozen=True):
    """The settings of a reader. Lives as long as it."""

    #: Holds a password; it is in no text.
    dsn: str
    schema: str
    sites: Sequence[str]
    in_flight: int
    keep_seconds: float

    def __repr__(self) -> str:
        return f"ReaderOptions({self.schema!r}, {self.sites!r})"


class OutboxReader:
    """One reader. Lives as long as its process; `end` ends `run`."""

    def __init__(self, options: ReaderOptions, door: SendDoor) -> None:
        self._options = options
        self._door = door
        self._pauses = Pauses()
        self._ending = asyncio.Event()
        self._told_at = monotonic()
        self._pruned_at = 0.0
        #: The rounds since the last one that has sent something or has slept until a commit.
        self._idle_rounds = 0
        #: Since the last line of the log.
        self._counts = {"sent": 0, "replayed": 0, "parked": 0}

    def end(self) -> None:
        """Has the reader end what it has in hand, and then itself."""
        self._ending.set()

    async def run(self) -> None:
        """Reads until `end`. A database that is away is waited for. Raises ConfigError, OutboxUnusable."""
        failures = 0
        while not self._ending.is_set():
            try:
                async with connected(self._options.dsn, self._options.schema) as tables:
                    await tables.listen()
                    _log.info("outbox is read", schema=self._options.schema, sites=list(self._options.sites))
                    failures = 0
                    await self._read(tables)
            except OutboxAway as away:
                if not failures:
                    _log.warning("outbox is away", reason=str(away))
                await self._wait(min(_LONGEST_AWAY_SECONDS, _FIRST_AWAY_SECONDS * 2 ** min(failures, 16)))
                failures += 1

    async def _read(self, tables: OutboxTables) -> None:
        while not self._ending.is_set():
            has_sent = await self._round(tables)
            await self._tend(tables)
            if has_sent:
                self._idle_rounds = 0
            else:
                await self._sleep(tables)

    async def _round(self, tables: OutboxTables) -> bool:
        """Claims messages and sends them. Whether one was sent, or set aside."""
        sites = self._pauses.open_sites(self._options.sites, monotonic())
        if not sites:
            return False
        async with tables.claimed(sites) as (rows, results):
            if not rows:
                return False
            plan = SendPlan(rows, results)
            await self._send(plan, tables.name, await tables.bodies(rows))
        self._note(plan, rows)
        return bool(results.sent or results.parked)

    async def _send(self, plan: SendPlan, outbox: str, bodies: Mapping[int, bytes]) -> None:
        deadline = monotonic() + _CLAIM_SECONDS
        under_way: set[asyncio.Task[None]] = set()
        try:
            while True:
                while len(under_way) < self._options.in_flight and not self._ending.is_set() and monotonic() < deadline:
                    if (row := plan.take()) is None:
                        break
                    under_way.add(asyncio.create_task(self._post(plan, row, outbox, bodies.get(row.id))))
                if not under_way:
                    return
                done, under_way = await asyncio.wait(under_way, return_when=asyncio.FIRST_COMPLETED)
                for task in done:
                    task.result()
        finally:
            for task in under_way:
                task.cancel()

    async def _post(self, plan: SendPlan, row: CommittedMessage, outbox: str, body: bytes | None) -> None:
        if body is None:
            # Somebody has deleted it by hand.
            plan.settle(row, Verdict(Meaning.PARKED, "its row in recado_outbox is missing"))
        else:
            plan.settle(row, judge(await self._door.post(row, outbox, body), row.attempts))

    def _note(self, plan: SendPlan, rows: Sequence[CommittedMessage]) -> None:
        """Counts a round that was stored, and begins and ends pauses."""
        now, results = monotonic(), plan.results
        self._counts["sent"] += len(results.sent)
        self._counts["replayed"] += results.replayed
        self._counts["parked"] += len(results.parked)
        for position, reason in results.parked[:_PARKED_LINES]:
            row = next(row for row in rows if row.position == position)
            _log.error("outbox message parked", site=row.site, id=row.id, reason=reason)
        for name, verdict in plan.waits.items():
            if self._pauses.fail(name, now, verdict.wait_seconds, verdict.reason):
                _log.warning("outbox waits", site=name or None, reason=verdict.reason)
        sent = {row.position: row.site for row in rows}
        well = {sent[position] for position in results.sent} - plan.waits.keys()
        if well and "" not in plan.waits:
            well.add("")
        for name in self._pauses.succeed(*well):
            _log.info("outbox goes on", site=name or None)

    async def _sleep(self, tables: OutboxTables) -> None:
        """Waits for a commit, for the end of a pause, or for a while."""
        seconds = min(_POLL_SECONDS, self._pauses.seconds_left(monotonic()) or _POLL_SECONDS)
        if not await tables.lie_down():
            # Another reader sleeps, or a commit is just happening.
            await self._wait(min(seconds, _SHORT_SECONDS * 2 ** min(self._idle_rounds, 16)))
            self._idle_rounds += 1
            return
        if not await self._round(tables):
            await self._wait(seconds, tables)
        await tables.get_up()

    async def _wait(self, seconds: float, tables: OutboxTables | None = None) -> None:
        waits: list[Coroutine[Any, Any, object]] = [self._ending.wait(), *([tables.woken()] if tables else [])]
        events = [asyncio.create_task(wait) for wait in waits]
        try:
            await asyncio.wait(events, timeout=seconds, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for event in events:
                event.cancel()

    async def _tend(self, tables: OutboxTables) -> None:
        """Prunes at most once a second, and tells once a minute."""
        now = monotonic()
        if now >= self._pruned_at + 1 and await tables.prune(self._options.keep_seconds) < PRUNED_ROWS:
            self._pruned_at = now
        if now >= self._told_at + _TELL_SECONDS:
            self._told_at = now
            await self.tell(tables)

    async def tell(self, tables: OutboxTables) -> None:
        """Writes a line about what was done since the last one, and about what waits."""
        waiting = await tables.waiting(self._options.sites)
        oldest = round(waiting.oldest_seconds, 1)
        _log.info("outbox", **self._counts, waiting=waiting.count, oldest_seconds=oldest, parked_in_all=waiting.parked)
        if waiting.strange_sites:
            _log.warning("outbox has messages of other sites", sites=list(waiting.strange_sites))
        self._counts = dict.fromkeys(self._counts, 0)
