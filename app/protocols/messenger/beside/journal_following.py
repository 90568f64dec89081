"""The rooms of the backend in the directory: made, entered and left as the backend says at a connect, within a
transaction, each change written down.

Nobody here changes these rooms, and they have no admins.
"""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from msgspec import Struct
from sqlalchemy import Integer, func, insert, select
from sqlalchemy.ext.asyncio import AsyncConnection

from app.clock import now_ms
from app.protocols.messenger.bounds import MAX_MEMBERS, MAX_NAME_CHARACTERS, MAX_ROOMS
from app.protocols.messenger.directory.journal_edit import DirectoryEdit
from app.protocols.messenger.journal_changes import Changed, note_changes
from app.protocols.messenger.journal_members import enter_rooms, leave_rooms
from app.protocols.messenger.journal_tables import chat_members, chat_rooms

#: A connect tells others of so many rooms at most, and of larger rooms nobody: their next `sync` brings the change.
MOST_ROOMS_TOLD = 20
MOST_MEMBERS_TOLD = 200
#: The parameters of one statement are bounded in both databases.
_PART = 500


class _Moves(Struct, frozen=True):
    """The rooms that a user enters and leaves, and those among the first that were made just now."""

    entered: Sequence[int]
    left: Sequence[int]
    #: Their names, by their ids.
    new: Mapping[int, str]


async def follow(edit: DirectoryEdit, user: int, wanted: Mapping[str, str]) -> None:
    """Makes a user a member of these rooms of the backend (names by ids), and of no other one of it. A room that is
    full takes nobody, and one too many is not made."""
    current = await rooms_of_backend(*edit.place, user)
    left = [number for name, number in current.items() if name not in wanted]
    known = await _kndevice_rooms(*edit.place, [name for name in wanted if name not in current])
    sizes = await _sizes(*edit.place, [*known.values(), *left])
    new = await _make(*edit.place, {name: wanted[name] for name in wanted if name not in {**current, **known}})
    entered = [number for number in known.values() if sizes.get(number, 0) < MAX_MEMBERS]
    moves = _Moves([*entered, *new], left, new)
    await leave_rooms(*edit.place, moves.left, user)
    await enter_rooms(*edit.place, moves.entered, user)
    await note_changes(*edit.place, _changes(moves, user), edit.doer.by)
    _tell(edit, moves, user, sizes)


async def rooms_of_backend(sql: AsyncConnection, site_id: int, user: int) -> dict[str, int]:
    """The rooms of the backend of which a user is a member, by their ids at the backend."""
    members, rooms = chat_members.c, chat_rooms.c
    of_user = (members.site_id == site_id, members.user_id == user, members.until.is_(None))
    joined = chat_members.join(chat_rooms, rooms.id == members.room_id)
    statement = select(rooms.external, rooms.id).select_from(joined).where(*of_user, rooms.external.is_not(None))
    return {row.external: row.id for row in await sql.execute(statement)}


async def rooms_left(sql: AsyncConnection, site_id: int, user: int, names: Sequence[str]) -> set[str]:
    """The rooms among these of which a user was a member and is none now."""
    members, rooms = chat_members.c, chat_rooms.c
    is_member = func.max(members.until.is_(None).cast(Integer))
    found: set[str] = set()
    for part in _parts(names):
        joined = chat_members.join(chat_rooms, rooms.id == members.room_id)
        statement = select(rooms.external).select_from(joined).group_by(rooms.external).having(is_member == 0)
        of_user = (members.site_id == site_id, members.user_id == user, rooms.external.in_(part))
        found |= set((await sql.execute(statement.where(*of_user))).scalars())
    return found


async def _kndevice_rooms(sql: AsyncConnection, site_id: int, names: Sequence[str]) -> dict[str, int]:
    rooms, found = chat_rooms.c, dict[str, int]()
    for part in _parts(names):
        statement = select(rooms.external, rooms.id).where(rooms.site_id == site_id, rooms.external.in_(part))
        found |= {row.external: row.id for row in await sql.execute(statement)}
    return found


async def _sizes(sql: AsyncConnection, site_id: int, rooms: Sequence[int]) -> dict[int, int]:
    members, found = chat_members.c, dict[int, int]()
    for part in _parts(rooms):
        now = (members.site_id == site_id, members.room_id.in_(part), members.until.is_(None))
        statement = select(members.room_id, func.count().label("size")).where(*now).group_by(members.room_id)
        found |= {row.room_id: row.size for row in await sql.execute(statement)}
    return found


async def _make(sql: AsyncConnection, site_id: int, names: Mapping[str, str]) -> dict[int, str]:
    """New rooms: their names by their ids."""
    if not names:
        return {}
    count = select(func.count()).select_from(chat_rooms).where(chat_rooms.c.site_id == site_id)
    free = max(0, MAX_ROOMS - (await sql.execute(count)).scalar_one())
    same = {"site_id": site_id, "kind": "chat", "created_at": now_ms()}
    made = [
        {**same, "external": external, "name": name[:MAX_NAME_CHARACTERS]}
        for external, name in list(names.items())[:free]
    ]
    if not made:
        return {}
    statement = insert(chat_rooms).returning(chat_rooms.c.id, chat_rooms.c.name)
    return {row.id: row.name for row in await sql.execute(statement, made)}


def _changes(moves: _Moves, user: int) -> list[Changed]:
    found = []
    for room in moves.entered:
        if (name := moves.new.get(room)) is None:
            found.append(Changed("room", room, {"members": [user]}, {"members": []}))
        else:
            found.append(Changed("room", room, {"name": name, "kind": "chat", "members": [user], "admins": []}))
    return found + [Changed("room", room, {"members": []}, {"members": [user]}) for room in moves.left]


def _tell(edit: DirectoryEdit, moves: _Moves, user: int, sizes: Mapping[int, int]) -> None:
    news = edit.news
    news.has_moves = news.has_moves or bool(moves.entered or moves.left)
    told = [room for room in (*moves.left, *moves.entered) if sizes.get(room, 0) < MOST_MEMBERS_TOLD]
    news.rooms.update(told[:MOST_ROOMS_TOLD])
    for room in moves.left[:MOST_ROOMS_TOLD]:
        news.lost.setdefault(room, set()).add(user)


def _parts(values: Sequence[Any]) -> Iterable[Sequence[Any]]:
    return (values[start : start + _PART] for start in range(0, len(values), _PART))
