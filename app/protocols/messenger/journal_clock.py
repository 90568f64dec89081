"""The clock of a site: numbers that grow in the order of the commits, for messages, changes and memberships alike."""

from sqlalchemy.ext.asyncio import AsyncConnection

from app.journal.inserting import inserter
from app.protocols.messenger.journal_tables import chat_clock


async def take(sql: AsyncConnection, site_id: int, count: int = 1) -> int:
    """The last of `count` new numbers of a site, within a transaction of `ChatSql.writing`."""
    statement = inserter(sql)(chat_clock).values(site_id=site_id, last=count)
    later = {"last": chat_clock.c.last + count}
    statement = statement.on_conflict_do_update(index_elements=["site_id"], set_=later)
    return int((await sql.execute(statement.returning(chat_clock.c.last))).scalar_one())
