"""The ground for tests of the directory: a site with users, whose clients send events; what is told is kept."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import Any

import msgspec
import pytest
from msgspec import Struct
from sqlalchemy import insert, select

from app.config.settings import Site
from app.protocols.messenger.answers import ChatRefusal
from app.protocols.messenger.bounds import USER_PREFIX
from app.protocols.messenger.caller import ChatCaller
from app.protocols.messenger.directory.calls import UserCalls
from app.protocols.messenger.directory.directory import ChatDirectory
from app.protocols.messenger.directory.events import DirectoryEvents
from app.protocols.messenger.directory.journal_people import PersonChange, change_person
from app.protocols.messenger.directory.journal_rooms import RoomChange, create_room
from app.protocols.messenger.directory.rules import ChatDoer
from app.protocols.messenger.handlers import check_standing, read_event
from app.protocols.messenger.journal_store import ChatSql
from app.protocols.messenger.journal_tables import chat_changes, chat_devices, chat_outbox, chat_users
from app.protocols.messenger.journal_user_rows import user_of, user_row
from app.protocols.messenger.journal_users import NewUser, add_user
from app.protocols.messenger.settings import Messenger

SERVER = ChatDoer("server")


class Told(UserCalls):
    """The events that would be told to users. Lives for the test."""

    def __init__(self) -> None:
        """Start with nothing."""
        self.events: list[tuple[set[int] | None, str, Any]] = []

    async def tell(
        self, site: Site, users: Collection[int] | None, event: str, data: Any, but: Collection[int] = ()
    ) -> None:
        """Keep an event."""
        self.events.append((None if users is None else set(users) - set(but), event, msgspec.to_builtins(data)))


class Company:
    """One site. Lives for the test; `close` ends its connections."""

    def __init__(self, sql: ChatSql, name: str, contact_list: Any) -> None:
        """Called by `open`."""
        self.sql = sql
        sections: dict[type[Struct], Struct] = {Messenger: Messenger(contact_list=contact_list)}
        self.site = Site(name=name, api_key="k", user_room_prefix=USER_PREFIX, sections=sections)
        self.told = Told()
        self.woken: list[Site] = []
        self.directory = ChatDirectory(sql, self.told, self.woken.append)
        self.handlers = DirectoryEvents(self.directory).handlers()

    @classmethod
    async def open(cls, url: str, name: str, contact_list: str = "all") -> Company:
        """A site without users."""
        sql = ChatSql.open(url)
        return cls(sql, name, contact_list)

    async def close(self) -> None:
        """End the connections."""
        await self.sql.close()

    async def voided(self, user: int) -> int:
        """The number at which sessions of a user have ended."""
        async with self.sql.reading(self.site) as (sql, _):
            return int((await sql.execute(select(chat_users.c.voided).where(chat_users.c.id == user))).scalar_one())

    async def users(self, *logins: str, is_admin: bool = False) -> list[int]:
        """New users."""
        async with self.sql.writing(self.site) as (sql, site_id):
            new = [NewUser(login=login, keys=None, is_admin=is_admin, must_change=False) for login in logins]
            return [(await add_user(sql, site_id, one, "test")).id for one in new]

    async def room(self, members: Sequence[int] = (), admins: Sequence[int] = (), **more: Any) -> int:
        """A new room."""
        new = RoomChange(**{"name": "room", "members": members, "admins": admins, **more})
        return await self.directory.change(self.site, SERVER, lambda edit: create_room(edit, new))

    async def disable(self, user: int) -> None:
        """Disable a user."""
        change = PersonChange(is_disabled=True)
        await self.directory.change(self.site, SERVER, lambda edit: change_person(edit, user, change))

    async def caller(self, user: int, device: str = "d") -> ChatCaller:
        """A client of a user, on a device of its own."""
        caller = ChatCaller(self.site, None, "10.0.0.1", device)  # type: ignore[arg-type]
        async with self.sql.writing(self.site) as (sql, site_id):
            row = await user_row(sql, site_id, user)
            assert row is not None
            caller.user = user_of(row)
            mine = (chat_devices.c.site_id == site_id, chat_devices.c.user_id == user, chat_devices.c.device == device)
            found = (await sql.execute(select(chat_devices.c.id).where(*mine))).scalar_one_or_none()
            if found is None:
                values = {"site_id": site_id, "user_id": user, "device": device, "created_at": 0, "seen_at": 0}
                made = insert(chat_devices).values(**values).returning(chat_devices.c.id)
                found = (await sql.execute(made)).scalar_one()
            caller.device_id = found
        return caller

    async def send(self, sender: int | ChatCaller, event: str, /, **data: Any) -> dict[str, Any]:
        """Send an event as a user; its answer. Raise ChatRefusal."""
        caller = await self.caller(sender) if isinstance(sender, int) else sender
        handler = self.handlers[event]
        check_standing(caller, handler)
        return dict(await handler.handle(caller, read_event(handler, [data])) or {})

    async def code(self, sender: int | ChatCaller, event: str, /, **data: Any) -> str:
        """The code of the answer to an event."""
        try:
            await self.send(sender, event, **data)
        except ChatRefusal as refusal:
            return refusal.code
        return "ok"

    async def changes(self) -> list[dict[str, Any]]:
        """The history of the directory."""
        async with self.sql.reading(self.site) as (sql, site_id):
            rows = await sql.execute(
                select(chat_changes).where(chat_changes.c.site_id == site_id).order_by(chat_changes.c.id)
            )
            return [row._asdict() for row in rows]

    async def moves(self) -> list[tuple[str, str, str]]:
        """The changes of members for the core: kind, room, user."""
        async with self.sql.reading(self.site) as (sql, site_id):
            rows = await sql.execute(
                select(chat_outbox).where(chat_outbox.c.site_id == site_id).order_by(chat_outbox.c.id)
            )
            return [(row.kind, msgspec.json.decode(row.rooms)[0], row.body) for row in rows]


async def refused(code: str, doing: Any) -> None:
    """Something is refused with this code."""
    with pytest.raises(ChatRefusal) as caught:
        await doing
    assert caught.value.code == code
