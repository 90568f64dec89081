"""The stored sites in SQL, where they are at home: reads all, and writes one under a lock that orders all changes."""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any, Self

import msgspec
from sqlalchemy import Row, Select, func, insert, inspect, select, text, update
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

from app.catalog.stored_site import CatalogRefused, StoredSite
from app.clock import now_ms
from app.journal.database import is_postgres, open_database, translated
from app.journal.schema import upgrade_schema
from app.journal.tables import site_settings

#: The stored sites of one installation. Nodes read all of them at their start.
MOST_SITES = 10_000
#: A question, or a change, that takes longer is given up.
_SECONDS = 5.0
#: Any number that no other lock of the database uses: the key of the lock on changes.
_LOCK = 7_236_013_002

#: Makes the row after a change from the row before it (None: there is none) and the next version.
Change = Callable[[StoredSite | None, int], StoredSite]


class SqlSites:
    """The table of stored sites. Lives as long as the process that asks; `close` ends its connections.

    Each method raises JournalUnavailable when SQL does not answer in time, or has no such table yet.
    """

    def __init__(self, reader: AsyncEngine, writer: AsyncEngine) -> None:
        """`writer` takes SQLite's lock for writing at the begin of each transaction."""
        self._reader = reader
        self._writer = writer

    @classmethod
    def open(cls, url: str) -> Self:
        """The table in this database, connected at the first question."""
        return cls(open_database(url, connections=1), open_database(url, is_writer=True, connections=1))

    async def close(self) -> None:
        """Ends the connections."""
        await self._reader.dispose()
        await self._writer.dispose()

    async def make_table(self) -> None:
        """Brings the tables of the database to the newest version. Raises SchemaTooNew."""
        await upgrade_schema(self._writer)

    async def newest(self) -> int:
        """The version of the last change; 0: there was none, or there is no table yet."""
        async with _asking(self._reader) as sql:
            if not await sql.run_sync(lambda sync: inspect(sync).has_table(site_settings.name)):
                return 0
            return int((await sql.execute(_newest())).scalar_one())

    async def read_all(self) -> list[StoredSite]:
        """Every row, by name, with the sites that are gone."""
        async with _asking(self._reader) as sql:
            rows = await sql.execute(select(site_settings).order_by(site_settings.c.name).limit(2 * MOST_SITES))
            return list(map(_site_of, rows))

    async def read(self, name: str) -> StoredSite | None:
        """One row; None: there is none."""
        async with _asking(self._reader) as sql:
            return await _read(sql, name)

    async def change(self, name: str, change: Change) -> tuple[StoredSite, int]:
        """Writes what `change` makes of the row and of the next version; returns the row, and the version of the change
        before it. Changes follow each other: none is written over another one unseen. Raises what `change` raises, and
        CatalogRefused for one site too many."""
        async with _asking(self._writer) as sql:
            if is_postgres(self._writer):
                await sql.execute(text(f"SELECT pg_advisory_xact_lock({_LOCK})"))
            before = await _read(sql, name)
            last = int((await sql.execute(_newest())).scalar_one())
            after = change(before, max(now_ms(), last + 1))
            if before is None:
                await _check_count(sql)
                await sql.execute(insert(site_settings).values(**_values_of(after)))
            else:
                await sql.execute(update(site_settings).where(site_settings.c.name == name).values(**_values_of(after)))
            return after, last


@asynccontextmanager
async def _asking(engine: AsyncEngine) -> AsyncIterator[AsyncConnection]:
    with translated():
        async with asyncio.timeout(_SECONDS), engine.begin() as sql:
            yield sql


def _newest() -> Select[Any]:
    return select(func.coalesce(func.max(site_settings.c.version), 0))


async def _read(sql: AsyncConnection, name: str) -> StoredSite | None:
    row = (await sql.execute(select(site_settings).where(site_settings.c.name == name))).one_or_none()
    return _site_of(row) if row is not None else None


async def _check_count(sql: AsyncConnection) -> None:
    count = (await sql.execute(select(func.count()).select_from(site_settings))).scalar_one()
    if count >= MOST_SITES:
        raise CatalogRefused(f"expected at most {MOST_SITES} stored sites, with those that are gone", "too_many")


def _site_of(row: Row[Any]) -> StoredSite:
    return StoredSite(
        name=row.name,
        block=msgspec.json.decode(row.block, type=dict[str, Any]),
        state=row.state,
        version=row.version,
        created_at=row.created_at,
        changed_at=row.changed_at,
        keys_made=msgspec.json.decode(row.keys_made, type=dict[str, int]),
    )


def _values_of(site: StoredSite) -> dict[str, Any]:
    values = msgspec.structs.asdict(site)
    for column in ("block", "keys_made"):
        values[column] = msgspec.json.encode(values[column]).decode()
    return values
