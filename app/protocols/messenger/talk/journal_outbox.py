"""The outbox of a site: rows written by the transaction that accepts something, taken in their order by the relay."""

from collections.abc import Sequence
from typing import Any

import msgspec
from sqlalchemy import delete, insert, select
from sqlalchemy.ext.asyncio import AsyncConnection

from app.journal.inserting import inserter
from app.protocols.messenger.journal_tables import chat_outbox, chat_sent
from app.protocols.messenger.talk.facts import OutboxRow, SentRow


async def put(sql: AsyncConnection, site_id: int, rows: Sequence[dict[str, Any]]) -> None:
    """Writes rows with numbers of the clock."""
    empty = {"site_id": site_id, "kind": "send", "but_user": None, "but_device": None, "message_id": None}
    await sql.execute(insert(chat_outbox), [empty | row for row in rows])


async def next_rows(sql: AsyncConnection, site_id: int, most: int) -> list[OutboxRow]:
    """The first rows, in their order."""
    statement = select(chat_outbox).where(chat_outbox.c.site_id == site_id).order_by(chat_outbox.c.id).limit(most)
    return [
        OutboxRow(
            row.id,
            row.kind,
            msgspec.json.decode(row.rooms),
            row.body,
            row.but_user,
            row.but_device,
            row.message_id,
        )
        for row in await sql.execute(statement)
    ]


async def finish(sql: AsyncConnection, site_id: int, until: int, sent: Sequence[SentRow]) -> None:
    """Deletes the rows up to a number, and keeps the seqs of messages."""
    if sent:
        rows = [{"site_id": site_id, "seq": one.seq, "message_id": one.message_id, "at": one.at} for one in sent]
        await sql.execute(inserter(sql)(chat_sent).on_conflict_do_nothing(), rows)
    await sql.execute(delete(chat_outbox).where(chat_outbox.c.site_id == site_id, chat_outbox.c.id <= until))
