"""The rooms of a site: made, changed, left and archived, within a transaction, each change written down."""

from collections.abc import Collection
from typing import Any

from msgspec import UNSET, Struct, UnsetType
from sqlalchemy import func, insert, select, update
from sqlalchemy.ext.asyncio import AsyncConnection

from app.clock import now_ms
from app.protocols.messenger.answers import ChatRefusal
from app.protocols.messenger.bounds import MAX_ROOMS, MAX_ROOMS_OF_USER
from app.protocols.messenger.directory.journal_edit import DirectoryEdit
from app.protocols.messenger.directory.journal_room_states import read_room
from app.protocols.messenger.directory.journal_viewers import parts_of, seen_among
from app.protocols.messenger.directory.rules import (
    ADMINS,
    RoomState,
    check_kind,
    check_leaving,
    check_members,
    check_room_change,
    heir_of,
)
from app.protocols.messenger.journal_changes import Changed, note_change
from app.protocols.messenger.journal_members import enter_all, leave, leave_all, set_admin, widen
from app.protocols.messenger.journal_tables import chat_members, chat_rooms
from app.protocols.messenger.journal_user_rows import admins_among


class RoomChange(Struct, frozen=True, kw_only=True):
    """The values of a room that are to change. `members` and `admins` are whole lists."""

    name: str | UnsetType = UNSET
    kind: str | UnsetType = UNSET
    icon: str | UnsetType = UNSET
    description: str | UnsetType = UNSET
    #: Type and id of the application's object; None: none.
    about: tuple[str, str] | UnsetType | None = UNSET
    has_history: bool | UnsetType = UNSET
    has_receipts: bool | UnsetType | None = UNSET
    members: Collection[int] | UnsetType = UNSET
    admins: Collection[int] | UnsetType = UNSET

    @property
    def columns(self) -> dict[str, Any]:
        """The columns that change."""
        names = ("name", "kind", "icon", "description", "has_history", "has_receipts")
        found = {name: value for name in names if (value := getattr(self, name)) is not UNSET}
        if self.about is not UNSET:
            found["object_type"], found["object_id"] = self.about or (None, None)
        return found


async def create_room(edit: DirectoryEdit, new: RoomChange) -> int:
    """Makes a room; a user who makes it is a member and an admin of it. Its id. Raises ChatRefusal."""
    check_kind(edit.doer, new.kind or "chat")
    await _check_count(*edit.place)
    values = {"kind": "chat", **new.columns, "site_id": edit.site_id, "created_at": now_ms()}
    made = insert(chat_rooms).values(**values).returning(chat_rooms.c.id)
    room_id = int((await edit.sql.execute(made)).scalar_one())
    own = set() if edit.doer.user_id is None else {edit.doer.user_id}
    admins = own | set(new.admins or ())
    members = own | set(new.members or ()) | admins
    empty = await read_room(*edit.place, room_id)
    assert empty is not None, "it was made just now"
    await _move(edit, empty, members, admins)
    await _note(edit, None, room_id)
    return room_id


async def change_room(edit: DirectoryEdit, room_id: int, change: RoomChange) -> None:
    """Changes a room. Raises ChatRefusal."""
    before = check_room_change(edit.doer, await read_room(*edit.place, room_id))
    check_kind(edit.doer, change.kind or "chat")
    if change.columns:
        await _set(*edit.place, room_id, change.columns)
    if change.has_history is True and not before.has_history:
        await widen(*edit.place, room_id)
    members = before.members if change.members is UNSET else frozenset(change.members)
    # An admin who is no member any more is none.
    admins = before.admins & members if change.admins is UNSET else frozenset(change.admins)
    await _move(edit, before, members, admins)
    await _note(edit, before, room_id)


async def archive_room(edit: DirectoryEdit, room_id: int, is_archived: bool) -> None:
    """Archives a room, or takes it back. Raises ChatRefusal."""
    before = check_room_change(edit.doer, await read_room(*edit.place, room_id))
    await _set(*edit.place, room_id, {"is_archived": is_archived})
    await _note(edit, before, room_id)


async def leave_room(edit: DirectoryEdit, room_id: int) -> None:
    """Takes a user out of a room; where it was the last admin, another member becomes one. Raises ChatRefusal."""
    before = check_leaving(edit.doer, await read_room(*edit.place, room_id))
    heir = heir_of(before, edit.me)
    if heir is not None:
        await set_admin(*edit.place, room_id, heir, True)
    await leave(*edit.place, room_id, edit.me)
    await _note(edit, before, room_id)


async def _set(sql: AsyncConnection, site_id: int, room_id: int, columns: dict[str, Any]) -> None:
    of_room = (chat_rooms.c.site_id == site_id, chat_rooms.c.id == room_id)
    await sql.execute(update(chat_rooms).where(*of_room).values(**columns))


async def _check_count(sql: AsyncConnection, site_id: int) -> None:
    count = select(func.count()).select_from(chat_rooms).where(chat_rooms.c.site_id == site_id)
    if (await sql.execute(count)).scalar_one() >= MAX_ROOMS:
        raise ChatRefusal("too_many", f"Expected at most {MAX_ROOMS} rooms.")


async def _move(edit: DirectoryEdit, before: RoomState, members: Collection[int], admins: Collection[int]) -> None:
    """Gives a room other members and admins."""
    check_members(members, admins)
    newcomers = set(members) - before.members
    me = None if edit.doer.is_admin else edit.doer.user_id
    if newcomers - await seen_among(*edit.place, me, newcomers, by_rooms=edit.by_rooms):
        raise ChatRefusal("unknown_user", "members: expected ids of users.")
    await _check_rooms_of(*edit.place, newcomers)
    await leave_all(*edit.place, before.id, sorted(before.members - set(members)))
    await enter_all(*edit.place, before.id, sorted(newcomers), admins)
    for user in sorted(before.members & set(members)):
        if (user in before.admins) != (user in admins):
            await set_admin(*edit.place, before.id, user, user in admins)


async def _check_rooms_of(sql: AsyncConnection, site_id: int, users: Collection[int]) -> None:
    table = chat_members.c
    for part in parts_of(sorted(users)):
        mine = (table.site_id == site_id, table.user_id.in_(part), table.until.is_(None))
        count = select(table.user_id).where(*mine).group_by(table.user_id).having(func.count() >= MAX_ROOMS_OF_USER)
        if (await sql.execute(count.limit(1))).first() is not None:
            raise ChatRefusal("too_many", f"Expected users in at most {MAX_ROOMS_OF_USER} rooms.")


async def _note(edit: DirectoryEdit, before: RoomState | None, room_id: int) -> None:
    """Writes down what has become of a room, and who has become an admin of the site by it, or is none any more."""
    after = await read_room(*edit.place, room_id)
    assert after is not None, "rooms are never deleted"
    old, new = _told(before, after)
    if old == new:
        return
    await note_change(*edit.place, Changed("room", room_id, new, old), edit.doer.by)
    edit.news.note_room(room_id, before.members if before is not None else frozenset(), after.members)
    if ADMINS in (after.kind, None if before is None else before.kind):
        await _note_admins(edit, before, after)


def _told(before: RoomState | None, after: RoomState) -> tuple[dict[str, object] | None, dict[str, object]]:
    """The change of a room as the history keeps it: of members and admins those who have come or gone."""
    if before is None:
        return None, {**after.columns, "members": sorted(after.members), "admins": sorted(after.admins)}
    old, new = before.columns, after.columns
    for name in ("members", "admins"):
        was, is_now = getattr(before, name), getattr(after, name)
        if was != is_now:
            old[name], new[name] = sorted(was - is_now), sorted(is_now - was)
    return old, new


async def _note_admins(edit: DirectoryEdit, before: RoomState | None, after: RoomState) -> None:
    was, is_now = (frozenset() if room is None else room.made_admins for room in (before, after))
    # Others are admins for another reason, and stay so.
    moved = (was ^ is_now) - await admins_among(*edit.place, was ^ is_now, but_room=after.id)
    for user in sorted(moved):
        is_admin = user in is_now
        await note_change(
            *edit.place, Changed("user", user, {"admin": is_admin}, {"admin": not is_admin}), edit.doer.by
        )
        edit.news.users.add(user)
