"""Contract of the messenger beside a site's own backend: its users and rooms, text ids, sessions and revocation, with
real clients on two nodes."""

from __future__ import annotations

import itertools
import json
import signal
from collections.abc import Iterator
from functools import partial
from typing import Any

import pytest
import yaml

from tests.support.browser import Browser
from tests.support.chat import MESSENGER, NewDatabase
from tests.support.clients import MODERN, Client, ConnectCall
from tests.support.connector import Drivers
from tests.support.deployment import Deployment, Node
from tests.support.issuer import ISSUER, TOKEN_SECRET, token_of
from tests.support.tenant import SECRET, Answer, Tenant, User
from tests.support.waiting import eventually

SITE, KEY = "club", f"{SECRET}-key-club"
_devices = itertools.count(1)


def club(tenant: Tenant, **more: Any) -> dict[str, Any]:
    """The settings of a site with a backend and a messenger."""
    settings = {"authUrl": f"{tenant.url}/{SITE}/rooms", "apiKey": KEY, "messenger": MESSENGER}
    settings |= {"limits": {"rooms_per_connection": 10_000}}
    return {name: value for name, value in {**settings, **more}.items() if value is not None}


class Club:
    """The clients of one test. Lives as long as the test, which closes it."""

    def __init__(self, server: Deployment, drivers: Drivers, tenant: Tenant) -> None:
        """Start without clients."""
        self.server = server
        self.tenant = tenant
        self._drivers = drivers
        self._opened: list[Client] = []

    def begin(self, user: User | str, site: str = SITE, **auth: Any) -> Client:
        """Begin to connect with a token; does not wait."""
        token = user if isinstance(user, str) else user.token
        said = {"token": token, "deviceId": f"d{next(_devices)}", **auth}
        client = self._drivers.python.connect(ConnectCall(MODERN, self.server.url, site, auth=said))
        self._opened.append(client)
        return client

    def enter(self, user: User | str, site: str = SITE, **auth: Any) -> Client:
        """A client that is in; returns after `_settings`."""
        client = self.begin(user, site, **auth)
        client.wait_connected()
        client.wait_event("_settings")
        return client

    def send(self, rooms: list[str], event: str, *args: Any) -> None:
        """The backend sends."""
        body = {"rooms": rooms, "event": event, "args": args}
        answer = self.server.post(f"/send?site={SITE}&apiKey={KEY}", json=body)
        assert answer.status_code == 200, answer.text

    def close(self) -> None:
        """End every client."""
        for client in self._opened:
            client.forget()


@pytest.fixture(scope="module")
def server(tenant: Tenant, new_database: NewDatabase) -> Iterator[Deployment]:
    """Two nodes of this module's own."""
    jwt = {"issuer": ISSUER, "secret": TOKEN_SECRET}
    sites = {
        SITE: club(tenant),
        "signed": club(tenant, authUrl=None, jwt=jwt, resume_ticket={}),
        "later": club(tenant, messenger=None, userRoomPrefix="user_"),
    }
    deployment = Deployment(sites, environment={"DATABASE_URL": new_database("sqlite")}, nodes=2)
    yield deployment
    deployment.end()


@pytest.fixture
def here(server: Deployment, drivers: Drivers, tenant: Tenant) -> Iterator[Club]:
    """The clients of one test."""
    clients = Club(server, drivers, tenant)
    yield clients
    clients.close()


def ask(client: Client, event: str, **data: Any) -> dict[str, Any]:
    """An event that is accepted; the answer."""
    answer = client.ask(event, data)
    assert answer["ok"] is True, answer
    return dict(answer)


def code(client: Client, event: str, **data: Any) -> str:
    """The code of a refusal."""
    answer = client.ask(event, data)
    assert answer["ok"] is False, answer
    return str(answer["error"]["code"])


def sync(client: Client) -> dict[str, dict[str, Any]]:
    """Everything that a client may see: users, rooms and messages by their ids."""
    found: dict[str, list[Any]] = {"users": [], "rooms": [], "messages": []}
    cursor, more = None, True
    while more:
        part = ask(client, "sync", cursor=cursor)
        cursor, more = part["cursor"], part["more"]
        for name in found:
            found[name] += part[name]
    return {name: {one["id"]: one for one in things} for name, things in found.items()}


def event_of(client: Client, name: str, **fields: Any) -> dict[str, Any]:
    """The first event of this name with these fields; waits for it."""
    nth = 1
    while True:
        (data,) = client.wait_event(name, nth).args
        if all(data.get(field) == value for field, value in fields.items()):
            return dict(data)
        nth += 1


def test_the_client_for_pages(server: Deployment, browser: Browser, here: Club) -> None:
    """A page that has the backend's token is in without a login, and each connect asks for the token: it reads the
    directory, writes, and sends a file."""
    room = here.tenant.unique("News")
    ann, ben = here.tenant.user(room), here.tenant.user(room)
    b = here.enter(ben)
    page = browser.open(f"{server.url}/healthcheck")
    body = """(async () => {
        await new Promise((done) => document.head.append(Object.assign(document.createElement("script"),
          { src: "/socket.io/socket.io.js?v=4", onload: done })));
        const { Messenger } = await import("/recado/messenger.js");
        let asked = 0;
        const token = async () => { asked += 1; return TOKEN; };
        const chat = new Messenger({ site: SITE, token });
        const synced = () => new Promise((done) => chat.on("synced", done));
        const first = synced();
        await chat.open();
        await first;
        const file = await chat.upload(new File(["12345"], "a.txt", { type: "text/plain" }));
        const { id } = await chat.send({ user: BEN }, "from a page", { kind: "file", file });
        chat.close();
        const again = synced();
        await chat.open();
        await again;
        return [chat.users.has(BEN), asked, id, chat.state, file.size];
    })()"""
    for name, value in {"TOKEN": ann.token, "BEN": ben.id, "SITE": SITE}.items():
        body = body.replace(name, json.dumps(value))
    is_known, asked, id, state, size = page.evaluate(body)
    assert page.complaints() == []
    page.close()
    assert (is_known, asked, state, size) == (True, 2, "online", 5)
    got = event_of(b, "message", id=id)
    assert (got["from"], got["text"], got["file"]["size"]) == (ann.id, "from a page", 5)


def test_users_of_the_backend_write_to_each_other(here: Club) -> None:
    """A token is enough: the user is in the directory from its first connect, with the backend's id as text, and so are
    its rooms; messages, receipts and their changes name users and rooms by these ids."""
    room = here.tenant.unique("News")
    ann, ben = here.tenant.user(room), here.tenant.user(room)
    a, b = here.enter(ann), here.enter(ben)
    settings = a.wait_event("_settings").args[0]
    assert settings["user"]["id"] == settings["user"]["name"] == ann.id
    assert settings["device_ttl"] == 3600
    assert settings["must_change_password"] is False
    seen = sync(a)
    assert {ann.id, ben.id} <= seen["users"].keys()
    assert seen["rooms"][room.lower()] | {"members": None} == {
        **{"id": room.lower(), "name": room, "kind": "chat", "icon": "", "description": "", "object": None},
        **{"history": False, "receipts": True, "archived": False, "members": None, "admins": []},
    }
    assert set(seen["rooms"][room.lower()]["members"]) == {ann.id, ben.id}
    sent = ask(a, "message", id="1", to={"user": ben.id}, text="hi", data={"user": 7, "from": 8})
    got = event_of(b, "message", id=sent["id"])
    assert (got["from"], got["to"], got["data"]) == (ann.id, {"user": ben.id}, {"user": 7, "from": 8})
    assert event_of(a, "receipt", state="delivered")["user"] == ben.id
    in_room = ask(b, "message", id="1", to={"room": room}, text="all")
    assert event_of(a, "message", id=in_room["id"])["to"] == {"room": room.lower()}
    ask(a, "receipts", ids=[in_room["id"]], state="read")
    assert event_of(b, "receipt", state="read")["user"] == ann.id
    ask(b, "edit", id=in_room["id"], text="everyone")
    assert event_of(a, "message_changed", id=in_room["id"])["from"] == ben.id
    assert [one["from"] for one in ask(a, "history", **{"with": {"user": ben.id}})["messages"]] == [ann.id]
    assert ask(a, "search", text="everyone")["messages"][0]["to"] == {"room": room.lower()}
    ask(b, "delete", id=in_room["id"])
    assert event_of(a, "message_changed", id=in_room["id"], deleted=True)["to"] == {"room": room.lower()}
    assert sync(a)["messages"][sent["id"]]["from"] == ann.id


def test_events_that_are_kept_nowhere(here: Club) -> None:
    """Presence, typing and changes of the directory name users by the backend's ids."""
    ann, ben = here.tenant.user(), here.tenant.user()
    a = here.enter(ann)
    b = here.enter(ben)
    assert event_of(a, "directory", users=[{**_user(ben), "name": ben.id}])
    assert event_of(a, "presence", user=ben.id)["state"] == "online"
    ask(b, "typing", to={"user": ann.id})
    assert event_of(a, "typing", user=ben.id)["to"] == {"user": ann.id}
    ask(b, "profile", name="Ben")
    assert event_of(a, "directory", users=[{**_user(ben), "name": "Ben"}])
    ask(a, "contact", user=ben.id, muted=True)
    assert event_of(a, "directory", contacts=[{"user": ben.id, "name": None, "muted": True, "blocked": False}])
    ask(a, "device_name", name="desk")
    assert ben.id in ask(a, "sync")["online"]


def _user(user: User) -> dict[str, Any]:
    return {"id": user.id, "login": user.id, "name": "", "sign": "", "icon": "", "admin": False, "disabled": False}


def test_the_backend_sends_as_on_any_site(here: Club) -> None:
    """`/send` to a user room and to a room of the backend reaches the clients, also those that send no events."""
    room = here.tenant.unique("room")
    ann = here.tenant.user(room)
    a = here.enter(ann)
    here.send([ann.room], "mail", 1)
    here.send([room.upper()], "mail", 2)
    assert [a.wait_event("mail", nth).args for nth in (1, 2)] == [[1], [2]]


def test_rooms_follow_the_backend(here: Club) -> None:
    """A user enters and leaves rooms as the backend names them at a connect: members hear of it, and a user that is no
    member any more sees nothing of the room, neither by sync nor by history, nor what comes then."""
    old, new = here.tenant.unique("old"), here.tenant.unique("new")
    ann, ben = here.tenant.user(old), here.tenant.user(old, new)
    a, b = here.enter(ann), here.enter(ben)
    sent = ask(b, "message", id="1", to={"room": old}, text="before")
    event_of(a, "message", id=sent["id"])
    here.tenant.set_rooms(ann.token, ann.room, new)
    again = here.enter(ann)
    assert event_of(a, "directory", rooms=[{"id": old, "deleted": True}])
    assert {old, new} & sync(again)["rooms"].keys() == {new}
    assert sent["id"] not in sync(again)["messages"]
    assert code(again, "history", **{"with": {"room": old}}) == "not_member"
    assert code(again, "message", id="2", to={"room": old}, text="no") == "not_member"
    later = ask(b, "message", id="2", to={"room": old}, text="after")
    last = ask(b, "message", id="3", to={"room": new}, text="here")
    # Both of its devices are in the new room, and in the old one no more.
    for client in (a, again):
        assert event_of(client, "message", id=last["id"])
    assert later["id"] not in [event.args[0]["id"] for event in a.events() if event.name == "message"]


def test_logins_and_rooms_of_the_backend_are_its_own(here: Club) -> None:
    """Events that make or change logins, and those that change a room of the backend, are refused with a code."""
    room = here.tenant.unique("room")
    ann = here.tenant.user(room)
    a = here.enter(ann)
    for event in ("login", "proof", "password", "register", "user_create", "user_change", "user_disable"):
        assert code(a, event, data="x") == "of_backend", event
    assert code(a, "logout", all=True) == "of_backend"
    for event in ("room_change", "room_leave", "room_archive"):
        assert code(a, event, id=room) == "of_backend", event
    assert code(a, "message", id="1", to={"user": 7}, text="x") == "bad_request"
    assert code(a, "message", id="1", to={"user": here.tenant.unique("nobody")}, text="x") == "unknown_user"
    assert code(a, "message", id="1", to={"room": here.tenant.unique("nowhere")}, text="x") == "unknown_room"
    assert code(a, "message", **{"id": "1", "to": {"user": ann.id}, "text": "x", "from": "other"}) == "impersonation"
    ask(a, "logout")
    a.wait_disconnected()


def test_own_rooms_live_beside_those_of_the_backend(here: Club) -> None:
    """A room that is made here has a name that the backend may not give, and follows its members at once."""
    ann, ben = here.tenant.user(), here.tenant.user()
    a, b = here.enter(ann), here.enter(ben)
    room = ask(a, "room_create", name="own", members=[ben.id])["id"]
    assert room.startswith("messenger_room_")
    assert event_of(b, "directory")
    sent = ask(a, "message", id="1", to={"room": room}, text="hi")
    assert event_of(b, "message", id=sent["id"])["to"] == {"room": room}
    again = here.enter(ben)
    more = ask(a, "message", id="2", to={"room": room}, text="hi")
    assert event_of(again, "message", id=more["id"])
    ask(b, "room_leave", id=room)
    assert code(b, "message", id="1", to={"room": room}, text="x") == "not_member"
    thief = here.tenant.user(room.upper())
    assert "messenger_" in here.begin(thief).wait_refused()


def test_odd_names(here: Club) -> None:
    """Ids with quotes, dots and characters of four bytes, of 200 characters, and 10,000 rooms in one answer: the user
    is in, and in the first 900 of them here."""
    number = here.tenant.unique("")
    long, odd = number + "é😀" * 100, f'{number} "a\\b" <c> :d_e{{f}}'
    ann = here.tenant.user(odd, room=f"user_{long}")
    ben = here.tenant.user(odd, *(f"{number}-{count}" for count in range(9_998)), room=f"user_{odd}")
    a, b = here.enter(ann), here.enter(ben)
    assert len(sync(b)["rooms"]) == 900
    for to, sender, other, id in (({"user": odd}, a, b, long), ({"room": odd}, b, a, odd)):
        sent = ask(sender, "message", id="1", to=to, text="hi")
        got = event_of(other, "message", id=sent["id"])
        assert (got["from"], got["to"]) == (id, {name: text.lower() for name, text in to.items()})
    assert sync(a)["users"].keys() >= {long, odd}
    cursor, more = None, True
    while more:
        part = ask(a, "sync", bytes=4_096, cursor=cursor)
        cursor, more = part["cursor"], part["more"]
        del part["ok"]
        assert len(json.dumps(part, ensure_ascii=False, separators=(",", ":")).encode()) <= 4_096


def test_sessions_end_with_the_backends_word(here: Club) -> None:
    """The session in `_settings` is good for files and comes again for the same device; it ends when the backend
    disconnects the user."""
    ann = here.tenant.user()
    a = here.enter(ann, deviceId="phone")
    session = a.wait_event("_settings").args[0]["session"]
    headers = {"authorization": f"Bearer {session}", "tus-resumable": "1.0.0", "upload-length": "3"}
    assert here.server.post(f"/{SITE}/files/", headers=headers).status_code == 201
    again = here.enter(ann, deviceId="phone", session=session)
    assert again.wait_event("_settings").args[0]["session"] == session
    other = here.enter(here.tenant.user(), deviceId="phone", session=session)
    assert other.wait_event("_settings").args[0]["session"] != session
    answer = here.server.post(f"/disconnect?site={SITE}&apiKey={KEY}", json={"user": ann.room})
    assert answer.json() == {"disconnected": 2}
    a.wait_disconnected()
    assert here.server.post(f"/{SITE}/files/", headers=headers).status_code == 401
    # Without a token nobody is in, whatever its session.
    here.tenant.answer(None, Answer(status=401))
    assert here.begin("", session=session).wait_refused() == "Authentication failed"


def test_revoked_tickets_end_sessions(here: Club) -> None:
    """DELETE /tickets works at such a site, and ends the sessions in the rooms that it names: the clients come back."""
    room = here.tenant.unique("room")
    ann, ben = here.tenant.user(room), here.tenant.user()
    a, b = here.enter(ann), here.enter(ben)
    answer = here.server.request("DELETE", f"/tickets?site={SITE}&apiKey={KEY}&room={room}")
    assert answer.status_code == 200, answer.text
    a.wait_disconnected()
    assert ask(b, "sync")


def test_an_outage_of_the_backend(here: Club) -> None:
    """While authUrl fails a client is refused as on any site, and its membership stays as it was."""
    room = here.tenant.unique("room")
    ann, ben = here.tenant.user(room), here.tenant.user(room)
    a, b = here.enter(ann), here.enter(ben)
    here.tenant.answer(ann.token, Answer(status=500))
    assert here.begin(ann).wait_refused() == "Auth 500 error"
    sent = ask(b, "message", id="1", to={"room": room}, text="hi")
    assert event_of(a, "message", id=sent["id"])


def test_tokens_and_tickets(here: Club) -> None:
    """A JWT names user and rooms as authUrl does. A connect by a ticket, whose rooms are older, takes nobody out of a
    room that a newer token has named, and hears what is written there."""
    old, new = here.tenant.unique("old"), here.tenant.unique("new")
    ann, ben = here.tenant.unique("ann"), here.tenant.unique("ben")
    first = here.enter(token_of(ann, old), "signed", deviceId="phone")
    ticket = first.wait_event("_settings").args[0]["resume_ticket"]
    b = here.enter(token_of(ben, old, new), "signed")
    here.enter(token_of(ann, new), "signed", deviceId="desk")
    assert event_of(first, "directory", rooms=[{"id": old, "deleted": True}])
    resumed = here.enter("", "signed", deviceId="phone", ticket=ticket)
    assert resumed.wait_event("_settings").args[0]["user"]["id"] == ann
    assert sync(resumed)["rooms"].keys() == {new}
    left = ask(b, "message", id="1", to={"room": old}, text="no")
    sent = ask(b, "message", id="2", to={"room": new}, text="hi")
    assert event_of(resumed, "message", id=sent["id"])
    assert left["id"] not in [event.args[0]["id"] for event in resumed.events() if event.name == "message"]
    assert code(resumed, "history", **{"with": {"room": old}}) == "not_member"


def test_the_backend_moves_a_user(here: Club) -> None:
    """POST /rooms moves a user that is connected, in the directory, too; it joins no room with a name of the server."""
    old, new = here.tenant.unique("old"), here.tenant.unique("New")
    ann, ben = here.tenant.user(old), here.tenant.user(new)
    a, b = here.enter(ann), here.enter(ben)
    path = f"/rooms?site={SITE}&apiKey={KEY}"
    answer = here.server.post(path, json={"user": ann.room, "join": [new], "leave": [old]})
    assert answer.json() == {"devices": 1}
    assert event_of(a, "directory", rooms=[{"id": old, "deleted": True}])
    sent = ask(a, "message", id="1", to={"room": new.lower()}, text="hi")
    assert event_of(b, "message", id=sent["id"])["from"] == ann.id
    refused = here.server.post(path, json={"user": ann.room, "join": ["messenger_room_1"]})
    assert refused.status_code == 400, refused.text


def _has_reloaded(node: Node) -> bool:
    return any(line.get("event") == "configuration reloaded" for line in node.server.log())


def test_a_site_that_gets_a_messenger(here: Club) -> None:
    """A reload gives a site with authUrl a messenger: its clients are closed, and have it when they come again."""
    ann = here.tenant.user()
    before = here.enter(ann, "later", deviceId="phone")
    assert "session" not in before.wait_event("_settings").args[0]
    sites = {**here.server.sites, "later": club(here.tenant)}
    (here.server.directory / "sites.yml").write_text(yaml.safe_dump(sites))
    for node in here.server.nodes:
        node.server.signal(signal.SIGHUP)
    for node in here.server.nodes:
        eventually(partial(_has_reloaded, node), "the reload")
    before.wait_disconnected()
    after = here.enter(ann, "later", deviceId="phone")
    sent = ask(after, "message", id="1", to={"user": ann.id}, text="to myself")
    assert ask(after, "history", **{"with": {"user": ann.id}})["messages"][0]["id"] == sent["id"]
