"""The users of a site as operators and admins make and change them, in the journal's database."""

from typing import Any

from msgspec import Struct
from sqlalchemy import Row, func, insert, select
from sqlalchemy.ext.asyncio import AsyncConnection

from app.clock import now_ms
from app.protocols.messenger.answers import ChatRefusal
from app.protocols.messenger.bounds import MAX_USERS
from app.protocols.messenger.caller import ChatUser
from app.protocols.messenger.journal_changes import Changed, note_change
from app.protocols.messenger.journal_tables import chat_users
from app.protocols.messenger.journal_user_rows import (
    change_user,
    number_keyed,
    set_keys,
    user_of,
    user_row,
    users_with_rights,
    void_sessions,
)
from app.protocols.messenger.scram import OWN_SCHEME, Keys, login_key, login_text


class NewUser(Struct, frozen=True, kw_only=True):
    """A user who is to be made. Its repr shows no key."""

    login: str
    keys: Keys | None
    name: str = ""
    sign: str = ""
    icon: str = ""
    is_admin: bool = False
    #: Whether the user is to set another password first.
    must_change: bool = True
    #: The form of the password that the keys are made of: its own, or an imported one.
    scheme: str = OWN_SCHEME


async def add_user(sql: AsyncConnection, site_id: int, new: NewUser, by: str) -> ChatUser:
    """Makes a user. Raises ChatRefusal for a login that is taken, and for one user too many."""
    login = login_text(new.login)
    if await find_login(sql, site_id, login) is not None:
        raise ChatRefusal("bad_request", "Login: expected one that no user has.")
    of_site = chat_users.c.site_id == site_id
    if (await sql.execute(select(func.count()).select_from(chat_users).where(of_site))).scalar_one() >= MAX_USERS:
        raise ChatRefusal("too_many", f"Expected at most {MAX_USERS} users.")
    values = {
        "site_id": site_id,
        "login": login,
        "login_key": login_key(login),
        "name": new.name or login,
        "sign": new.sign,
        "icon": new.icon,
        "is_admin": new.is_admin,
        "must_change": new.must_change,
        "created_at": now_ms(),
        **(set_keys(new.keys, new.scheme) if new.keys is not None else {}),
    }
    statement = insert(chat_users).values(**values).returning(chat_users.c.id)
    user_id = int((await sql.execute(statement)).scalar_one())
    if new.keys is not None:
        await number_keyed(sql, site_id, user_id)
    user = await read_user(sql, site_id, user_id)
    await note_change(sql, site_id, Changed("user", user_id, user.shown), by)
    return user


async def read_user(sql: AsyncConnection, site_id: int, user_id: int) -> ChatUser:
    """A user by its id. Raises ChatRefusal."""
    row = await user_row(sql, site_id, user_id)
    if row is None:
        raise ChatRefusal("unknown_user", "Expected the id of a user.")
    return user_of(row)


async def list_users(sql: AsyncConnection, site_id: int) -> list[ChatUser]:
    """The users of a site, in the order of their ids."""
    statement = users_with_rights().where(chat_users.c.site_id == site_id).order_by(chat_users.c.id)
    return [user_of(row) for row in await sql.execute(statement)]


async def find_login(sql: AsyncConnection, site_id: int, login: str) -> Row[Any] | None:
    """The id of the user with this login, as a row; None: there is none."""
    statement = select(chat_users.c.id).where(chat_users.c.site_id == site_id)
    return (await sql.execute(statement.where(chat_users.c.login_key == login_key(login)))).one_or_none()


async def update_user(sql: AsyncConnection, site_id: int, user_id: int, values: dict[str, Any], by: str) -> ChatUser:
    """Changes columns of a user, and writes the change down; disabling ends the user's sessions."""
    before = await read_user(sql, site_id, user_id)
    await change_user(sql, site_id, user_id, values)
    after = await read_user(sql, site_id, user_id)
    if after.is_disabled and not before.is_disabled:
        await void_sessions(sql, site_id, user_id)
    if after.shown != before.shown:
        await note_change(sql, site_id, Changed("user", user_id, after.shown, before.shown), by)
    return after


async def set_password(sql: AsyncConnection, site_id: int, user_id: int, keys: Keys, *, must_change: bool) -> None:
    """Gives a user another password, and ends all sessions."""
    await change_user(sql, site_id, user_id, {**set_keys(keys), "must_change": must_change})
    await number_keyed(sql, site_id, user_id)
    await void_sessions(sql, site_id, user_id)
