"""The state of the journal's database for operators: its version, and of each table the rows and the size.

Nothing here reads a table as a whole: rows are those that the database itself counts, or a guess from some pages.
"""

from collections.abc import Mapping

from msgspec import Struct
from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

from app.journal.database import asking
from app.journal.tables import metadata
from app.journal.trees import MAX_PAGES, TreePage, TreeSize, size_of

_HAS_PAGES = "SELECT COUNT(*) FROM pragma_module_list WHERE name = 'dbstat'"

#: The rows of a table that are counted where SQLite does not tell of its pages; a larger one has `is_more`.
MOST_COUNTED = 100_000


class TableState(Struct, frozen=True):
    """One table. Sizes are in bytes; None: the database does not tell."""

    name: str
    rows: int
    #: Whether it has more rows than that.
    is_more: bool = False
    bytes: int | None = None
    index_bytes: int | None = None
    #: Whether rows and sizes are guesses.
    is_estimate: bool = False


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
        TableState(name, row.rows, bytes=row.size, index_bytes=row.indexes, is_estimate=True)
        for name in sorted(metadata.tables)
        if (row := found.get(name)) is not None
    ]
    return DatabaseState("postgresql", version, size, tables)


async def _sqlite_state(sql: AsyncConnection) -> DatabaseState:
    version = (await sql.execute(text("SELECT sqlite_version()"))).scalar_one()
    pages = (await sql.execute(text("PRAGMA page_count"))).scalar_one()
    page_bytes = (await sql.execute(text("PRAGMA page_size"))).scalar_one()
    known = await _trees(sql) if (await sql.execute(text(_HAS_PAGES))).scalar_one() else {}
    free = (await sql.execute(text("PRAGMA freelist_count"))).scalar_one()
    if known:
        tables = _measured(known, (pages - free) * page_bytes)
    else:
        tables = [await _counted(sql, name) for name in sorted(metadata.tables)]
    return DatabaseState("sqlite", version, pages * page_bytes, tables)


async def _counted(sql: AsyncConnection, name: str) -> TableState:
    statement = f'SELECT COUNT(*) FROM (SELECT 1 FROM "{name}" LIMIT {MOST_COUNTED + 1})'
    rows = (await sql.execute(text(statement))).scalar_one()
    return TableState(name, min(rows, MOST_COUNTED), rows > MOST_COUNTED)


async def _trees(sql: AsyncConnection) -> dict[str, tuple[str, TreeSize]]:
    """The tables and indexes by name, each with the name of its table and its size."""
    named = await sql.execute(text("SELECT name, tbl_name FROM sqlite_master WHERE rootpage > 0"))
    found: dict[str, tuple[str, TreeSize]] = {}
    for name, table in named.all():
        statement = text("SELECT path, pagetype, ncell, pgsize FROM dbstat WHERE name = :name LIMIT :most")
        rows = await sql.execute(statement, {"name": name, "most": MAX_PAGES})
        has_rowid = name in metadata.tables and metadata.tables[name].dialect_options["sqlite"]["with_rowid"]
        found[name] = (table, size_of([TreePage(*row) for row in rows], has_rows_inside=not has_rowid))
    return found


def _measured(trees: Mapping[str, tuple[str, TreeSize]], used_bytes: int) -> list[TableState]:
    """The tables of these sizes. All of them together are known, so each guess has its share of what is not."""
    guessed = sum(size.bytes for _, size in trees.values() if size.is_estimate)
    counted = sum(size.bytes for _, size in trees.values() if not size.is_estimate)
    scale = max(0, used_bytes - counted) / guessed if guessed else 1.0

    def state_of(name: str) -> TableState:
        own = trees[name][1]
        indexes = [size for index, (table, size) in trees.items() if table == name and index != name]
        is_estimate = own.is_estimate or any(size.is_estimate for size in indexes)
        rows = round(own.rows * scale) if own.is_estimate else own.rows
        sizes = (_scaled(own, scale), sum(_scaled(size, scale) for size in indexes))
        return TableState(name, rows, False, *sizes, is_estimate)

    return [state_of(name) for name in sorted(metadata.tables) if name in trees]


def _scaled(size: TreeSize, scale: float) -> int:
    return round(size.bytes * scale) if size.is_estimate else size.bytes
