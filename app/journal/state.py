"""The state of the journal's database for operators: its version, and of each table the rows and the size.

Nothing here reads a table as a whole: rows are those that the database itself counts, or a bounded count.
"""

import asyncio

from msgspec import Struct
from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

from app.journal.database import asking
from app.journal.tables import metadata

#: The rows of a table of SQLite that are counted; a larger one has `is_more`.
MOST_COUNTED = 100_000


class TableState(Struct, frozen=True):
    """One table. Sizes are in bytes; None: the database does not tell."""

    name: str
    rows: int
    #: Whether it has more rows than that.
    is_more: bool = False
    bytes: int | None = None
    index_bytes: int | None = None


class DatabaseState(Struct, frozen=True):
    """The database."""

    #: `postgresql` or `sqlite`.
    kind: str
    version: str
    bytes: int
    tables: list[TableState]


async def database_state(engine: AsyncEngine) -> DatabaseState:
    """The state of now. Raises JournalUnavailable."""
    async with asking(engine) as sql:
        if sql.dialect.name == "postgresql":
            return await _postgres_state(sql)
        return await _sqlite_state(sql)


async def _postgres_state(sql: AsyncConnection) -> DatabaseState:
    version = (await sql.execute(text("SHOW server_version"))).scalar_one()
    size = (await sql.execute(text("SELECT pg_database_size(current_database())"))).scalar_one()
    statement = (
        "SELECT relname, GREATEST(n_live_tup, 0) AS rows, pg_table_size(relid) AS size,"
        " pg_indexes_size(relid) AS indexes"
        " FROM pg_stat_user_tables WHERE schemaname = current_schema()"
    )
    found = {row.relname: row for row in await sql.execute(text(statement))}
    tables = [
        TableState(name, row.rows, bytes=row.size, index_bytes=row.indexes)
        for name in sorted(metadata.tables)
        if (row := found.get(name)) is not None
    ]
    return DatabaseState("postgresql", version, size, tables)


async def _sqlite_state(sql: AsyncConnection) -> DatabaseState:
    version = (await sql.execute(text("SELECT sqlite_version()"))).scalar_one()
    pages = (await sql.execute(text("PRAGMA page_count"))).scalar_one()
    page_bytes = (await sql.execute(text("PRAGMA page_size"))).scalar_one()
    tables = []
    for name in sorted(metadata.tables):
        statement = f'SELECT COUNT(*) FROM (SELECT 1 FROM "{name}" LIMIT {MOST_COUNTED + 1})'
        rows = (await sql.execute(text(statement))).scalar_one()
        tables.append(TableState(name, min(rows, MOST_COUNTED), rows > MOST_COUNTED))
        await asyncio.sleep(0)
    return DatabaseState("sqlite", version, pages * page_bytes, tables)
