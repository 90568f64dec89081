"""Pages that act on messages, webhooks, users and rooms, in Chromium on a real server with clients and a backend."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

import pytest

from tests.console.test_pages import (
    NAME,
    PASSWORD,
    SIZES,
    OpenPage,
    can_log_in,
    go,
    inside,
    open_page,
    violations,
    violations_of_both,
    wait_for,
)
from tests.contract.test_messenger_account import change, keys
from tests.support.background import BackgroundLoop
from tests.support.browser import Page
from tests.support.chat import MESSENGER, Chatting, log_in, make_users, password_of
from tests.support.clients import Client
from tests.support.connector import Connector, Drivers
from tests.support.deployment import Deployment
from tests.support.hook_receiver import SECRET, HookReceiver, running_receiver
from tests.support.sites import contract_sites
from tests.support.tenant import Tenant
from tests.support.waiting import eventually

__all__ = ["inside", "open_page"]

SEND = "/console/sites/alpha/send"
WEBHOOKS = "/console/sites/alpha/webhooks"
_BESIDE = ("registrations", "changes")
USERS, ROOMS = "/console/sites/team/users", "/console/sites/team/rooms"


@pytest.fixture(scope="module")
def receiver(background: BackgroundLoop) -> Iterator[HookReceiver]:
    """The receiver of the webhook of alpha."""
    with running_receiver(background) as receiver:
        yield receiver


@pytest.fixture(scope="module")
def database(tmp_path_factory: pytest.TempPathFactory) -> str:
    """The URL of the server's database."""
    return f"sqlite:///{tmp_path_factory.mktemp('journal') / 'journal.sqlite'}"


@pytest.fixture(scope="module")
def server(database: str, tenant: Tenant, receiver: HookReceiver) -> Iterator[Deployment]:
    """A server with a journal, an administrator, and three sites: one has a webhook, one a messenger. Tests share
    it."""
    environment = {"DATABASE_URL": database, "RECADO_OPERATOR": NAME, "RECADO_OPERATOR_PASSWORD": PASSWORD}
    sites = contract_sites(tenant)
    events = ["user.online", "message.acknowledged", "message.unacknowledged"]
    hook = {"url": receiver.url, "secret": SECRET, "events": events, "allow_private": True}
    team = {"apiKey": "key of team", "messenger": MESSENGER | {"registration": "open"}}
    served = {"alpha": sites["alpha"] | {"webhook": hook}, "plain": sites["plain"], "team": team}
    deployment = Deployment(served, environment=environment)
    eventually(lambda: can_log_in(deployment.url), "the operator", 60, interval_seconds=0.5)
    yield deployment
    deployment.end()


@pytest.fixture(scope="module")
def people(server: Deployment, database: str) -> dict[str, int]:
    """Users of the messenger; their ids by login."""
    return make_users(database, "team", ["bob", "cleo"]) | make_users(database, "team", ["root"], is_admin=True)


@pytest.fixture
def team(server: Deployment, drivers: Drivers) -> Iterator[Chatting]:
    """The clients of one test at the messenger."""
    chatting = Chatting(server, drivers, "team")
    yield chatting
    chatting.close()


def text_of(page: Page, selector: str = "main") -> str:
    """The text of an element as it is shown; "" while there is none."""
    return str(page.evaluate(f"document.querySelector({selector!r})?.innerText ?? ''"))


def test_send(inside: OpenPage, server: Deployment, drivers: Drivers, tenant: Tenant) -> None:
    """An operator sends to a room that nobody is in, reads the warning, mends the room, and the client gets it; the
    curl line beside the answer has no key. The form keeps its texts."""
    connect = Connector(server, drivers)
    user = tenant.user()
    client = connect("alpha", user)
    page = inside(SEND)
    page.fill(page.find("textbox", "Rooms, one in each line"), "user_nobody")
    page.fill(page.find("textbox", "Event"), "news")
    page.fill(page.find("textbox", "Arguments, a JSON list"), '["from the page", 1]')
    page.click(page.find("button", "Send"))
    wait_for(page, "document.querySelector('#told') !== null", "the answer")
    assert text_of(page, "#told [role=alert]").startswith("0 recipients.")
    assert violations(page) == []
    page.fill(page.find("textbox", "Rooms, one in each line"), user.room)
    page.evaluate("document.querySelector('#told').remove()")
    page.click(page.find("button", "Send"))
    wait_for(page, "document.querySelector('#told') !== null", "the second answer")
    assert text_of(page, "#told [role=status]") == "1 recipient."
    event = client.wait_event("news")
    assert list(event.args)[:2] == ["from the page", 1]
    curl = text_of(page, "#told pre")
    assert curl.startswith("curl 'http://localhost:")
    assert server.key("alpha") not in page.evaluate("document.documentElement.outerHTML")
    assert re.search(r"X-API-Key: \$API_KEY", curl)
    assert page.complaints() == []
    connect.close()


def test_webhooks(
    inside: OpenPage, server: Deployment, drivers: Drivers, tenant: Tenant, receiver: HookReceiver
) -> None:
    """An operator sends a test and reads the answer, sees the attempt come into the open list, finds a POST that the
    receiver has refused with its answer, and sends it again."""
    connect = Connector(server, drivers)
    page = inside(WEBHOOKS)
    receiver.answer = b"<b>told</b>"
    page.click(page.find("button", "Send a test"))
    wait_for(page, "document.querySelector('#told') !== null", "the answer")
    assert text_of(page, "#told [role=status]").startswith("The receiver answered 200 after")
    assert text_of(page, "#told pre").strip() == "<b>told</b>"
    eventually(lambda: "<b>told</b>" in text_of(page, "tbody[data-rows]"), "the attempt", 60)
    receiver.status = lambda number: 410
    receiver.answer = b"no more"
    connect("alpha", tenant.user())
    eventually(lambda: "no more" in text_of(page, "tbody[data-rows]"), "the refused attempt", 60)
    eventually(lambda: "The receiver answered 410" in text_of(page, "#webhook-state"), "the state", 60)
    eventually(lambda: "user.online" in text_of(page, "#webhook-posts"), "the parked POST", 60)
    assert violations(page) == []
    receiver.status = lambda number: 200
    receiver.answer = b"thanks"
    click_again(page)
    eventually(lambda: "Done: Send a POST again." in text_of_any(page), "the page behind it")
    eventually(lambda: "thanks" in text_of(page, "tbody[data-rows]"), "the delivered attempt", 60)
    eventually(lambda: "user.online" in [event["type"] for event in receiver.accepted], "the event", 60)
    assert page.complaints() == []
    connect.close()


def text_of_any(page: Page, selector: str = "main") -> str:
    """The text of an element of the page that is loaded by now; "" between two pages."""
    try:
        return text_of(page, selector)
    except AssertionError:
        return ""


def click_again(page: Page) -> None:
    """Press the button beside the parked POST. The live page may bring a new one at any time."""
    page.evaluate("document.querySelector('#webhook-posts button').click()")


def test_a_user(inside: OpenPage, team: Chatting, people: dict[str, int]) -> None:
    """An operator adds a user, who logs in, and is seen; disabling closes its connection with the reason, and ends its
    session. A user that has failed too often is let in again."""
    page = inside(USERS)
    form = page.find("region", "Add a user")
    page.fill(page.find("textbox", "Login", form), "ann")
    page.fill(page.find("textbox", "First password, or empty: one is made", form), password_of("ann"))
    page.click(page.find("button", "Add", form))
    wait_for(page, "document.querySelector('dl.facts') !== null", "the answer")
    assert password_of("ann") not in text_of(page)
    client = team.stranger("phone", app={"name": "notes", "version": "1.2"})
    assert log_in(client, "ann")["must_change_password"] is True
    assert change(client, "ann", "my own pass word")["ok"]
    session = client.wait_event("_settings", 2).args[0]["session"]
    go(page, f"{USERS}?text=ann")
    page.click_on("link", "ann")
    wait_for(page, "document.querySelector('#act-title') !== null", "the page of the user")
    eventually(lambda: "online" in text_of(page), "the presence", 60)
    assert "notes 1.2" in text_of(page)
    assert violations(page) == []
    page.click(page.find("button", "Disable"))
    client.wait_disconnected()
    eventually(lambda: "disabled" in text_of_any(page, "dl.facts"), "the state")
    assert team.begin(team.call("phone", session=session)).wait_refused() == "session_void"
    page.click(page.find("button", "Enable"))
    eventually(lambda: lacks(page, "dl.facts", "disabled"), "the state before")
    for _ in range(3):
        assert log_in(team.stranger("phone"), "ann", "guessed")["ok"] is False
    assert log_in(team.stranger("phone"), "ann", "my own pass word")["error"]["code"] == "blocked"
    eventually(lambda: "blocked" in text_of(page, "dl.facts"), "the block", 60)
    page.evaluate("document.querySelector('dl.facts button').click()")
    eventually(lambda: "Done: Let a user log in again." in text_of_any(page), "the page behind it")
    assert log_in(team.stranger("phone"), "ann", "my own pass word")["ok"] is True
    eventually(lambda: shows(page, "/console/sites/team/connections", "session_void"), "the reason", 60)
    assert page.complaints() == []


def lacks(page: Page, selector: str, text: str) -> bool:
    """Whether an element is there, without a text."""
    shown = text_of_any(page, selector)
    return shown != "" and text not in shown


def shows(page: Page, path: str, text: str) -> bool:
    """Whether a page, loaded again, has a text."""
    go(page, path)
    return text in text_of_any(page)


def test_a_room(inside: OpenPage, team: Chatting, people: dict[str, int]) -> None:
    """An operator adds a room with members by their logins: a member that is connected hears of it at once, and hears
    that it is gone when it is taken out. The page has what was done, and by whom."""
    bob = team.login("bob", "tablet")
    page = inside(ROOMS)
    form = page.find("region", "Add a room")
    page.fill(page.find("textbox", "Name", form), "Lunch")
    page.fill(page.find("textbox", "Members, a login in each line", form), "bob\nCLEO")
    page.click(page.find("button", "Add", form))
    room = told_of_rooms(bob, "Lunch")
    assert room["members"] == sorted([people["bob"], people["cleo"]])
    eventually(lambda: "Lunch" in text_of_any(page), "the room in the list")
    page.click_on("link", "Lunch")
    wait_for(page, "document.querySelector('#member-title') !== null", "the page of the room")
    assert violations(page) == []
    page.evaluate(f"[...document.querySelectorAll('#member-{people['bob']} button')].at(-1).click()")
    eventually(lambda: lacks(page, "#live tbody", "bob"), "the member gone")
    assert told_of_rooms(bob, None) == {"id": room["id"], "deleted": True}
    assert f"operator:{NAME}" in text_of(page)
    assert page.complaints() == []


def told_of_rooms(client: Client, name: str | None) -> dict[str, Any]:
    """The room of this name that a client is told of; waits for it."""
    nth = 1
    while True:
        for room in client.wait_event("directory", nth).args[0].get("rooms", ()):
            if room.get("name") == name:
                return dict(room)
        nth += 1


def test_a_registration(inside: OpenPage, team: Chatting, people: dict[str, int]) -> None:
    """A stranger that registers shows up on the open page, is accepted there, and logs in."""
    page = inside(USERS)
    stranger = team.stranger("s1")
    assert stranger.ask("register", {"login": "nia", "name": "Nia", **keys("of nia")})["ok"]
    eventually(lambda: "Registrations that wait" in text_of(page), "the registration", 60)
    assert violations(page) == []
    page.click(page.find("button", "Accept"))
    eventually(lambda: "Done: Accept a registration." in text_of_any(page), "the page behind it")
    assert log_in(team.stranger("s2"), "nia", "of nia")["ok"]
    assert page.complaints() == []


@pytest.mark.parametrize("size", SIZES)
def test_they_are_accessible(inside: OpenPage, people: dict[str, int], size: str) -> None:
    """With everything open, no page has a violation of axe-core's rules, light or dark, an error in its log, or a width
    that must be scrolled."""
    width, height = SIZES[size]
    page = inside(SEND, width=width, height=height)
    of_team = (USERS, f"{USERS}/{people['bob']}", ROOMS, *(f"/console/sites/team/{one}" for one in _BESIDE))
    for path in (SEND, "/console/sites/plain/send", WEBHOOKS, "/console/sites/plain/webhooks", *of_team):
        go(page, path)
        page.evaluate("document.querySelectorAll('details').forEach((one) => { one.open = true; })")
        assert violations_of_both(page) == [], path
        assert page.evaluate("document.documentElement.scrollWidth <= innerWidth"), path
    assert page.complaints() == []
