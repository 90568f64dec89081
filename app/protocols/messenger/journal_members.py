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
from app.protocols.messenger.talk.settings import MAX_ROOMS_OF_ROW

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


async def enter_rooms(sql: AsyncConnection, site_id: int, rooms: Sequence[int], user: int) -> None:
    """A user becomes a member of rooms of which it is none, with few statements for many."""
    for part in _parts_of_rows(rooms):
        number = await take(sql, site_id)
        spans = [{"site_id": site_id, "room_id": room, "user_id": user, "since": number} for room in part]
        await sql.execute(insert(chat_members), spans)
        await _tell_of_rooms(sql, site_id, "join", part, (user, number))


async def leave_rooms(sql: AsyncConnection, site_id: int, rooms: Sequence[int], user: int) -> None:
    """A user is no member of rooms any more, with few statements for many."""
    for part in _parts_of_rows(rooms):
        number = await take(sql, site_id)
        members = chat_members.c
        now = (members.site_id == site_id, members.user_id == user, members.until.is_(None))
        await sql.execute(update(chat_members).where(*now, members.room_id.in_(part)).values(until=number))
        await _tell_of_rooms(sql, site_id, "leave", part, (user, number))


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
    await sql.execute(insert(chat_outbox), [_row(site_id, kind, [room], one) for one in moved])


async def _tell_of_rooms(
    sql: AsyncConnection, site_id: int, kind: str, rooms: Sequence[int], moved: tuple[int, int]
) -> None:
    """A row for the core, of a user and a number."""
    await sql.execute(insert(chat_outbox), [_row(site_id, kind, rooms, moved)])


def _row(site_id: int, kind: str, rooms: Iterable[int], moved: tuple[int, int]) -> dict[str, Any]:
    user, number = moved
    places = msgspec.json.encode([shared_room(room) for room in rooms]).decode()
    return {"site_id": site_id, "id": number, "kind": kind, "rooms": places, "body": user_room(user)}


def _parts_of_rows(rooms: Sequence[int]) -> Iterable[Sequence[int]]:
    return (rooms[start : start + MAX_ROOMS_OF_ROW] for start in range(0, len(rooms), MAX_ROOMS_OF_ROW))
