"""`AccountStore` in the journal's database: users with their keys, sessions, devices and programs."""

from collections.abc import Sequence
from typing import Any

from msgspec import structs
from sqlalchemy import Row, Select, and_, delete, func, insert, select
from sqlalchemy.ext.asyncio import AsyncConnection

from app.clock import now_ms
from app.config.settings import Site
from app.journal.inserting import inserter
from app.protocols.messenger.bounds import MAX_NETWORKS_OF_USER, MAX_SESSIONS_OF_USER, ROOM_PREFIX
from app.protocols.messenger.caller import ChatCaller, ClientApp
from app.protocols.messenger.journal_machines import app_question, app_row, note_device
from app.protocols.messenger.journal_store import ChatSql
from app.protocols.messenger.journal_tables import (
    chat_devices,
    chat_members,
    chat_networks,
    chat_sessions,
    chat_sites,
    chat_users,
)
from app.protocols.messenger.journal_user_rows import (
    KEY_COLUMNS,
    USER_COLUMNS,
    change_user,
    note_voided,
    set_keys,
    user_of,
    user_row,
    void_sessions,
)
from app.protocols.messenger.login_ports import Candidate, Entered, LoginFacts
from app.protocols.messenger.scram import Keys, drawn_place, made_up_keys
from app.protocols.messenger.settings import Messenger

#: A device that connects again is noted as seen at most so often.
SEEN_MS = 3_600_000
#: The parameters of one statement are bounded in both databases.
_PART = 500


class JournalAccounts:
    """The accounts of all sites. Holds no state; lives as long as the node."""

    def __init__(self, sql: ChatSql) -> None:
        self._sql = sql

    async def facts_of(self, site: Site, key: str, network: str) -> LoginFacts:
        """The facts for a login; see `AccountStore`."""
        secret = await self._sql.secret_of(site)
        async with self._sql.reading(site, of_strangers=True) as (sql, site_id):
            told = (await sql.execute(_answers_of(site_id))).one()
            drawn = _iterations_of(site_id, drawn_place(secret, key, told.users))
            iterations = (await sql.execute(drawn)).scalar_one_or_none()
            row = (await sql.execute(_user_of_login(site_id, key, network))).one_or_none()
        # Also for a user: the work is the same.
        made_up = made_up_keys(secret, key, iterations or site.require_section(Messenger).iterations)
        if row is None or row.stored_key is None:
            return LoginFacts(made_up, None, told.forms.split())
        keys = _keys_of(row)
        if row.is_disabled:
            # It goes on showing its own salt, or strangers would see the change; no proof is right.
            shown = structs.replace(made_up, salt=keys.salt, iterations=keys.iterations)
            return LoginFacts(shown, None, told.forms.split())
        return LoginFacts(keys, Candidate(user_of(row), keys, row.at is not None, row.scheme), told.forms.split())

    async def enter(self, caller: ChatCaller, candidate: Candidate, token: bytes, network: str) -> Entered | None:
        """Begins a session; see `AccountStore`."""
        async with self._sql.writing(caller.site) as (sql, site_id):
            row = await user_row(sql, site_id, candidate.user.id)
            if row is None or row.is_disabled or row.stored_key != candidate.keys.stored_key:
                return None
            app_id = await app_row(sql, site_id, caller.app)
            device_id = await note_device(sql, site_id, caller, row.id, app_id)
            await _note_network(sql, row.id, network)
            expires_at = await begin_session(sql, caller.site, site_id, row.id, device_id, token)
            return Entered(user_of(row), device_id, app_id, token, expires_at, await _rooms_of(sql, site_id, row.id))

    async def resume(self, caller: ChatCaller, token: bytes) -> Entered | None:
        """Takes a session up again; see `AccountStore`."""
        async with self._sql.reading(caller.site) as (sql, site_id):
            session = await _session_row(sql, site_id, token)
            if session is None or session.device != caller.device:
                return None
            app = (await sql.execute(app_question(session.app_id))).one_or_none()
            rooms = await _rooms_of(sql, site_id, session.id)
        device_id, app_id = session.device_id, session.app_id
        if session.seen_at < now_ms() - SEEN_MS or app != app_key(caller.app):
            async with self._sql.writing(caller.site) as (sql, site_id):
                app_id = await app_row(sql, site_id, caller.app)
                device_id = await note_device(sql, site_id, caller, session.id, app_id)
        return Entered(user_of(session), device_id, app_id, token, session.expires_at, rooms)

    async def renew(self, caller: ChatCaller, token: bytes) -> int | None:
        """Begins a session beside the caller's; see `AccountStore`."""
        async with self._sql.writing(caller.site) as (sql, site_id):
            session = await _session_row(sql, site_id, caller.session)
            if session is None:
                return None
            return await begin_session(sql, caller.site, site_id, session.id, session.device_id, token)

    async def replace_keys(self, caller: ChatCaller, candidate: Candidate, keys: Keys, token: bytes) -> Entered | None:
        """Gives the user another password; see `AccountStore`."""
        async with self._sql.writing(caller.site) as (sql, site_id):
            row = await user_row(sql, site_id, candidate.user.id)
            if row is None or row.is_disabled or row.stored_key != candidate.keys.stored_key:
                return None
            await change_user(sql, site_id, row.id, {**set_keys(keys), "must_change": False})
            await void_sessions(sql, site_id, row.id)
            expires_at = await begin_session(sql, caller.site, site_id, row.id, caller.device_id, token)
            user = structs.replace(user_of(row), must_change=False)
            rooms = await _rooms_of(sql, site_id, row.id)
            return Entered(user, caller.device_id, caller.app_id, token, expires_at, rooms)

    async def end_sessions(self, caller: ChatCaller, *, are_all: bool) -> None:
        """Ends sessions; see `AccountStore`."""
        async with self._sql.writing(caller.site) as (sql, site_id):
            if are_all:
                await void_sessions(sql, site_id, caller.me.id)
                return
            await sql.execute(delete(chat_sessions).where(chat_sessions.c.digest == caller.session))
            await note_voided(sql, site_id, caller.me.id)

    async def newest_void(self, site: Site) -> int:
        """The last number; see `AccountStore`."""
        async with self._sql.reading(site) as (sql, site_id):
            newest = select(func.coalesce(func.max(chat_users.c.voided), 0)).where(chat_users.c.site_id == site_id)
            return int((await sql.execute(newest)).scalar_one())

    async def voided_after(self, site: Site, number: int) -> Sequence[tuple[int, int]]:
        """The users; see `AccountStore`."""
        found = select(chat_users.c.id, chat_users.c.voided).order_by(chat_users.c.voided).limit(_PART)
        async with self._sql.reading(site) as (sql, site_id):
            rows = await sql.execute(found.where(chat_users.c.site_id == site_id, chat_users.c.voided > number))
            return [(row.id, row.voided) for row in rows]

    async def living(self, site: Site, sessions: Sequence[bytes]) -> set[bytes]:
        """The sessions that are not void; see `AccountStore`."""
        found: set[bytes] = set()
        async with self._sql.reading(site) as (sql, site_id):
            for start in range(0, len(sessions), _PART):
                part = sessions[start : start + _PART]
                statement = valid_sessions(site_id).where(chat_sessions.c.digest.in_(part))
                found |= {bytes(row.digest) for row in await sql.execute(statement)}
        return found


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


def valid_sessions(site_id: int) -> Any:
    """The sessions of a site that are not over, with their users and devices."""
    columns = (chat_sessions.c.digest, chat_sessions.c.device_id, chat_sessions.c.expires_at)
    of_device = (chat_devices.c.device, chat_devices.c.app_id, chat_devices.c.seen_at)
    statement = select(*USER_COLUMNS, *columns, *of_device)
    statement = statement.join(chat_users, chat_users.c.id == chat_sessions.c.user_id)
    statement = statement.join(chat_devices, chat_devices.c.id == chat_sessions.c.device_id)
    of_site = (chat_sessions.c.site_id == site_id, chat_sessions.c.expires_at > now_ms())
    return statement.where(*of_site, chat_users.c.is_disabled.is_(False))


def _answers_of(site_id: int) -> Select[Any]:
    """The forms that every answer to a login names, and the number of users to draw from."""
    last = select(func.coalesce(func.max(chat_users.c.keyed), 0)).where(chat_users.c.site_id == site_id)
    users = last.scalar_subquery().label("users")
    return select(chat_sites.c.forms, users).where(chat_sites.c.site_id == site_id)


def _iterations_of(site_id: int, place: int) -> Select[Any]:
    """The iterations of the user with this number."""
    return select(chat_users.c.iterations).where(chat_users.c.site_id == site_id, chat_users.c.keyed == place)


def _user_of_login(site_id: int, key: str, network: str) -> Select[Any]:
    """The user with this login, its keys, and whether it has logged in from this network before."""
    known = and_(chat_networks.c.user_id == chat_users.c.id, chat_networks.c.network == network)
    statement = select(*USER_COLUMNS, *KEY_COLUMNS, chat_networks.c.at).outerjoin(chat_networks, known)
    return statement.where(chat_users.c.site_id == site_id, chat_users.c.login_key == key)


async def _session_row(sql: AsyncConnection, site_id: int, token: bytes) -> Row[Any] | None:
    found: Row[Any] | None = (
        await sql.execute(valid_sessions(site_id).where(chat_sessions.c.digest == token))
    ).one_or_none()
    return found


async def _rooms_of(sql: AsyncConnection, site_id: int, user_id: int) -> list[str]:
    of_user = (chat_members.c.site_id == site_id, chat_members.c.user_id == user_id, chat_members.c.until.is_(None))
    rows = await sql.execute(select(chat_members.c.room_id).where(*of_user).order_by(chat_members.c.room_id))
    return [f"user_{user_id}", *(f"{ROOM_PREFIX}{room_id}" for room_id in rows.scalars())]


def app_key(app: ClientApp | None) -> tuple[str, str, str] | None:
    """A program as `app_question` answers it."""
    return None if app is None else (app.name, app.reference, app.version)


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
