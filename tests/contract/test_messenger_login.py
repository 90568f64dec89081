"""Contract of the messenger, "Logging in": SCRAM, sessions, the throttle, with real clients and both databases."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import replace

import pytest

from tests.support.chat import MESSENGER, Chatting, NewDatabase, Scram, log_in, make_users, password_of
from tests.support.clients import ONE_OF_EACH, ClientKind
from tests.support.connector import Drivers
from tests.support.deployment import Deployment

each_library = pytest.mark.parametrize("kind", ONE_OF_EACH, ids=str)
SITES = {
    "team": {"apiKey": "k", "messenger": MESSENGER},
    "strict": {"apiKey": "k", "messenger": {**MESSENGER, "fail_window": 600}},
}
LOGINS = ["ann", "Bob", "J\u00f6rg", "cut", "guessed", "late"]


@pytest.fixture(scope="module", params=["sqlite", "postgres"])
def server(request: pytest.FixtureRequest, new_database: NewDatabase) -> Iterator[Deployment]:
    """Two nodes of this module's own, on each database."""
    url = new_database(request.param)
    for site in SITES:
        make_users(url, site, LOGINS)
    deployment = Deployment(SITES, {"log_level": "debug"}, environment={"DATABASE_URL": url}, nodes=2)
    yield deployment
    deployment.end()


@pytest.fixture
def team(server: Deployment, drivers: Drivers) -> Iterator[Chatting]:
    """The clients of one test."""
    chatting = Chatting(server, drivers, "team")
    yield chatting
    chatting.close()


@pytest.fixture
def strict(server: Deployment, drivers: Drivers) -> Iterator[Chatting]:
    """The same at a site where failures count for long."""
    chatting = Chatting(server, drivers, "strict")
    yield chatting
    chatting.close()


@each_library
def test_login(team: Chatting, kind: ClientKind) -> None:
    """The two steps of SCRAM answer the user, a session and the limits; `_settings` follows with the same session. The
    server has proved that it knows the user's keys."""
    client = team.stranger(kind=kind)
    answer = log_in(client, "ann")
    assert answer["ok"] is True
    assert answer["user"]["login"] == "ann"
    assert answer["must_change_password"] is False
    assert answer["connection"] == {"tls": None}
    settings = client.wait_event("_settings").args[0]
    assert settings["session"] == answer["session"]
    assert settings["user"] == answer["user"]
    assert settings["limits"] == answer["limits"]
    assert settings["device_ttl"] == 3600


@each_library
def test_a_session_taken_up_again(team: Chatting, kind: ClientKind) -> None:
    """A client that connects with its session is in without a login, with the program and device that it tells."""
    session = team.login("ann", "again").wait_event("_settings").args[0]["session"]
    app = {"name": "notes", "version": "2"}
    call = team.call("again", kind, session=session, app=app if kind.has_auth else json.dumps(app))
    client = team.begin(call)
    client.wait_connected()
    assert client.wait_event("_settings").args[0]["session"] == session


def test_a_session_is_bound_to_its_device(team: Chatting) -> None:
    """With another deviceId, and for a session that nobody has, the connect error is `session_void`."""
    session = team.login("ann", "mine").wait_event("_settings").args[0]["session"]
    for device, token in (("another", session), ("mine", session[:-1] + "-"), ("mine", "x" * 200)):
        assert team.begin(team.call(device, session=token)).wait_refused() == "session_void"


@pytest.mark.parametrize("login", ["bob", "BOB", "j\u00d6RG", "jo\u0308rg"])
def test_logins_are_compared_without_case(team: Chatting, login: str) -> None:
    """A login is found in any case, and whether its letters are composed or not."""
    found = next(one for one in LOGINS if one.casefold()[0] == login.casefold()[0])
    assert log_in(team.stranger(), login, password_of(found))["user"]["login"] == found


def test_a_device_without_a_name(team: Chatting) -> None:
    """A client without deviceId, or with one that is no text, is refused with the reason."""
    for said in ("", "x" * 300, "a\u0000b"):
        assert team.begin(team.call(said)).wait_refused().startswith("deviceId: ")


def test_no_event_before_the_login(team: Chatting) -> None:
    """A stranger's events are refused, each with a code; those that nobody knows, too."""
    client = team.stranger()
    assert client.ask("proof", {"data": "x"})["error"]["code"] == "bad_request"
    assert client.ask("no such event", {})["error"]["code"] == "bad_request"
    assert client.ask("login", {"data": "x", "more": 1})["error"]["code"] == "unknown_field"
    assert client.ask("login", {"data": "x" * 2000})["error"]["code"] == "too_long"
    assert client.ask("login", {"data": "n,,n=\ud800,r=x"})["error"]["code"] == "bad_request"
    assert client.ask("login", 5)["error"]["code"] == "bad_request"
    assert client.ask("login", {"data": "p=tls-unique,,n=ann,r=x"})["error"]["code"] == "bad_request"
    assert log_in(client, "ann")["ok"]


def test_unknown_logins_look_like_known_ones(team: Chatting) -> None:
    """A login that nobody has gets a salt of the same form, the same each time; the wrong password and the unknown
    login have the same answer."""
    firsts: dict[str, set[tuple[str, str]]] = {}
    for login in ("nobody", "ann"):
        for _ in range(2):
            client = team.stranger()
            answer = client.ask("login", {"data": Scram(login, "x").first})
            assert answer.keys() == {"ok", "data"}
            _, salt, iterations = answer["data"].split(",")
            firsts.setdefault(login, set()).add((salt, iterations))
    assert len(firsts["nobody"]) == len(firsts["ann"]) == 1
    ((salt, iterations),) = firsts["nobody"]
    ((other, others),) = firsts["ann"]
    assert (len(salt), iterations) == (len(other), others)
    wrong = [log_in(team.stranger(), login, "wrong") for login in ("nobody", "ann")]
    assert wrong[0] == wrong[1]
    assert wrong[0]["error"]["code"] == "wrong_login"


def test_three_failures_block(strict: Chatting) -> None:
    """After three wrong passwords the login and the address are blocked on every node, also with the right password and
    for other logins; sessions go on."""
    session = strict.login("ann").wait_event("_settings").args[0]["session"]
    answers = [log_in(strict.stranger(), "guessed", "wrong") for _ in range(4)]
    assert [answer["error"]["code"] for answer in answers] == ["wrong_login"] * 3 + ["blocked"]
    assert 290 <= answers[3]["error"]["retry_after"] <= 300
    for node in strict.nodes:
        for login in ("guessed", "Bob"):
            client = strict.begin(replace(strict.call(), base_url=node.url))
            client.wait_connected()
            assert log_in(client, login)["error"]["code"] == "blocked"
    strict.resume(session)
