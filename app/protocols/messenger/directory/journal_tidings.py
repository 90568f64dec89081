"""The events `directory` of one change: what its transaction has changed, as each of those who see it sees it."""

from sqlalchemy import select

from app.protocols.messenger.directory.journal_devices import device_shown, devices_with_apps
from app.protocols.messenger.directory.journal_edit import DirectoryEdit
from app.protocols.messenger.directory.journal_room_states import read_rooms
from app.protocols.messenger.directory.journal_viewers import viewers_of
from app.protocols.messenger.directory.news import Tiding
from app.protocols.messenger.directory.rules import contact_shown, registration_shown
from app.protocols.messenger.journal_tables import chat_contacts, chat_devices, chat_registrations
from app.protocols.messenger.journal_user_rows import admins_of, user_of, user_row


async def tidings_of(edit: DirectoryEdit) -> list[Tiding]:
    """The events, at the end of the transaction."""
    return [
        *await _of_users(edit),
        *await _of_rooms(edit),
        *await _of_contacts(edit),
        *await _of_devices(edit),
        *await _of_registrations(edit),
    ]


async def _of_registrations(edit: DirectoryEdit) -> list[Tiding]:
    if not edit.news.registrations:
        return []
    rooms = await read_rooms(*edit.place, [edit.registration_room or 0])
    deciders = frozenset(await admins_of(*edit.place)).union(*(room.members for room in rooms.values()))
    table, ids = chat_registrations.c, sorted(edit.news.registrations)
    rows = await edit.sql.execute(select(chat_registrations).where(table.id.in_(ids)).order_by(table.id))
    shown = [registration_shown(row.id, row.login, row.name, row.at, row.state) for row in rows]
    return [Tiding({"registrations": shown}, deciders)] if deciders else []


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
