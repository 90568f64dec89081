"""The users of a backend in the directory, from their first connect on, and their sessions, in SQL."""

from collections.abc import Collection, Mapping, Sequence
from itertools import islice
from typing import Any

from sqlalchemy import ColumnElement, Select, delete, func, insert, or_, select, update
from sqlalchemy.ext.asyncio import AsyncConnection

from app.clock import now_ms
from app.config.settings import Site
from app.digests import digest
from app.protocols.messenger.answers import ChatRefusal
from app.protocols.messenger.beside.backend_user import BackendUser
from app.protocols.messenger.beside.journal_following import follow, rooms_left, rooms_of_backend
from app.protocols.messenger.bounds import (
    MAX_NAME_CHARACTERS,
    MAX_ROOMS_OF_USER,
    MAX_TOKEN_CHARACTERS,
    MAX_USERS,
    USER_PREFIX,
)
from app.protocols.messenger.caller import ChatCaller
from app.protocols.messenger.directory.journal_edit import DirectoryEdit
from app.protocols.messenger.directory.ports import EditsDirectory
from app.protocols.messenger.directory.rules import ChatDoer
from app.protocols.messenger.journal_accounts import SEEN_MS, app_key, begin_session, valid_sessions
from app.protocols.messenger.journal_changes import Changed, note_change
from app.protocols.messenger.journal_clock import take
from app.protocols.messenger.journal_machines import app_question, app_row, note_device
from app.protocols.messenger.journal_store import ChatSql
from app.protocols.messenger.journal_tables import (
    chat_devices,
    chat_members,
    chat_rooms,
    chat_sessions,
    chat_users,
)
from app.protocols.messenger.journal_user_rows import users_with_rights
from app.protocols.messenger.journal_users import read_user
from app.protocols.messenger.login_ports import Entered
from app.protocols.messenger.logins import new_token
from app.protocols.messenger.text_ids import is_fit

#: Sessions of one device, beside a backend; past it the oldest ends.
MOST_SESSIONS_OF_DEVICE = 4
_SERVER = ChatDoer("server")
#: The parameters of one statement are bounded in both databases.
_PART = 500


class JournalVisits:
    """The visits at all sites beside a backend. Holds no state; lives as long as the node. Raises ChatRefusal."""

    def __init__(self, sql: ChatSql, directory: EditsDirectory) -> None:
        self._sql = sql
        self._directory = directory

    async def arrive(self, caller: ChatCaller, known: BackendUser, token: str | None) -> tuple[str, Entered]:
        """The user of a client, in the directory from here on, with its session: the one that it shows (its token), or
        another one. A client that comes back as it was costs no transaction."""
        if token is not None and len(token) <= MAX_TOKEN_CHARACTERS:
            entered = await self._resumed(caller, known, digest(token))
            if entered is not None:
                return token, entered
        token = new_token()
        entered = await self._directory.change(
            caller.site, _SERVER, lambda edit: _enter(edit, caller, known, digest(token))
        )
        return token, entered

    async def but_left(self, site: Site, user: int, rooms: Sequence[str]) -> list[str]:
        """The rooms of an earlier connect, without those that the user has left since."""
        async with self._sql.reading(site) as (sql, site_id):
            left = await rooms_left(sql, site_id, user, [room.lower() for room in rooms if is_fit(room.lower())])
        return [room for room in rooms if room.lower() not in left]

    async def move(self, site: Site, external: str, join: Mapping[str, str], leave: Collection[str]) -> None:
        """A user enters and leaves rooms of the backend; one that has never been here does not."""

        async def work(edit: DirectoryEdit) -> None:
            of_id = (chat_users.c.site_id == edit.site_id, chat_users.c.external == external)
            user = (await edit.sql.execute(select(chat_users.c.id).where(*of_id))).scalar_one_or_none()
            if user is not None:
                stays = {name: name for name in await rooms_of_backend(*edit.place, user) if name not in leave}
                await follow(edit, user, dict(islice((stays | dict(join)).items(), MAX_ROOMS_OF_USER)))

        await self._directory.change(site, _SERVER, work)

    async def revoke(self, site: Site, rooms: Sequence[str], device: str | None) -> None:
        """Ends the sessions of the users in any of these rooms, or of all users, on one device or on all."""
        async with self._sql.writing(site) as (sql, site_id):
            found: set[Any] = set()
            for start in range(0, max(1, len(rooms)), _PART):
                rows = await sql.execute(_sessions(site_id, rooms[start : start + _PART], device))
                found |= {(row.user_id, bytes(row.digest)) for row in rows}
            await _void(sql, site_id, sorted(found))

    async def _resumed(self, caller: ChatCaller, known: BackendUser, token: bytes) -> Entered | None:
        """The client as it was when it was here last; None: something is to be written down."""
        async with self._sql.reading(caller.site) as (sql, site_id):
            session = (await sql.execute(valid_sessions(site_id).where(chat_sessions.c.digest == token))).one_or_none()
            if session is None or (session.device, session.external) != (caller.device, known.external):
                return None
            app = (await sql.execute(app_question(session.app_id))).one_or_none()
            if session.seen_at < now_ms() - SEEN_MS or app != app_key(caller.app):
                return None
            current = await rooms_of_backend(sql, site_id, session.id)
            if known.rooms is not None and known.rooms.keys() != current.keys():
                return None
            user = await read_user(sql, site_id, session.id)
        return Entered(user, session.device_id, session.app_id, token, session.expires_at, ())


async def _enter(edit: DirectoryEdit, caller: ChatCaller, known: BackendUser, token: bytes) -> Entered:
    user = await _user(edit, known.external)
    if known.rooms is not None:
        await follow(edit, user, known.rooms)
    app_id = await app_row(*edit.place, caller.app)
    device_id = await note_device(*edit.place, caller, user, app_id)
    await _forget_older(edit.sql, device_id)
    expires_at = await begin_session(edit.sql, caller.site, edit.site_id, user, device_id, token)
    return Entered(await read_user(*edit.place, user), device_id, app_id, token, expires_at, ())


async def _user(edit: DirectoryEdit, external: str) -> int:
    """The user with this id at the backend, made for a new one."""
    of_id = (chat_users.c.site_id == edit.site_id, chat_users.c.external == external)
    row = (await edit.sql.execute(users_with_rights().where(*of_id))).one_or_none()
    if row is not None:
        if row.is_disabled:
            raise ChatRefusal("session_void", "The user is disabled.")
        return int(row.id)
    of_site = chat_users.c.site_id == edit.site_id
    if (await edit.sql.execute(select(func.count()).select_from(chat_users).where(of_site))).scalar_one() >= MAX_USERS:
        raise ChatRefusal("too_many", f"Expected at most {MAX_USERS} users.")
    values = {"site_id": edit.site_id, "external": external, "name": external[:MAX_NAME_CHARACTERS]}
    made = insert(chat_users).values(**values, created_at=now_ms()).returning(chat_users.c.id)
    user = int((await edit.sql.execute(made)).scalar_one())
    shown = (await read_user(*edit.place, user)).shown
    await note_change(*edit.place, Changed("user", user, shown), edit.doer.by)
    edit.news.users.add(user)
    return user


async def _forget_older(sql: AsyncConnection, device_id: int) -> None:
    """Ends all sessions of a device but the newest: a client that never shows its own leaves one at each connect."""
    of_device = chat_sessions.c.device_id == device_id
    newest = select(chat_sessions.c.digest).where(of_device).order_by(chat_sessions.c.created_at.desc())
    kept = newest.limit(MOST_SESSIONS_OF_DEVICE - 1)
    await sql.execute(delete(chat_sessions).where(of_device, chat_sessions.c.digest.not_in(kept)))


def _sessions(site_id: int, rooms: Sequence[str], device: str | None) -> Select[Any]:
    """The question for sessions: their digests and users."""
    sessions, devices = chat_sessions.c, chat_devices.c
    statement = select(sessions.digest, sessions.user_id).where(sessions.site_id == site_id)
    if device is not None:
        of_device = devices.id == sessions.device_id
        statement = statement.join(chat_devices, of_device).where(devices.device == device)
    return statement.where(sessions.user_id.in_(_in_rooms(site_id, rooms))) if rooms else statement


def _in_rooms(site_id: int, rooms: Sequence[str]) -> Select[Any]:
    users, members = chat_users.c, chat_members.c
    named = [room.removeprefix(USER_PREFIX) for room in rooms if room.startswith(USER_PREFIX)]
    shared = select(chat_rooms.c.id).where(
        chat_rooms.c.site_id == site_id, chat_rooms.c.external.in_([room.lower() for room in rooms])
    )
    in_shared = select(members.user_id).where(
        members.site_id == site_id, members.room_id.in_(shared), members.until.is_(None)
    )
    is_meant: ColumnElement[bool] = or_(users.external.in_(named), users.id.in_(in_shared))
    return select(users.id).where(users.site_id == site_id, is_meant)


async def _void(sql: AsyncConnection, site_id: int, sessions: Sequence[tuple[int, bytes]]) -> None:
    """Ends sessions. The nodes close their connections; see `VoidSessions`."""
    for start in range(0, len(sessions), _PART):
        part = [token for _, token in sessions[start : start + _PART]]
        await sql.execute(delete(chat_sessions).where(chat_sessions.c.digest.in_(part)))
    users = sorted({user for user, _ in sessions})
    for start in range(0, len(users), _PART):
        wanted = users[start : start + _PART]
        last = await take(sql, site_id, len(wanted))
        # Each user has a number of its own: the nodes read on behind the last one.
        for user, number in zip(wanted, range(last - len(wanted) + 1, last + 1), strict=True):
            of_user = (chat_users.c.site_id == site_id, chat_users.c.id == user)
            await sql.execute(update(chat_users).where(*of_user).values(voided=number))
