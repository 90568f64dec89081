"""Changing and deleting messages: what is stored, who sees it, and the rows of the outbox in the same transaction."""

from collections.abc import Sequence
from typing import Any

import msgspec
from msgspec import Struct, structs
from sqlalchemy import Row, select, update
from sqlalchemy.ext.asyncio import AsyncConnection

from app.protocols.messenger.addresses import shared_room, user_room
from app.protocols.messenger.answers import ChatRefusal
from app.protocols.messenger.journal_clock import take
from app.protocols.messenger.journal_message_tables import chat_messages
from app.protocols.messenger.journal_tables import chat_members
from app.protocols.messenger.talk.journal_messages import places_of_message, without
from app.protocols.messenger.talk.journal_outbox import put
from app.protocols.messenger.talk.journal_search import IndexedText, forget_words, index_words
from app.protocols.messenger.talk.journal_visible import OwnChange, has_blocked, room_facts, seen, visible_row
from app.protocols.messenger.talk.rules import ChatTarget, RoomFacts, check_change, hidden_by_block, parts_of
from app.protocols.messenger.talk.settings import MAX_ROOMS_OF_ROW
from app.protocols.messenger.talk.shapes import SeenMessage, event_body, shown
from app.protocols.messenger.talk.wishes import AcceptedMessage, ChatSender, TalkBounds

_MESSAGE = chat_messages.c


class Change(Struct, frozen=True):
    """The new content of a message."""

    id: int
    is_deleted: bool = False
    #: None: it stays.
    text: str | None = None
    #: JSON, or None.
    data: str | None = None
    #: Whether `data` changes.
    has_data: bool = False


async def change(
    sql: AsyncConnection, site_id: int, sender: ChatSender, wish: Change, now: int, bounds: TalkBounds
) -> AcceptedMessage:
    """Changes or deletes a message. Raises ChatRefusal."""
    row = await visible_row(sql, site_id, sender.user, wish.id)
    if row is None:
        raise ChatRefusal("bad_request", "No message that one sees has this id.")
    room = await room_facts(sql, site_id, row.room_id, sender.user) if row.room_id is not None else None
    check_change(row.from_user_id == sender.user, room, row.room_id is not None)
    before = seen(row, sender.user)
    if before.is_deleted:
        if not wish.is_deleted:
            raise ChatRefusal("bad_request", "The message is deleted.")
        return AcceptedMessage(row.id, before.changed_at or row.at)
    after = _after(before, wish, now)
    body = event_body("message_changed", shown(after))
    if len(body.encode()) > bounds.max_bytes:
        raise ChatRefusal("too_long", f"Expected a message of at most {bounds.max_bytes} bytes.")
    is_blocked = row.to_user_id is not None and await has_blocked(sql, site_id, row.to_user_id, row.from_user_id)
    number = await take(sql, site_id)
    is_own = hidden_by_block(is_blocked, row.is_withheld)
    of_id = (_MESSAGE.site_id == site_id, _MESSAGE.id == row.id)
    await sql.execute(update(chat_messages).where(*of_id).values(change=number, **_columns(after, is_own)))
    if not is_own:
        await _index_again(sql, site_id, row, after)
    rooms = await _rooms_of_change(sql, site_id, row, room, is_hidden=is_blocked or row.is_withheld)
    await _put_parts(sql, site_id, number, rooms, {"body": body} | without(sender))
    return AcceptedMessage(row.id, now)


def _columns(after: SeenMessage, is_own: bool) -> dict[str, Any]:
    """The columns that change: of a change that the sender alone sees, its own one."""
    if is_own:
        own = OwnChange(after.text, after.data, after.changed_at or 0, after.is_deleted)
        return {"own": msgspec.json.encode(own).decode()}
    gone = {"file": None, "file_info": None} if after.is_deleted else {}
    content = {"text": after.text, "data": after.data, "changed_at": after.changed_at, "is_deleted": after.is_deleted}
    return {**content, **gone, "own": None}


def _after(before: SeenMessage, wish: Change, now: int) -> SeenMessage:
    if wish.is_deleted:
        gone: dict[str, Any] = {"text": "", "data": None, "file": None}
        return structs.replace(before, changed_at=now, is_deleted=True, **gone)
    text = before.text if wish.text is None else wish.text
    return structs.replace(before, changed_at=now, text=text, data=wish.data if wish.has_data else before.data)


async def _index_again(sql: AsyncConnection, site_id: int, row: Row[Any], after: SeenMessage) -> None:
    if after.is_deleted:
        await forget_words(sql, row.key)
        return
    places = places_of_message(site_id, row.from_user_id, ChatTarget(row.to_user_id, row.room_id), row.is_withheld)
    await index_words(sql, [IndexedText(row.key, after.text, places)], are_new=False)


async def _rooms_of_change(
    sql: AsyncConnection, site_id: int, row: Row[Any], room: RoomFacts | None, *, is_hidden: bool
) -> list[str]:
    """The rooms of the core whose devices hear of a change: those of the users that see the message."""
    if room is None:
        users = {row.from_user_id} if is_hidden else {row.from_user_id, row.to_user_id}
        return [user_room(user) for user in sorted(users)]
    members = chat_members.c
    of_room = (members.site_id == site_id, members.room_id == room.id, members.until.is_(None))
    late = select(members.user_id).where(*of_room, members.since >= row.id).limit(1)
    if room.has_history or (await sql.execute(late)).first() is None:
        return [shared_room(room.id)]
    early = select(members.user_id).where(*of_room, members.since < row.id).order_by(members.user_id)
    return [user_room(user) for user in (await sql.execute(early)).scalars()]


async def _put_parts(
    sql: AsyncConnection, site_id: int, number: int, rooms: Sequence[str], event: dict[str, Any]
) -> None:
    """Writes the rows of one event to many rooms; the first has the number that was taken."""
    parts = parts_of(rooms, MAX_ROOMS_OF_ROW)
    last = await take(sql, site_id, len(parts) - 1) if len(parts) > 1 else number
    numbers = [number, *range(last - len(parts) + 2, last + 1)]
    rows = [
        event | {"id": id, "rooms": msgspec.json.encode(part).decode()} for id, part in zip(numbers, parts, strict=True)
    ]
    await put(sql, site_id, rows)
