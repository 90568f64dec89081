"""Brings the rows that a node writes itself into the streams, once a second: a command for each site and table."""

import asyncio
import contextlib
import json
from collections.abc import Callable, Mapping
from typing import Any

import msgspec

from app.errors import StoreError
from app.journal.streams import NODES_STREAM, stream_of
from app.observe.counts import Counts
from app.observe.log import tell_serious
from app.observe.records import NodeRecords, Row, now_ms
from app.redis.client import Commands
from app.watched_tasks import start_watched

_FLUSH_SECONDS = 1.0
#: Rows of one entry, and the entries of one flush that may be under way.
_ROWS_OF_ENTRY = 500
#: Characters of the fields of a log line.
MAX_FIELD_CHARACTERS = 4_000
_SHORT_SECONDS, _LONG_SECONDS = 10, 300
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
        self._sampled_at = 0
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
        await self._redis.command(*words, _encode(rows))

    async def _keep_flushing(self) -> None:
        while True:
            await asyncio.sleep(_FLUSH_SECONDS)
            self._sample()
            await self.flush()

    def _sample(self) -> None:
        """Keeps a sample of the node's figures every 10 s, and one that is kept for longer every 5 min."""
        now = now_ms() // 1000
        for seconds in (_SHORT_SECONDS, _LONG_SECONDS):
            if now // seconds != self._sampled_at // seconds:
                row = {"at": now * 1000, "seconds": seconds, "figures": figures_of(self._counts)}
                self._records.add("samples", None, row)
        self._sampled_at = now

    def _log_line(self, event: Mapping[str, Any]) -> None:
        """Keeps a warning or an error. Its secrets are masked by then."""
        fields = {key: value for key, value in event.items() if key not in _OWN_FIELDS}
        row = {
            "at": now_ms(),
            "level": str(event.get("level", "")),
            "event": str(event.get("event", ""))[:MAX_FIELD_CHARACTERS],
            "fields": _encode(fields).decode("utf-8", "replace")[:MAX_FIELD_CHARACTERS],
        }
        if isinstance(site := event.get("site"), str) and site in self._counts.sites:
            row["site"] = site
        self._records.add("log", None, row)


def figures_of(counts: Counts) -> dict[str, float]:
    """The figures of a sample: states of now, and counts since the node's start."""
    sites = list(counts.sites.values())
    return {
        "sessions": counts.sessions(),
        "connections": sum(site.connections for site in sites),
        "connects": sum(sum(site.connects.values()) for site in sites),
        "closes": sum(sum(site.closes.values()) for site in sites),
        "stored": sum(site.stored for site in sites),
        "deliveries": sum(site.deliveries for site in sites),
        "acks": sum(site.acks for site in sites),
        "resyncs": sum(sum(site.resyncs.values()) for site in sites),
        "overflows": sum(site.overflows for site in sites),
        "faults": sum(counts.faults.values()),
        "redis_losses": counts.redis_losses,
        "loop_lag_seconds": round(counts.loop_lag_seconds.total_seconds, 3),
    }


def _encode(value: object) -> bytes:
    with contextlib.suppress(UnicodeError):
        return msgspec.json.encode(value, enc_hook=str)
    # Half of a surrogate pair, from a client's text.
    return json.dumps(value, ensure_ascii=False, default=str).encode("utf-8", "replace")
