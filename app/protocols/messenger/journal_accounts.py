"""`AccountStore` in the journal's database: users with their keys, sessions, devices and programs."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from sqlalchemy import ColumnElement, Row, and_, delete, exists, func, insert, or_, select, update
from sqlalchemy.ext.asyncio import AsyncConnection

from app.clock import now_ms
from app.config.settings import Site
from app.journal.inserting import inserter
from app.protocols.messenger.bounds import MAX_DEVICES_OF_USER, MAX_NETWORKS_OF_USER, MAX_SESSIONS_OF_USER, ROOM_PREFIX
from app.protocols.messenger.caller import ChatCaller, ChatUser, ClientApp
from app.protocols.messenger.journal_store import ChatSql
from app.protocols.messenger.journal_tables import (
    chat_apps,
    chat_devices,
    chat_members,
    chat_networks,
    chat_rooms,
    chat_sessions,
    chat_users,
)
from app.protocols.messenger.login_ports import Candidate, Entered
from app.protocols.messenger.scram import Keys
from app.protocols.messenger.settings import Messenger

#: A device that connects again is noted as seen at most so often.
_SEEN_MS = 3_600_000
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


_USER_COLUMNS = [
    *(chat_users.c[name] for name in ("id", "login", "external", "name", "sign", "icon", "is_disabled", "must_change")),
    _is_admin().label("is_admin"),
]
_KEY_COLUMNS = [chat_users.c[name] for name in ("salt", "iterations", "stored_key", "server_key")]


class JournalAccounts:
    """The accounts of all sites. Holds no state; lives as long as the node."""

    def __init__(self, sql: ChatSql) -> None:
        self._sql = sql

    async def secret_of(self, site: Site) -> bytes:
        """The secret; see `AccountStore`."""
        return await self._sql.secret_of(site)

    async def candidate(self, site: Site, key: str, network: str) -> Candidate | None:
        """The user who logs in; see `AccountStore`."""
        known = and_(chat_networks.c.user_id == chat_users.c.id, chat_networks.c.network == network)
        statement = select(*_USER_COLUMNS, *_KEY_COLUMNS, chat_networks.c.at).outerjoin(chat_networks, known)
        async with self._sql.reading(site, of_strangers=True) as (sql, site_id):
            of_login = (chat_users.c.site_id == site_id, chat_users.c.login_key == key)
            row = (await sql.execute(statement.where(*of_login))).one_or_none()
        if row is None or row.is_disabled or row.stored_key is None:
            return None
        return Candidate(user_of(row), _keys_of(row), row.at is not None)

    async def enter(self, caller: ChatCaller, candidate: Candidate, token: bytes, network: str) -> Entered | None:
        """Begins a session; see `AccountStore`."""
        async with self._sql.writing(caller.site) as (sql, site_id):
            row = await user_row(sql, site_id, candidate.user.id)
            if row is None or row.is_disabled or row.stored_key != candidate.keys.stored_key:
                return None
            app_id = await _app_id(sql, site_id, caller.app)
            device_id = await _note_device(sql, site_id, caller, row.id, app_id)
            await _note_network(sql, row.id, network)
            expires_at = await begin_session(sql, caller.site, site_id, row.id, device_id, token)
            return Entered(user_of(row), device_id, app_id, token, expires_at, await _rooms_of(sql, site_id, row.id))

    async def resume(self, caller: ChatCaller, token: bytes) -> Entered | None:
        """Takes a session up again; see `AccountStore`."""
        async with self._sql.reading(caller.site) as (sql, site_id):
            session = await _session_row(sql, site_id, token)
            if session is None or session.device != caller.device:
                return None
            app = (await sql.execute(_of_app(session.app_id))).one_or_none()
            rooms = await _rooms_of(sql, site_id, session.id)
        device_id, app_id = session.device_id, session.app_id
        if session.seen_at < now_ms() - _SEEN_MS or app != _app_key(caller.app):
            async with self._sql.writing(caller.site) as (sql, site_id):
                app_id = await _app_id(sql, site_id, caller.app)
                device_id = await _note_device(sql, site_id, caller, session.id, app_id)
        return Entered(user_of(session), device_id, app_id, token, session.expires_at, rooms)

    async def renew(self, caller: ChatCaller, token: bytes) -> int | None:
        """Begins a session beside the caller's; see `AccountStore`."""
        async with self._sql.writing(caller.site) as (sql, site_id):
            session = await _session_row(sql, site_id, caller.session)
            if session is None:
                return None
            return await begin_session(sql, caller.site, site_id, session.id, session.device_id, token)

    async def living(self, site: Site, sessions: Sequence[bytes]) -> set[bytes]:
        """The sessions that are not void; see `AccountStore`."""
        found: set[bytes] = set()
        async with self._sql.reading(site) as (sql, site_id):
            for start in range(0, len(sessions), _PART):
                part = sessions[start : start + _PART]
                statement = _sessions(site_id).where(chat_sessions.c.digest.in_(part))
                found |= {bytes(row.digest) for row in await sql.execute(statement)}
        return found


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
    )


async def begin_session(
    sql: AsyncConnection, site: Site, site_id: int, user_id: int, device_id: int, token: bytes
) -> int:
    """Begins a session with this digest, and ends those of the user that are over, or too many; its own end."""
    now = now_ms()
    expires_at = now + site.require_section(Messenger).session_ttl_seconds * 1000
    of_user = chat_sessions.c.user_id == user_id
    await sql.execute(delete(chat_sessions).where(of_user, chat_sessions.c.expires_at <= now))
    newest = select(chat_sessions.c.digest).where(of_user).order_by(chat_sessions.c.created_at.desc())
    kept = newest.limit(MAX_SESSIONS_OF_USER - 1)
    await sql.execute(delete(chat_sessions).where(of_user, chat_sessions.c.digest.not_in(kept)))
    values = {"digest": token, "site_id": site_id, "user_id": user_id, "device_id": device_id}
    await sql.execute(insert(chat_sessions).values(**values, created_at=now, expires_at=expires_at))
    return expires_at


async def user_row(sql: AsyncConnection, site_id: int, user_id: int) -> Row[Any] | None:
    """The row of a user; None: there is none."""
    statement = select(*_USER_COLUMNS, *_KEY_COLUMNS)
    of_user = (chat_users.c.site_id == site_id, chat_users.c.id == user_id)
    return (await sql.execute(statement.where(*of_user))).one_or_none()


def _sessions(site_id: int) -> Any:
    """The sessions of a site that are not over, with their users and devices."""
    columns = (chat_sessions.c.digest, chat_sessions.c.device_id, chat_sessions.c.expires_at)
    of_device = (chat_devices.c.device, chat_devices.c.app_id, chat_devices.c.seen_at)
    statement = select(*_USER_COLUMNS, *columns, *of_device)
    statement = statement.join(chat_users, chat_users.c.id == chat_sessions.c.user_id)
    statement = statement.join(chat_devices, chat_devices.c.id == chat_sessions.c.device_id)
    of_site = (chat_sessions.c.site_id == site_id, chat_sessions.c.expires_at > now_ms())
    return statement.where(*of_site, chat_users.c.is_disabled.is_(False))


async def _session_row(sql: AsyncConnection, site_id: int, token: bytes) -> Row[Any] | None:
    found: Row[Any] | None = (
        await sql.execute(_sessions(site_id).where(chat_sessions.c.digest == token))
    ).one_or_none()
    return found


async def _rooms_of(sql: AsyncConnection, site_id: int, user_id: int) -> list[str]:
    of_user = (chat_members.c.site_id == site_id, chat_members.c.user_id == user_id, chat_members.c.until.is_(None))
    rows = await sql.execute(select(chat_members.c.room_id).where(*of_user).order_by(chat_members.c.room_id))
    return [f"user_{user_id}", *(f"{ROOM_PREFIX}{room_id}" for room_id in rows.scalars())]


def _of_app(app_id: int | None) -> Any:
    return select(chat_apps.c.name, chat_apps.c.reference, chat_apps.c.version).where(chat_apps.c.id == app_id)


def _app_key(app: ClientApp | None) -> tuple[str, str, str] | None:
    return None if app is None else (app.name, app.reference, app.version)


async def _app_id(sql: AsyncConnection, site_id: int, app: ClientApp | None) -> int | None:
    """The row of a program, made for a new one."""
    if app is None:
        return None
    values = {"site_id": site_id, "name": app.name, "reference": app.reference, "version": app.version}
    made = {**values, "created_at": now_ms()}
    await sql.execute(inserter(sql)(chat_apps).values(**made).on_conflict_do_nothing())
    return int((await sql.execute(select(chat_apps.c.id).where(*_are(chat_apps.c, values)))).scalar_one())


async def _note_device(sql: AsyncConnection, site_id: int, caller: ChatCaller, user_id: int, app_id: int | None) -> int:
    """The row of a device, with what it tells of itself; of too many the one that was seen longest ago goes."""
    now, machine = now_ms(), caller.machine
    key = {"site_id": site_id, "user_id": user_id, "device": caller.device}
    told = {
        "os": machine.os,
        "os_version": machine.os_version,
        "model": machine.model,
        "memory": machine.memory,
        "cores": machine.cores,
        "app_id": app_id,
        "seen_at": now,
    }
    statement = inserter(sql)(chat_devices).values(**key, **told, created_at=now)
    statement = statement.on_conflict_do_update(index_elements=list(key), set_=told).returning(chat_devices.c.id)
    device_id = int((await sql.execute(statement)).scalar_one())
    of_user = (chat_devices.c.site_id == site_id, chat_devices.c.user_id == user_id)
    count = (await sql.execute(select(func.count()).select_from(chat_devices).where(*of_user))).scalar_one()
    if count > MAX_DEVICES_OF_USER:
        oldest = select(chat_devices.c.id).where(*of_user).order_by(chat_devices.c.seen_at, chat_devices.c.id)
        going = list((await sql.execute(oldest.limit(count - MAX_DEVICES_OF_USER))).scalars())
        await sql.execute(delete(chat_sessions).where(chat_sessions.c.device_id.in_(going)))
        await sql.execute(delete(chat_devices).where(chat_devices.c.id.in_(going)))
    return device_id


async def _note_network(sql: AsyncConnection, user_id: int, network: str) -> None:
    """Notes from where the user has logged in; of too many networks the one longest ago goes."""
    values = {"user_id": user_id, "network": network, "at": now_ms()}
    statement = inserter(sql)(chat_networks).values(**values)
    await sql.execute(statement.on_conflict_do_update(index_elements=["user_id", "network"], set_={"at": values["at"]}))
    of_user = chat_networks.c.user_id == user_id
    newest = select(chat_networks.c.network).where(of_user).order_by(chat_networks.c.at.desc())
    kept = newest.limit(MAX_NETWORKS_OF_USER)
    await sql.execute(delete(chat_networks).where(of_user, chat_networks.c.network.not_in(kept)))


def _keys_of(row: Row[Any]) -> Keys:
    return Keys(bytes(row.salt), row.iterations, bytes(row.stored_key), bytes(row.server_key))


def _are(columns: Any, values: Mapping[str, Any]) -> list[Any]:
    return [columns[name] == value for name, value in values.items()]


def set_keys(keys: Keys) -> dict[str, Any]:
    """The columns of a user's keys."""
    return {
        "salt": keys.salt,
        "iterations": keys.iterations,
        "stored_key": keys.stored_key,
        "server_key": keys.server_key,
    }


async def admins_among(sql: AsyncConnection, site_id: int, users: Iterable[int], but_room: int = 0) -> set[int]:
    """Those of the users who are admins, whether or not a certain room makes them so."""
    found: set[int] = set()
    for number in sorted(users):
        of_user = (chat_users.c.site_id == site_id, chat_users.c.id == number)
        found |= set((await sql.execute(select(chat_users.c.id).where(*of_user, _is_admin(but_room)))).scalars())
    return found


async def void_sessions(sql: AsyncConnection, site_id: int, user_id: int) -> None:
    """Ends every session of a user."""
    of_user = (chat_sessions.c.site_id == site_id, chat_sessions.c.user_id == user_id)
    await sql.execute(delete(chat_sessions).where(*of_user))


async def change_user(sql: AsyncConnection, site_id: int, user_id: int, values: Mapping[str, Any]) -> None:
    """Changes columns of a user."""
    of_user = (chat_users.c.site_id == site_id, chat_users.c.id == user_id)
    await sql.execute(update(chat_users).where(*of_user).values(**values))
