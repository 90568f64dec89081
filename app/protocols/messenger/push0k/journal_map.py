"""The map of what was imported: the ids of push0k and those here. A repetition finds a thing here and makes it no
second time; the row is written in the transaction that makes the thing."""

from collections.abc import Collection, Mapping

from sqlalchemy import BigInteger, Column, Integer, PrimaryKeyConstraint, Table, Text, insert, select
from sqlalchemy.ext.asyncio import AsyncConnection

from app.journal.tables import metadata

#: The parameters of one statement are bounded in both databases.
PART = 500

chat_imports = Table(
    "chat_imports",
    metadata,
    Column("site_id", Integer, nullable=False),
    #: `user`, `room` or `message`.
    Column("kind", Text, nullable=False),
    Column("foreign_id", Text, nullable=False),
    Column("id", BigInteger, nullable=False),
    PrimaryKeyConstraint("site_id", "kind", "foreign_id"),
    sqlite_with_rowid=False,
)


async def ids_of(sql: AsyncConnection, site_id: int, kind: str, foreign: Collection[str]) -> dict[str, int]:
    """The ids here of those that were imported, by their ids in push0k."""
    found: dict[str, int] = {}
    wanted, columns = sorted(set(foreign)), chat_imports.c
    for start in range(0, len(wanted), PART):
        of_part = columns.foreign_id.in_(wanted[start : start + PART])
        statement = select(columns.foreign_id, columns.id).where(columns.site_id == site_id, columns.kind == kind)
        found |= {row.foreign_id: row.id for row in await sql.execute(statement.where(of_part))}
    return found


async def note_ids(sql: AsyncConnection, site_id: int, kind: str, ids: Mapping[str, int]) -> None:
    """Notes what was made, within its transaction."""
    if ids:
        rows = [{"site_id": site_id, "kind": kind, "foreign_id": one, "id": id} for one, id in ids.items()]
        await sql.execute(insert(chat_imports), rows)
