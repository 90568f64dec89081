"""The users of a backend in the directory, in both databases."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pytest
from msgspec import Struct, structs
from sqlalchemy import func, select

from app.config.settings import Site
from app.protocols.messenger.answers import ChatRefusal
from app.protocols.messenger.beside import journal_following, journal_visits
from app.protocols.messenger.beside.backend_user import BackendUser
from app.protocols.messenger.beside.journal_visits import JournalVisits
from app.protocols.messenger.bounds import USER_PREFIX
from app.protocols.messenger.caller import ChatCaller, ClientApp
from app.protocols.messenger.chat_names import ChatNames
from app.protocols.messenger.directory.directory import ChatDirectory
from app.protocols.messenger.journal_store import ChatSql
from app.protocols.messenger.journal_tables import chat_changes, chat_members, chat_outbox, chat_sessions, chat_users
from app.protocols.messenger.settings import Messenger
from app.protocols.messenger.talk.facts import OutboxRow
from app.protocols.messenger.talk.journal_outbox import next_rows
from tests.protocols.messenger.directory.directory_ground import Told


class Backend:
    """A site beside a backend, in a database. Lives for the test."""

    def __init__(self, sql: ChatSql) -> None:
        """Begin without users."""
        self.sql = sql
        sections: dict[type[Struct], Struct] = {Messenger: Messenger()}
        self.site = Site(
            name="club", api_key="k", user_room_prefix=USER_PREFIX, auth_url="http://backend", sections=sections
        )
        self.told = Told()
        self.visits = JournalVisits(sql, ChatDirectory(sql, self.told, lambda site: None))

    async def come(
        self, id: str, rooms: Mapping[str, str] | None, token: str | None = None, **more: Any
    ) -> tuple[str, int]:
        """A client connects: its session, and its user."""
        link: Any = None
        caller = ChatCaller(self.site, link, "10.0.0.1", more.get("device", "d1"))
        caller.app = more.get("app")
        session, entered = await self.visits.arrive(caller, BackendUser(id, rooms), token)
        return session, entered.user.id

    async def members(self) -> dict[str, set[str]]:
        """The members of each room, by the ids of the backend."""
        members = chat_members.c
        async with self.sql.reading(self.site) as (sql, site_id):
            now = (members.site_id == site_id, members.until.is_(None))
            rows = list(await sql.execute(select(members.room_id, members.user_id).where(*now)))
        texts = await ChatNames(self.sql).texts(self.site, {row[1] for row in rows}, {row[0] for row in rows})
        found: dict[str, set[str]] = {}
        for room, user in rows:
            found.setdefault(texts.rooms[room], set()).add(texts.users[user])
        return found

    async def count(self, table: Any) -> int:
        """The rows of a table."""
        async with self.sql.reading(self.site) as (sql, _):
            return int((await sql.execute(select(func.count()).select_from(table))).scalar_one())

    async def outbox(self) -> list[OutboxRow]:
        """The rows for the core."""
        async with self.sql.reading(self.site) as (sql, site_id):
            rows = await next_rows(sql, site_id, 1_000)
        return await ChatNames(self.sql).as_sent(self.site, rows)


@pytest.fixture
def backend(sql: ChatSql) -> Backend:
    """A site beside a backend."""
    return Backend(sql)


async def test_a_user_follows_its_rooms(backend: Backend) -> None:
    """A user enters and leaves as the backend says; each change is written down, told to the core under the backend's
    names, and to others; rooms of an earlier connect change nothing."""
    await backend.come("Ana", {"news": "News", "a": "a"})
    await backend.come("ben", {"news": "NEWS"})
    assert await backend.members() == {"news": {"Ana", "ben"}, "a": {"Ana"}}
    await backend.come("Ana", {"a": "a", "b": "b"})
    await backend.come("ben", None)
    assert await backend.members() == {"news": {"ben"}, "a": {"Ana"}, "b": {"Ana"}}
    moves = [(row.kind, row.body, row.rooms) for row in await backend.outbox()]
    assert moves == [
        ("join", "user_Ana", ["news", "a"]),
        ("join", "user_ben", ["news"]),
        ("leave", "user_Ana", ["news"]),
        ("join", "user_Ana", ["b"]),
    ]
    told = [data["rooms"] for _, event, data in backend.told.events if "rooms" in data]
    assert [one["name"] for room in told for one in room if "name" in one] == ["News", "a", "News", "News", "b"]
    assert [one for room in told for one in room if "deleted" in one] == [{"id": 1, "deleted": True}]


async def test_rooms_of_an_earlier_connect(backend: Backend) -> None:
    """A room that the user has left since is taken out of them, whatever its case; one that it has entered again, or
    that is none of the directory, is not."""
    _, user = await backend.come("ana", {"a": "A", "b": "B"})
    await backend.come("ana", {"b": "B"})
    await backend.come("ana", {})
    await backend.come("ana", {"b": "B"})
    assert await backend.visits.but_left(backend.site, user, ["A", "b", "c", "\x00", "user_ana"]) == [
        *("b", "c", "\x00", "user_ana"),
    ]


async def test_a_client_that_comes_back(backend: Backend) -> None:
    """A client that comes back as it was keeps its session and costs no row; another device, user or program, and other
    rooms, do not."""
    app = ClientApp("shop", "", "1")
    token, user = await backend.come("ana", {"a": "a"}, app=app)
    counts = [await backend.count(table) for table in (chat_sessions, chat_changes, chat_outbox)]
    for rooms in ({"a": "a"}, None):
        assert await backend.come("ana", rooms, token, app=app) == (token, user)
    assert [await backend.count(table) for table in (chat_sessions, chat_changes, chat_outbox)] == counts
    for other in (
        await backend.come("ana", {"a": "a"}, token, app=app, device="d2"),
        await backend.come("ana", {"a": "a"}, token, app=structs.replace(app, version="2")),
        await backend.come("ana", {"b": "b"}, token, app=app),
        await backend.come("ben", {"a": "a"}, token, app=app),
        await backend.come("ana", {"a": "a"}, "x" * 5_000, app=app),
    ):
        assert other[0] != token


async def test_a_client_that_never_shows_its_session(backend: Backend) -> None:
    """Of the sessions of one device the newest stay."""
    sessions = [(await backend.come("ana", {}))[0] for _ in range(journal_visits.MOST_SESSIONS_OF_DEVICE + 2)]
    await backend.come("ana", {}, device="d2")
    assert await backend.count(chat_sessions) == journal_visits.MOST_SESSIONS_OF_DEVICE + 1
    assert (await backend.come("ana", {}, sessions[-1]))[0] == sessions[-1]


async def test_sessions_are_revoked(backend: Backend) -> None:
    """Sessions end by user, by room, by device or all, and each user whose sessions end has a number of its own."""
    for id, rooms in (("ana", {"a": "A"}), ("ben", {"a": "A"}), ("eve", {})):
        for device in ("d1", "d2"):
            await backend.come(id, rooms, device=device)
    assert await backend.count(chat_sessions) == 6
    await backend.visits.revoke(backend.site, ["user_ana"], "d2")
    assert await backend.count(chat_sessions) == 5
    await backend.visits.revoke(backend.site, ["A", "user_nobody"], None)
    assert await backend.count(chat_sessions) == 2
    await backend.visits.revoke(backend.site, [], "d1")
    await backend.visits.revoke(backend.site, [], None)
    assert await backend.count(chat_sessions) == 0
    async with backend.sql.reading(backend.site) as (sql, _):
        voided = list((await sql.execute(select(chat_users.c.voided))).scalars())
    assert len(set(voided)) == len(voided) == 3


async def test_bounds(backend: Backend, monkeypatch: pytest.MonkeyPatch) -> None:
    """A room that is full takes nobody, one room too many is not made, one user too many is refused, and others hear of
    no large room."""
    monkeypatch.setattr(journal_following, "MAX_MEMBERS", 1)
    monkeypatch.setattr(journal_following, "MAX_ROOMS", 2)
    monkeypatch.setattr(journal_following, "MOST_MEMBERS_TOLD", 0)
    monkeypatch.setattr(journal_visits, "MAX_USERS", 2)
    await backend.come("ana", {"a": "a", "b": "b", "c": "c"})
    await backend.come("ben", {"a": "a"})
    assert await backend.members() == {"a": {"ana"}, "b": {"ana"}}
    assert [data for _, _, data in backend.told.events if "rooms" in data] == []
    with pytest.raises(ChatRefusal) as refusal:
        await backend.come("eve", {})
    assert refusal.value.code == "too_many"


async def test_many_rooms_at_once(backend: Backend) -> None:
    """900 rooms of one answer are entered and left within one transaction each, with few rows for the core."""
    rooms = {f"r{number}": f"R{number}" for number in range(900)}
    await backend.come("ana", rooms)
    assert len(await backend.members()) == 900
    await backend.come("ana", {})
    assert await backend.members() == {}
    assert [row.kind for row in await backend.outbox()] == ["join"] * 9 + ["leave"] * 9


async def test_the_backend_moves_a_user(backend: Backend) -> None:
    """POST /rooms changes rooms of a user that the directory has, and of nobody else."""
    await backend.come("ana", {"a": "a", "b": "b"})
    await backend.visits.move(backend.site, "ana", {"c": "C"}, ["a"])
    await backend.visits.move(backend.site, "nobody", {"c": "C"}, [])
    assert await backend.members() == {"b": {"ana"}, "c": {"ana"}}
