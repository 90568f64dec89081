"""A database of push0k with a bit of everything, and what an import makes of it, in words that no run changes."""

from __future__ import annotations

import json
import re
from hashlib import sha256
from pathlib import Path
from typing import Any

from sqlalchemy import select

from app.config.settings import Config, Site
from app.protocols.messenger.files.disk_parts import DiskParts, new_disk_pool
from app.protocols.messenger.journal_message_tables import chat_messages, chat_receipts
from app.protocols.messenger.journal_store import ChatSql
from app.protocols.messenger.journal_tables import (
    chat_contacts,
    chat_devices,
    chat_files,
    chat_members,
    chat_rooms,
    chat_users,
)
from app.protocols.messenger.push0k.outcome import ImportOutcome
from app.protocols.messenger.push0k.services import ImportWishes, import_push0k
from tests.support.push0k import PushDatabase, attach, time_of, uuid_of

#: Bytes of the attachments.
SMALL, LARGE = b"small " * 100, bytes(range(256)) * 4_100 * 10
#: The form in which push0k's client in 1C keeps a hash.
OF_1C = " ".join(["9F"] * 32)


def filled(folder: Path) -> PushDatabase:
    """Users, rooms, messages and attachments, some of them odd."""
    push = PushDatabase()
    push.user("ann", 79990000001, "777", number="+7 (999) 000-00-01", usersign="here", icon="data:image/png;base64,AA")
    push.user("ben", 79990000002, "ben's", tmppwd="ben's")
    push.user("cat", 79990000003, "cat's", marked=True)
    push.user("dan", 79990000001, "dan's", marked=None, icon="x" * 20_000, changestamp=time_of(1))
    push.user("eve", 79990000005, pwd=OF_1C, description=None)
    push.room("Administrators", ["ann"], ["ann"], roomtype=7)
    push.room("Lunch", ["ben", "ann", "ann", "eve", "nobody"], ["ben"], objectid="order", objtype="orders")
    push.room("Old", ["ann", "cat"], marked=True, roomtype=0, extdesc="gone")
    for owner in ("ann", "ben", "cat"):
        push.add("users_contacts", userid=owner, contactid=owner, description=owner)
        push.add("users_contacts", userid=owner, contactid="eve", description=None)
    push.add("users_contacts", userid="ann", contactid="ben", description="Benny", blocknotifications=True)
    push.add(
        "users_contacts", userid="ben", contactid="cat", description="cat", blockmessages=True, changestamp=time_of(50)
    )
    push.add("basescat", refid="office", description="Office", baseref="srv/office", baseversion="8.3")
    push.add("devicecat", refid="ann's", description="Ann's PC", platformtype="Windows", osversion="10")
    ann, ben = push.connection("ann"), push.connection("ben", 1)
    push.message("m1", "ann", 1, destid="ben", message="hello <b>Ben</b> &amp; co<br>next", conid=ann)
    quote = f'<blockquote>&#10075;&#10075;&nbsp;<a href="#{uuid_of("m1")}">ann</a><br>\r\nhello&nbsp;&#10076;&#10076;'
    push.message("m2", "ben", 2, destid="ann", message=f"{quote}</blockquote>yes", conid=ben)
    push.message("m3", "ben", 3, roomid="Lunch", message='<a href="https://a.example/">x</a>', datatype=2)
    push.message("m3", "ben", 3.5, roomid="Lunch", message="a repetition")
    push.message("m3", "ann", 3.6, roomid="Lunch", message="the same id by another user")
    push.message("early", "cat", 4, destid="ben", message="before the block")
    push.message("late", "cat", 60, destid="ben", message="behind the block")
    push.message("f1", "ann", 5, roomid="Lunch", message="look", extdata="small.txt", datatype=1, datasize=len(SMALL))
    push.message("f2", "ben", 6, destid="ann", extdata="large.bin", datatype=1, datasize=len(LARGE))
    push.message("f3", "ben", 7, destid="ann", extdata="lost.png", datatype=1, datasize=9)
    push.message("w1", "ann", 8, destid="eve", extdata="small.txt", datatype=1, datasize=len(SMALL), parentid="f1")
    push.message("w2", "eve", 9, destid="ann", extdata="small.txt", datatype=1, datasize=len(SMALL), parentid="w1")
    push.message("long", "ann", 10, destid="ann", message="w" * 20_000, datatype=4, extdata="own")
    push.message("nowhere", "ann", 11)
    push.message("fault", "server", 12, roomid="Lunch", datatype=3)
    push.message("test", "ann", 13, roomid="Lunch", datatype=6)
    push.message("emoji", "eve", 14, roomid="Lunch", message="\U0001f600 \ufffd \u2028")
    push.receipt("m1", "ben", 2, 0)
    push.receipt("m1", "ben", 3, 1)
    push.receipt("m1", "ben", 4, 1)
    push.receipt("m2", "ann", None, 0)
    push.receipt("m3", "ann", 8, 0)
    push.receipt("m1", "ann", 5, 0)
    push.receipt("late", "ben", 61, 0)
    push.receipt("gone", "ben", 61, 0)
    attach(folder, "f1", [SMALL])
    attach(folder, "f2", [LARGE[start : start + 4_000_000] for start in range(0, len(LARGE), 4_000_000)])
    return push


class Importing:
    """Imports into one site, and looks at what is there. Lives as long as the test."""

    def __init__(self, site: Site, database_url: str, data_dir: Path) -> None:
        self.site = site
        self.config = Config(database_url=database_url, data_dir=data_dir)
        self.passwords: dict[str, str] = {}
        self.notes: list[str] = []

    async def run(self, source: str, folder: Path | None = None, *, is_dry: bool = False) -> ImportOutcome:
        """One import."""
        told = (self.passwords.__setitem__, self.notes.append, lambda text: None)
        return await import_push0k(self.config, self.site, ImportWishes(source, folder, is_dry, *told))

    async def look(self) -> dict[str, Any]:
        """Everything that is there, with names in the place of numbers."""
        sql, pool = ChatSql.open(str(self.config.journal_url)), new_disk_pool()
        disk = DiskParts(self.config.data_dir / "files", pool)
        try:
            async with sql.reading(self.site) as (connection, _):

                async def rows(table: Any, *order: Any) -> list[Any]:
                    return list(await connection.execute(select(table).order_by(*order)))

                users = {row.id: row for row in await rows(chat_users, chat_users.c.id)}
                rooms = {row.id: row for row in await rows(chat_rooms, chat_rooms.c.id)}
                devices = {row.id: row for row in await rows(chat_devices, chat_devices.c.id)}
                members = await rows(chat_members, chat_members.c.since)
                messages = {row.id: row for row in await rows(chat_messages, chat_messages.c.id)}
                receipts = await rows(chat_receipts, chat_receipts.c.message_id, chat_receipts.c.device_id)
                contacts = await rows(chat_contacts, chat_contacts.c.user_id, chat_contacts.c.other_id)
                files = {row.id: row for row in await rows(chat_files, chat_files.c.id)}
            bodies = {}
            for id, row in files.items():
                parts = [
                    await disk.read(self.site.name, name, start, min(262_144, size - start))
                    for name, size in json.loads(row.parts)
                    for start in range(0, size, 262_144)
                ]
                bodies[id] = (row.name, row.type, row.size, sha256(b"".join(parts)).hexdigest())
        finally:
            pool.close()
            await sql.close()

        def name(user: int | None) -> str | None:
            return None if user is None else users[user].login

        def members_of(room: int) -> list[tuple[str | None, bool]]:
            return sorted((name(one.user_id), one.is_admin) for one in members if one.room_id == room)

        def key(id: int | None) -> Any:
            return None if id is None else (messages[id].client_id, name(messages[id].from_user_id))

        return {
            "users": [
                (row.login, row.name, row.sign, row.icon, row.is_disabled, row.must_change, row.scheme)
                for row in users.values()
            ],
            "rooms": [
                (row.name, row.kind, row.description, row.is_archived, row.object_id, members_of(row.id))
                for row in rooms.values()
            ],
            "contacts": sorted(
                (name(row.user_id), name(row.other_id), row.name, row.is_muted, row.is_blocked) for row in contacts
            ),
            "devices": sorted((name(row.user_id), row.device, row.name, row.os) for row in devices.values()),
            "messages": [
                {
                    "id": row.client_id,
                    "from": name(row.from_user_id),
                    "to": name(row.to_user_id) or rooms[row.room_id].name,
                    "kind": row.kind,
                    "text": row.text,
                    "data": row.data,
                    "reply": key(row.reply_to),
                    "forward": key(row.forward_of),
                    "file": bodies[row.file] if row.file else None,
                    "at": row.at,
                    "device": devices[row.device_id].device if row.device_id else None,
                    "withheld": row.is_withheld,
                }
                for row in messages.values()
            ],
            "receipts": sorted(
                (key(row.message_id), name(row.user_id), row.delivered_at or 0, row.read_at or 0) for row in receipts
            ),
        }


def same_of(found: dict[str, Any]) -> dict[str, Any]:
    """Everything but the numbers of quoted messages, which are those of a clock."""
    messages = [{**one, "text": re.sub(r"\[#\d+\]", "", one["text"])} for one in found["messages"]]
    return {**found, "messages": messages}
