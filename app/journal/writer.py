"""The writer of the journal: reads the streams in Redis, writes rows into SQL, and only then deletes the entries.

One transaction holds the rows and the positions of the streams, so a writer that is killed between any two steps writes
nothing twice and leaves nothing out. A lease in Redis keeps other writers waiting; a writer whose lease was taken
meanwhile finds its positions moved, and writes nothing.
"""

import asyncio
import contextlib
import secrets
import time
from collections.abc import Sequence
from typing import Any

import structlog
from msgspec import Struct
from sqlalchemy import select
from sqlalchemy.exc import DBAPIError
from sqlalchemy.ext.asyncio import AsyncEngine

from app.errors import StoreError, StoreUnavailable
from app.journal.apply import Portion, PositionMoved, apply
from app.journal.database import JournalUnavailable, is_refusal, translated
from app.journal.merge import id_parts, merge
from app.journal.names import Names, ask_redis
from app.journal.streams import MAX_BYTES, MAX_ENTRIES, Reading, ReadStream, Streams
from app.journal.tables import positions
from app.redis.client import Commands

#: Entries are left to gather for this time: most acks then come with their message, and are one row with it.
_GATHER_SECONDS = 0.2
#: With many streams each is looked at less often, so that looking costs Redis little.
_LOOK_SECONDS_A_STREAM = 0.00005
_LONGEST_LOOK_SECONDS = 1.0
_FIND_SECONDS = 1.0
_LEASE_KEY = "recado:journal:lease"
_LEASE_MS = 3_000
_RENEW_SECONDS = 1.0
#: The key with the figures of the writer, for the metrics of the nodes.
FIGURES_KEY = "recado:journal"
_FIGURES_SECONDS = 1.0
#: Streams in one transaction.
MAX_STREAMS = 50
_PAUSES_SECONDS = (0.1, 0.25, 0.5, 1.0, 2.0)

_log = structlog.get_logger(__name__)


class WriterFigures(Struct):
    """The work of the writer since its start. Lives as long as the writer."""

    rows: int = 0
    entries: int = 0
    #: Entries that left a full stream unread.
    dropped: int = 0
    unreadable: int = 0
    #: The longest that an entry had waited when it was written, in the last second; or has waited by now.
    lag_ms: int = 0


class JournalWriter:
    """Lives as long as its process: `run` writes until `stop`."""

    def __init__(self, redis: Commands, engine: AsyncEngine, streams: Streams) -> None:
        self.figures = WriterFigures()
        self._redis = redis
        self._engine = engine
        self._streams = streams
        self._names = Names()
        self._token = secrets.token_hex(8)
        self._stop = asyncio.Event()
        self._lease_until = 0.0
        self._renew_at = 0.0
        self._find_at = 0.0
        self._tell_at = 0.0
        self._failures = 0
        self._lag_ms = 0
        #: Transactions that take one stream each.
        self._alone = 0

    @property
    def is_in_charge(self) -> bool:
        """Whether this is the one writer by now."""
        return asyncio.get_running_loop().time() < self._lease_until

    def stop(self) -> None:
        """Has `run` write what the streams hold now, and return."""
        self._stop.set()

    async def run(self, last_seconds: float = 5.0) -> None:
        """Writes until `stop`, then once more what is there, for at most this time."""
        while not self._stop.is_set():
            await self._wait(await self._step())
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(last_seconds):
                await self._finish()
                await self._streams.trim()
        await self._leave()

    async def _finish(self) -> None:
        for stream in self._streams:
            stream.due_at = 0.0
        is_done = False
        while not is_done:
            pause = await self._step()
            is_done = bool(pause) and not self._failures
            await asyncio.sleep(pause if self._failures else 0)

    async def _wait(self, seconds: float) -> None:
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(self._stop.wait(), seconds) if seconds else await asyncio.sleep(0)

    async def _step(self) -> float:
        """Writes one transaction, if there is something. Returns the seconds until the next one is worth it."""
        try:
            if not await self._hold_lease():
                self._forget()
                return _RENEW_SECONDS
            pause = await self._work()
            if self._failures:
                _log.warning("journal is written again")
            self._failures = 0
        except StoreUnavailable:
            return _PAUSES_SECONDS[2]
        except PositionMoved:
            _log.warning("journal has another writer")
            self._forget()
            return _RENEW_SECONDS
        except (JournalUnavailable, StoreError) as error:
            pause = self._failed(error)
        await self._tell()
        return pause

    def _failed(self, error: Exception) -> float:
        if not self._failures:
            _log.error("journal not written", reason=str(error))
        self._forget()
        pause = _PAUSES_SECONDS[min(self._failures, len(_PAUSES_SECONDS) - 1)]
        self._failures += 1
        return pause

    def _forget(self) -> None:
        """The last transaction may have happened or not: SQL is asked before the next."""
        for stream in self._streams:
            stream.has_position = False
            stream.due_at = 0.0
        self._names.forget()

    async def _work(self) -> float:
        now = asyncio.get_running_loop().time()
        if now >= self._find_at:
            await self._streams.find()
            self._find_at = now + _FIND_SECONDS
        if new := [stream for stream in self._streams if not stream.has_position]:
            with translated():
                await self._load_positions(new)
        readings = await self._read(now)
        if readings:
            with translated():
                await self._write(readings)
            return 0.0
        due_at: float = min(stream.due_at for stream in self._streams)
        return max(0.01, due_at - now)

    async def _load_positions(self, streams: Sequence[ReadStream]) -> None:
        async with self._engine.connect() as sql:
            found = {row.stream: row for row in await sql.execute(select(positions))}
        for stream in streams:
            row = found.get(stream.key)
            stream.stored_id, stream.stored_read = (row.entry_id, row.read) if row else ("", 0)
            stream.begin_again()
            stream.has_position = True

    async def _read(self, now: float) -> list[Reading]:
        """Reads from streams that are due, as much as one transaction takes."""
        due = sorted((one for one in self._streams if one.due_at <= now), key=lambda one: one.due_at)
        most = 1 if self._alone else MAX_STREAMS
        readings: list[Reading] = []
        size = 0
        look = min(_LONGEST_LOOK_SECONDS, max(_GATHER_SECONDS, len(self._streams) * _LOOK_SECONDS_A_STREAM))
        for stream in await self._streams.waiting(due):
            if len(readings) == most or size >= MAX_BYTES:
                # The others stay due.
                return readings
            reading = await self._streams.read(stream)
            due.remove(stream)
            # A full reading has more behind it, which need not gather.
            is_full = reading is not None and len(reading.entries) < reading.length
            stream.due_at = now if is_full else now + look
            if reading is not None:
                readings.append(reading)
                size += sum(len(word) for _, words in reading.entries for word in words)
        for stream in due:
            stream.due_at = now + look
        return readings

    async def _write(self, readings: Sequence[Reading]) -> None:
        portions = [self._portion(reading) for reading in readings]
        await self._name_handles(portions)
        try:
            is_careful = any(reading.stream.stored_id != reading.stream.after for reading in readings)
            rows = await self._commit(portions, is_careful=is_careful)
        except DBAPIError as error:
            if not is_refusal(error):
                raise
            rows = await self._write_again(readings, portions, error)
        self._alone = max(0, self._alone - 1)
        for reading, portion in zip(readings, portions, strict=True):
            self._streams.written(reading, portion.to_id, portion.read)
            reading.stream.most_entries = min(MAX_ENTRIES, 2 * reading.stream.most_entries)
            if portion.batch.entries < len(reading.entries):
                # A loss ended the batch: the entries behind it have been read, and come with the next reading.
                reading.stream.due_at = 0.0
        self._count(portions, rows)

    async def _write_again(self, readings: Sequence[Reading], portions: list[Portion], error: DBAPIError) -> int:
        """A row was refused. First every message is looked up in SQL; then fewer and fewer entries are written at once;
        one that is refused alone is passed over."""
        self._names.forget()
        try:
            await self._name_handles(portions)
            return await self._commit(portions, is_careful=True)
        except DBAPIError as again:
            if not is_refusal(again):
                raise
        self._names.forget()
        if len(readings) > 1 or portions[0].batch.entries > 1:
            # Each stream alone, so that one that is refused keeps no other one waiting.
            self._alone = len(readings) if len(readings) > 1 else self._alone
            for reading, portion in zip(readings, portions, strict=True):
                reading.stream.most_entries = max(1, portion.batch.entries // 2)
            raise JournalUnavailable(f"rows were refused: {type(error.orig).__name__}") from error
        _log.error("journal entry refused", entry=portions[0].to_id, reason=type(error.orig).__name__)
        batch = portions[0].batch
        batch.messages, batch.later, batch.devices, batch.rows, batch.loss = {}, {}, [], {}, None
        batch.unreadable += 1
        return await self._commit(portions, is_careful=True)

    def _portion(self, reading: Reading) -> Portion:
        stream = reading.stream
        batch = merge(reading.entries, reading.rows_behind)
        read = reading.read_after(batch.entries)
        now = int(time.time() * 1000)
        position = (stream.stored_id, batch.last_id, read)
        return Portion(stream.key, stream.site, batch, *position, reading.missing, reading.entries[0][0].decode(), now)

    async def _name_handles(self, portions: Sequence[Portion]) -> None:
        """Finds the devices of the handles in the portions, before the transaction."""
        async with self._engine.connect() as sql:
            await self._names.load_sites(sql, [one.site for one in portions if one.site])
            unknown = {}
            for portion in portions:
                if portion.site is not None:
                    wanted = portion.batch.handles() - {handle for handle, _, _ in portion.batch.devices}
                    unknown[portion.site] = await self._names.load(sql, portion.site, wanted)
        for portion in portions:
            if portion.site is not None and unknown[portion.site]:
                prefix = portion.stream.removesuffix("fate")
                portion.found = await ask_redis(self._redis, prefix, unknown[portion.site])

    async def _commit(self, portions: Sequence[Portion], *, is_careful: bool) -> int:
        async with self._engine.begin() as sql:
            return await apply(sql, portions, self._names, is_careful=is_careful)

    def _count(self, portions: Sequence[Portion], rows: int) -> None:
        figures = self.figures
        figures.rows += rows
        figures.entries += sum(portion.batch.entries for portion in portions)
        figures.dropped += sum(portion.missing for portion in portions)
        figures.unreadable += sum(portion.batch.unreadable for portion in portions)
        for portion in portions:
            self._lag_ms = max(self._lag_ms, portion.at - id_parts(portion.first_id)[0])
            if portion.missing:
                _log.error("journal entries lost", stream=portion.stream, entries=portion.missing)

    async def _hold_lease(self) -> bool:
        """Whether this is the one writer: takes the lease, or renews it."""
        now = asyncio.get_running_loop().time()
        if now < self._renew_at and self._lease_until > now:
            return True
        given = await self._redis.command("SET", _LEASE_KEY, self._token, "NX", "PX", _LEASE_MS)
        if given is None:
            if await self._redis.command("GET", _LEASE_KEY) != self._token.encode():
                self._lease_until = 0.0
                return False
            await self._redis.command("PEXPIRE", _LEASE_KEY, _LEASE_MS)
        self._renew_at = now + _RENEW_SECONDS
        self._lease_until = now + _LEASE_MS / 1000
        return True

    async def _leave(self) -> None:
        with contextlib.suppress(StoreError):
            if await self._redis.command("GET", _LEASE_KEY) == self._token.encode():
                await self._redis.command("DEL", _LEASE_KEY)

    async def _tell(self) -> None:
        """Leaves the figures in Redis, once a second."""
        now = asyncio.get_running_loop().time()
        if now < self._tell_at:
            return
        self._tell_at = now + _FIGURES_SECONDS
        if self._failures:
            with contextlib.suppress(StoreError):
                await self._streams.look()
        waiting: list[ReadStream] = [stream for stream in self._streams if stream.waiting]
        oldest = min((id_parts(stream.first_waiting)[0] for stream in waiting if stream.first_waiting), default=0)
        wall_ms = int(time.time() * 1000)
        self.figures.lag_ms = max(self._lag_ms, wall_ms - oldest if oldest else 0)
        self._lag_ms = 0
        shown: dict[str, Any] = {
            "at": wall_ms,
            "lag_ms": self.figures.lag_ms,
            "backlog": sum(stream.waiting for stream in waiting),
            "rows": self.figures.rows,
            "dropped": self.figures.dropped,
            "unreadable": self.figures.unreadable,
        }
        words = [word for pair in shown.items() for word in pair]
        with contextlib.suppress(StoreError):
            await self._redis.command("HSET", FIGURES_KEY, *words)
