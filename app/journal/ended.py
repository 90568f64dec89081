"""The connections that have ended, of a site or of all, by the indexes on their end."""

from typing import Any

from msgspec import Struct
from sqlalchemy import ColumnElement, FromClause, select
from sqlalchemy.ext.asyncio import AsyncEngine

from app.journal.database import asking
from app.journal.tables import connections, sites

#: The rows of all sites among which those of a user are looked for: no index has users without a site.
ROWS_LOOKED_AT = 5_000


class EndedFilter(Struct, frozen=True, kw_only=True):
    """Which connections to list; None: any."""

    site: str | None = None
    #: The user room.
    user: str | None = None
    is_oldest_first: bool = False


async def ended_connections(engine: AsyncEngine, wanted: EndedFilter, limit: int) -> list[dict[str, Any]]:
    """The first rows, each with the name of its site. Raises JournalUnavailable."""
    looked = select(connections)
    if wanted.site is not None:
        of_site = select(sites.c.id).where(sites.c.name == wanted.site).scalar_subquery()
        looked = looked.where(connections.c.site_id == of_site)
        if wanted.user is not None:
            looked = looked.where(connections.c.user == wanted.user)
    is_bounded = wanted.site is None and wanted.user is not None
    found = looked.order_by(*_order(connections, wanted)).limit(ROWS_LOOKED_AT if is_bounded else limit).subquery()
    shown = [column for column in found.c if column.name != "site_id"]
    statement = select(*shown, sites.c.name.label("site")).join(sites, sites.c.id == found.c.site_id)
    if is_bounded:
        statement = statement.where(found.c.user == wanted.user)
    async with asking(engine) as sql:
        rows = await sql.execute(statement.order_by(*_order(found, wanted)).limit(limit))
        return [dict(row._mapping) for row in rows]


def _order(table: FromClause, wanted: EndedFilter) -> list[ColumnElement[int]]:
    keys = (table.c.disconnected_at, table.c.id)
    return [key.asc() if wanted.is_oldest_first else key.desc() for key in keys]
