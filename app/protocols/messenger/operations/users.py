"""The operations on the users of a messenger."""

from typing import Any

from sqlalchemy import Row

from app.clock import rfc3339_or_none
from app.protocols.messenger.answers import ChatRefusal
from app.protocols.messenger.directory.journal_devices import device_shown
from app.protocols.messenger.directory.journal_edit import DirectoryEdit
from app.protocols.messenger.directory.journal_people import PersonChange, change_person, create_person
from app.protocols.messenger.journal_user_rows import user_of, void_sessions
from app.protocols.messenger.journal_users import NewUser, read_user
from app.protocols.messenger.operations.answering import acting, doer_of_call, page_of, place_of, seeing
from app.protocols.messenger.operations.inputs import (
    ChatUserChanges,
    ChatUserNew,
    ChatUserPassword,
    ChatUserPath,
    ChatUsersWanted,
)
from app.protocols.messenger.operations.journal_listed_users import (
    UserCounts,
    UserFilter,
    count_contacts,
    count_of_users,
    devices_of_user,
    find_users,
    read_users,
    rooms_of_user,
    sessions_of_user,
)
from app.protocols.messenger.operations.journal_pages import PagePlace
from app.protocols.messenger.operations.parts import DirectoryParts
from app.protocols.messenger.settings import is_beside
from app.protocols.operations import Call, Operation

_PATH = "/users/{user}"


class _UserDesk:
    """The operations. Lives as long as the node."""

    def __init__(self, parts: DirectoryParts) -> None:
        self._parts = parts

    async def list(self, call: Call) -> dict[str, Any]:
        given: ChatUsersWanted = call.given
        site, is_newest = call.known_site, given.order == "newest"
        sought = frozenset() if given.online is None else frozenset(await self._parts.online.online(site))
        wanted = UserFilter(
            text=given.text,
            is_disabled=given.disabled,
            is_admin=given.admin,
            online=sought,
            is_online=given.online,
        )
        place = PagePlace(place_of(given.cursor), given.limit, is_newest)
        async with self._parts.sql.reading(site) as (sql, site_id):
            page = await find_users(sql, site_id, wanted, place)
            rows = await read_users(sql, site_id, page.ids)
            counts = await count_of_users(sql, site_id, page.ids)
        online = await self._parts.online.online_among(site, page.ids)
        items = [_listed(row, counts) | {"online": row.id in online} for row in rows]
        return page_of(items, page.last) | {"has_backend": is_beside(site)}

    async def show(self, call: Call) -> dict[str, Any]:
        id, site = call.given.user, call.known_site
        async with self._parts.sql.reading(site) as (sql, site_id):
            rows = await read_users(sql, site_id, [id])
            if not rows:
                raise ChatRefusal("unknown_user", "There is no such user.")
            shown = _listed(rows[0], await count_of_users(sql, site_id, [id])) | {
                "icon": rows[0].icon,
                "contacts": await count_contacts(sql, site_id, id),
                "rooms": [_room_shown(row) for row in await rooms_of_user(sql, site_id, id)],
                "devices": [_device_listed(row) for row in await devices_of_user(sql, site_id, id)],
                "sessions": [_session_shown(row) for row in await sessions_of_user(sql, id)],
            }
        blocked = 0 if rows[0].login is None else await self._parts.blocks.seconds_left(site, rows[0].login)
        online = await self._parts.online.online_among(site, [id])
        return shown | {"online": id in online, "blocked_seconds": blocked, "user_room": user_of(rows[0]).room}

    async def add(self, call: Call) -> dict[str, Any]:
        given: ChatUserNew = call.given
        if is_beside(call.known_site):
            raise ChatRefusal("of_backend", "The users of this site are those of its backend: they come by themselves.")
        first = await self._parts.passwords.make(call.known_site, given.password)
        new = NewUser(
            login=given.login,
            keys=first.keys,
            name=given.name or "",
            sign=given.sign,
            icon=given.icon,
            is_admin=given.admin,
        )
        made = await self._change(call, lambda edit: create_person(edit, new))
        return _told({"ok": True, "id": made.id, "login": made.login}, first.told)

    async def change(self, call: Call) -> dict[str, Any]:
        given: ChatUserChanges = call.given
        names = {"login": "login", "name": "name", "sign": "sign", "icon": "icon", "admin": "is_admin"}
        values = {column: value for name, column in names.items() if (value := getattr(given, name)) is not None}
        await self._change(call, lambda edit: change_person(edit, given.user, PersonChange(**values)))
        return {"ok": True}

    async def set_password(self, call: Call) -> dict[str, Any]:
        given: ChatUserPassword = call.given
        first = await self._parts.passwords.make(call.known_site, given.password)
        change = PersonChange(keys=first.keys)
        user = await self._change(call, lambda edit: change_person(edit, given.user, change))
        return _told({"ok": True, "login": user.login}, first.told)

    async def disable(self, call: Call) -> dict[str, Any]:
        return await self._set_disabled(call, True)

    async def enable(self, call: Call) -> dict[str, Any]:
        return await self._set_disabled(call, False)

    async def end_sessions(self, call: Call) -> dict[str, Any]:
        async def work(edit: DirectoryEdit) -> None:
            await read_user(*edit.place, call.given.user)
            await void_sessions(*edit.place, call.given.user)

        await self._change(call, work)
        return {"ok": True}

    async def unblock(self, call: Call) -> dict[str, Any]:
        async with self._parts.sql.reading(call.known_site) as (sql, site_id):
            user = await read_user(sql, site_id, call.given.user)
        return {"ok": True, "was_blocked": await self._parts.blocks.lift(call.known_site, user.login)}

    async def _set_disabled(self, call: Call, is_disabled: bool) -> dict[str, Any]:
        change = PersonChange(is_disabled=is_disabled)
        await self._change(call, lambda edit: change_person(edit, call.given.user, change))
        return {"ok": True}

    async def _change(self, call: Call, work: Any) -> Any:
        return await self._parts.directory.change(call.known_site, doer_of_call(call), work)


def user_operations(parts: DirectoryParts) -> list[Operation]:
    """The operations on users."""
    do, secret = _UserDesk(parts), frozenset(["password"])
    return [
        seeing("users.list", "List the users of a messenger", "/users", do.list, ChatUsersWanted),
        seeing("users.show", "Show a user with its rooms, devices and sessions", _PATH, do.show, ChatUserPath),
        acting("users.add", "Add a user", ("POST", "/users"), do.add, ChatUserNew, secrets=secret, tells=True),
        acting(
            "users.change",
            "Change a user",
            ("PATCH", _PATH),
            do.change,
            ChatUserChanges,
            takes_empty=frozenset(["sign", "icon"]),
        ),
        acting(
            "users.set_password",
            "Give a user a new password",
            ("POST", f"{_PATH}/password"),
            do.set_password,
            ChatUserPassword,
            secrets=secret,
            hurts=True,
            tells=True,
        ),
        acting("users.disable", "Disable a user", ("POST", f"{_PATH}/disable"), do.disable, ChatUserPath),
        acting("users.enable", "Enable a user", ("POST", f"{_PATH}/enable"), do.enable, ChatUserPath),
        acting(
            "users.end_sessions",
            "End the sessions of a user",
            ("DELETE", f"{_PATH}/sessions"),
            do.end_sessions,
            ChatUserPath,
        ),
        acting("users.unblock", "Let a user log in again", ("DELETE", f"{_PATH}/block"), do.unblock, ChatUserPath),
    ]


def _told(answer: dict[str, Any], password: str | None) -> dict[str, Any]:
    """The answer, with the password that was made."""
    return answer if password is None else answer | {"password": password}


def _listed(row: Row[Any], counts: UserCounts) -> dict[str, Any]:
    devices, seen_at = counts.devices.get(row.id, (0, None))
    return {
        "id": row.id,
        "login": row.login or row.external or "",
        "name": row.name,
        "sign": row.sign,
        "admin": row.is_admin,
        # Without the flag it is one as a member of a room of admins.
        "admin_flag": row.has_admin_flag,
        "disabled": row.is_disabled,
        "of_backend": row.external is not None,
        "has_password": row.has_password,
        "must_change_password": row.must_change,
        "created_at": rfc3339_or_none(row.created_at),
        "last_login": rfc3339_or_none(counts.logins.get(row.id)),
        "seen_at": rfc3339_or_none(seen_at),
        "device_count": devices,
        "session_count": counts.sessions.get(row.id, 0),
    }


def _room_shown(row: Row[Any]) -> dict[str, Any]:
    return {"id": row.id, "name": row.name, "kind": row.kind, "archived": row.is_archived, "admin": row.is_admin}


def _device_listed(row: Row[Any]) -> dict[str, Any]:
    return device_shown(row) | {"seen_at": rfc3339_or_none(row.seen_at), "created_at": rfc3339_or_none(row.created_at)}


def _session_shown(row: Row[Any]) -> dict[str, Any]:
    times = {name: rfc3339_or_none(getattr(row, name)) for name in ("created_at", "expires_at")}
    return {"device": row.device, **times}
