"""Which messages a user sees, as SQL: one condition for sync, history, search, replies, receipts and files."""

from typing import Any

import msgspec
from sqlalchemy import ColumnElement, Row, Select, and_, exists, or_, select
from sqlalchemy.ext.asyncio import AsyncConnection

from app.protocols.messenger.journal_message_tables import chat_messages
from app.protocols.messenger.journal_tables import chat_apps, chat_contacts, chat_devices, chat_members, chat_rooms
from app.protocols.messenger.talk.rules import RoomFacts
from app.protocols.messenger.talk.shapes import SeenMessage

_MESSAGE = chat_messages.c


def visible_to(user: int) -> ColumnElement[bool]:
    """Whether the user sees a row of `chat_messages`; the site is the statement's own condition."""
    received = and_(_MESSAGE.to_user_id == user, _MESSAGE.is_withheld.is_(False))
    direct = and_(_MESSAGE.to_user_id.is_not(None), or_(_MESSAGE.from_user_id == user, received))
    members, rooms = chat_members.c, chat_rooms.c
    membership = and_(
        members.site_id == _MESSAGE.site_id,
        members.room_id == _MESSAGE.room_id,
        members.user_id == user,
        members.until.is_(None),
        rooms.id == members.room_id,
        or_(rooms.has_history, _MESSAGE.id > members.since),
    )
    # SQLite and PostgreSQL look the member up by its key, once a row.
    in_room = exists(
        select(1).select_from(chat_members.join(chat_rooms, rooms.id == members.room_id)).where(membership)
    )
    return or_(direct, and_(_MESSAGE.room_id.is_not(None), in_room))


#: The columns that `seen` reads. The others would be a third of the work on a long answer.
_SHOWN = tuple(
    _MESSAGE[name]
    for name in (
        *("id", "from_user_id", "to_user_id", "room_id", "kind", "text", "data", "reply_to", "forward_of"),
        *("file_info", "at", "changed_at", "is_deleted", "own", "change"),
    )
)


def messages(*more: ColumnElement[Any]) -> Select[Any]:
    """The columns of messages that clients are shown, and more."""
    of_device = chat_devices.c.id == _MESSAGE.device_id
    of_app = chat_apps.c.id == _MESSAGE.app_id
    shown = (chat_devices.c.device.label("device"), chat_apps.c.name.label("app"))
    joined = chat_messages.outerjoin(chat_devices, of_device).outerjoin(chat_apps, of_app)
    return select(*_SHOWN, *shown, *more).select_from(joined)


def seen(row: Row[Any], user: int) -> SeenMessage:
    """A row as the user sees it: its sender alone sees what it has changed while it was blocked."""
    own = _own.decode(row.own) if row.own is not None and row.from_user_id == user else None
    to = {"user": row.to_user_id} if row.to_user_id is not None else {"room": row.room_id}
    return SeenMessage(
        id=row.id,
        sender=row.from_user_id,
        to=to,
        kind=row.kind,
        text=row.text if own is None else own.text,
        data=row.data if own is None else own.data,
        reply_to=row.reply_to,
        forward_of=row.forward_of,
        file=row.file_info,
        at=row.at,
        device=row.device,
        app=row.app,
        changed_at=row.changed_at if own is None else own.changed_at,
        is_deleted=row.is_deleted if own is None else own.is_deleted,
    )


class OwnChange(msgspec.Struct, frozen=True):
    """A change that the sender of a message alone sees."""

    text: str
    data: str | None
    changed_at: int
    is_deleted: bool


_own = msgspec.json.Decoder(OwnChange)


async def room_facts(sql: AsyncConnection, site_id: int, room: int, user: int) -> RoomFacts | None:
    """A room as the user meets it; None: there is none."""
    members, rooms = chat_members.c, chat_rooms.c
    mine = and_(
        members.site_id == rooms.site_id,
        members.room_id == rooms.id,
        members.user_id == user,
        members.until.is_(None),
    )
    columns = (rooms.kind, rooms.has_history, rooms.is_archived, members.since, members.is_admin)
    statement = select(*columns).select_from(chat_rooms.outerjoin(chat_members, mine))
    row = (await sql.execute(statement.where(rooms.site_id == site_id, rooms.id == room))).one_or_none()
    if row is None:
        return None
    return RoomFacts(room, row.kind, row.has_history, row.is_archived, row.since, bool(row.is_admin))


async def has_blocked(sql: AsyncConnection, site_id: int, user: int, other: int) -> bool:
    """Whether the user has blocked the other one."""
    contacts = chat_contacts.c
    of_pair = (contacts.site_id == site_id, contacts.user_id == user, contacts.other_id == other)
    return bool((await sql.execute(select(contacts.is_blocked).where(*of_pair))).scalar_one_or_none())


async def blocking(sql: AsyncConnection, site_id: int, other: int) -> set[int]:
    """The users that have blocked this one."""
    contacts = chat_contacts.c
    of_other = (contacts.site_id == site_id, contacts.other_id == other, contacts.is_blocked)
    return set((await sql.execute(select(contacts.user_id).where(*of_other))).scalars())


async def blocked_by(sql: AsyncConnection, site_id: int, user: int) -> set[int]:
    """The users that this one has blocked."""
    contacts = chat_contacts.c
    of_user = (contacts.site_id == site_id, contacts.user_id == user, contacts.is_blocked)
    return set((await sql.execute(select(contacts.other_id).where(*of_user))).scalars())


async def visible_row(sql: AsyncConnection, site_id: int, user: int, message: int) -> Row[Any] | None:
    """A message that the user sees."""
    of_id = (_MESSAGE.site_id == site_id, _MESSAGE.id == message, visible_to(user))
    more = (_MESSAGE.key, _MESSAGE.conversation, _MESSAGE.is_withheld)
    return (await sql.execute(messages(*more).where(*of_id))).one_or_none()


async def may_read_file(sql: AsyncConnection, site_id: int, user: int, file: str) -> bool:
    """Whether a message that the user sees carries the file."""
    carries = (_MESSAGE.site_id == site_id, _MESSAGE.file == file, visible_to(user))
    return (await sql.execute(select(_MESSAGE.id).where(*carries).limit(1))).first() is not None
