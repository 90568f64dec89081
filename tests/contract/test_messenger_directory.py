"""Contract of the messenger: users, rooms, contacts, presence and `sync`, with real clients on two nodes and both
databases."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from sqlalchemy import Table, select

from app.config.settings import Site
from app.journal.tables import connections, transfers
from app.protocols.messenger.journal_store import ChatSql
from tests.support.chat import MESSENGER, Chatting, NewDatabase, make_users
from tests.support.clients import ONE_OF_EACH, Client, ClientKind
from tests.support.connector import Drivers
from tests.support.deployment import Deployment
from tests.support.waiting import eventually

each_library = pytest.mark.parametrize("kind", ONE_OF_EACH, ids=str)
SITE = "team"
LOGINS = ["ann", "bob", "eve", "ida", "max", "ned", "oda"]
#: Users of one kind of client, who are away before its test and behind it.
LOGINS += [f"{name} {kind}" for name in ("joe", "kim", "lea") for kind in ONE_OF_EACH]


class Office:
    """The server of this module, and its database. Lives for the module."""

    def __init__(self, url: str) -> None:
        """Make the users before the server begins."""
        self._url = url
        self.ids = make_users(url, SITE, LOGINS)
        self.ids |= make_users(url, SITE, ["root"], is_admin=True)
        sites = {SITE: {"apiKey": "k", "messenger": {**MESSENGER, "away_after": 0.2}}}
        self.server = Deployment(sites, environment={"DATABASE_URL": url}, nodes=2)

    def rows(self, table: Table, user: str) -> list[Any]:
        """The rows of the journal about a user."""

        async def read() -> list[Any]:
            store = ChatSql.open(self._url)
            try:
                async with store.reading(Site(name=SITE, api_key="k")) as (sql, site_id):
                    mine = (table.c.site_id == site_id, table.c.user == f"user_{self.ids[user]}")
                    return list(await sql.execute(select(table).where(*mine)))
            finally:
                await store.close()

        return asyncio.run(read())


@pytest.fixture(scope="module", params=["sqlite", "postgres"])
def office(request: pytest.FixtureRequest, new_database: NewDatabase) -> Iterator[Office]:
    """Two nodes of this module's own, on each database."""
    url = new_database(request.param)
    office = Office(url)
    yield office
    office.server.end()


@pytest.fixture
def team(office: Office, drivers: Drivers) -> Iterator[Chatting]:
    """The clients of one test."""
    chatting = Chatting(office.server, drivers, SITE)
    yield chatting
    chatting.close()


def told(client: Client, event: str, is_it: Callable[[dict[str, Any]], bool]) -> dict[str, Any]:
    """The first event of a name that is the one; waits for it."""
    nth = 1
    while not is_it(found := client.wait_event(event, nth).args[0]):
        nth += 1
    return dict(found)


def told_of_room(client: Client, room: int, **values: Any) -> None:
    """The client hears of a room with these values."""
    expected = {"id": room, **values}

    def has_it(data: dict[str, Any]) -> bool:
        return any(expected.items() <= one.items() for one in data.get("rooms", ()))

    told(client, "directory", has_it)


def done(client: Client, event: str, **data: Any) -> dict[str, Any]:
    """An event that is done; the answer."""
    answer = client.ask(event, data)
    assert answer["ok"] is True, answer
    return dict(answer)


@each_library
def test_a_room_is_shared_at_once(office: Office, team: Chatting, kind: ClientKind) -> None:
    """New members are told, and get and write its messages; a user that is taken out hears that it is gone."""
    ann, bob = team.login("ann", f"ann {kind}", kind), team.login("bob", f"bob {kind}", kind)
    bob_id = office.ids["bob"]
    room = done(ann, "room_create", name="work", members=[bob_id])["id"]
    told_of_room(bob, room, name="work", members=sorted([office.ids["ann"], bob_id]))
    sent = done(bob, "message", id=f"m {kind}", to={"room": room}, kind="text", text="hello")
    assert told(ann, "message", lambda one: one["id"] == sent["id"])["text"] == "hello"
    done(ann, "room_change", id=room, members=[office.ids["ann"]], name="own")
    told_of_room(bob, room, deleted=True)
    assert bob.ask("message", {"id": "x", "to": {"room": room}, "text": "x"})["error"]["code"] == "not_member"
    assert bob.ask("room_change", {"id": room, "name": "x"})["error"]["code"] == "not_member"


def test_changes_of_users_are_told(office: Office, team: Chatting) -> None:
    """Every user hears of a profile and of a user that an admin makes or disables."""
    root, eve, ida = team.login("root"), team.login("eve"), team.login("ida")
    done(eve, "profile", name="Eve", sign="away on Monday")
    heard = told(ida, "directory", lambda data: "users" in data and data["users"][0]["id"] == office.ids["eve"])
    assert (heard["users"][0]["name"], heard["users"][0]["sign"]) == ("Eve", "away on Monday")
    made = done(root, "user_create", login=f"new {id(office)}")["id"]
    told(ida, "directory", lambda data: "users" in data and data["users"][0]["id"] == made)
    done(root, "user_disable", id=made)
    told(ida, "directory", lambda data: "users" in data and data["users"][0]["disabled"])
    assert ida.ask("user_disable", {"id": made})["error"]["code"] == "not_admin"


def is_of(user: int, state: str) -> Callable[[dict[str, Any]], bool]:
    """Whether an event of presence is of this user."""
    return lambda data: (data["user"], data["state"]) == (user, state)


def presence_of(client: Client, user: int) -> list[str]:
    """The states of a user that a client was told so far."""
    told_so_far = [event.args[0] for event in client.events() if event.name == "presence"]
    return [data["state"] for data in told_so_far if data["user"] == user]


@each_library
def test_presence(office: Office, team: Chatting, kind: ClientKind) -> None:
    """Others hear once that a user is online, whatever its devices, and that it is away when the last one has gone; a
    user that it has blocked hears nothing more."""
    joe_id, kim_id = office.ids[f"joe {kind}"], office.ids[f"kim {kind}"]
    lea = team.login(f"lea {kind}", kind=kind)
    kim = team.login(f"kim {kind}", kind=kind)
    told(lea, "presence", is_of(kim_id, "online"))
    joe = team.login(f"joe {kind}", "first", kind)
    for other in (lea, kim):
        told(other, "presence", is_of(joe_id, "online"))
    done(joe, "contact", user=kim_id, blocked=True)
    phone = team.login(f"joe {kind}", "second", kind)
    joe.disconnect()
    phone.disconnect()
    told(lea, "presence", is_of(joe_id, "away"))
    team.login(f"joe {kind}", "first", kind)
    eventually(lambda: presence_of(lea, joe_id) == ["online", "away", "online"], "the return")
    assert joe_id in done(lea, "sync", cursor=None)["online"]
    assert joe_id not in done(kim, "sync", cursor=None)["online"]
    assert presence_of(kim, joe_id) == ["online"]


def first_round_online(client: Client, user: int) -> dict[str, Any]:
    """The answer of a first round that shows the user online; nothing before."""
    answer = done(client, "sync", cursor=None, bytes=262_144)
    return answer if user in answer["online"] else {}


@each_library
def test_a_synchronisation(office: Office, team: Chatting, kind: ClientKind) -> None:
    """The first round brings everything, a kept cursor brings nothing twice; `synced` leaves its time and bytes in the
    journal, and the connection's row has the three times."""
    device = f"max {kind}"
    client = team.login("max", device, kind)
    first = eventually(lambda: first_round_online(client, office.ids["max"]), "presence, which comes behind the login")
    assert {user["id"] for user in first["users"]} >= set(office.ids.values())
    assert device in {one["id"] for one in first["devices"]}
    assert first["more"] is False
    second = done(client, "sync", cursor=first["cursor"])
    assert [second[name] for name in ("users", "rooms", "contacts", "devices", "messages")] == [[], [], [], [], []]
    done(client, "synced", ms=17)
    client.disconnect()
    rows = eventually(lambda: [row for row in office.rows(connections, "max") if row.device == device], "the row", 60)
    assert rows[0].connect_ms is not None
    assert rows[0].authorise_ms >= 0
    assert rows[0].sync_ms >= 0
    found = eventually(lambda: [row for row in office.rows(transfers, "max") if row.device == device], "the row", 60)
    assert (found[0].kind, found[0].client_ms, found[0].is_resumed) == ("synchronisation", 17, False)
    assert found[0].bytes > 500


def test_a_killed_node(office: Office, drivers: Drivers) -> None:
    """The users of a node that was killed are away once its burial is over; those that have come back are not."""
    ned, oda = office.ids["ned"], office.ids["oda"]
    first, second = office.server.nodes
    watcher, doomed = (Chatting(office.server, drivers, SITE, node.url) for node in (second, first))
    try:
        eve = watcher.login("eve", "watch")
        doomed.login("ned", "n")
        doomed.login("oda", "o")
        for user in (ned, oda):
            told(eve, "presence", is_of(user, "online"))
        first.kill()
        watcher.login("oda", "elsewhere")
        eventually(lambda: presence_of(eve, ned) == ["online", "away"], "the end of the burial", 60)
        assert presence_of(eve, oda) == ["online"]
    finally:
        doomed.close()
        watcher.close()
        first.start()
