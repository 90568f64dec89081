"""The users of a site as operators list and see them.

The ids of a page come from one index that has every column of the filters; then the rows of the page alone are read.
"""

from collections.abc import Iterable, Sequence
from typing import Any

from msgspec import Struct
from sqlalchemy import ColumnElement, Row, Select, and_, false, func, or_, select, union
from sqlalchemy.ext.asyncio import AsyncConnection

from app.clock import now_ms
from app.protocols.messenger.bounds import MAX_DEVICES_OF_USER, MAX_ROOMS_OF_USER, MAX_SESSIONS_OF_USER
from app.protocols.messenger.directory.journal_devices import devices_with_apps
from app.protocols.messenger.directory.journal_viewers import parts_of
from app.protocols.messenger.journal_tables import (
    chat_contacts,
    chat_devices,
    chat_members,
    chat_networks,
    chat_rooms,
    chat_sessions,
    chat_users,
)
from app.protocols.messenger.journal_user_rows import USER_COLUMNS
from app.protocols.messenger.operations.journal_pages import IdPage, PagePlace, page_of_ids
from app.protocols.messenger.scram import login_key

#: Ids of one question, where the users who are online are sought, and such questions of one page: a page past them is
#: shorter than asked for, and has a next one all the same.
PART = 500
MOST_PARTS = 20

_users = chat_users.c


class UserFilter(Struct, frozen=True, kw_only=True):
    """Which users to list; None: any."""

    text: str | None = None
    is_disabled: bool | None = None
    is_admin: bool | None = None
    #: The users who are online, and whether these are wanted or the others.
    online: frozenset[int] = frozenset()
    is_online: bool | None = None


class UserCounts(Struct, frozen=True):
    """The things of a user that a list counts. Lives as long as the request."""

    devices: dict[int, tuple[int, int | None]]
    sessions: dict[int, int]
    logins: dict[int, int]


async def find_users(sql: AsyncConnection, site_id: int, wanted: UserFilter, place: PagePlace) -> IdPage:
    """The ids of a page of the users that pass."""
    passing = select(_users.id).where(_users.site_id == site_id, *_conditions(site_id, wanted))
    if wanted.is_online is None:
        return await page_of_ids(sql, passing, _users.id, place)
    seek = _seek_online if wanted.is_online else _seek_away
    return await seek(sql, passing, wanted.online, place)


async def _seek_online(sql: AsyncConnection, passing: Select[Any], online: frozenset[int], place: PagePlace) -> IdPage:
    ids = sorted(online, reverse=place.is_newest_first)
    if place.behind is not None:
        behind = place.behind
        ids = [id for id in ids if (id < behind if place.is_newest_first else id > behind)]
    found: list[int] = []
    for number, part in enumerate(parts_of(ids), 1):
        statement = place.bound(passing.where(_users.id.in_(part)), _users.id, len(part), None)
        found += (await sql.execute(statement)).scalars()
        if len(found) > place.limit:
            return place.cut(found)
        if number == MOST_PARTS and len(ids) > number * PART:
            return IdPage(found, part[-1])
    return IdPage(found, None)


async def _seek_away(sql: AsyncConnection, passing: Select[Any], online: frozenset[int], place: PagePlace) -> IdPage:
    found: list[int] = []
    behind = place.behind
    for _ in range(MOST_PARTS):
        part = list((await sql.execute(place.bound(passing, _users.id, PART, behind))).scalars())
        found += [id for id in part if id not in online]
        if len(found) > place.limit:
            return place.cut(found)
        if len(part) < PART:
            return IdPage(found, None)
        behind = part[-1]
    return IdPage(found, behind)


def _conditions(site_id: int, wanted: UserFilter) -> Iterable[ColumnElement[bool]]:
    if wanted.text is not None:
        key = func.coalesce(_users.login_key, _users.external)
        yield or_(
            key.contains(login_key(wanted.text), autoescape=True), _users.name.icontains(wanted.text, autoescape=True)
        )
    if wanted.is_disabled is not None:
        yield _users.is_disabled if wanted.is_disabled else _users.is_disabled == false()
    if wanted.is_admin is not None:
        admins = _admins(site_id)
        yield _users.id.in_(admins) if wanted.is_admin else _users.id.not_in(admins)


def _admins(site_id: int) -> Select[Any]:
    """The ids of the admins: by their flag, or as members of a room of admins."""
    flagged = select(_users.id).where(_users.site_id == site_id, _users.is_admin)
    members, rooms = chat_members.c, chat_rooms.c
    of_room = and_(members.site_id == rooms.site_id, members.room_id == rooms.id, members.until.is_(None))
    joined = select(members.user_id).select_from(chat_rooms.join(chat_members, of_room))
    joined = joined.where(rooms.site_id == site_id, rooms.kind == "admins", rooms.is_archived == false())
    found = union(flagged, joined).subquery()
    return select(found.c[0])


async def read_users(sql: AsyncConnection, site_id: int, ids: Sequence[int]) -> list[Row[Any]]:
    """The rows of users, in the order of the ids."""
    columns = [
        *USER_COLUMNS,
        _users.is_admin.label("has_admin_flag"),
        _users.created_at,
        _users.stored_key.is_not(None).label("has_password"),
    ]
    found: dict[int, Row[Any]] = {}
    for part in parts_of(list(ids)):
        rows = await sql.execute(select(*columns).where(_users.site_id == site_id, _users.id.in_(part)))
        found |= {row.id: row for row in rows}
    return [found[id] for id in ids if id in found]


async def count_of_users(sql: AsyncConnection, site_id: int, ids: Sequence[int]) -> UserCounts:
    """The devices, sessions and last logins of users."""
    counts = UserCounts({}, {}, {})
    devices, sessions, networks = chat_devices.c, chat_sessions.c, chat_networks.c
    for part in parts_of(list(ids)):
        of_devices = select(devices.user_id, func.count(), func.max(devices.seen_at)).group_by(devices.user_id)
        of_devices = of_devices.where(devices.site_id == site_id, devices.user_id.in_(part))
        counts.devices.update({user: (count, seen) for user, count, seen in await sql.execute(of_devices)})
        of_sessions = select(sessions.user_id, func.count()).group_by(sessions.user_id)
        of_sessions = of_sessions.where(sessions.user_id.in_(part), sessions.expires_at > now_ms())
        counts.sessions.update({row[0]: row[1] for row in await sql.execute(of_sessions)})
        of_logins = select(networks.user_id, func.max(networks.at)).group_by(networks.user_id)
        of_logins = of_logins.where(networks.user_id.in_(part))
        counts.logins.update({row[0]: row[1] for row in await sql.execute(of_logins)})
    return counts


async def rooms_of_user(sql: AsyncConnection, site_id: int, user: int) -> list[Row[Any]]:
    """The rooms of a user, by id, with whether it is an admin of each."""
    members, rooms = chat_members.c, chat_rooms.c
    of_room = and_(rooms.site_id == members.site_id, rooms.id == members.room_id)
    columns = (rooms.id, rooms.name, rooms.kind, rooms.is_archived, members.is_admin)
    statement = select(*columns).select_from(chat_members.join(chat_rooms, of_room))
    mine = (members.site_id == site_id, members.user_id == user, members.until.is_(None))
    return list(await sql.execute(statement.where(*mine).order_by(rooms.id).limit(MAX_ROOMS_OF_USER)))


async def count_contacts(sql: AsyncConnection, site_id: int, user: int) -> int:
    """The number of a user's contacts."""
    mine = (chat_contacts.c.site_id == site_id, chat_contacts.c.user_id == user)
    return int((await sql.execute(select(func.count()).select_from(chat_contacts).where(*mine))).scalar_one())


async def devices_of_user(sql: AsyncConnection, site_id: int, user: int) -> list[Row[Any]]:
    """The devices of a user with their programs, the last one seen first."""
    devices = chat_devices.c
    statement = devices_with_apps().where(devices.site_id == site_id, devices.user_id == user)
    return list(await sql.execute(statement.order_by(devices.seen_at.desc()).limit(MAX_DEVICES_OF_USER)))


async def sessions_of_user(sql: AsyncConnection, user: int) -> list[Row[Any]]:
    """The sessions of a user that are not over, with the deviceId of each, the newest first."""
    sessions, devices = chat_sessions.c, chat_devices.c
    joined = chat_sessions.join(chat_devices, devices.id == sessions.device_id)
    statement = select(devices.device, sessions.created_at, sessions.expires_at).select_from(joined)
    statement = statement.where(sessions.user_id == user, sessions.expires_at > now_ms())
    return list(await sql.execute(statement.order_by(sessions.created_at.desc()).limit(MAX_SESSIONS_OF_USER)))
