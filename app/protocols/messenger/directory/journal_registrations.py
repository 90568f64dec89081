"""Registrations of strangers: made, accepted and refused, within a transaction."""

from typing import Any

from msgspec import Struct
from sqlalchemy import Row, func, insert, select, update
from sqlalchemy.ext.asyncio import AsyncConnection

from app.clock import now_ms
from app.protocols.messenger.answers import ChatRefusal
from app.protocols.messenger.bounds import MAX_REGISTRATIONS, MAX_REGISTRATIONS_OF_ADDRESS
from app.protocols.messenger.caller import ChatUser
from app.protocols.messenger.directory.journal_edit import DirectoryEdit
from app.protocols.messenger.directory.journal_people import check_admin
from app.protocols.messenger.directory.rules import registration_shown
from app.protocols.messenger.journal_members import is_member
from app.protocols.messenger.journal_tables import chat_registrations
from app.protocols.messenger.journal_users import NewUser, add_user
from app.protocols.messenger.scram import Keys, login_key, login_text

_table = chat_registrations.c
_WAITING, _ACCEPTED, _REFUSED = "waiting", "accepted", "refused"


class Applicant(Struct, frozen=True):
    """A stranger who registers. Its repr shows no key."""

    login: str
    name: str
    keys: Keys
    #: The network that it comes from; see `network_of`.
    network: str


async def register(edit: DirectoryEdit, new: Applicant) -> None:
    """Keeps a registration. Raises ChatRefusal. Whether the login is taken is told only to those who decide: a stranger
    does not learn who has an account."""
    login = login_text(new.login)
    waiting = (_table.site_id == edit.site_id, _table.state == _WAITING)
    count = select(func.count()).select_from(chat_registrations).where(*waiting)
    if (await edit.sql.execute(count)).scalar_one() >= MAX_REGISTRATIONS:
        raise ChatRefusal("too_many", "Too many registrations wait, try again later.")
    of_network = (await edit.sql.execute(count.where(_table.address == new.network))).scalar_one()
    if of_network >= MAX_REGISTRATIONS_OF_ADDRESS:
        raise ChatRefusal("too_many", "Too many registrations of this address wait, try again later.")
    values = {
        "site_id": edit.site_id,
        "login": login,
        "login_key": login_key(login),
        "name": new.name,
        "salt": new.keys.salt,
        "iterations": new.keys.iterations,
        "stored_key": new.keys.stored_key,
        "server_key": new.keys.server_key,
        "address": new.network,
        "at": now_ms(),
        "state": _WAITING,
    }
    made = await edit.sql.execute(insert(chat_registrations).values(**values).returning(_table.id))
    edit.news.registrations.add(int(made.scalar_one()))


async def accept(edit: DirectoryEdit, id: int) -> ChatUser:
    """Makes a user of a registration. Raises ChatRefusal."""
    row = await _waiting(edit, id)
    keys = Keys(bytes(row.salt), row.iterations, bytes(row.stored_key), bytes(row.server_key))
    new = NewUser(login=row.login, keys=keys, name=row.name, must_change=False)
    user = await add_user(*edit.place, new, edit.doer.by)
    edit.news.users.add(user.id)
    await _decide(edit, id, _ACCEPTED)
    return user


async def refuse(edit: DirectoryEdit, id: int) -> None:
    """Refuses a registration. Raises ChatRefusal."""
    await _waiting(edit, id)
    await _decide(edit, id, _REFUSED)


async def waiting_for(
    sql: AsyncConnection, site_id: int, user: ChatUser, room: int | None, most: int
) -> list[dict[str, Any]]:
    """The oldest registrations that wait, as a user sees them that may decide on them; none for others."""
    if not (user.is_admin or (room is not None and await is_member(sql, site_id, room, user.id))):
        return []
    statement = select(chat_registrations).where(_table.site_id == site_id, _table.state == _WAITING)
    rows = await sql.execute(statement.order_by(_table.id).limit(most))
    return [registration_shown(row.id, row.login, row.name, row.at, row.state) for row in rows]


async def _waiting(edit: DirectoryEdit, id: int) -> Row[Any]:
    room, user = edit.registration_room, edit.doer.user_id
    if room is None or user is None or not await is_member(*edit.place, room, user):
        check_admin(edit.doer)
    statement = select(chat_registrations).where(_table.site_id == edit.site_id, _table.id == id)
    row = (await edit.sql.execute(statement.where(_table.state == _WAITING))).one_or_none()
    if row is None:
        raise ChatRefusal("bad_request", "Expected the id of a registration that waits.")
    return row


async def _decide(edit: DirectoryEdit, id: int, state: str) -> None:
    decided = {"state": state, "by": edit.doer.by, "decided_at": now_ms()}
    await edit.sql.execute(update(chat_registrations).where(_table.id == id).values(**decided))
    edit.news.registrations.add(id)
