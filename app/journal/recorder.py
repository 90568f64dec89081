"""Brings the rows that a node writes itself into the streams, once a second: a command for each site and table."""

import asyncio
from collections.abc import Callable, Mapping
from typing import Any

from app.clock import now_ms
from app.errors import StoreError
from app.journal.samples import MOST_SITES, SampleSeries
from app.journal.streams import NODES_STREAM, stream_of
from app.observe.counts import Counts
from app.observe.log import tell_serious
from app.observe.records import NodeRecords, Row
from app.redis.client import Commands
from app.surrogates import encode_json
from app.watched_tasks import start_watched

_FLUSH_SECONDS = 1.0
#: Rows of one entry, and the entries of one flush that may be under way.
_ROWS_OF_ENTRY = 500
#: Characters of the fields of a log line.
MAX_FIELD_CHARACTERS = 4_000
#: Log lines of one second; past it they are counted, and one row tells how many.
MAX_LOG_ROWS = 50
#: Sites that are looked at in one turn of the loop.
_SITES_A_TURN = 250
_OWN_FIELDS = frozenset({"event", "level", "site", "timestamp"})


class Recorder:
    """Lives as long as the node: `start` begins, `close` brings the last rows into Redis."""

    def __init__(self, redis: Commands, node: str, counts: Counts, backlog: int) -> None:
        self._redis = redis
        self._node = node
        self._counts = counts
        self._records: NodeRecords = counts.records
        self._backlog = backlog
        self._task: asyncio.Task[None] | None = None
        self._series = [SampleSeries(counts, seconds) for seconds in MOST_SITES]
        #: Log lines of this second, and of them those that were left out.
        self._lines = self._lines_left_out = 0
        self._forget: Callable[[], None] = lambda: None

    def start(self) -> None:
        """Begins to keep rows."""
        self._records.is_kept = True
        self._forget = tell_serious(self._log_line)
        self._task = start_watched(self._keep_flushing(), "journal records")

    async def close(self) -> None:
        """Ends with the rows of now in Redis, if it is there."""
        self._forget()
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)
            self._end_second()
            await self.flush()
        self._records.is_kept = False

    async def flush(self) -> None:
        """Brings the rows of now into Redis. Rows that Redis does not take are dropped, and counted."""
        if not self._redis.is_available:
            # They wait, as far as there is room.
            return
        for (site, table), rows in self._records.take().items():
            stream = NODES_STREAM if site is None else stream_of(site)
            for start in range(0, len(rows), _ROWS_OF_ENTRY):
                part = rows[start : start + _ROWS_OF_ENTRY]
                try:
                    await self._write(stream, table, part)
                except StoreError:
                    self._records.dropped[table] += len(part)

    async def _write(self, stream: str, table: str, rows: list[Row]) -> None:
        for row in rows:
            row["node"] = self._node
        words = ("XADD", stream, "MAXLEN", "~", self._backlog, "*", "k", "rows", "table", table, "rows")
        await self._redis.command(*words, encode_json(rows))

    async def _keep_flushing(self) -> None:
        while True:
            await asyncio.sleep(_FLUSH_SECONDS)
            self._end_second()
            await self.sample()
            await self.flush()

    async def sample(self) -> None:
        """Keeps the samples that are due: every 10 s, and those that are kept for longer every 5 min."""
        now = now_ms() // 1000
        for series in self._series:
            if series.is_due(now):
                for number, row in enumerate(series.round(now), 1):
                    if row is not None:
                        self._records.add("samples", None, row)
                    if number % _SITES_A_TURN == 0:
                        await asyncio.sleep(0)

    def _end_second(self) -> None:
        """Tells of the log lines that were too many for this second."""
        left_out, self._lines, self._lines_left_out = self._lines_left_out, 0, 0
        if left_out:
            row = {"at": now_ms(), "level": "warning", "event": "log lines left out", "fields": {"count": left_out}}
            self._records.add("log", None, row)

    def _log_line(self, event: Mapping[str, Any]) -> None:
        """Keeps a warning or an error. Its secrets are masked by then."""
        site = event.get("site")
        counts = self._counts.sites.get(site) if isinstance(site, str) else None
        if event.get("level") != "warning":
            self._counts.errors += 1
            if counts is not None:
                counts.errors += 1
        self._lines += 1
        if self._lines > MAX_LOG_ROWS:
            self._lines_left_out += 1
            return
        fields = {key: value for key, value in event.items() if key not in _OWN_FIELDS}
        row = {
            "at": now_ms(),
            "level": str(event.get("level", "")),
            "event": str(event.get("event", ""))[:MAX_FIELD_CHARACTERS],
            "fields": encode_json(fields).decode("utf-8", "replace")[:MAX_FIELD_CHARACTERS],
        }
        if counts is not None:
            row["site"] = str(site)
        self._records.add("log", None, row)
