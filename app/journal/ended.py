"""The connections of a site that have ended, newest first, by the index on their end."""

from typing import Any

from sqlalchemy import select
from sqlalchemy.ext.asyncio import AsyncEngine

from app.journal.database import asking
from app.journal.tables import connections, sites


async def ended_connections(
    engine: AsyncEngine, site: str, limit: int, user: str | None = None
) -> list[dict[str, Any]]:
    """The newest rows, of one user or of all. Raises JournalUnavailable."""
    columns = connections.c
    site_id = select(sites.c.id).where(sites.c.name == site).scalar_subquery()
    statement = select(*(column for column in columns if column.name != "site_id")).where(columns.site_id == site_id)
    if user is not None:
        statement = statement.where(columns.user == user)
    statement = statement.order_by(columns.disconnected_at.desc(), columns.id.desc()).limit(limit)
    async with asking(engine) as sql:
        return [dict(row._mapping) for row in await sql.execute(statement)]
