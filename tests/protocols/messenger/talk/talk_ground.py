"""The ground for tests of conversations: a site in a database, with users, devices and rooms that a test makes."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from typing import Any

import msgspec
import pytest
from sqlalchemy import insert, select, update

from app.journal.inserting import inserter
from app.protocols.messenger.answers import ChatRefusal
from app.protocols.messenger.journal_members import enter, leave, set_admin, widen
from app.protocols.messenger.journal_store import ChatSql
from app.protocols.messenger.journal_tables import chat_contacts, chat_devices, chat_rooms, chat_users
from app.protocols.messenger.talk.facts import OutboxRow
from app.protocols.messenger.talk.journal_attachments import attach
from app.protocols.messenger.talk.journal_changes import Change, change
from app.protocols.messenger.talk.journal_history import history, search
from app.protocols.messenger.talk.journal_messages import MessageDesk, accept
from app.protocols.messenger.talk.journal_outbox import finish, next_rows
from app.protocols.messenger.talk.journal_receipts import note_read
from app.protocols.messenger.talk.journal_sync import SyncPart, sync_part
from app.protocols.messenger.talk.rules import ChatTarget
from app.protocols.messenger.talk.wishes import AcceptedMessage, ChatSender, MessageWish, TalkBounds
from tests.support.store import make_site

NOW = 1_700_000_000_000
_BOUNDS = TalkBounds(max_bytes=1_000_000)


class Ground:
    """One site. Lives for the test; `close` ends its connections."""

    def __init__(self, sql: ChatSql, site: str) -> None:
        """Called by `open`."""
        self.sql = sql
        self.site = make_site(site)
        self.desk = MessageDesk(_BOUNDS, attach)
        self._ids = itertools.count(1)
        self._devices: dict[tuple[int, str], int] = {}

    @classmethod
    async def open(cls, url: str, site: str) -> Ground:
        """A site without users."""
        sql = ChatSql.open(url)
        return cls(sql, site)

    async def close(self) -> None:
        """End the connections."""
        await self.sql.close()

    async def users(self, count: int) -> list[int]:
        """New users."""
        async with self.sql.writing(self.site) as (sql, site_id):
            made = []
            for _ in range(count):
                values = {"site_id": site_id, "created_at": NOW}
                made.append(
                    (await sql.execute(insert(chat_users).values(**values).returning(chat_users.c.id))).scalar_one()
                )
        return made

    async def room(self, members: Sequence[int] = (), *, admins: Sequence[int] = (), **settings: Any) -> int:
        """A new room with these members."""
        async with self.sql.writing(self.site) as (sql, site_id):
            values = {"site_id": site_id, "name": "room", "kind": "chat", "created_at": NOW} | settings
            room = int((await sql.execute(insert(chat_rooms).values(**values).returning(chat_rooms.c.id))).scalar_one())
            for user in members:
                await enter(sql, site_id, room, user, is_admin=user in admins)
        return room

    async def rooms(self, count: int, member: int) -> list[int]:
        """New rooms of one member; a transaction makes few of them, because each has a deadline."""
        rooms: list[int] = []
        while len(rooms) < count:
            async with self.sql.writing(self.site) as (sql, site_id):
                values = {"site_id": site_id, "name": "room", "kind": "chat", "created_at": NOW}
                made = insert(chat_rooms).values(**values).returning(chat_rooms.c.id)
                for _ in range(min(20, count - len(rooms))):
                    rooms.append(int((await sql.execute(made)).scalar_one()))
                    await enter(sql, site_id, rooms[-1], member)
        return rooms

    async def set_room(self, room: int, **settings: Any) -> None:
        """Change a room; its history is opened as the directory opens it."""
        async with self.sql.writing(self.site) as (sql, site_id):
            await sql.execute(update(chat_rooms).where(chat_rooms.c.id == room).values(**settings))
            if settings.get("has_history"):
                await widen(sql, site_id, room)

    async def enter(self, room: int, user: int, *, is_admin: bool = False) -> None:
        """A user becomes a member."""
        async with self.sql.writing(self.site) as (sql, site_id):
            await enter(sql, site_id, room, user, is_admin=is_admin)

    async def set_admin(self, room: int, user: int, is_admin: bool) -> None:
        """A member becomes an admin, or none."""
        async with self.sql.writing(self.site) as (sql, site_id):
            await set_admin(sql, site_id, room, user, is_admin)

    async def leave(self, room: int, user: int) -> None:
        """A user leaves."""
        async with self.sql.writing(self.site) as (sql, site_id):
            await leave(sql, site_id, room, user)

    async def block(self, user: int, other: int, is_blocked: bool = True) -> None:
        """A user blocks another one, or takes that back."""
        async with self.sql.writing(self.site) as (sql, site_id):
            values = {"site_id": site_id, "user_id": user, "other_id": other, "is_blocked": is_blocked}
            statement = inserter(sql)(chat_contacts).values(**values)
            keys = ["site_id", "user_id", "other_id"]
            await sql.execute(statement.on_conflict_do_update(index_elements=keys, set_={"is_blocked": is_blocked}))

    async def sender(self, user: int, device: str = "a") -> ChatSender:
        """A user at a device, which is made when it is new."""
        if (user, device) not in self._devices:
            async with self.sql.writing(self.site) as (sql, site_id):
                values = {"site_id": site_id, "user_id": user, "device": device, "created_at": NOW, "seen_at": NOW}
                made = insert(chat_devices).values(**values).returning(chat_devices.c.id)
                self._devices[user, device] = (await sql.execute(made)).scalar_one()
        return ChatSender(user, device, self._devices[user, device])

    async def send(
        self, user: int, to: ChatTarget, text: str = "hello", *, device: str = "a", **more: Any
    ) -> AcceptedMessage:
        """A message."""
        more.setdefault("kind", "text")
        client_id = more.pop("client_id", None) or f"m{next(self._ids)}"
        sender = await self.sender(user, device)
        async with self.sql.writing(self.site) as (sql, site_id):
            return await accept(sql, site_id, sender, MessageWish(client_id, to, text=text, **more), NOW, self.desk)

    async def edit(self, user: int, id: int, text: str | None, *, device: str = "a") -> AcceptedMessage:
        """Change a message; None deletes it."""
        sender = await self.sender(user, device)
        async with self.sql.writing(self.site) as (sql, site_id):
            return await change(sql, site_id, sender, Change(id, text is None, text), NOW + 1, _BOUNDS)

    async def read(self, user: int, ids: Sequence[int], *, device: str = "a") -> int:
        """Note messages as read."""
        sender = await self.sender(user, device)
        async with self.sql.writing(self.site) as (sql, site_id):
            return await note_read(sql, site_id, sender, ids, NOW + 2)

    async def history(
        self, user: int, of: ChatTarget, before: int | None = None, limit: int = 100
    ) -> list[dict[str, Any]]:
        """The messages of a conversation, newest first."""
        async with self.sql.reading(self.site) as (sql, site_id):
            return decoded((await history(sql, site_id, user, of, before, limit)).messages)

    async def search(
        self, user: int, text: str, of: ChatTarget | None = None, limit: int = 100
    ) -> list[dict[str, Any]]:
        """The messages with words, newest first."""
        async with self.sql.reading(self.site) as (sql, site_id):
            return decoded((await search(sql, site_id, user, text, of, limit)).messages)

    async def part(self, user: int, cursor: str | None, max_bytes: int = 100_000) -> SyncPart:
        """One part of a synchronisation."""
        async with self.sql.reading(self.site) as (sql, site_id):
            return await sync_part(sql, site_id, user, cursor, max_bytes)

    async def outbox(self) -> list[OutboxRow]:
        """Take all rows out of the outbox."""
        async with self.sql.writing(self.site) as (sql, site_id):
            rows = await next_rows(sql, site_id, 100_000)
            if rows:
                await finish(sql, site_id, rows[-1].id, [])
        return rows

    async def site_id(self) -> int:
        """The site's id."""
        async with self.sql.reading(self.site) as (_, site_id):
            return site_id

    async def count(self, table: Any) -> int:
        """The rows of a table with this site."""
        async with self.sql.reading(self.site) as (sql, site_id):
            return len((await sql.execute(select(table).where(table.c.site_id == site_id))).all())


def decoded(parts: Sequence[msgspec.Raw]) -> list[dict[str, Any]]:
    """Objects of JSON."""
    return [msgspec.json.decode(part) for part in parts]


def texts(messages: Sequence[dict[str, Any]]) -> list[str]:
    """The texts of messages; of a deleted one "-"."""
    return [message.get("text", "-") for message in messages]


async def refused(code: str, doing: Any) -> None:
    """Something is refused with this code."""
    with pytest.raises(ChatRefusal) as caught:
        await doing
    assert caught.value.code == code
