"""Contract of the messenger, passwords and sessions: `password`, `logout`, and `recado user` while two nodes run."""

from __future__ import annotations

import asyncio
import base64
import itertools
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from app import cli
from app.config.settings import Site
from app.config.yaml_file import write_yaml
from app.protocols.messenger.journal_store import ChatSql
from app.protocols.messenger.journal_users import list_users
from app.protocols.messenger.scram import keys_of
from tests.support.chat import ITERATIONS, MESSENGER, Chatting, NewDatabase, Scram, log_in, make_users, password_of
from tests.support.clients import Client
from tests.support.connector import Drivers
from tests.support.deployment import Deployment
from tests.support.waiting import eventually

OPEN = {**MESSENGER, "registration": "open", "registration_room": 1}
SITES = {
    "team": {"apiKey": "a-key-of-the-site", "messenger": MESSENGER},
    "open": {"apiKey": "another-key-of-it", "messenger": OPEN},
}
LOGINS = ["ann", "ben", "cleo", "dora", "eve"]

#: A site that is in no file, with its first admin.
SOLO = {"SITE_NAME": "solo", "API_KEY": "k", "RECADO_ADMIN_LOGIN": "Root", "RECADO_ADMIN_PASSWORD": "from outside"}


@pytest.fixture(scope="module", params=["sqlite", "postgres"])
def database(request: pytest.FixtureRequest, new_database: NewDatabase) -> str:
    """The URL of the database of this module, on each kind, with users."""
    url = new_database(request.param)
    make_users(url, "team", LOGINS)
    make_users(url, "team", ["new"], must_change=True)
    make_users(url, "open", ["root"], is_admin=True)
    make_users(url, "open", ["mia", "max"])
    return url


@pytest.fixture(scope="module")
def server(database: str) -> Iterator[Deployment]:
    """Two nodes of this module's own."""
    deployment = Deployment(SITES, environment={"DATABASE_URL": database, **SOLO}, nodes=2)
    yield deployment
    deployment.end()


@pytest.fixture
def teams(server: Deployment, drivers: Drivers) -> Iterator[list[Chatting]]:
    """The clients of one test at each node."""
    chattings = [Chatting(server, drivers, "team", node.url) for node in server.nodes]
    yield chattings
    for chatting in chattings:
        chatting.close()


@pytest.fixture
def open_site(server: Deployment, drivers: Drivers) -> Iterator[Chatting]:
    """The clients of one test at the site where strangers may register."""
    chatting = Chatting(server, drivers, "open")
    yield chatting
    chatting.close()


def keys(password: str, **changed: Any) -> dict[str, Any]:
    """The keys of a password as a client sends them."""
    made = keys_of(password, ITERATIONS)
    named = {"salt": made.salt, "stored_key": made.stored_key, "server_key": made.server_key}
    return {
        **{name: base64.b64encode(value).decode() for name, value in named.items()},
        "iterations": made.iterations,
        **changed,
    }


def change(client: Client, login: str, new: str, old: str | None = None, **changed: Any) -> Any:
    """Set another password; the answer."""
    scram = Scram(login, password_of(login) if old is None else old)
    first = client.ask("login", {"data": scram.first})
    answer = client.ask("password", {"data": scram.final(first["data"]), **keys(new, **changed)})
    if answer["ok"]:
        scram.check(answer["data"])
    return answer


def test_another_password(teams: list[Chatting]) -> None:
    """A new password ends every other session of the user, on every node; this connection goes on with a new one."""
    client, other = teams[0].login("ann", "d1"), teams[1].login("ann", "d2")
    old = other.wait_event("_settings").args[0]["session"]
    answer = change(client, "ann", "another pass word")
    assert answer["ok"] is True
    other.wait_disconnected()
    assert teams[1].begin(teams[1].call("d2", session=old)).wait_refused() == "session_void"
    assert client.ask("logout", {"all": "x"})["error"]["code"] == "bad_request"  # still here
    teams[1].resume(answer["session"], "d1")
    assert log_in(teams[0].stranger("d3"), "ann")["error"]["code"] == "wrong_login"
    assert log_in(teams[0].stranger("d3"), "ann", "another pass word")["ok"]


def test_a_password_that_an_operator_has_set(teams: list[Chatting]) -> None:
    """Until it is changed only `_settings` comes and every other event is refused; afterwards the user is in."""
    client = teams[0].login("new")
    assert client.wait_event("_settings").args[0]["must_change_password"] is True
    message = {"id": "00000000-0000-4000-8000-000000000001", "to": {"user": 1}, "kind": "text", "text": "x"}
    for event, data in (("message", message), ("sync", {"cursor": None, "bytes": 9999}), ("profile", {"name": "x"})):
        assert client.ask(event, data)["error"]["code"] == "must_change_password"
    assert change(client, "new", "one of my own")["ok"]
    settings = client.wait_event("_settings", 2).args[0]
    assert settings["must_change_password"] is False
    assert client.ask("profile", {"name": "x"})["ok"]


@pytest.mark.parametrize(
    "changed",
    [
        {"salt": base64.b64encode(b"short").decode()},
        {"salt": "no base64!"},
        {"stored_key": base64.b64encode(bytes(31)).decode()},
        {"server_key": ""},
        {"iterations": 4095},
        {"iterations": 1_000_001},
        {"salt": "A" * 2000},
    ],
)
def test_keys_that_are_none(teams: list[Chatting], changed: dict[str, Any]) -> None:
    """Keys of a wrong length, or with iterations out of bounds, change nothing."""
    client = teams[0].login("ben")
    assert change(client, "ben", "x", **changed)["error"]["code"] in ("bad_request", "too_long")
    assert log_in(teams[1].stranger(), "ben")["ok"]


def test_the_old_password_is_proved(teams: list[Chatting]) -> None:
    """Without a challenge, with a wrong password, and for another user's login nothing changes."""
    client = teams[0].login("cleo")
    proof = {"data": "c=biws,r=x,p=eA==", **keys("x")}
    assert client.ask("password", proof)["error"]["code"] == "bad_request"
    assert change(client, "dora", "x")["error"]["code"] == "impersonation"
    assert change(client, "cleo", "x", old="wrong")["error"]["code"] == "wrong_login"
    assert log_in(teams[1].stranger(), "cleo")["ok"]
    assert log_in(teams[1].stranger(), "dora")["ok"]


def test_logout(teams: list[Chatting]) -> None:
    """`logout` ends the session, and `logout {all: true}` all of the user's, on every node."""
    here, there, third = teams[0].login("eve", "d1"), teams[1].login("eve", "d2"), teams[1].login("eve", "d3")
    session = here.wait_event("_settings").args[0]["session"]
    assert here.ask("logout", {})["ok"]
    here.wait_disconnected()
    assert teams[1].begin(teams[1].call("d1", session=session)).wait_refused() == "session_void"
    assert there.ask("logout", {"all": True})["ok"]
    there.wait_disconnected()
    third.wait_disconnected()


def test_the_command_while_nodes_run(teams: list[Chatting], database: str, tmp_path: Path) -> None:
    """`recado user` makes a user that can log in at once; a disabled one, and one with another password, loses its
    connections on every node."""
    path = tmp_path / "sites.yml"
    path.write_text(write_yaml(SITES))
    environ = {"DATABASE_URL": database, "RECADO_SITES": str(path)}

    def run(*words: str, given: str = "") -> str:
        done = CliRunner().invoke(cli.recado, ["user", *words, "--site", "team"], input=given, env=environ)
        assert done.exit_code == 0, done.output
        return done.output

    run("add", "--login", "hal", "--password-stdin", given="first pass word\n")
    client = teams[0].stranger()
    assert log_in(client, "hal", "first pass word")["must_change_password"] is False
    run("password", "--login", "hal", "--password-stdin", given="second pass word\n")
    client.wait_disconnected()
    again = teams[1].stranger()
    assert log_in(again, "hal", "second pass word")["ok"]
    run("disable", "--login", "hal")
    again.wait_disconnected()
    assert log_in(teams[0].stranger(), "hal", "second pass word")["error"]["code"] == "wrong_login"
    run("enable", "--login", "hal")
    assert log_in(teams[0].stranger(), "hal", "second pass word")["ok"]


def registrations_told(client: Client) -> list[dict[str, Any]]:
    """The registrations of the first event that tells of any; waits for it."""
    for nth in itertools.count(1):
        found: dict[str, Any] = client.wait_event("directory", nth).args[0]
        if "registrations" in found:
            return list(found["registrations"])
    raise AssertionError("there is always a next event")


def test_registrations(open_site: Chatting, teams: list[Chatting]) -> None:
    """A stranger registers, the members of the room that the site names are told, and one of them decides: then the new
    user can log in. Whether a login is taken is told to those who decide alone. Ten of an address wait, no more."""
    root = open_site.login("root")
    mia, max_ = open_site.login("mia"), open_site.login("max")
    ids = {one: client.wait_event("_settings").args[0]["user"]["id"] for one, client in (("mia", mia), ("max", max_))}
    assert root.ask("room_create", {"name": "deciders", "members": [ids["mia"]]}) == {"ok": True, "id": 1}
    stranger = open_site.stranger("s1")
    assert stranger.ask("register", {"login": "Nia", "name": "Nia N.", **keys("of nia")}) == {"ok": True}
    assert stranger.ask("register", {"login": "root", "name": "x", **keys("x")}) == {"ok": True}
    told = [mia.wait_event("directory", nth).args[0] for nth in (1, 2, 3)]
    waiting = [one for event in told for one in event.get("registrations", [])]
    assert [(one["login"], one["state"]) for one in waiting] == [("Nia", "waiting"), ("root", "waiting")]
    nia, taken = (one["id"] for one in waiting)
    assert registrations_told(open_site.login("mia", device="new")) == waiting
    assert log_in(open_site.stranger("s2"), "Nia", "of nia")["error"]["code"] == "wrong_login"
    assert max_.ask("registration_accept", {"id": nia})["error"]["code"] == "not_admin"
    assert mia.ask("registration_accept", {"id": taken})["error"]["code"] == "bad_request"
    assert mia.ask("registration_refuse", {"id": taken}) == {"ok": True}
    made = mia.ask("registration_accept", {"id": nia})
    assert made["ok"] is True
    assert mia.ask("registration_accept", {"id": nia})["error"]["code"] == "bad_request"
    answer = log_in(open_site.stranger("s2"), "nia", "of nia")
    assert (answer["user"]["id"], answer["user"]["name"], answer["must_change_password"]) == (
        made["id"],
        "Nia N.",
        False,
    )
    refused = teams[0].stranger().ask("register", {"login": "x", "name": "x", **keys("x")})
    assert refused["error"]["code"] == "not_admin"

    codes = []
    for number in range(12):
        flood = stranger.ask("register", {"login": f"flood{number}", "name": "x", **keys("x")})
        codes.append("ok" if flood["ok"] else flood["error"]["code"])
    assert codes == ["ok"] * 10 + ["too_many"] * 2


def test_an_admin_from_the_environment(server: Deployment, drivers: Drivers, database: str) -> None:
    """The first admin logs in with the password of the environment, may act, and sets another one, which a further
    start leaves as it is."""
    first, other = (Chatting(server, drivers, "solo", node.url) for node in server.nodes)
    # A login before that would count as a failed one.
    eventually(lambda: logins_of(database, "solo") == ["Root"], "the admin", 60, interval_seconds=0.2)
    client = first.stranger()
    assert log_in(client, "root", "from outside")["must_change_password"] is False
    made = client.ask("user_create", {"login": "made", "name": "Made"})
    assert made["ok"] is True, made
    assert change(client, "root", "my own", old="from outside")["ok"]
    server.nodes[1].stop()
    server.nodes[1].start()
    eventually(lambda: log_in(other.stranger("d2"), "root", "my own")["ok"], "the node", 60, interval_seconds=0.5)
    assert log_in(other.stranger("d3"), "root", "from outside")["error"]["code"] == "wrong_login"
    for chatting in (first, other):
        chatting.close()


def logins_of(database: str, site: str) -> list[str]:
    """The logins of a site in the database of a server that runs."""

    async def read() -> list[str]:
        store = ChatSql.open(database)
        try:
            async with store.reading(Site(name=site, api_key="k")) as place:
                return [user.login for user in await list_users(*place)]
        finally:
            await store.close()

    return asyncio.run(read())
