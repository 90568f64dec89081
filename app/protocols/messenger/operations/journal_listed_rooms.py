"""The rooms of a site, and the members of one, as operators list and see them."""

from collections.abc import Collection, Sequence
from typing import Any

from msgspec import Struct
from sqlalchemy import Integer, Row, false, func, or_, select, true
from sqlalchemy.ext.asyncio import AsyncConnection

from app.protocols.messenger.answers import ChatRefusal
from app.protocols.messenger.directory.journal_viewers import PART, parts_of
from app.protocols.messenger.journal_tables import chat_members, chat_rooms, chat_users
from app.protocols.messenger.operations.journal_pages import IdPage, PagePlace, page_of_ids
from app.protocols.messenger.scram import login_key

_rooms = chat_rooms.c
_members = chat_members.c


class RoomFilter(Struct, frozen=True, kw_only=True):
    """Which rooms to list; None: any."""

    text: str | None = None
    kind: str | None = None
    is_archived: bool | None = None


async def find_rooms(sql: AsyncConnection, site_id: int, wanted: RoomFilter, place: PagePlace) -> IdPage:
    """The ids of a page of the rooms that pass."""
    statement = select(_rooms.id).where(_rooms.site_id == site_id)
    if wanted.text is not None:
        statement = statement.where(_rooms.name.icontains(wanted.text, autoescape=True))
    if wanted.kind is not None:
        statement = statement.where(_rooms.kind == wanted.kind)
    if wanted.is_archived is not None:
        statement = statement.where(_rooms.is_archived == (true() if wanted.is_archived else false()))
    return await page_of_ids(sql, statement, _rooms.id, place)


async def rooms_listed(sql: AsyncConnection, site_id: int, ids: Sequence[int]) -> list[Row[Any]]:
    """The rows of rooms, in the order of the ids."""
    found: dict[int, Row[Any]] = {}
    for part in parts_of(list(ids)):
        rows = await sql.execute(select(chat_rooms).where(_rooms.site_id == site_id, _rooms.id.in_(part)))
        found |= {row.id: row for row in rows}
    return [found[id] for id in ids if id in found]


async def count_members(sql: AsyncConnection, site_id: int, ids: Sequence[int]) -> dict[int, tuple[int, int]]:
    """The numbers of members and of admins, by room."""
    admins = func.sum(_members.is_admin.cast(Integer))
    found: dict[int, tuple[int, int]] = {}
    for part in parts_of(list(ids)):
        counted = select(_members.room_id, func.count(), admins).group_by(_members.room_id)
        now = (_members.site_id == site_id, _members.room_id.in_(part), _members.until.is_(None))
        found |= {room: (count, int(flagged)) for room, count, flagged in await sql.execute(counted.where(*now))}
    return found


async def members_listed(
    sql: AsyncConnection, site_id: int, room: int, place: PagePlace
) -> tuple[list[Row[Any]], int | None]:
    """A page of the members of a room, by id, and the id at its end."""
    joined = chat_members.join(chat_users, chat_users.c.id == _members.user_id)
    columns = [chat_users.c[name] for name in ("id", "login", "external", "name", "is_disabled")]
    statement = select(*columns, _members.is_admin).select_from(joined)
    statement = statement.where(_members.site_id == site_id, _members.room_id == room, _members.until.is_(None))
    rows = list(await sql.execute(place.bound(statement, _members.user_id, place.limit + 1, place.behind)))
    page = place.cut([row.id for row in rows])
    return rows[: place.limit], page.last


async def ids_of_logins(sql: AsyncConnection, site_id: int, logins: Collection[str]) -> set[int]:
    """The users with these logins, or with these ids at the site's backend. Raises ChatRefusal for one that nobody
    has."""
    keys = {login: login_key(login) for login in logins}
    found: dict[str, int] = {}
    for start in range(0, len(keys), PART):
        part = list(keys)[start : start + PART]
        users = chat_users.c
        named = or_(users.login_key.in_([keys[login] for login in part]), users.external.in_(part))
        statement = select(users.id, users.login_key, users.external).where(users.site_id == site_id, named)
        for row in await sql.execute(statement):
            found |= {name: row.id for name in (row.login_key, row.external) if name is not None}
    missing = [login for login, key in keys.items() if login not in found and key not in found]
    if missing:
        raise ChatRefusal("unknown_user", f"There is no user with the login {missing[0]!r}.")
    return {found.get(key) or found[login] for login, key in keys.items()}
