"""The rows of users: read with their rights, and changed. Members of rooms of admins are admins, too."""

from collections.abc import Iterable, Mapping
from typing import Any

from sqlalchemy import ColumnElement, Row, Select, and_, delete, exists, func, or_, select, update
from sqlalchemy.ext.asyncio import AsyncConnection

from app.protocols.messenger.caller import ChatUser
from app.protocols.messenger.journal_clock import take
from app.protocols.messenger.journal_tables import chat_members, chat_rooms, chat_sessions, chat_users
from app.protocols.messenger.scram import OWN_SCHEME, Keys

#: The parameters of one statement are bounded in both databases.
_PART = 500
#: A member of a room of this kind is an admin.
_ADMINS = "admins"


def _is_admin(but_room: int = 0) -> ColumnElement[bool]:
    """Whether a user is an admin: by its flag, or as a member of a room of admins."""
    members, rooms = chat_members.c, chat_rooms.c
    of_room = and_(rooms.id == members.room_id, rooms.kind == _ADMINS, rooms.is_archived.is_(False))
    mine = (members.site_id == chat_users.c.site_id, members.user_id == chat_users.c.id, members.until.is_(None))
    joined = select(members.room_id).select_from(chat_members.join(chat_rooms, of_room))
    return or_(chat_users.c.is_admin, exists(joined.where(*mine, rooms.id != but_room).correlate(chat_users)))


#: The columns of a user, beside its keys.
USER_COLUMNS = [
    *(chat_users.c[name] for name in ("id", "login", "external", "name", "sign", "icon", "is_disabled", "must_change")),
    _is_admin().label("is_admin"),
]
KEY_COLUMNS = [chat_users.c[name] for name in ("salt", "iterations", "stored_key", "server_key", "scheme")]


def user_of(row: Row[Any]) -> ChatUser:
    """The user of a row with the columns of a user."""
    return ChatUser(
        id=row.id,
        login=row.login or row.external or "",
        name=row.name,
        sign=row.sign,
        icon=row.icon,
        is_admin=row.is_admin,
        is_disabled=row.is_disabled,
        must_change=row.must_change,
        external=row.external,
    )


def users_with_rights() -> Select[Any]:
    """The users, without their keys."""
    return select(*USER_COLUMNS)


async def user_row(sql: AsyncConnection, site_id: int, user_id: int) -> Row[Any] | None:
    """The row of a user; None: there is none."""
    statement = select(*USER_COLUMNS, *KEY_COLUMNS)
    of_user = (chat_users.c.site_id == site_id, chat_users.c.id == user_id)
    return (await sql.execute(statement.where(*of_user))).one_or_none()


def set_keys(keys: Keys, scheme: str = OWN_SCHEME) -> dict[str, Any]:
    """The columns of a user's keys, and of how clients make the password that they are keys of."""
    return {
        "scheme": scheme,
        "salt": keys.salt,
        "iterations": keys.iterations,
        "stored_key": keys.stored_key,
        "server_key": keys.server_key,
    }


async def number_keyed(sql: AsyncConnection, site_id: int, user_id: int) -> None:
    """Gives a user with its first password the next number of the site."""
    others = chat_users.alias()
    last = select(func.coalesce(func.max(others.c.keyed), 0)).where(others.c.site_id == site_id).scalar_subquery()
    of_user = (chat_users.c.site_id == site_id, chat_users.c.id == user_id, chat_users.c.keyed.is_(None))
    await sql.execute(update(chat_users).where(*of_user).values(keyed=last + 1))


async def admins_among(sql: AsyncConnection, site_id: int, users: Iterable[int], but_room: int = 0) -> set[int]:
    """The admins among users, by anything but a certain room."""
    found: set[int] = set()
    ids = sorted(users)
    for start in range(0, len(ids), _PART):
        of_users = (chat_users.c.site_id == site_id, chat_users.c.id.in_(ids[start : start + _PART]))
        found |= set((await sql.execute(select(chat_users.c.id).where(*of_users, _is_admin(but_room)))).scalars())
    return found


async def admins_of(sql: AsyncConnection, site_id: int) -> set[int]:
    """All admins of a site."""
    members, rooms = chat_members.c, chat_rooms.c
    by_flag = select(chat_users.c.id).where(chat_users.c.site_id == site_id, chat_users.c.is_admin)
    of_room = and_(rooms.id == members.room_id, rooms.kind == _ADMINS, rooms.is_archived.is_(False))
    by_room = select(members.user_id).select_from(chat_members.join(chat_rooms, of_room))
    by_room = by_room.where(members.site_id == site_id, members.until.is_(None))
    return set((await sql.execute(by_flag.union(by_room))).scalars())


async def void_sessions(sql: AsyncConnection, site_id: int, user_id: int) -> None:
    """Ends every session of a user. The nodes close its connections; see `VoidSessions`."""
    of_user = (chat_sessions.c.site_id == site_id, chat_sessions.c.user_id == user_id)
    await sql.execute(delete(chat_sessions).where(*of_user))
    await note_voided(sql, site_id, user_id)


async def note_voided(sql: AsyncConnection, site_id: int, user_id: int) -> None:
    """Notes that a session of a user has ended early."""
    await change_user(sql, site_id, user_id, {"voided": await take(sql, site_id)})


async def change_user(sql: AsyncConnection, site_id: int, user_id: int, values: Mapping[str, Any]) -> None:
    """Changes columns of a user."""
    of_user = (chat_users.c.site_id == site_id, chat_users.c.id == user_id)
    await sql.execute(update(chat_users).where(*of_user).values(**values))
