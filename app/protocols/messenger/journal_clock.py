"""The clock of a site: one number after another for messages, changes, memberships and the outbox, in the order of the
commits. Knows no other table."""

from sqlalchemy import update
from sqlalchemy.ext.asyncio import AsyncConnection

from app.journal.names import inserter
from app.protocols.messenger.journal_tables import chat_clock


async def take(sql: AsyncConnection, site_id: int, count: int = 1) -> int:
    """The last of `count` new numbers, within a transaction of `ChatSql.writing`. A failed one uses none up."""
    of_site = chat_clock.c.site_id == site_id
    grown = update(chat_clock).where(of_site).values(last=chat_clock.c.last + count).returning(chat_clock.c.last)
    last = (await sql.execute(grown)).scalar_one_or_none()
    if last is None:
        await sql.execute(inserter(sql)(chat_clock).values(site_id=site_id, last=count))
        return count
    return int(last)
