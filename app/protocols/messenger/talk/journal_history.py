"""Reading conversations: their history, and the search in them."""

from collections.abc import Sequence
from typing import Any

import msgspec
from msgspec import Struct
from sqlalchemy import ColumnClause, ColumnElement, Row, column, select, table, text
from sqlalchemy.ext.asyncio import AsyncConnection

from app.protocols.messenger.journal_message_tables import chat_messages
from app.protocols.messenger.journal_tables import chat_members
from app.protocols.messenger.talk.journal_search import is_postgres, places_of, search_source
from app.protocols.messenger.talk.journal_visible import messages, room_facts, seen, visible_to
from app.protocols.messenger.talk.rules import ChatTarget, check_member
from app.protocols.messenger.talk.settings import MAX_LISTED_BYTES
from app.protocols.messenger.talk.shapes import packed

_MESSAGE = chat_messages.c


class Listed(Struct, frozen=True):
    """Messages as JSON, newest first."""

    messages: list[msgspec.Raw]
    more: bool


async def history(
    sql: AsyncConnection, site_id: int, me: int, of: ChatTarget, before: int | None, limit: int
) -> Listed:
    """The messages of a conversation behind one of them, newest first. Raises ChatRefusal."""
    await check_conversation(sql, site_id, me, of)
    conditions: list[ColumnElement[bool]] = [_MESSAGE.conversation == of.conversation(me)]
    if before is not None:
        conditions.append(_MESSAGE.id < before)
    statement = messages().where(_MESSAGE.site_id == site_id, *conditions, visible_to(me))
    rows = (await sql.execute(statement.order_by(_MESSAGE.id.desc()).limit(limit + 1))).all()
    return listed(rows, me, limit)


async def check_conversation(sql: AsyncConnection, site_id: int, me: int, of: ChatTarget) -> None:
    """Raises ChatRefusal for a room that is not there, or that the user is no member of."""
    if of.room is not None:
        check_member(await room_facts(sql, site_id, of.room, me))


def listed(rows: Sequence[Row[Any]], me: int, limit: int) -> Listed:
    """The first of the rows, as far as the bounds allow."""
    found: list[msgspec.Raw] = []
    size = 0
    for row in rows[:limit]:
        one = packed(seen(row, me))
        size += len(one)
        if found and size > MAX_LISTED_BYTES:
            return Listed(found, True)
        found.append(msgspec.Raw(one))
    return Listed(found, len(rows) > limit)


async def search(
    sql: AsyncConnection, site_id: int, me: int, content: str, of: ChatTarget | None, limit: int
) -> Listed:
    """The messages that the user sees with these words, newest first. Raises ChatRefusal."""
    conditions: list[ColumnElement[bool]] = []
    if of is None:
        members = chat_members.c
        mine = (members.site_id == site_id, members.user_id == me, members.until.is_(None))
        rooms = list((await sql.execute(select(members.room_id).where(*mine))).scalars())
        places = places_of(site_id, [me], rooms)
    else:
        await check_conversation(sql, site_id, me, of)
        conditions.append(_MESSAGE.conversation == of.conversation(me))
        places = places_of(site_id, [me], []) if of.room is None else places_of(site_id, [], [of.room])
    source = search_source(sql, content, places)
    if source is None:
        return Listed([], False)
    condition, question = source
    key: ColumnClause[int] = column("key" if is_postgres(sql) else "rowid")
    index = table("chat_search", key)
    found = index.c[key.name]
    statement = (
        messages()
        .join(index, found == _MESSAGE.key)
        .where(text(condition), _MESSAGE.site_id == site_id, *conditions, visible_to(me))
        .order_by(found.desc())
        .limit(limit + 1)
    )
    rows = (await sql.execute(statement, {"question": question})).all()
    return listed(rows, me, limit)
