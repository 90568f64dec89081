"""The operations on the rooms of a messenger."""

from collections.abc import Collection
from typing import Any

from msgspec import UNSET, UnsetType
from sqlalchemy import Row

from app.clock import rfc3339_or_none
from app.config.settings import Site
from app.errors import RequestRefused
from app.protocols.messenger.addresses import shared_room
from app.protocols.messenger.answers import ChatRefusal
from app.protocols.messenger.chat_names import own_name
from app.protocols.messenger.directory.journal_edit import DirectoryEdit
from app.protocols.messenger.directory.journal_room_states import read_room
from app.protocols.messenger.directory.journal_rooms import RoomChange, archive_room, change_room, create_room
from app.protocols.messenger.directory.rules import RoomState
from app.protocols.messenger.operations.answering import acting, doer_of_call, page_of, place_of, seeing
from app.protocols.messenger.operations.inputs import (
    ChatMemberChange,
    ChatMemberPath,
    ChatRoomChanges,
    ChatRoomNew,
    ChatRoomPath,
    ChatRoomShown,
    ChatRoomsWanted,
    ChatRoomValues,
)
from app.protocols.messenger.operations.journal_listed_rooms import (
    RoomFilter,
    count_members,
    find_rooms,
    ids_of_logins,
    members_listed,
    rooms_listed,
)
from app.protocols.messenger.operations.journal_pages import PagePlace
from app.protocols.messenger.operations.parts import DirectoryParts
from app.protocols.messenger.settings import is_beside
from app.protocols.messenger.text_ids import IdOf
from app.protocols.operations import Call, Operation

_PATH = "/rooms/{room}"
_RECEIPTS = {"kind": None, "kept": True, "off": False}
#: Values of a form that count when they are empty.
_EMPTY = frozenset(["icon", "description", "object_type", "object_id"])


class _RoomDesk:
    """The operations. Lives as long as the node."""

    def __init__(self, parts: DirectoryParts) -> None:
        self._parts = parts

    async def list(self, call: Call) -> dict[str, Any]:
        given: ChatRoomsWanted = call.given
        wanted = RoomFilter(text=given.text, kind=given.kind, is_archived=given.archived)
        place = PagePlace(place_of(given.cursor), given.limit, given.order == "newest")
        async with self._parts.sql.reading(call.known_site) as (sql, site_id):
            page = await find_rooms(sql, site_id, wanted, place)
            rows = await rooms_listed(sql, site_id, page.ids)
            counts = await count_members(sql, site_id, page.ids)
        return page_of([_listed(row, counts) for row in rows], page.last)

    async def show(self, call: Call) -> dict[str, Any]:
        given: ChatRoomShown = call.given
        place = PagePlace(place_of(given.cursor), given.limit)
        async with self._parts.sql.reading(call.known_site) as (sql, site_id):
            rows = await rooms_listed(sql, site_id, [given.room])
            if not rows:
                raise ChatRefusal("unknown_room", "There is no such room.")
            counts = await count_members(sql, site_id, [given.room])
            members, last = await members_listed(sql, site_id, given.room, place)
        own = _listed(rows[0], counts) | {"icon": rows[0].icon, "core_room": _core_room(call.known_site, rows[0])}
        return own | page_of([_member_shown(row) for row in members], last)

    async def add(self, call: Call) -> dict[str, Any]:
        given: ChatRoomNew = call.given

        async def work(edit: DirectoryEdit) -> int:
            admins = await _ids(edit, given.admins, given.admin_logins)
            members = await _ids(edit, given.members, given.member_logins) | admins
            return await create_room(edit, _change_of(given, given.name, members, admins))

        return {"ok": True, "id": await self._change(call, work)}

    async def change(self, call: Call) -> dict[str, Any]:
        given: ChatRoomChanges = call.given
        members, admins = (UNSET if ids is None else set(ids) for ids in (given.members, given.admins))
        change = _change_of(given, UNSET if given.name is None else given.name, members, admins)
        await self._change(call, lambda edit: change_room(edit, given.room, change))
        return {"ok": True}

    async def set_member(self, call: Call) -> dict[str, Any]:
        given: ChatMemberChange = call.given
        if (given.user is None) == (given.login is None):
            raise RequestRefused("user: expected the id of a user, or a login.")

        async def work(edit: DirectoryEdit) -> int:
            (user,) = {given.user} if given.login is None else await ids_of_logins(*edit.place, [given.login])
            assert user is not None, "see above"
            room = await _known_room(edit, given.room)
            admins = room.admins if given.admin is None else room.admins - {user}
            admins |= {user} if given.admin else set()
            await change_room(edit, room.id, RoomChange(members=room.members | {user}, admins=admins))
            return user

        return {"ok": True, "user": await self._change(call, work)}

    async def remove_member(self, call: Call) -> dict[str, Any]:
        given: ChatMemberPath = call.given

        async def work(edit: DirectoryEdit) -> None:
            room = await _known_room(edit, given.room)
            if given.user not in room.members:
                raise ChatRefusal("unknown_user", "The user is no member of the room.")
            await change_room(edit, room.id, RoomChange(members=room.members - {given.user}))

        await self._change(call, work)
        return {"ok": True}

    async def archive(self, call: Call) -> dict[str, Any]:
        await self._change(call, lambda edit: archive_room(edit, call.given.room, True))
        return {"ok": True}

    async def restore(self, call: Call) -> dict[str, Any]:
        await self._change(call, lambda edit: archive_room(edit, call.given.room, False))
        return {"ok": True}

    async def _change(self, call: Call, work: Any) -> Any:
        return await self._parts.directory.change(call.known_site, doer_of_call(call), work)


def room_operations(parts: DirectoryParts) -> list[Operation]:
    """The operations on rooms."""
    do, member = _RoomDesk(parts), f"{_PATH}/members"
    return [
        seeing("rooms.list", "List the rooms of a messenger", "/rooms", do.list, ChatRoomsWanted),
        seeing("rooms.show", "Show a room with its members", _PATH, do.show, ChatRoomShown),
        acting("rooms.add", "Add a room", ("POST", "/rooms"), do.add, ChatRoomNew),
        acting("rooms.change", "Change a room", ("PATCH", _PATH), do.change, ChatRoomChanges, takes_empty=_EMPTY),
        acting("rooms.set_member", "Make a user a member", ("POST", member), do.set_member, ChatMemberChange),
        acting(
            "rooms.remove_member",
            "Take a member out of a room",
            ("DELETE", f"{member}/{{user}}"),
            do.remove_member,
            ChatMemberPath,
        ),
        acting("rooms.archive", "Archive a room", ("POST", f"{_PATH}/archive"), do.archive, ChatRoomPath),
        acting(
            "rooms.restore", "Take a room back from the archive", ("POST", f"{_PATH}/restore"), do.restore, ChatRoomPath
        ),
    ]


async def _known_room(edit: DirectoryEdit, id: int) -> RoomState:
    room = await read_room(*edit.place, id)
    if room is None:
        raise ChatRefusal("unknown_room", "There is no such room.")
    return room


async def _ids(edit: DirectoryEdit, ids: Collection[int] | None, logins: str) -> set[int]:
    """The users of a list of ids and of logins in lines."""
    lines = [line.strip() for line in logins.splitlines() if line.strip()]
    return set(ids or ()) | await ids_of_logins(*edit.place, lines)


def _change_of(
    given: ChatRoomValues,
    name: str | UnsetType,
    members: Collection[int] | UnsetType,
    admins: Collection[int] | UnsetType,
) -> RoomChange:
    """The change that is asked for."""
    values: dict[str, Any] = {"name": name, "members": members, "admins": admins}
    names = {"kind": "kind", "icon": "icon", "description": "description", "history": "has_history"}
    values |= {column: value for key, column in names.items() if (value := getattr(given, key)) is not None}
    if given.receipts is not None:
        values["has_receipts"] = _RECEIPTS[given.receipts]
    if given.object_type is not None or given.object_id is not None:
        values["about"] = _about(given.object_type or "", given.object_id or "")
    return RoomChange(**values)


def _about(type: str, id: str) -> tuple[str, str] | None:
    if bool(type) != bool(id):
        raise RequestRefused("object_type, object_id: expected both, or both empty.")
    return (type, id) if type else None


def _core_room(site: Site, row: Row[Any]) -> str:
    """The room of the core behind a room."""
    if not is_beside(site):
        return shared_room(row.id)
    return str(row.external) if row.external is not None else own_name(IdOf.ROOM, row.id)


def _listed(row: Row[Any], counts: dict[int, tuple[int, int]]) -> dict[str, Any]:
    members, admins = counts.get(row.id, (0, 0))
    return {
        "id": row.id,
        "name": row.name,
        "kind": row.kind,
        "description": row.description,
        "object": None if row.object_type is None else {"type": row.object_type, "id": row.object_id},
        "history": row.has_history,
        "receipts": row.kind != "channel" if row.has_receipts is None else row.has_receipts,
        "receipts_by_kind": row.has_receipts is None,
        "archived": row.is_archived,
        "of_backend": row.external is not None,
        "created_at": rfc3339_or_none(row.created_at),
        "member_count": members,
        "admin_count": admins,
    }


def _member_shown(row: Row[Any]) -> dict[str, Any]:
    login = row.login or row.external or ""
    return {"id": row.id, "login": login, "name": row.name, "disabled": row.is_disabled, "admin": row.is_admin}
