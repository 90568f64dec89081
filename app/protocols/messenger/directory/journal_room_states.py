"""The rooms of a site as they are, with their members."""

from sqlalchemy import select
from sqlalchemy.ext.asyncio import AsyncConnection

from app.protocols.messenger.directory.journal_viewers import parts_of
from app.protocols.messenger.directory.rules import RoomState
from app.protocols.messenger.journal_tables import chat_members, chat_rooms


async def read_room(sql: AsyncConnection, site_id: int, room_id: int) -> RoomState | None:
    """A room with its members."""
    return (await read_rooms(sql, site_id, [room_id])).get(room_id)


async def read_rooms(sql: AsyncConnection, site_id: int, room_ids: list[int]) -> dict[int, RoomState]:
    """Rooms with their members, by id."""
    found: dict[int, RoomState] = {}
    for part in parts_of(room_ids):
        members: dict[int, set[int]] = {}
        admins: dict[int, set[int]] = {}
        table = chat_members.c
        now = (table.site_id == site_id, table.room_id.in_(part), table.until.is_(None))
        for row in await sql.execute(select(table.room_id, table.user_id, table.is_admin).where(*now)):
            members.setdefault(row.room_id, set()).add(row.user_id)
            if row.is_admin:
                admins.setdefault(row.room_id, set()).add(row.user_id)
        rooms = select(chat_rooms).where(chat_rooms.c.site_id == site_id, chat_rooms.c.id.in_(part))
        for row in await sql.execute(rooms):
            lists = (frozenset(members.get(row.id, ())), frozenset(admins.get(row.id, ())))
            found[row.id] = RoomState(
                *(row.id, row.name, row.kind, row.icon, row.description, row.object_type, row.object_id),
                *(row.has_history, row.has_receipts, row.is_archived, *lists, row.external),
            )
    return found
