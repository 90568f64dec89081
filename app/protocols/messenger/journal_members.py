"""The members of rooms, with the times of each membership, and the rows of the outbox that tell the core of them.

A membership is a span of the site's clock. The rows of a user who has left stay: the core hears of a change some time
after it, and a device that connects in between has the rooms of the place that the core has reached.
"""

import msgspec
from sqlalchemy import ColumnElement, and_, func, insert, or_, select, update
from sqlalchemy.ext.asyncio import AsyncConnection

from app.protocols.messenger.addresses import shared_room, user_room
from app.protocols.messenger.journal_clock import take
from app.protocols.messenger.journal_tables import chat_clock, chat_members, chat_outbox, chat_rooms

#: The kinds of rows of the outbox that change the rooms of a user.
MOVES = ("join", "leave")


async def enter(sql: AsyncConnection, site_id: int, room: int, user: int, *, is_admin: bool = False) -> int:
    """The user is a member from here on. Answers the number of the change; 0: it was one already."""
    if await is_member(sql, site_id, room, user):
        return 0
    number = await take(sql, site_id)
    values = {"site_id": site_id, "room_id": room, "user_id": user, "since": number, "is_admin": is_admin}
    await sql.execute(insert(chat_members).values(**values))
    await _tell(sql, site_id, number, "join", room, user)
    return number


async def leave(sql: AsyncConnection, site_id: int, room: int, user: int) -> int:
    """The user is no member any more. Answers the number of the change; 0: it was none."""
    if not await is_member(sql, site_id, room, user):
        return 0
    number = await take(sql, site_id)
    await sql.execute(update(chat_members).where(*_now(site_id, room, user)).values(until=number))
    await _tell(sql, site_id, number, "leave", room, user)
    return number


async def set_admin(sql: AsyncConnection, site_id: int, room: int, user: int, is_admin: bool) -> None:
    """Makes a member an admin of the room, or none."""
    await sql.execute(update(chat_members).where(*_now(site_id, room, user)).values(is_admin=is_admin))


async def widen(sql: AsyncConnection, site_id: int, room: int) -> int:
    """Members see what was sent before they were members from here on: their next `sync` brings it. Answers the number
    of the change. The flag itself is the caller's."""
    number = await take(sql, site_id)
    of_room = (chat_rooms.c.site_id == site_id, chat_rooms.c.id == room)
    await sql.execute(update(chat_rooms).where(*of_room).values(widened=number))
    return number


async def is_member(sql: AsyncConnection, site_id: int, room: int, user: int) -> bool:
    """Whether the user is a member now."""
    return (await sql.execute(select(chat_members.c.since).where(*_now(site_id, room, user)))).first() is not None


async def place_of_core(sql: AsyncConnection, site_id: int) -> int:
    """A number up to which the core has heard of all changes of memberships."""
    waits = (chat_outbox.c.site_id == site_id, chat_outbox.c.kind.in_(MOVES))
    first = select(func.min(chat_outbox.c.id)).where(*waits).scalar_subquery()
    last = select(chat_clock.c.last).where(chat_clock.c.site_id == site_id).scalar_subquery()
    return int((await sql.execute(select(func.coalesce(first - 1, last, 0)))).scalar_one())


async def rooms_as_of(sql: AsyncConnection, site_id: int, user: int, number: int) -> list[int]:
    """The rooms of which the user was a member at a number of the clock."""
    of_user = and_(chat_members.c.site_id == site_id, chat_members.c.user_id == user)
    was_there = or_(chat_members.c.until.is_(None), chat_members.c.until > number)
    statement = select(chat_members.c.room_id).where(of_user, chat_members.c.since <= number, was_there)
    return list((await sql.execute(statement.order_by(chat_members.c.room_id))).scalars())


def _now(site_id: int, room: int, user: int) -> tuple[ColumnElement[bool], ...]:
    members = chat_members.c
    return (members.site_id == site_id, members.room_id == room, members.user_id == user, members.until.is_(None))


async def _tell(sql: AsyncConnection, site_id: int, number: int, kind: str, room: int, user: int) -> None:
    rooms = msgspec.json.encode([shared_room(room)]).decode()
    values = {"site_id": site_id, "id": number, "kind": kind, "rooms": rooms, "body": user_room(user)}
    await sql.execute(insert(chat_outbox).values(**values))
