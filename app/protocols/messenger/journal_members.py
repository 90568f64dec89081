"""The members of rooms, with the times of each membership, and the rows of the outbox that tell the core of them.

A membership is a span of the site's clock. The rows of a user who has left stay: the core hears of a change some time
after it, and a device that connects in between has the rooms of the place that the core has reached.
"""

from collections.abc import Collection, Iterable, Sequence
from typing import Any

import msgspec
from sqlalchemy import ColumnElement, and_, bindparam, func, insert, or_, select, update
from sqlalchemy.ext.asyncio import AsyncConnection

from app.protocols.messenger.addresses import shared_room, user_room
from app.protocols.messenger.journal_clock import take
from app.protocols.messenger.journal_tables import chat_clock, chat_members, chat_outbox, chat_rooms

#: The kinds of rows of the outbox that change the rooms of a user.
MOVES = ("join", "leave")


async def enter(sql: AsyncConnection, site_id: int, room: int, user: int, *, is_admin: bool = False) -> None:
    """The user is a member from here on, if it was none."""
    if not await is_member(sql, site_id, room, user):
        await enter_all(sql, site_id, room, [user], [user] if is_admin else [])


async def enter_all(
    sql: AsyncConnection, site_id: int, room: int, users: Sequence[int], admins: Collection[int]
) -> None:
    """Users who are none become members, in this order, with few statements for many."""
    if users:
        numbers = await _numbers(sql, site_id, len(users))
        spans = [
            {"site_id": site_id, "room_id": room, "user_id": user, "since": number, "is_admin": user in admins}
            for user, number in zip(users, numbers, strict=True)
        ]
        await sql.execute(insert(chat_members), spans)
        await _tell(sql, site_id, "join", room, zip(users, numbers, strict=True))


async def leave(sql: AsyncConnection, site_id: int, room: int, user: int) -> None:
    """The user is no member any more, if it was one."""
    if await is_member(sql, site_id, room, user):
        await leave_all(sql, site_id, room, [user])


async def leave_all(sql: AsyncConnection, site_id: int, room: int, users: Sequence[int]) -> None:
    """Members are none any more, in this order, with few statements for many."""
    if users:
        numbers = await _numbers(sql, site_id, len(users))
        ends = [{"who": user, "number": number} for user, number in zip(users, numbers, strict=True)]
        of_user = _now(site_id, room, bindparam("who"))
        await sql.execute(update(chat_members).where(*of_user).values(until=bindparam("number")), ends)
        await _tell(sql, site_id, "leave", room, zip(users, numbers, strict=True))


async def set_admin(sql: AsyncConnection, site_id: int, room: int, user: int, is_admin: bool) -> None:
    """Makes a member an admin of the room, or none."""
    await sql.execute(update(chat_members).where(*_now(site_id, room, user)).values(is_admin=is_admin))


async def widen(sql: AsyncConnection, site_id: int, room: int) -> None:
    """Members see what was sent before they were members from here on: their next `sync` brings it. The flag itself is
    the caller's."""
    of_room = (chat_rooms.c.site_id == site_id, chat_rooms.c.id == room)
    await sql.execute(update(chat_rooms).where(*of_room).values(widened=await take(sql, site_id)))


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


def _now(site_id: int, room: int, user: Any) -> tuple[ColumnElement[bool], ...]:
    members = chat_members.c
    return (members.site_id == site_id, members.room_id == room, members.user_id == user, members.until.is_(None))


async def _numbers(sql: AsyncConnection, site_id: int, count: int) -> range:
    last = await take(sql, site_id, count)
    return range(last - count + 1, last + 1)


async def _tell(sql: AsyncConnection, site_id: int, kind: str, room: int, moved: Iterable[tuple[int, int]]) -> None:
    """Rows for the core, of users and numbers."""
    rooms = msgspec.json.encode([shared_room(room)]).decode()
    rows = [
        {"site_id": site_id, "id": number, "kind": kind, "rooms": rooms, "body": user_room(user)}
        for user, number in moved
    ]
    await sql.execute(insert(chat_outbox), rows)
