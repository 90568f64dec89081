"""The figures of the journal: those of the writer, which leaves them in Redis, and of this node's own rows."""

import asyncio
import contextlib
from collections import Counter

from msgspec import Struct, field

from app.clock import now_ms
from app.errors import StoreError
from app.journal.writer import FIGURES_KEY
from app.observe.counts import Counts
from app.observe.metric import Kind, Metric, of_each, of_node
from app.redis.client import Commands
from app.watched_tasks import start_watched

_READ_SECONDS = 5.0
#: A writer that says nothing for longer than this is behind, whatever it said last.
_SILENCE_MS = 5_000


class JournalCounts(Struct):
    """The figures of the writer, as Redis had them at the last look. Lives as long as the node's counts."""

    lag_seconds: float = 0.0
    backlog: int = 0
    rows: int = 0
    #: By reason.
    dropped: Counter[str] = field(default_factory=Counter)


METRICS = (
    Metric(
        Kind.GAUGE,
        "recado_journal_lag_seconds",
        "How far the journal is behind.",
        (),
        of_node(lambda c: c.part(JournalCounts).lag_seconds),
    ),
    Metric(
        Kind.GAUGE,
        "recado_journal_backlog",
        "Entries that wait for the journal's writer.",
        (),
        of_node(lambda c: c.part(JournalCounts).backlog),
    ),
    Metric(
        Kind.COUNTER,
        "recado_journal_rows",
        "Rows that the journal's writer has written.",
        (),
        of_node(lambda c: c.part(JournalCounts).rows),
    ),
    Metric(
        Kind.COUNTER,
        "recado_journal_dropped",
        "Entries that are missing in the journal.",
        ("reason",),
        of_each(lambda c: c.part(JournalCounts).dropped),
    ),
    Metric(
        Kind.COUNTER,
        "recado_journal_rows_dropped",
        "Rows of this node that did not reach Redis.",
        ("table",),
        of_each(lambda c: c.records.dropped),
    ),
)


class WriterWatch:
    """Reads the writer's figures. Lives as long as the node: `start` begins, `close` ends it."""

    def __init__(self, redis: Commands, counts: Counts) -> None:
        self._redis = redis
        self._counts = counts.part(JournalCounts)
        self._task: asyncio.Task[None] | None = None

    def start(self) -> None:
        """Begins to look, every few seconds."""
        self._task = start_watched(self._keep_reading(), "journal figures")

    async def close(self) -> None:
        """Ends it."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)

    async def read(self) -> None:
        """Looks once. Raises StoreError."""
        answer = await self._redis.command("HGETALL", FIGURES_KEY)
        shown = {name.decode(): int(value) for name, value in zip(answer[::2], answer[1::2], strict=True)}
        if not shown:
            return
        silent_ms = now_ms() - shown.get("at", 0)
        lag_ms = shown.get("lag_ms", 0) + (silent_ms if silent_ms > _SILENCE_MS else 0)
        self._counts.lag_seconds = lag_ms / 1000
        self._counts.backlog = shown.get("backlog", 0)
        self._counts.rows = shown.get("rows", 0)
        self._counts.dropped = Counter(full=shown.get("dropped", 0), unreadable=shown.get("unreadable", 0))

    async def _keep_reading(self) -> None:
        while True:
            # Without an answer the figures stay as they were.
            with contextlib.suppress(StoreError, ValueError):
                await self.read()
            await asyncio.sleep(_READ_SECONDS)
