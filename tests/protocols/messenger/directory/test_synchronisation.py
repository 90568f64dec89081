"""`sync` in both databases: all of it, then what has changed; in parts that are bounded; and what it leaves."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import msgspec
import pytest

from app.clock import now_ms
from app.config.settings import Site
from app.observe.counts import Counts
from app.protocols.messenger import journal_machines
from app.protocols.messenger.answers import ChatRefusal
from app.protocols.messenger.caller import ChatCaller, ClientApp
from app.protocols.messenger.chat_names import ChatNames
from app.protocols.messenger.directory.synchronisation import SyncData, SyncedData, Synchronisation
from app.protocols.messenger.journal_machines import app_row, note_device
from app.protocols.messenger.sync_measure import SyncMeasure
from app.protocols.messenger.talk.journal_attachments import attach
from app.protocols.messenger.talk.journal_messages import MessageDesk, accept
from app.protocols.messenger.talk.rules import ChatTarget
from app.protocols.messenger.talk.wishes import ChatSender, MessageWish, TalkBounds
from tests.protocols.messenger.directory.directory_ground import Company

LISTS = ("users", "rooms", "contacts", "devices", "applications", "online", "messages", "receipts")


class Online:
    """`OnlineStore` that a test sets. Lives for the test."""

    def __init__(self) -> None:
        """Start with nobody."""
        self.users: set[int] = set()

    async def come(self, site: Site, users: Sequence[int], at: int) -> list[int]:
        """Not used here."""
        return []

    async def leave(self, site: Site, users: Sequence[int]) -> list[int]:
        """Not used here."""
        return []

    async def sweep(self, site: Site) -> list[int]:
        """Not used here."""
        return []

    async def online(self, site: Site) -> set[int]:
        """The users that the test has set."""
        return self.users


class SyncClient:
    """A client that keeps its cursor and puts together what it is told. Lives for the test."""

    def __init__(self, company: Company, caller: ChatCaller) -> None:
        """Begin without a cursor."""
        self.counts = Counts({company.site.name: company.site})
        self.counts.records.is_kept = True
        self.online = Online()
        self.sync_events = Synchronisation(company.sql, self.online, ChatNames(company.sql), "node", self.counts)
        self.caller = caller
        self.cursor: str | None = None
        self.parts = 0

    async def sync(self, max_bytes: int = 262_144) -> dict[str, list[Any]]:
        """One round: everything new, of all parts."""
        found: dict[str, list[Any]] = {name: [] for name in LISTS}
        more, self.parts = True, 0
        while more:
            answer = await self.sync_events.sync(self.caller, SyncData(cursor=self.cursor, bytes=max_bytes))
            things = sum(len(answer[name]) for name in LISTS)
            packed = msgspec.json.encode(answer)
            assert len(packed) <= max_bytes or things == 1
            answer = msgspec.json.decode(packed)
            self.cursor, more = answer["cursor"], answer["more"]
            self.parts += 1
            for name in LISTS:
                found[name] += answer[name]
        return {name: list_ for name, list_ in found.items() if list_}


async def client_of(company: Company, user: int) -> SyncClient:
    """A client of a user."""
    return SyncClient(company, await company.caller(user))


async def write(company: Company, sender: ChatCaller, to: ChatTarget, text: str) -> None:
    """Send a message."""
    bounds = TalkBounds(max_bytes=1_000_000)
    who = ChatSender(sender.me.id, sender.device, sender.device_id)
    async with company.sql.writing(company.site) as (sql, site_id):
        wish = MessageWish(text[:60], to, kind="text", text=text)
        await accept(sql, site_id, who, wish, now_ms(), MessageDesk(bounds, attach))


def ids(things: Sequence[dict[str, Any]]) -> list[Any]:
    """The ids of things."""
    return [thing["id"] for thing in things]


async def test_all_of_it_and_then_what_is_new(company: Company) -> None:
    """The first round brings everything that the user sees; a kept cursor brings what has changed alone."""
    ann, bob, eve = await company.users("ann", "bob", "eve")
    ours, theirs = await company.room([ann, bob]), await company.room([bob, eve])
    await company.send(ann, "contact", user=bob, muted=True)
    await company.send(eve, "contact", user=ann)
    client = await client_of(company, ann)
    client.online.users = {ann, eve}
    await write(company, client.caller, ChatTarget(room=ours), "hello")
    found = await client.sync()
    assert ids(found["users"]) == [ann, bob, eve]
    assert ids(found["rooms"]) == [ours]
    assert found["contacts"] == [{"user": bob, "name": None, "muted": True, "blocked": False}]
    assert ids(found["devices"]) == ["d"]
    assert found["online"] == [ann, eve]
    assert [one["text"] for one in found["messages"]] == ["hello"]
    client.online.users = set()
    assert await client.sync() == {}
    await company.send(bob, "profile", sign="back")
    await company.send(ann, "contact", user=eve)
    await write(company, client.caller, ChatTarget(user=bob), "hi")
    found = await client.sync()
    assert [(one["id"], one["sign"]) for one in found.pop("users")] == [(bob, "back")]
    assert [one["user"] for one in found.pop("contacts")] == [eve]
    assert [one["text"] for one in found.pop("messages")] == ["hi"]
    assert found == {}
    assert theirs not in ids((await (await client_of(company, ann)).sync())["rooms"])


async def test_rooms_that_are_entered_and_left(company: Company) -> None:
    """A room that was left comes as deleted, one that was entered comes whole, also both at once."""
    ann, bob = await company.users("ann", "bob")
    rooms = [await company.room([ann, bob], [bob]) for _ in range(3)]
    client = await client_of(company, ann)
    await client.sync()
    await company.send(ann, "room_leave", id=rooms[0])
    await company.send(ann, "room_leave", id=rooms[1])
    await company.send(bob, "room_change", id=rooms[1], members=[ann, bob])
    await company.send(bob, "room_change", id=rooms[2], name="new")
    found = (await client.sync())["rooms"]
    assert found[0] == {"id": rooms[0], "deleted": True}
    assert [(one["id"], one["name"], one["members"]) for one in found[1:]] == [
        (rooms[1], "room", [ann, bob]),
        (rooms[2], "new", [ann, bob]),
    ]
    await company.send(bob, "room_change", id=rooms[0], name="elsewhere")
    assert await client.sync() == {}


@pytest.mark.parametrize("max_bytes", [1_024, 2_500])
async def test_parts_are_bounded(company: Company, max_bytes: int) -> None:
    """An answer is no longer as JSON than asked for, a single larger thing comes alone; together they have each
    thing once."""
    users = await company.users(*(f"user {number}" for number in range(12)))
    rooms = [await company.room(users[: number + 1], description="d" * 100) for number in range(6)]
    await company.send(users[0], "room_create", name="large", icon="i" * 3_000)
    for user in users[1:]:
        await company.send(users[0], "contact", user=user)
    client = await client_of(company, users[0])
    client.online.users = set(users)
    for number in range(5):
        await write(company, client.caller, ChatTarget(room=rooms[0]), f"{number}" + "x" * 300)
    found = await client.sync(max_bytes)
    assert client.parts > 4
    assert ids(found["users"]) == users
    assert ids(found["rooms"])[:-1] == rooms
    assert found["online"] == users
    assert len(found["contacts"]) == 11
    assert [one["text"][0] for one in found["messages"]] == list("01234")
    client.online.users = set()
    assert await client.sync(max_bytes) == {}


async def test_what_changes_during_a_round(company: Company) -> None:
    """It comes with this round or with the next one."""
    users = await company.users(*(f"user {number}" for number in range(12)))
    client = await client_of(company, users[0])
    first = await client.sync_events.sync(client.caller, SyncData(bytes=1_024))
    assert first["more"]
    assert 0 < len(first["users"]) < 12
    client.cursor = first["cursor"]
    await company.send(users[0], "profile", name="early")
    await company.send(users[-1], "profile", name="late")
    await client.sync(1_024)
    assert "early" in {one["name"] for one in (await client.sync())["users"]}


async def test_only_those_that_are_seen(database: str) -> None:
    """With `contact_list: rooms` users come into sight with a room or a contact, and go out of it as deleted ones."""
    company = await Company.open(database, "sight", "rooms")
    try:
        ann, bob, eve = await company.users("ann", "bob", "eve")
        room = await company.room([ann, bob], [ann])
        client = await client_of(company, ann)
        client.online.users = {ann, bob, eve}
        found = await client.sync()
        assert ids(found["users"]) == [ann, bob]
        assert found["online"] == [ann, bob]
        await company.send(eve, "profile", name="Eve")
        assert "users" not in await client.sync()
        other = await company.room([ann, eve], [eve])
        assert eve in ids((await client.sync())["users"])
        await company.send(ann, "contact", user=bob)
        await client.sync()
        await company.send(bob, "room_leave", id=room)
        await company.send(eve, "room_leave", id=other)
        users = (await client.sync())["users"]
        assert {"id": eve, "deleted": True} in users
        assert {"id": bob, "deleted": True} not in users
    finally:
        await company.close()


async def test_nothing_of_those_who_have_blocked(company: Company) -> None:
    """A user who was blocked is not told that the other one is online."""
    ann, bob = await company.users("ann", "bob")
    await company.send(bob, "contact", user=ann, blocked=True)
    for user, online in ((ann, [ann]), (bob, [ann, bob])):
        client = await client_of(company, user)
        client.online.users = {ann, bob}
        assert (await client.sync())["online"] == online


async def test_devices_and_programs(company: Company, monkeypatch: pytest.MonkeyPatch) -> None:
    """New ones and changed ones come, those of others do not; one that was forgotten comes as deleted."""
    ann, bob = await company.users("ann", "bob")
    client = await client_of(company, ann)
    await client.sync()
    for user, device, version in ((ann, "phone", "1"), (bob, "tablet", "1"), (ann, "phone", "2")):
        caller = await company.caller(user, device)
        async with company.sql.writing(company.site) as (sql, site_id):
            app = await app_row(sql, site_id, ClientApp("notes", version=version))
            await note_device(sql, site_id, caller, user, app)
    found = await client.sync()
    assert [(one["id"], one["app"]["version"]) for one in found["devices"]] == [("phone", "2")]
    assert [one["version"] for one in found["applications"]] == ["1", "2"]
    monkeypatch.setattr(journal_machines, "MAX_DEVICES_OF_USER", 1)
    phone = await company.caller(ann, "phone")
    async with company.sql.writing(company.site) as (sql, site_id):
        await note_device(sql, site_id, phone, ann, None)
    assert {"id": "d", "deleted": True} in (await client.sync())["devices"]


@pytest.mark.parametrize(
    "cursor",
    [
        *("", "x", "1", "~", "1.2~", "1.2.users~", "1.2.nobody.3~", "1.2.users.3m~", "-1~", "1~x", "9" * 20 + "~"),
        # No database has a number like this.
        *("9" * 19 + ".0.users.0~", "9" * 19 + "~"),
    ],
)
async def test_cursors_that_nobody_has_given(company: Company, cursor: str) -> None:
    """They are refused."""
    (ann,) = await company.users("ann")
    client = await client_of(company, ann)
    with pytest.raises(ChatRefusal) as refused:
        await client.sync_events.sync(client.caller, SyncData(cursor=cursor))
    assert refused.value.code == "bad_request"


async def test_a_cursor_of_another_database(company: Company) -> None:
    """A cursor beyond the clock begins again."""
    (ann,) = await company.users("ann")
    client = await client_of(company, ann)
    client.cursor = "99999999~99999999"
    assert ids((await client.sync())["users"]) == [ann]


async def test_a_synchronisation_is_measured(company: Company) -> None:
    """`synced` leaves a row: bytes, both times and the device; the connection has the first one."""
    (ann,) = await company.users("ann")
    client = await client_of(company, ann)
    await client.sync()
    await client.sync_events.synced(client.caller, SyncedData(ms=12.4))
    ((_, rows),) = client.counts.records.take().items()
    (row,) = rows
    assert (row["kind"], row["user"], row["device"], row["client_ms"]) == ("synchronisation", f"user_{ann}", "d", 12)
    assert row["bytes"] > 50
    assert row["is_resumed"] is False
    assert client.caller.measure.first_ms == row["ms"]
    client.sync_events.close(client.caller)
    assert client.counts.records.take() == {}


def test_the_times_of_a_synchronisation() -> None:
    """It lasts from the first `sync` to `synced`; without that, to its last part; what was not finished is none."""
    measure = SyncMeasure()
    assert measure.end(5) is None
    measure.begin(100, is_resumed=True)
    measure.note(10, 110, is_last=False)
    assert measure.end(None) is None
    measure.note(20, 130, is_last=True)
    assert measure.first_ms == 30
    ended = measure.end(150)
    assert ended is not None
    assert (ended.ms, ended.bytes, ended.is_resumed) == (50, 30, True)
    assert measure.first_ms == 50
    measure.begin(200, is_resumed=False)
    measure.note(1, 210, is_last=True)
    assert measure.end(None) is not None
    assert measure.first_ms == 50
