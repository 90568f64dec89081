"""Users, rooms, contacts, programs and devices of push0k as rows of the messenger, within a transaction."""

from collections.abc import Callable, Collection, Mapping, Sequence

from sqlalchemy import func, select, update
from sqlalchemy.ext.asyncio import AsyncConnection

from app.journal.inserting import inserter
from app.protocols.messenger.answers import ChatRefusal
from app.protocols.messenger.bounds import MAX_ICON_CHARACTERS, MAX_MEMBERS, MAX_ROOMS_OF_USER
from app.protocols.messenger.caller import ClientApp
from app.protocols.messenger.directory.journal_edit import DirectoryEdit
from app.protocols.messenger.directory.journal_people import ContactChange, change_contact
from app.protocols.messenger.directory.journal_rooms import RoomChange, archive_room, create_room
from app.protocols.messenger.directory.news import ChatNews
from app.protocols.messenger.directory.rules import ADMINS, ChatDoer
from app.protocols.messenger.journal_machines import app_row
from app.protocols.messenger.journal_tables import chat_contacts, chat_devices, chat_members, chat_sites
from app.protocols.messenger.journal_users import NewUser, add_user, find_login, update_user
from app.protocols.messenger.push0k.journal_map import PART, ids_of, note_ids
from app.protocols.messenger.push0k.outcome import ImportOutcome
from app.protocols.messenger.push0k.passwords import FORM, ImportedKeys
from app.protocols.messenger.push0k.source_rows import (
    ADMINS_ROOM,
    PushApp,
    PushContact,
    PushDevice,
    PushRoom,
    PushUser,
)
from app.protocols.messenger.scram import login_text

#: The name in the history of the directory.
BY = "import push0k"
_DIGITS = "0123456789"

#: Is told a login and its first password before the user is there for good.
TellPassword = Callable[[str, str], None]


async def add_users(
    sql: AsyncConnection,
    site_id: int,
    users: Sequence[PushUser],
    keys: Mapping[str, ImportedKeys],
    tell: TellPassword,
) -> ImportOutcome:
    """Makes the users that are not there."""
    outcome, known = ImportOutcome(), await ids_of(sql, site_id, "user", [user.id for user in users])
    made: dict[str, int] = {}
    for user in users:
        if user.id in known or user.id in made:
            outcome.counts["users_there"] += 1
            continue
        own = keys[user.id]
        login = await _free_login(sql, site_id, user, outcome)
        new = NewUser(
            login=login,
            keys=own.keys,
            name=user.name or user.number,
            sign=user.sign,
            icon=_icon(user.icon, f"user {login}", outcome),
            must_change=user.must_change or own.first is not None,
            scheme=own.scheme,
        )
        if own.first is not None:
            tell(login, own.first)
            outcome.counts["first_passwords"] += 1
        made[user.id] = (await add_user(sql, site_id, new, BY)).id
        if user.is_marked:
            await update_user(sql, site_id, made[user.id], {"is_disabled": True}, BY)
            outcome.counts["disabled_users"] += 1
    await note_ids(sql, site_id, "user", made)
    if any(keys[user].scheme == FORM for user in made):
        await sql.execute(update(chat_sites).where(chat_sites.c.site_id == site_id).values(forms=FORM))
    outcome.counts["users"] += len(made)
    return outcome


async def _free_login(sql: AsyncConnection, site_id: int, user: PushUser, outcome: ImportOutcome) -> str:
    """The login of push0k; where somebody has it, one with a number behind it."""
    digits = "".join(one for one in user.number if one in _DIGITS)
    login = login_text(user.code or digits or user.id[:8])
    free, number = login, 1
    while await find_login(sql, site_id, free) is not None:
        number += 1
        free = f"{login}-{number}"
    if free != login:
        outcome.note("renamed_logins", f"user {user.name!r} logs in as {free}: {login} is taken")
    return free


def _icon(icon: str, whose: str, outcome: ImportOutcome) -> str:
    if len(icon) <= MAX_ICON_CHARACTERS:
        return icon
    outcome.note("icons_left_out", f"{whose}: the icon has more than {MAX_ICON_CHARACTERS} characters and is left out")
    return ""


def _edit(sql: AsyncConnection, site_id: int, user: int | None = None) -> DirectoryEdit:
    return DirectoryEdit(sql, site_id, ChatDoer(BY, user), by_rooms=False, news=ChatNews())


async def add_rooms(sql: AsyncConnection, site_id: int, rooms: Sequence[PushRoom]) -> ImportOutcome:
    """Makes the rooms that are not there, with their members."""
    outcome, known = ImportOutcome(), await ids_of(sql, site_id, "room", [room.id for room in rooms])
    users = await ids_of(sql, site_id, "user", [user for room in rooms for user in (*room.members, *room.admins)])
    made: dict[str, int] = {}
    for room in rooms:
        if room.id in known:
            outcome.counts["rooms_there"] += 1
            continue
        members = await _members(sql, site_id, room, users, outcome)
        change = RoomChange(
            name=room.name or room.id[:8],
            kind=ADMINS if room.kind == ADMINS_ROOM else "chat",
            icon=_icon(room.icon, f"room {room.name!r}", outcome),
            description=room.description,
            about=(room.object_type or "", room.object_id) if room.object_id else None,
            # A member of push0k sees all of a room.
            has_history=True,
            members=members,
            admins={users[user] for user in room.admins if user in users} & members,
        )
        edit = _edit(sql, site_id)
        made[room.id] = await create_room(edit, change)
        if room.is_marked:
            await archive_room(edit, made[room.id], True)
            outcome.counts["archived_rooms"] += 1
        outcome.counts["members"] += len(members)
    await note_ids(sql, site_id, "room", made)
    outcome.counts["rooms"] += len(made)
    return outcome


async def _members(
    sql: AsyncConnection, site_id: int, room: PushRoom, users: Mapping[str, int], outcome: ImportOutcome
) -> set[int]:
    """The members that a room here may have."""
    members = set(dict.fromkeys(users[user] for user in room.members if user in users))
    full = await _full_among(sql, site_id, members)
    kept = set(sorted(members - full)[:MAX_MEMBERS])
    if lost := len(set(room.members)) - len(kept):
        outcome.counts["members_left_out"] += lost
        reason = f"unknown, in {MAX_ROOMS_OF_USER} rooms, or more than {MAX_MEMBERS}"
        outcome.note("rooms_with_fewer_members", f"room {room.name!r}: {lost} members are left out ({reason})")
    return kept


async def _full_among(sql: AsyncConnection, site_id: int, users: Collection[int]) -> set[int]:
    """The users that are in as many rooms as one may be."""
    found: set[int] = set()
    ids, table = sorted(users), chat_members.c
    for start in range(0, len(ids), PART):
        now = (table.site_id == site_id, table.user_id.in_(ids[start : start + PART]), table.until.is_(None))
        full = select(table.user_id).where(*now).group_by(table.user_id).having(func.count() >= MAX_ROOMS_OF_USER)
        found |= set((await sql.execute(full)).scalars())
    return found


async def add_contacts(sql: AsyncConnection, site_id: int, contacts: Sequence[PushContact]) -> ImportOutcome:
    """Makes the contacts that are not there."""
    outcome = ImportOutcome()
    users = await ids_of(sql, site_id, "user", [user for one in contacts for user in (one.owner, one.other)])
    table = chat_contacts.c
    owners = {users[one.owner] for one in contacts if one.owner in users}
    listed = select(table.user_id, table.other_id).where(table.site_id == site_id, table.user_id.in_(owners))
    known = {(row.user_id, row.other_id) for row in await sql.execute(listed)}
    for one in contacts:
        owner, other = users.get(one.owner), users.get(one.other)
        if owner is None or other is None:
            outcome.counts["contacts_left_out"] += 1
        elif (owner, other) in known:
            outcome.counts["contacts_there"] += 1
        else:
            change = ContactChange(user=other, name=one.name, is_muted=one.is_muted, is_blocked=one.is_blocked)
            try:
                await change_contact(_edit(sql, site_id, owner), change)
                outcome.counts["contacts"] += 1
            except ChatRefusal as refusal:
                outcome.note("contacts_left_out", f"a contact of user {owner}: {refusal}")
    return outcome


async def add_apps(sql: AsyncConnection, site_id: int, apps: Sequence[PushApp]) -> ImportOutcome:
    """Makes the programs that are not there."""
    known = await ids_of(sql, site_id, "app", [app.id for app in apps])
    made: dict[str, int] = {}
    for app in apps:
        if app.id not in known:
            row = await app_row(sql, site_id, ClientApp(app.name or app.id[:8], app.reference, app.version))
            if row is not None:
                made[app.id] = row
    await note_ids(sql, site_id, "app", made)
    return ImportOutcome()


async def add_devices(sql: AsyncConnection, site_id: int, devices: Sequence[PushDevice]) -> ImportOutcome:
    """Makes the devices that are not there: receipts and messages name them."""
    users = await ids_of(sql, site_id, "user", [one.user for one in devices])
    rows = [
        {
            "site_id": site_id,
            "user_id": users[one.user],
            "device": one.device,
            "name": one.name,
            "os": one.os,
            "os_version": one.os_version,
            "created_at": one.seen_at,
            "seen_at": one.seen_at,
        }
        for one in devices
        if one.user in users
    ]
    if rows:
        await sql.execute(inserter(sql)(chat_devices).on_conflict_do_nothing(), rows)
    return ImportOutcome()
