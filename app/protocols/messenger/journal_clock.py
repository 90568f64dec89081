"""The clock of a site: numbers that grow in the order of the commits, for messages, changes and memberships alike."""

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncConnection

#: (The table is `chat_clock`. As text it needs no other module: everything that counts imports this one.)
_TAKE = text(
    "INSERT INTO chat_clock (site_id, last) VALUES (:site, :count)"
    " ON CONFLICT (site_id) DO UPDATE SET last = chat_clock.last + :count RETURNING last"
)


async def take(sql: AsyncConnection, site_id: int, count: int = 1) -> int:
    """The last of `count` new numbers of a site, within a transaction of `ChatSql.writing`."""
    return int((await sql.execute(_TAKE, {"site": site_id, "count": count})).scalar_one())
