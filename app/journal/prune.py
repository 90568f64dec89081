"""Deletes old rows from the journal, in parts: each is a short transaction that finds its rows by an index, and a pause
follows it, so that the writer and the questions are never held up for long."""

import asyncio
import time
from collections.abc import AsyncIterator, Callable, Iterator, Sequence

from sqlalchemy import ColumnElement, Delete, Table, delete, select, tuple_
from sqlalchemy.ext.asyncio import AsyncEngine

from app.config.settings import JournalSettings
from app.journal.database import translated
from app.journal.tables import (
    audit,
    connections,
    deliveries,
    log,
    message_rooms,
    messages,
    missing,
    refusals,
    samples,
    sites,
    transfers,
    webhook_attempts,
)

#: Rows that one transaction deletes.
PART_ROWS = 2_000
#: The pause after a part, in times of its own duration: the database is left alone for most of the time.
_PAUSE_SHARE = 2.0
_DAY_MS = 86_400_000
#: Samples every 10 s are for the last hour.
_SHORT_SAMPLES_MS = 3_600_000
_SHORT_SAMPLE_SECONDS = 60
_BY_TIME: tuple[tuple[Table, str], ...] = (
    (refusals, "at"),
    (connections, "disconnected_at"),
    (transfers, "at"),
    (webhook_attempts, "at"),
    (log, "at"),
    (audit, "at"),
    (missing, "at"),
)
#: The tables whose index by time does not begin with the site.
_OF_NO_SITE = (log, audit, missing)

_Conditions = Sequence[ColumnElement[bool]]


def _tell_nobody(table: str, rows: int) -> None:
    """Of a part that is deleted."""


async def prune(
    engine: AsyncEngine,
    settings: JournalSettings,
    *,
    now_ms: int | None = None,
    tell: Callable[[str, int], None] = _tell_nobody,
) -> dict[str, int]:
    """Deletes everything that is older than its table's retention. Returns how many rows by table; `tell` hears of each
    part. Raises JournalUnavailable; what was deleted by then stays deleted."""
    now = int(time.time() * 1000) if now_ms is None else now_ms
    deleted: dict[str, int] = {}
    async for table, count in _delete_all(engine, settings, now):
        deleted[table.name] = deleted.get(table.name, 0) + count
        tell(table.name, count)
    return deleted


async def _delete_all(engine: AsyncEngine, settings: JournalSettings, now: int) -> AsyncIterator[tuple[Table, int]]:
    def before(table: str) -> int:
        return now - int(settings.days(table) * _DAY_MS)

    with translated():
        site_ids = await _site_ids(engine)
        # A delivery needs its message: it goes first.
        deliveries_before = max(before("deliveries"), before("messages"))
        for site_id in site_ids:
            if (seq := await _last_seq(engine, site_id, deliveries_before)) is not None:
                async for count in _in_parts(engine, deliveries, _up_to(deliveries, site_id, seq)):
                    yield deliveries, count
            if (seq := await _last_seq(engine, site_id, before("messages"))) is not None:
                for table in (message_rooms, messages):
                    async for count in _in_parts(engine, table, _up_to(table, site_id, seq)):
                        yield table, count
        for table, name in _BY_TIME:
            for conditions in _older(table, name, before(table.name), site_ids):
                async for count in _in_parts(engine, table, conditions):
                    yield table, count
        is_short = samples.c.seconds < _SHORT_SAMPLE_SECONDS
        for condition, time_ms in ((is_short, now - _SHORT_SAMPLES_MS), (~is_short, before("samples"))):
            async for count in _in_parts(engine, samples, [condition, samples.c.at < time_ms]):
                yield samples, count


async def _in_parts(engine: AsyncEngine, table: Table, conditions: _Conditions) -> AsyncIterator[int]:
    """Deletes the rows in transactions of PART_ROWS, with a pause behind each."""
    loop = asyncio.get_running_loop()
    count = PART_ROWS
    while count == PART_ROWS:
        began = loop.time()
        async with engine.begin() as sql:
            count = (await sql.execute(delete_part(table, conditions))).rowcount
        if count:
            yield count
            await asyncio.sleep(_PAUSE_SHARE * (loop.time() - began))


def delete_part(table: Table, conditions: _Conditions) -> Delete:
    """The statement that deletes up to PART_ROWS of the rows."""
    key = list(table.primary_key.columns)
    part = select(*key).where(*conditions).limit(PART_ROWS)
    return delete(table).where((tuple_(*key) if len(key) > 1 else key[0]).in_(part))


def _up_to(table: Table, site_id: int, seq: int) -> _Conditions:
    return [table.c.site_id == site_id, table.c.seq <= seq]


def _older(table: Table, name: str, time_ms: int, site_ids: Sequence[int]) -> Iterator[_Conditions]:
    """The conditions for old rows: of each site where the index by time begins with the site."""
    is_old = table.c[name] < time_ms
    if table in _OF_NO_SITE:
        yield [is_old]
        return
    if table.c.site_id.nullable:
        yield [table.c.site_id.is_(None), is_old]
    for site_id in site_ids:
        yield [table.c.site_id == site_id, is_old]


async def _site_ids(engine: AsyncEngine) -> list[int]:
    async with engine.connect() as sql:
        return list((await sql.execute(select(sites.c.id))).scalars())


async def _last_seq(engine: AsyncEngine, site_id: int, time_ms: int) -> int | None:
    """The seq of the last message of a site before this time; seqs grow with time."""
    at, seq = messages.c.accepted_at, messages.c.seq
    statement = select(seq).where(messages.c.site_id == site_id, at < time_ms)
    async with engine.connect() as sql:
        found: int | None = (await sql.execute(statement.order_by(at.desc(), seq.desc()).limit(1))).scalar_one_or_none()
        return found
