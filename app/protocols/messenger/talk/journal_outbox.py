"""The outbox of a site: rows written by the transaction that accepts something, taken in their order by the relay."""

from collections.abc import Sequence
from typing import Any

import msgspec
from msgspec import Struct
from sqlalchemy import delete, insert, select
from sqlalchemy.ext.asyncio import AsyncConnection

from app.journal.names import inserter
from app.protocols.messenger.journal_tables import chat_outbox, chat_sent


class OutboxRow(Struct, frozen=True):
    """One row. Its repr is without the body, which is a message."""

    id: int
    #: `send`, `join` or `leave`.
    kind: str
    rooms: list[str]
    #: The event as JSON; of a change of rooms the room of the user.
    body: str
    but_user: str | None
    but_device: str | None
    #: The message whose receipts follow from the acks.
    message_id: int | None

    def __repr__(self) -> str:
        return f"OutboxRow({self.id}, {self.kind!r})"


class SentRow(Struct, frozen=True):
    """A message that the core has under a seq."""

    seq: int
    message_id: int
    at: int


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
