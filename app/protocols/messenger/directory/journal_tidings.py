"""The events `directory` of one change: what its transaction has changed, as each of those who see it sees it."""

from typing import Any

from sqlalchemy import select

from app.protocols.messenger.directory.journal_edit import DirectoryEdit
from app.protocols.messenger.directory.journal_room_states import read_rooms
from app.protocols.messenger.directory.journal_viewers import viewers_of
from app.protocols.messenger.directory.news import Tiding
from app.protocols.messenger.directory.rules import contact_shown
from app.protocols.messenger.journal_accounts import user_of, user_row
from app.protocols.messenger.journal_tables import chat_apps, chat_contacts, chat_devices


async def tidings_of(edit: DirectoryEdit) -> list[Tiding]:
    """The events, at the end of the transaction."""
    return [
        *await _of_users(edit),
        *await _of_rooms(edit),
        *await _of_contacts(edit),
        *await _of_devices(edit),
    ]


async def _of_users(edit: DirectoryEdit) -> list[Tiding]:
    found = []
    for user in sorted(edit.news.users):
        row = await user_row(*edit.place, user)
        if row is not None:
            viewers = await viewers_of(*edit.place, user, by_rooms=edit.by_rooms)
            found.append(Tiding({"users": [user_of(row).shown]}, viewers))
    return found


async def _of_rooms(edit: DirectoryEdit) -> list[Tiding]:
    rooms = await read_rooms(*edit.place, sorted(edit.news.rooms))
    found = [Tiding({"rooms": [room.shown]}, room.members) for room in rooms.values() if room.members]
    for room, users in sorted(edit.news.lost.items()):
        if users:
            found.append(Tiding({"rooms": [{"id": room, "deleted": True}]}, frozenset(users)))
    return found


async def _of_contacts(edit: DirectoryEdit) -> list[Tiding]:
    found, table = [], chat_contacts.c
    for owner, others in edit.news.contacts.items():
        mine = (table.site_id == edit.site_id, table.user_id == owner, table.other_id.in_(sorted(others)))
        rows = await edit.sql.execute(select(chat_contacts).where(*mine).order_by(table.other_id))
        shown = [contact_shown(row.other_id, row.name, row.is_muted, row.is_blocked) for row in rows]
        found.append(Tiding({"contacts": shown}, frozenset((owner,))))
    return found


async def _of_devices(edit: DirectoryEdit) -> list[Tiding]:
    found, table = [], chat_devices.c
    for owner, devices in edit.news.devices.items():
        mine = (table.site_id == edit.site_id, table.user_id == owner, table.id.in_(sorted(devices)))
        rows = await edit.sql.execute(devices_with_apps().where(*mine))
        found.append(Tiding({"devices": [device_shown(row) for row in rows]}, frozenset((owner,))))
    return found


def devices_with_apps() -> Any:
    """The devices with the programs of their last connections."""
    app = chat_apps.c
    named = (app.name.label("app_name"), app.reference.label("app_reference"), app.version.label("app_version"))
    return select(chat_devices, *named).select_from(chat_devices.outerjoin(chat_apps, app.id == chat_devices.c.app_id))


def device_shown(row: Any) -> dict[str, Any]:
    """A device as its user sees it."""
    app = {"name": row.app_name, "reference": row.app_reference, "version": row.app_version}
    return {
        "id": row.device,
        "name": row.name,
        "os": row.os,
        "osVersion": row.os_version,
        "model": row.model,
        "app": None if row.app_name is None else app,
        "seen_at": row.seen_at,
    }
