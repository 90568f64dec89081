"""Contract of the messenger, "Events": messages, their changes, receipts, history, search and typing, with real clients
on two nodes and both databases."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator, Sequence
from typing import Any

import pytest
from sqlalchemy import insert

from app.config.settings import Site
from app.protocols.messenger.journal_members import enter, leave
from app.protocols.messenger.journal_store import ChatSql
from app.protocols.messenger.journal_tables import chat_rooms
from tests.support.chat import MESSENGER, Chatting, NewDatabase, make_users
from tests.support.clients import ONE_OF_EACH, Client, ClientKind
from tests.support.connector import Drivers
from tests.support.deployment import Deployment

each_library = pytest.mark.parametrize("kind", ONE_OF_EACH, ids=str)
SITE = "team"
LOGINS = ["ann", "bob", "eve", "ida", "joe", "kim", "lea", "max"]


class Place:
    """The server of this module, and its database. Lives for the module."""

    def __init__(self, url: str) -> None:
        """Make the users before the server begins."""
        self._url = url
        self.ids = make_users(url, SITE, LOGINS)
        sites = {SITE: {"apiKey": "k", "messenger": MESSENGER}}
        self.server = Deployment(sites, {"log_level": "debug"}, environment={"DATABASE_URL": url}, nodes=2)

    def room(self, members: Sequence[str], **settings: Any) -> int:
        """A new room."""

        async def make(sql: Any, site_id: int) -> int:
            values = {"site_id": site_id, "name": "room", "kind": "chat", "created_at": 1} | settings
            room = int((await sql.execute(insert(chat_rooms).values(**values).returning(chat_rooms.c.id))).scalar_one())
            for login in members:
                await enter(sql, site_id, room, self.ids[login])
            return room

        return int(self._write(make))

    def enter(self, room: int, login: str) -> None:
        """A user becomes a member."""
        self._write(lambda sql, site_id: enter(sql, site_id, room, self.ids[login]))

    def leave(self, room: int, login: str) -> None:
        """A user leaves."""
        self._write(lambda sql, site_id: leave(sql, site_id, room, self.ids[login]))

    def _write(self, write: Any) -> Any:
        async def run() -> Any:
            store = ChatSql.open(self._url)
            try:
                async with store.writing(Site(name=SITE, api_key="k")) as (sql, site_id):
                    return await write(sql, site_id)
            finally:
                await store.close()

        return asyncio.run(run())


@pytest.fixture(scope="module", params=["sqlite", "postgres"])
def place(request: pytest.FixtureRequest, new_database: NewDatabase) -> Iterator[Place]:
    """Two nodes of this module's own, on each database."""
    url = new_database(request.param)
    place = Place(url)
    yield place
    place.server.end()


@pytest.fixture
def team(place: Place, drivers: Drivers) -> Iterator[Chatting]:
    """The clients of one test."""
    chatting = Chatting(place.server, drivers, SITE)
    yield chatting
    chatting.close()


def send(client: Client, id: str, to: dict[str, int], text: str = "hi", **more: Any) -> dict[str, Any]:
    """A message that is accepted; the answer."""
    answer = client.ask("message", {"id": id, "to": to, "kind": "text", "text": text, **more})
    assert answer["ok"] is True, answer
    return dict(answer)


def message_of(client: Client, id: int, event: str = "message") -> dict[str, Any]:
    """The event of a message with this number; waits for it."""
    nth = 1
    while True:
        found = client.wait_event(event, nth).args[0]
        if found["id"] == id:
            return dict(found)
        nth += 1


def receipt_of(client: Client, id: int, state: str) -> dict[str, Any]:
    """The receipt of a message with this state; waits for it."""
    nth = 1
    while True:
        found = client.wait_event("receipt", nth).args[0]
        if id in found["ids"] and found["state"] == state:
            return dict(found)
        nth += 1


@each_library
def test_two_write_to_each_other(place: Place, team: Chatting, kind: ClientKind) -> None:
    """A message reaches the addressee and the sender's other devices, not the sending one; `delivered` and `read` come
    back, by device."""
    ann, pad, bob = (
        team.login("ann", f"phone {kind}", kind),
        team.login("ann", "pad"),
        team.login("bob", f"phone {kind}", kind),
    )
    answer = send(ann, f"one {kind}", {"user": place.ids["bob"]}, "hello", data={"x": 1})
    expected = {
        "id": answer["id"],
        "from": place.ids["ann"],
        "to": {"user": place.ids["bob"]},
        "kind": "text",
        "text": "hello",
        "data": {"x": 1},
        "reply_to": None,
        "forward_of": None,
        "file": None,
        "at": answer["at"],
        "info": {"device": f"phone {kind}", "app": None},
    }
    assert message_of(bob, answer["id"]) == expected
    assert message_of(pad, answer["id"]) == expected
    receipt = receipt_of(ann, answer["id"], "delivered")
    assert (receipt["ids"], receipt["user"], receipt["device"]) == ([answer["id"]], place.ids["bob"], f"phone {kind}")
    assert bob.ask("receipts", {"ids": [answer["id"]], "state": "read"}) == {"ok": True}
    assert receipt_of(ann, answer["id"], "read")["user"] == place.ids["bob"]
    assert [one for one in ann.events() if one.name == "message"] == []
    assert send(ann, f"one {kind}", {"user": place.ids["bob"]}, "hello", data={"x": 1}) == answer
    taken = ann.ask("message", {"id": f"one {kind}", "to": {"user": place.ids["bob"]}, "kind": "text", "text": "x"})
    assert taken["error"]["code"] == "id_taken"


def test_a_device_that_was_away(place: Place, team: Chatting) -> None:
    """Messages wait for it in order, and come as `_batch`."""
    eve, online, ida = team.login("eve"), team.login("ida", "online"), team.login("ida", "away")
    session = ida.wait_event("_settings").args[0]["session"]
    ida.disconnect()
    sent = [send(eve, f"away {n}", {"user": place.ids["ida"]}, str(n))["id"] for n in range(3)]
    message_of(online, sent[-1])
    back = team.resume(session, "away")
    assert [data["id"] for _, data in back.wait_event("_batch").args[0]] == sent


def test_a_room(place: Place, team: Chatting) -> None:
    """Members of the moment of a message get it, also those that are connected when they come and go."""
    joe, kim, lea = team.login("joe"), team.login("kim"), team.login("lea")
    room = place.room(["joe", "kim"])
    first = send(joe, f"r1 {room}", {"room": room}, "first")["id"]
    assert message_of(kim, first)["to"] == {"room": room}
    place.enter(room, "lea")
    second = send(joe, f"r2 {room}", {"room": room}, "second")["id"]
    message_of(lea, second)
    place.leave(room, "kim")
    third = send(joe, f"r3 {room}", {"room": room}, "third")["id"]
    message_of(lea, third)
    seen = {one.args[0]["id"] for one in kim.events() if one.name == "message"}
    assert (first in seen, third in seen) == (True, False)
    assert first not in {one.args[0]["id"] for one in lea.events() if one.name == "message"}
    history = lea.ask("history", {"with": {"room": room}})
    assert [one["text"] for one in history["messages"]] == ["third", "second"]
    assert kim.ask("history", {"with": {"room": room}})["error"]["code"] == "not_member"
    assert kim.ask("message", {"id": "x", "to": {"room": room}, "text": "x"})["error"]["code"] == "not_member"


def test_changes(place: Place, team: Chatting) -> None:
    """An edit and a deletion reach the others as `message_changed`."""
    ann, bob = team.login("ann"), team.login("bob")
    sent = send(ann, "change", {"user": place.ids["bob"]}, "helo")["id"]
    message_of(bob, sent)
    assert ann.ask("edit", {"id": sent, "text": "hello word"})["ok"]
    changed = message_of(bob, sent, "message_changed")
    assert (changed["text"], changed["changed_at"] >= changed["at"]) == ("hello word", True)
    found = bob.ask("search", {"text": "HELLO wor"})
    assert [one["id"] for one in found["messages"]] == [sent]
    assert bob.ask("delete", {"id": sent})["error"]["code"] == "not_admin"
    assert ann.ask("delete", {"id": sent})["ok"]
    gone = bob.wait_event("message_changed", 2).args[0]
    assert gone == {"id": sent, "to": {"user": place.ids["bob"]}, "deleted": True}
    assert bob.ask("search", {"text": "HELLO wor"})["messages"] == []


def test_typing(place: Place, team: Chatting) -> None:
    """Others who are online hear of it; a device that comes later does not."""
    ann, bob, eve = team.login("ann"), team.login("bob"), team.login("eve")
    assert ann.ask("typing", {"to": {"user": place.ids["bob"]}}) == {"ok": True}
    told = bob.wait_event("typing").args[0]
    assert told == {"user": place.ids["ann"], "to": {"user": place.ids["bob"]}}
    later = team.login("bob", "later")
    sent = send(ann, "behind typing", {"user": place.ids["bob"]})["id"]
    message_of(later, sent)
    assert [one.name for one in [*later.events(), *eve.events(), *ann.events()] if one.name == "typing"] == []


def test_refusals(place: Place, team: Chatting) -> None:
    """Each event has codes for what is wrong with it."""
    max_ = team.login("max")
    bob = place.ids["bob"]
    message: dict[str, Any] = {"id": "wrong", "to": {"user": bob}, "kind": "text", "text": "x"}
    cases: list[tuple[str, dict[str, Any], str]] = [
        ("message", {**message, "from": bob}, "impersonation"),
        ("message", {**message, "more": 1}, "unknown_field"),
        ("message", {**message, "to": {}}, "bad_request"),
        ("message", {**message, "to": {"user": bob, "room": 1}}, "bad_request"),
        ("message", {**message, "to": {"user": 10**12}}, "unknown_user"),
        ("message", {**message, "to": {"room": 10**12}}, "unknown_room"),
        ("message", {**message, "text": "x" * 16_385}, "too_long"),
        ("message", {**message, "data": "x" * 32_768}, "too_long"),
        ("message", {**message, "id": ""}, "bad_request"),
        ("message", {**message, "reply_to": 10**12}, "bad_request"),
        ("message", {**message, "file": "nothing"}, "bad_request"),
        ("edit", {"id": 10**12, "text": "x"}, "bad_request"),
        ("edit", {"id": 1}, "bad_request"),
        ("delete", {"id": 0}, "bad_request"),
        ("receipts", {"ids": [1] * 1_001, "state": "read"}, "too_long"),
        ("receipts", {"ids": [1], "state": "delivered"}, "bad_request"),
        ("history", {"with": {"user": bob}, "limit": 201}, "bad_request"),
        ("history", {"with": {"room": 10**12}}, "unknown_room"),
        ("search", {"text": "x" * 257}, "too_long"),
        ("typing", {"to": {"room": 10**12}}, "unknown_room"),
    ]
    for event, data, code in cases:
        assert max_.ask(event, data)["error"]["code"] == code, (event, data)
    stranger = team.stranger("nobody")
    for event in ("message", "edit", "delete", "receipts", "history", "search", "typing"):
        data = next(data for name, data, _ in cases if name == event and _ != "unknown_field")
        assert stranger.ask(event, data)["error"]["code"] in ("not_logged_in", "too_long", "bad_request")
