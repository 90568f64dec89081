"""The reference data of `sync`: users, rooms, contacts, devices and programs, all of them or what has changed behind a
number of the site's clock, in parts of bounded size.

A round reads one kind behind the other, each in the order of its ids. It reads rows as they are, so that a change
during the round comes at once, or with the next round.
"""

from collections.abc import AsyncIterator, Callable, Mapping
from typing import Any

import msgspec
from msgspec import Raw, Struct
from sqlalchemy import ColumnElement, Integer, Select, and_, func, or_, select, union
from sqlalchemy.ext.asyncio import AsyncConnection

from app.protocols.messenger.directory.journal_devices import device_shown, devices_with_apps
from app.protocols.messenger.directory.journal_room_states import read_rooms
from app.protocols.messenger.directory.journal_viewers import seen_among, seen_by
from app.protocols.messenger.directory.rules import contact_shown
from app.protocols.messenger.directory.sync_place import KINDS, ReferencePlace
from app.protocols.messenger.journal_machines import GONE
from app.protocols.messenger.journal_tables import (
    chat_apps,
    chat_changes,
    chat_clock,
    chat_contacts,
    chat_devices,
    chat_members,
    chat_users,
)
from app.protocols.messenger.journal_user_rows import user_of, users_with_rights

#: Rows of one question.
_ROWS = 500
_ROOMS = 20
#: Devices that are gone come behind the others, in the order of their ids.
_GONE = 2**56


class Reader(Struct, frozen=True):
    """The synchronisation of one user. Lives as long as its transaction."""

    sql: AsyncConnection
    site_id: int
    me: int
    #: Whether a user sees those alone that share a room or a contact with it.
    by_rooms: bool
    #: The users who are online.
    online: frozenset[int] = frozenset()


class ReferencePart:
    """The reference data of one answer. Lives until it is sent."""

    def __init__(self, max_bytes: int) -> None:
        self.left = max_bytes
        self.lists: dict[str, list[Raw]] = {kind: [] for kind in KINDS}

    @property
    def is_empty(self) -> bool:
        """Whether there is nothing in it."""
        return not any(self.lists.values())

    def add(self, kind: str, thing: Any) -> bool:
        """Whether there was room for it; one that is too large comes alone."""
        one = msgspec.json.encode(thing)
        if len(one) + 1 > self.left and not self.is_empty:
            return False
        self.lists[kind].append(Raw(one))
        self.left -= len(one) + 1
        return True


async def read_reference(reader: Reader, place: ReferencePlace, part: ReferencePart) -> ReferencePlace:
    """Reads on from a place until the part is full; the place behind it."""
    last = await _last(reader)
    if place.is_between:
        # A cursor of another database, or of one that was set back, knows nothing.
        place = ReferencePlace(place.known if place.known <= last else 0, last, KINDS[0])
    for kind in KINDS[KINDS.index(place.kind) :]:
        behind = place.behind if kind == place.kind else 0
        async for number, thing in _READERS[kind](reader, place.known, behind):
            if thing is not None and not part.add(kind, thing):
                return ReferencePlace(place.known, place.until, kind, behind)
            behind = number
    return ReferencePlace(place.until)


async def _last(reader: Reader) -> int:
    statement = select(chat_clock.c.last).where(chat_clock.c.site_id == reader.site_id)
    return int((await reader.sql.execute(statement)).scalar_one_or_none() or 0)


Things = AsyncIterator[tuple[int, Any]]


async def _pages(reader: Reader, ids: Callable[[int], Select[Any]], behind: int, most: int) -> AsyncIterator[list[Any]]:
    """Rows in pages, in the order of their column `id`; `ids` answers the question for those behind an id."""
    while True:
        rows = list(await reader.sql.execute(ids(behind).limit(most)))
        if rows:
            yield rows
            behind = rows[-1].id
        if len(rows) < most:
            return


def _changed(reader: Reader, what: str, known: int, *more: ColumnElement[bool]) -> Select[Any]:
    """The ids of rows of a kind that have changed behind a number."""
    changes = chat_changes.c
    return select(changes.of_id).where(
        changes.site_id == reader.site_id, changes.what == what, changes.id > known, *more
    )


async def _users(reader: Reader, known: int, behind: int) -> Things:
    """The users that the user sees; those that it saw are gone."""
    sees = seen_by(reader.site_id, reader.me, by_rooms=reader.by_rooms)
    wanted = _moved_users(reader, known) if known else None

    def page(behind: int) -> Select[Any]:
        statement = users_with_rights().add_columns(sees.label("is_seen"))
        statement = statement.where(chat_users.c.site_id == reader.site_id, chat_users.c.id > behind)
        statement = statement.where(sees if wanted is None else chat_users.c.id.in_(wanted))
        return statement.order_by(chat_users.c.id)

    async for rows in _pages(reader, page, behind, _ROWS):
        for row in rows:
            yield row.id, user_of(row).shown if row.is_seen else {"id": row.id, "deleted": True}


def _moved_users(reader: Reader, known: int) -> Select[Any]:
    """The users that have changed, or have come into the user's sight, or gone out of it. (Also some that are as they
    were: those in a room with the user where somebody has come or gone.)"""
    changed = _changed(reader, "user", known)
    if not reader.by_rooms:
        return changed
    # (A change of a user that was never seen is no news.)
    seen = select(chat_users.c.id).where(
        chat_users.c.id.in_(changed), seen_by(reader.site_id, reader.me, by_rooms=True)
    )
    mine, theirs = chat_members.alias("mine"), chat_members.alias("theirs")
    same_room = and_(theirs.c.site_id == mine.c.site_id, theirs.c.room_id == mine.c.room_id)
    never = 2**62
    together = and_(
        mine.c.since < func.coalesce(theirs.c.until, never), theirs.c.since < func.coalesce(mine.c.until, never)
    )
    moved = or_(*(column > known for one in (mine, theirs) for column in (one.c.since, one.c.until)))
    met = select(theirs.c.user_id).select_from(mine.join(theirs, same_room))
    met = met.where(mine.c.site_id == reader.site_id, mine.c.user_id == reader.me, together, moved)
    # A contact is never taken back.
    listed = _changed(reader, "contact", known, chat_changes.c.owner_id == reader.me)
    listing = select(chat_changes.c.owner_id).where(
        chat_changes.c.site_id == reader.site_id,
        chat_changes.c.what == "contact",
        chat_changes.c.id > known,
        chat_changes.c.of_id == reader.me,
    )
    found = union(seen, met, listed, listing).subquery()
    return select(found.c[0])


async def _rooms(reader: Reader, known: int, behind: int) -> Things:
    """The rooms of the user; those that it has left are gone."""
    members = chat_members.c
    mine = and_(members.site_id == reader.site_id, members.user_id == reader.me)
    is_member = func.max(members.until.is_(None).cast(Integer))

    def page(behind: int) -> Select[Any]:
        statement = select(members.room_id.label("id"), is_member.label("is_member")).where(mine)
        statement = statement.where(members.room_id > behind).group_by(members.room_id).order_by(members.room_id)
        if not known:
            return statement.where(members.until.is_(None))
        moved = or_(
            func.max(members.since) > known,
            func.max(func.coalesce(members.until, 0)) > known,
            and_(is_member == 1, members.room_id.in_(_changed(reader, "room", known))),
        )
        return statement.having(moved)

    async for rows in _pages(reader, page, behind, _ROOMS):
        states = await read_rooms(reader.sql, reader.site_id, [row.id for row in rows])
        for row in rows:
            yield row.id, states[row.id].shown if row.is_member else {"id": row.id, "deleted": True}


async def _contacts(reader: Reader, known: int, behind: int) -> Things:
    """The user's contacts."""
    contacts = chat_contacts.c

    def page(behind: int) -> Select[Any]:
        statement = select(chat_contacts, contacts.other_id.label("id")).where(
            contacts.site_id == reader.site_id, contacts.user_id == reader.me, contacts.other_id > behind
        )
        if known:
            mine = chat_changes.c.owner_id == reader.me
            statement = statement.where(contacts.other_id.in_(_changed(reader, "contact", known, mine)))
        return statement.order_by(contacts.other_id)

    async for rows in _pages(reader, page, behind, _ROWS):
        for row in rows:
            yield row.id, contact_shown(row.other_id, row.name, row.is_muted, row.is_blocked)


async def _devices(reader: Reader, known: int, behind: int) -> Things:
    """The user's own devices."""
    devices = chat_devices.c

    def page(behind: int) -> Select[Any]:
        statement: Select[Any] = devices_with_apps().where(
            devices.site_id == reader.site_id, devices.user_id == reader.me, devices.id > behind
        )
        if known:
            mine = chat_changes.c.owner_id == reader.me
            statement = statement.where(devices.id.in_(_changed(reader, "device", known, mine)))
        return statement.order_by(devices.id)

    async for rows in _pages(reader, page, behind, _ROWS):
        for row in rows:
            yield row.id, device_shown(row)
    if known:
        async for gone in _gone_devices(reader, known, behind):
            yield gone


async def _gone_devices(reader: Reader, known: int, behind: int) -> Things:
    changes, rows = chat_changes.c, select(chat_devices.c.id).where(chat_devices.c.user_id == reader.me)
    gone = select(changes.of_id, changes.before).where(
        changes.site_id == reader.site_id,
        changes.what == "device",
        changes.owner_id == reader.me,
        changes.id > known,
        changes.of_id > behind - _GONE,
        changes.of_id.not_in(rows),
        changes.after == GONE,
    )
    for row in await reader.sql.execute(gone.order_by(changes.of_id)):
        yield _GONE + row.of_id, {"id": msgspec.json.decode(row.before)["device"], "deleted": True}


async def _apps(reader: Reader, known: int, behind: int) -> Things:
    """The programs that clients of the site run."""
    apps = chat_apps.c

    def page(behind: int) -> Select[Any]:
        statement = select(chat_apps).where(apps.site_id == reader.site_id, apps.id > behind)
        if known:
            statement = statement.where(apps.id.in_(_changed(reader, "app", known)))
        return statement.order_by(apps.id)

    async for rows in _pages(reader, page, behind, _ROWS):
        for row in rows:
            yield row.id, {"id": row.id, "name": row.name, "reference": row.reference, "version": row.version}


async def _online(reader: Reader, known: int, behind: int) -> Things:
    """The users who are online, whom the user sees; none that has blocked it."""
    seen = reader.online - {user for user in reader.online if user <= behind}
    if reader.by_rooms:
        seen &= await seen_among(reader.sql, reader.site_id, reader.me, seen, by_rooms=True)
    contacts = chat_contacts.c
    blocking = select(contacts.user_id).where(
        contacts.site_id == reader.site_id, contacts.other_id == reader.me, contacts.is_blocked
    )
    for user in sorted(seen - set((await reader.sql.execute(blocking)).scalars())):
        yield user, user


_READERS: Mapping[str, Callable[[Reader, int, int], Things]] = {
    "users": _users,
    "rooms": _rooms,
    "contacts": _contacts,
    "devices": _devices,
    "applications": _apps,
    "online": _online,
}
