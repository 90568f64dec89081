"""Users, contacts and devices as they are changed, within a transaction, each change written down."""

from typing import Any

from msgspec import UNSET, Struct, UnsetType
from sqlalchemy import func, select, update
from sqlalchemy.ext.asyncio import AsyncConnection

from app.journal.inserting import inserter
from app.protocols.messenger.answers import ChatRefusal
from app.protocols.messenger.bounds import MAX_CONTACTS
from app.protocols.messenger.caller import ChatUser
from app.protocols.messenger.directory.journal_edit import DirectoryEdit
from app.protocols.messenger.directory.journal_viewers import seen_among
from app.protocols.messenger.directory.rules import ChatDoer, contact_shown
from app.protocols.messenger.journal_changes import Changed, note_change
from app.protocols.messenger.journal_tables import chat_contacts, chat_devices
from app.protocols.messenger.journal_user_rows import user_of, user_row
from app.protocols.messenger.journal_users import NewUser, add_user, find_login, set_password, update_user
from app.protocols.messenger.scram import Keys, login_key, login_text

#: The values that a user changes of itself.
_OWN = frozenset(("name", "sign", "icon"))


class PersonChange(Struct, frozen=True, kw_only=True):
    """The values of a user that are to change."""

    login: str | UnsetType = UNSET
    name: str | UnsetType = UNSET
    sign: str | UnsetType = UNSET
    icon: str | UnsetType = UNSET
    is_admin: bool | UnsetType = UNSET
    is_disabled: bool | UnsetType = UNSET
    #: The keys of another password.
    keys: Keys | UnsetType = UNSET


class ContactChange(Struct, frozen=True, kw_only=True):
    """The values of a contact that are to change."""

    user: int
    #: None: the other's own name.
    name: str | UnsetType | None = UNSET
    is_muted: bool | UnsetType = UNSET
    is_blocked: bool | UnsetType = UNSET


async def create_person(edit: DirectoryEdit, new: NewUser) -> ChatUser:
    """Makes a user. Raises ChatRefusal."""
    check_admin(edit.doer)
    user = await add_user(*edit.place, new, edit.doer.by)
    edit.news.users.add(user.id)
    return user


async def change_person(edit: DirectoryEdit, user_id: int, change: PersonChange) -> ChatUser:
    """Changes a user: an admin any, a user its own name, sign and icon. Raises ChatRefusal."""
    columns = _columns(change)
    is_small = columns.keys() <= _OWN and change.keys is UNSET
    if not (is_small and edit.doer.is_user(user_id)):
        check_admin(edit.doer)
    row = await user_row(*edit.place, user_id)
    if row is None:
        raise ChatRefusal("unknown_user", "Expected the id of a user.")
    if row.external is not None and not is_small:
        raise ChatRefusal("of_backend", "The user is one of the site's backend, which alone lets it in.")
    await _check_login(*edit.place, user_id, columns)
    before = user_of(row)
    after = await update_user(*edit.place, user_id, columns, edit.doer.by) if columns else before
    if change.keys is not UNSET:
        await set_password(*edit.place, user_id, change.keys, must_change=True)
    if after.shown != before.shown:
        edit.news.users.add(user_id)
    return after


def check_admin(doer: ChatDoer) -> None:
    """Raises ChatRefusal for one that is no admin."""
    if not doer.is_admin:
        raise ChatRefusal("not_admin", "This is for admins.")


def _columns(change: PersonChange) -> dict[str, Any]:
    names = ("login", "name", "sign", "icon", "is_admin", "is_disabled")
    found = {name: value for name in names if (value := getattr(change, name)) is not UNSET}
    if "login" in found:
        found["login"] = login_text(found["login"])
        found["login_key"] = login_key(found["login"])
    return found


async def _check_login(sql: AsyncConnection, site_id: int, user_id: int, columns: dict[str, Any]) -> None:
    if "login" in columns:
        taken = await find_login(sql, site_id, columns["login"])
        if taken is not None and taken.id != user_id:
            raise ChatRefusal("bad_request", "Login: expected one that no user has.")


async def change_contact(edit: DirectoryEdit, change: ContactChange) -> None:
    """Makes or changes a contact of a user. Raises ChatRefusal: a user that it does not see is unknown to it."""
    other = change.user
    if other == edit.me or not await seen_among(*edit.place, edit.me, [other], by_rooms=edit.by_rooms):
        raise ChatRefusal("unknown_user", "Expected the id of another user.")
    before = await _contact(edit, other)
    names = ("name", "is_muted", "is_blocked")
    columns = {name: value for name in names if (value := getattr(change, name)) is not UNSET}
    values = {**(before or {"name": None, "is_muted": False, "is_blocked": False}), **columns}
    if values == before:
        return
    if before is None:
        await _check_contacts(edit)
    key = {"site_id": edit.site_id, "user_id": edit.me, "other_id": other}
    statement = inserter(edit.sql)(chat_contacts).values(**key, **values)
    await edit.sql.execute(statement.on_conflict_do_update(index_elements=list(key), set_=values))
    old = None if before is None else contact_shown(other, **before)
    await note_change(
        *edit.place, Changed("contact", other, contact_shown(other, **values), old, edit.me), edit.doer.by
    )
    edit.news.contacts.setdefault(edit.me, set()).add(other)


async def _contact(edit: DirectoryEdit, other: int) -> dict[str, Any] | None:
    table = chat_contacts.c
    of_pair = (table.site_id == edit.site_id, table.user_id == edit.me, table.other_id == other)
    statement = select(table.name, table.is_muted, table.is_blocked).where(*of_pair)
    row = (await edit.sql.execute(statement)).one_or_none()
    return None if row is None else row._asdict()


async def _check_contacts(edit: DirectoryEdit) -> None:
    mine = (chat_contacts.c.site_id == edit.site_id, chat_contacts.c.user_id == edit.me)
    count = select(func.count()).select_from(chat_contacts).where(*mine)
    if (await edit.sql.execute(count)).scalar_one() >= MAX_CONTACTS:
        raise ChatRefusal("too_many", f"Expected at most {MAX_CONTACTS} contacts.")


async def name_device(edit: DirectoryEdit, device_id: int, name: str) -> None:
    """Gives a device of a user a name. Raises ChatRefusal."""
    devices = chat_devices.c
    of_device = (devices.site_id == edit.site_id, devices.user_id == edit.me, devices.id == device_id)
    row = (await edit.sql.execute(select(devices.name).where(*of_device))).one_or_none()
    if row is None:
        raise ChatRefusal("bad_request", "The device is none of the user's any more.")
    if row.name == name:
        return
    await edit.sql.execute(update(chat_devices).where(*of_device).values(name=name))
    await note_change(
        *edit.place, Changed("device", device_id, {"name": name}, {"name": row.name}, edit.me), edit.doer.by
    )
    edit.news.devices.setdefault(edit.me, set()).add(device_id)


async def doer_of(sql: AsyncConnection, site_id: int, user_id: int) -> ChatDoer:
    """A user as one who changes the directory, with the rights of this moment. Raises ChatRefusal for one that is
    disabled."""
    row = await user_row(sql, site_id, user_id)
    if row is None or row.is_disabled:
        raise ChatRefusal("session_void", "The user is disabled.")
    return ChatDoer(f"user:{user_id}", user_id, row.is_admin)
