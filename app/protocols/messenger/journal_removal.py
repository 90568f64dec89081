"""The removal of everything that SQL holds of a site that is gone for good, in steps of few rows."""

from collections.abc import Sequence

from sqlalchemy import ColumnElement, Table, delete, select, tuple_
from sqlalchemy.ext.asyncio import AsyncConnection

from app.protocols.messenger.journal_message_tables import (
    chat_load_messages,
    chat_load_receipts,
    chat_load_runs,
    chat_messages,
    chat_receipts,
)
from app.protocols.messenger.journal_tables import (
    chat_apps,
    chat_changes,
    chat_contacts,
    chat_devices,
    chat_members,
    chat_networks,
    chat_outbox,
    chat_registrations,
    chat_rooms,
    chat_sent,
    chat_sessions,
    chat_users,
)
from app.protocols.messenger.push0k.journal_map import chat_imports
from app.protocols.messenger.talk.journal_search import forget_words

#: The rows of one step.
ROWS_A_STEP = 500
#: Sessions first: nobody is let in by what is left. (The clock and the secret of the site stay: every node knows them.)
_TABLES: Sequence[Table] = (
    *(chat_sessions, chat_imports, chat_outbox, chat_sent, chat_receipts, chat_members, chat_contacts, chat_rooms),
    *(chat_registrations, chat_changes, chat_devices, chat_apps),
    *(chat_load_receipts, chat_load_messages, chat_load_runs),
)


async def forget_rows(sql: AsyncConnection, site_id: int) -> bool:
    """Deletes some rows of a site, but for those of files. True: there are none any more."""
    for table in _TABLES:
        if await _delete_some(sql, table, table.c.site_id == site_id):
            return False
    return await _forget_messages(sql, site_id) and await _forget_users(sql, site_id)


async def _delete_some(sql: AsyncConnection, table: Table, condition: ColumnElement[bool]) -> int:
    key = list(table.primary_key.columns)
    chosen = select(*key).where(condition).limit(ROWS_A_STEP)
    return int((await sql.execute(delete(table).where(tuple_(*key).in_(chosen)))).rowcount)


async def _forget_messages(sql: AsyncConnection, site_id: int) -> bool:
    some = select(chat_messages.c.key).where(chat_messages.c.site_id == site_id).limit(ROWS_A_STEP)
    keys = list((await sql.execute(some)).scalars())
    for key in keys:
        await forget_words(sql, key)
    await sql.execute(delete(chat_messages).where(chat_messages.c.key.in_(keys)))
    return not keys


async def _forget_users(sql: AsyncConnection, site_id: int) -> bool:
    some = select(chat_users.c.id).where(chat_users.c.site_id == site_id).limit(ROWS_A_STEP)
    ids = list((await sql.execute(some)).scalars())
    await sql.execute(delete(chat_networks).where(chat_networks.c.user_id.in_(ids)))
    await sql.execute(delete(chat_users).where(chat_users.c.id.in_(ids)))
    return not ids
