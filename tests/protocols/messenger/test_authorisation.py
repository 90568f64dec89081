"""Authorisation: every event of the messenger by every role, over real sockets. An event without a row in the table
fails."""

from __future__ import annotations

import ast
import asyncio
import base64
import itertools
from collections.abc import Iterator
from typing import Any

import pytest

from app.clock import now_ms
from app.config.settings import Site
from app.protocols.load_rooms import LoadLimits, LoadPlace
from app.protocols.messenger import protocol
from app.protocols.messenger.answers import ChatEvent
from app.protocols.messenger.directory.events import DirectoryEvents
from app.protocols.messenger.directory.registration_events import RegistrationEvents
from app.protocols.messenger.directory.synchronisation import Synchronisation
from app.protocols.messenger.entrance import Entrance
from app.protocols.messenger.files.handlers import file_handlers
from app.protocols.messenger.handlers import Handler
from app.protocols.messenger.journal_store import ChatSql
from app.protocols.messenger.own_account import OwnAccount
from app.protocols.messenger.talk.events import TalkEvents
from app.protocols.messenger.talk.journal_load_runs import begin_run
from app.protocols.messenger.talk.load_events import LoadEvents
from tests.support.chat import ITERATIONS, MESSENGER, Chatting, log_in, make_users
from tests.support.clients import Client
from tests.support.connector import Drivers
from tests.support.deployment import Deployment
from tests.support.processes import REPOSITORY

SITE = "team"
#: `outsider` is a user who is no member of the room, and `blocked` one whom its owner has blocked; `admin` is one of
#: the site; `changing` has to set another password first.
ROLES = ("stranger", "changing", "outsider", "member", "room admin", "admin", "blocked")
USERS = ROLES[2:]
#: The roles whose connections the server ends: no event of theirs is heard.
GONE = ("disabled", "logged out elsewhere")
#: The codes of every event but these.
BELOW = {"stranger": "not_logged_in", "changing": "must_change_password"}
OK = dict.fromkeys(USERS, "ok")


def but(code: str, *roles: str) -> dict[str, str]:
    """Every user may, but not these."""
    return OK | dict.fromkeys(roles, code)


def only(code: str, *roles: str) -> dict[str, str]:
    """No user may, but these."""
    return dict.fromkeys(USERS, code) | dict.fromkeys(roles, "ok")


#: The members of the room alone see it; its admins change it, and so do those of the site.
IN_ROOM = but("not_member", "outsider", "admin", "blocked")
CHANGES_ROOM = only("not_member", "room admin", "admin") | {"member": "not_admin"}
CHANGES_OTHERS = only("bad_request", "room admin") | {"member": "not_admin"}
OF_ADMINS = only("not_admin", "admin")
EVERYONE = dict.fromkeys(ROLES, "ok")
FIRST = {"data": "n,,n=nobody,r=abcdefgh"}
KEYS = {"salt": "salt", "iterations": ITERATIONS, "stored_key": "key", "server_key": "key"}

#: By name of the case, which begins with the event: its data, in which words stand for things that are made for it, and
#: the codes of the answers.
TABLE: dict[str, tuple[dict[str, Any], dict[str, str]]] = {
    # The entrance
    "login": (FIRST, EVERYONE),
    "proof": ({"data": "c=biws,r=x,p=eA=="}, dict.fromkeys(ROLES, "bad_request")),
    "password": ({"data": "c=biws,r=x,p=eA==", **KEYS}, dict.fromkeys(ROLES[1:], "bad_request")),
    "logout": ({}, dict.fromkeys(ROLES[1:], "ok")),
    # (The site does not let strangers register.)
    "register": ({"login": "new", "name": "x", **KEYS}, dict.fromkeys(ROLES, "not_admin")),
    # (Admins find no such registration; others hear nothing of it.)
    "registration_accept": ({"id": 99}, only("not_admin") | {"admin": "bad_request"}),
    "registration_refuse": ({"id": 99}, only("not_admin") | {"admin": "bad_request"}),
    # Conversations
    "message to a room": ({"id": "new", "to": {"room": "room"}, "text": "x"}, IN_ROOM),
    "message to a user": ({"id": "new", "to": {"user": "owner"}, "text": "x"}, OK),
    "message as another": ({"id": "new", "to": {"user": "owner"}, "from": "owner"}, only("impersonation")),
    "message with the file of another": (
        {"id": "new", "to": {"user": "owner"}, "file": "private file"},
        only("bad_request"),
    ),
    "message with a file of the room": (
        {"id": "new", "to": {"user": "owner"}, "file": "file"},
        but("bad_request", "outsider", "admin", "blocked"),
    ),
    "message of a load test": ({"id": "new", "to": {"room": "room"}, "kind": "load", "data": {"run": "run"}}, IN_ROOM),
    "load_join": ({"run": "run"}, IN_ROOM),
    "message as a reply": ({"id": "new", "to": {"room": "room"}, "reply_to": "message"}, IN_ROOM),
    "message that forwards": (
        {"id": "new", "to": {"user": "owner"}, "forward_of": "message"},
        but("bad_request", "outsider", "admin", "blocked"),
    ),
    "edit": ({"id": "message", "text": "y"}, CHANGES_OTHERS),
    "edit of a message to another": ({"id": "private message", "text": "y"}, only("bad_request")),
    "delete": ({"id": "message"}, CHANGES_OTHERS),
    "delete of a message to another": ({"id": "private message"}, only("bad_request")),
    # (Ids of messages that one does not see are passed over.)
    "receipts": ({"ids": ["message"], "state": "read"}, OK),
    "history of a room": ({"with": {"room": "room"}}, IN_ROOM),
    "history with a user": ({"with": {"user": "owner"}}, OK),
    "search in a room": ({"text": "x", "with": {"room": "room"}}, IN_ROOM),
    "search": ({"text": "x"}, OK),
    "typing in a room": ({"to": {"room": "room"}}, IN_ROOM),
    "typing to a user": ({"to": {"user": "owner"}}, OK),
    "sync": ({"cursor": None}, OK),
    "synced": ({"ms": 1}, OK),
    # Files
    "file_link": ({"id": "file"}, but("unknown_file", "outsider", "admin", "blocked")),
    "file_link of another": ({"id": "private file"}, only("unknown_file")),
    # The directory
    "profile": ({"name": "x"}, OK),
    "contact": ({"user": "owner", "muted": True}, OK),
    "device_name": ({"name": "x"}, OK),
    "room_create": ({"name": "x", "members": ["owner"]}, OK),
    "room_create of admins": ({"name": "x", "kind": "admins"}, OF_ADMINS),
    "room_change": ({"id": "room", "name": "y"}, CHANGES_ROOM),
    "room_change of its members": ({"id": "room", "members": ["owner", "me"]}, CHANGES_ROOM),
    "room_change of its admins": ({"id": "room", "admins": ["owner"]}, CHANGES_ROOM),
    "room_change of its history": ({"id": "room", "history": True}, CHANGES_ROOM),
    "room_leave": ({"id": "room"}, IN_ROOM),
    "room_archive": ({"id": "room"}, CHANGES_ROOM),
    "user_create": ({"login": "new"}, OF_ADMINS),
    "user_change": ({"id": "owner", "name": "x"}, OF_ADMINS),
    "user_change of oneself": ({"id": "me", "admin": True}, OF_ADMINS),
    "user_disable": ({"id": "spare"}, OF_ADMINS),
}
#: Behind these the connection is another's, or over.
_LAST = ("login", "logout", "user_change of oneself")
#: The first words of cases that leave their room and its message as they were.
_HARMLESS = ("message", "history", "search", "typing", "receipts", "file_link", "sync", "synced", "profile", "contact")
_numbers = itertools.count(1)


def all_handlers() -> dict[str, Handler]:
    """The events of a node, from where `protocol.py` takes them."""
    none: Any = None
    entrance = Entrance(none, none, none, none, none, none)
    return {
        **entrance.handlers(),
        **TalkEvents(none, none, none, 0).handlers(),
        **LoadEvents(none, none).handlers(),
        **Synchronisation(none, none, none, "", none).handlers(),
        **OwnAccount(entrance, none).handlers(),
        **file_handlers(none),
        **RegistrationEvents(none).handlers(),
        **DirectoryEvents(none).handlers(),
    }


def test_no_event_is_missing() -> None:
    """Every event has a row, and the sources of events are those that a node has."""
    assert {name.split(" ", maxsplit=1)[0] for name in TABLE} == set(all_handlers())
    tree = ast.parse((REPOSITORY / protocol.__name__.replace(".", "/")).with_suffix(".py").read_text())
    (table,) = [
        node.value
        for node in ast.walk(tree)
        if isinstance(node, ast.Assign) and [ast.unparse(one) for one in node.targets] == ["handlers"]
    ]
    assert isinstance(table, ast.Dict)
    assert sorted(ast.unparse(value) for value in table.values) == [
        "DirectoryEvents(self.directory).handlers()",
        "OwnAccount(entrance, logins).handlers()",
        "RegistrationEvents(self.directory).handlers()",
        "entrance.handlers()",
        "file_handlers(self._files.link)",
        "self._talk.handlers()",
        "synchronisation.handlers()",
    ]


def test_no_event_takes_what_it_does_not_know() -> None:
    """Every event refuses unknown fields."""
    for name, handler in all_handlers().items():
        assert issubclass(handler.reads, ChatEvent), name
        assert handler.reads.__struct_config__.forbid_unknown_fields, name


class Stage:
    """The server of this module, its users and the owner of rooms. Lives for the module."""

    def __init__(self, url: str, drivers: Drivers) -> None:
        """Make the users, and start a node."""
        self._url = url
        roles = [*USERS, *GONE]
        self.ids = make_users(url, SITE, [*roles, "owner", "friend"])
        self.ids |= make_users(url, SITE, ["changing"], must_change=True)
        self.ids |= make_users(url, SITE, ["root"], is_admin=True)
        make_users(url, SITE, ["spare"])
        sites = {SITE: {"apiKey": "k", "messenger": {**MESSENGER, "events_per_second": 100_000}}}
        self.server = Deployment(sites, environment={"DATABASE_URL": url})
        self.chat = Chatting(self.server, drivers, SITE)
        self.owner = self.chat.login("owner", "owner's")
        self.root = self.chat.login("root", "root's")
        self.done(self.root, "user_change", id=self.ids["admin"], admin=True)
        self.done(self.owner, "contact", user=self.ids["blocked"], blocked=True)
        self.file = self.upload()
        self.private_file = self.upload()
        self.ids["spare"] = self.done(self.root, "user_create", login="another spare")["id"]

    def done(self, client: Client, event: str, **data: Any) -> Any:
        """An event that is done."""
        answer = client.ask(event, data)
        assert answer["ok"], (event, answer)
        return answer

    def upload(self) -> str:
        """A file of the owner."""
        session = self.owner.wait_event("_settings").args[0]["session"]
        told = {"authorization": f"Bearer {session}", "tus-resumable": "1.0.0", "upload-length": "5"}
        body = {"content-type": "application/offset+octet-stream"}
        made = self.server.request("POST", f"/{SITE}/files/", headers=told | body, content=b"12345")
        assert made.status_code == 201, made.text
        return str(made.headers["location"].rpartition("/")[2])

    def things(self, role: str) -> dict[str, Any]:
        """The things that words of the table stand for: a new room, with a message."""
        number, me = next(_numbers), self.ids.get(role, 1)
        members = [self.ids[role]] if role in ("member", "room admin") else []
        admins = members if role == "room admin" else []
        room = self.done(self.owner, "room_create", name=f"room {number}", members=members, admins=admins)["id"]
        to = {"room": room}
        message = self.done(self.owner, "message", id=f"m{number}", to=to, text="x", file=self.file)["id"]
        friend = {"user": self.ids["friend"]}
        private = self.done(self.owner, "message", id=f"p{number}", to=friend, text="x", file=self.private_file)["id"]
        return {
            "room": room,
            "message": message,
            "private message": private,
            "file": self.file,
            "private file": self.private_file,
            "owner": self.ids["owner"],
            "spare": self.ids["spare"],
            "me": me,
            "salt": base64.b64encode(b"0123456789abcdef").decode(),
            "key": base64.b64encode(bytes(32)).decode(),
        }

    def begin_run(self, room: int) -> str:
        """A load test that is under way in a room; its name."""
        run = f"run {next(_numbers)}"

        async def begin() -> None:
            sql = ChatSql.open(self._url)
            try:
                async with sql.writing(Site(name=SITE, api_key="k")) as (connection, site_id):
                    place, limits = LoadPlace(SITE, room, run), LoadLimits(100, 600_000, 600_000)
                    await begin_run(connection, site_id, place, limits, now_ms())
            finally:
                await sql.close()

        asyncio.run(begin())
        return run

    def client(self, role: str) -> Client:
        """A client of a role."""
        device = f"{role} {next(_numbers)}"
        return self.chat.stranger(device) if role == "stranger" else self.chat.login(role, device)

    def close(self) -> None:
        """End the clients and the server."""
        self.chat.close()
        self.server.end()


@pytest.fixture(scope="module")
def stage(tmp_path_factory: pytest.TempPathFactory, drivers: Drivers) -> Iterator[Stage]:
    """One node of this module's own."""
    stage = Stage(f"sqlite:///{tmp_path_factory.mktemp('roles') / 'journal.sqlite'}", drivers)
    yield stage
    stage.close()


def filled(value: Any, things: dict[str, Any]) -> Any:
    """Data with things in place of the words for them."""
    if value == "new":
        return f"new {next(_numbers)}"
    if isinstance(value, dict):
        return {name: filled(one, things) for name, one in value.items()}
    if isinstance(value, list):
        return [filled(one, things) for one in value]
    return things.get(value, value) if isinstance(value, str) else value


@pytest.mark.parametrize("role", ROLES)
def test_roles(stage: Stage, role: str) -> None:
    """Each event is done for the roles that may send it, and refused with its code for all others."""
    client, shared = stage.client(role), stage.things(role)
    shared["run"] = stage.begin_run(shared["room"])
    found, expected = {}, {}
    for case in sorted(TABLE, key=lambda case: case in _LAST):
        data, codes = TABLE[case]
        event = case.split(" ", maxsplit=1)[0]
        if case in _LAST:
            client = stage.client(role)
        is_alone = event not in _HARMLESS and ("room" in data.values() or "message" in data.values())
        answer = client.ask(event, filled(data, stage.things(role) if is_alone else shared))
        found[case] = "ok" if answer["ok"] else answer["error"]["code"]
        expected[case] = codes.get(role) or BELOW[role]
    assert found == expected


@pytest.mark.parametrize("role", GONE)
def test_roles_whose_connection_ends(stage: Stage, role: str) -> None:
    """A user who is disabled, or has logged out all sessions elsewhere, has no connection any more on which an event
    could come; its session opens none, and no file."""
    device = f"{role}'s"
    client = stage.chat.login(role, device)
    session = client.wait_event("_settings").args[0]["session"]
    if role == "disabled":
        stage.done(stage.root, "user_disable", id=stage.ids[role])
    else:
        stage.done(stage.client(role), "logout", all=True)
    client.wait_disconnected()
    assert stage.chat.begin(stage.chat.call(device, session=session)).wait_refused() == "session_void"
    told = {"authorization": f"Bearer {session}", "tus-resumable": "1.0.0", "upload-length": "5"}
    assert stage.server.post(f"/{SITE}/files/", headers=told).status_code == 401
    if role == "disabled":
        assert log_in(stage.chat.stranger("again"), role)["error"]["code"] == "wrong_login"


def test_what_is_refused_changes_nothing(stage: Stage) -> None:
    """Behind all refusals of an outsider the room is as it was, and the owner was told of nothing."""
    things = stage.things("outsider")
    before = stage.done(stage.owner, "history", **{"with": {"room": things["room"]}})["messages"]
    told = len(stage.owner.events())
    client = stage.client("outsider")
    for case, (data, codes) in TABLE.items():
        if codes.get("outsider") != "ok":
            client.ask(case.split(" ", maxsplit=1)[0], filled(data, things))
    assert stage.done(stage.owner, "history", **{"with": {"room": things["room"]}})["messages"] == before
    assert [one.name for one in stage.owner.events()[told:] if one.name not in ("presence", "receipt")] == []
