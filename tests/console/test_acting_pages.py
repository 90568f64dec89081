"""Pages that act on messages and webhooks, in Chromium on a real server with a client and a backend."""

from __future__ import annotations

import re
from collections.abc import Iterator

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
from tests.support.background import BackgroundLoop
from tests.support.browser import Page
from tests.support.connector import Connector, Drivers
from tests.support.deployment import Deployment
from tests.support.hook_receiver import SECRET, HookReceiver, running_receiver
from tests.support.sites import contract_sites
from tests.support.tenant import Tenant
from tests.support.waiting import eventually

__all__ = ["inside", "open_page"]

SEND = "/console/sites/alpha/send"
WEBHOOKS = "/console/sites/alpha/webhooks"


@pytest.fixture(scope="module")
def receiver(background: BackgroundLoop) -> Iterator[HookReceiver]:
    """The receiver of the webhook of alpha."""
    with running_receiver(background) as receiver:
        yield receiver


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory, tenant: Tenant, receiver: HookReceiver) -> Iterator[Deployment]:
    """A server with a journal, an administrator, and two sites, one of them with a webhook. Tests share it."""
    file = tmp_path_factory.mktemp("journal") / "journal.sqlite"
    environment = {"DATABASE_URL": f"sqlite:///{file}", "RECADO_OPERATOR": NAME, "RECADO_OPERATOR_PASSWORD": PASSWORD}
    sites = contract_sites(tenant)
    events = ["user.online", "message.acknowledged", "message.unacknowledged"]
    hook = {"url": receiver.url, "secret": SECRET, "events": events, "allow_private": True}
    served = {"alpha": sites["alpha"] | {"webhook": hook}, "plain": sites["plain"]}
    deployment = Deployment(served, environment=environment)
    eventually(lambda: can_log_in(deployment.url), "the operator", 20, interval_seconds=0.5)
    yield deployment
    deployment.end()


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
    eventually(lambda: "<b>told</b>" in text_of(page, "tbody[data-rows]"), "the attempt", 20)
    receiver.status = lambda number: 410
    receiver.answer = b"no more"
    connect("alpha", tenant.user())
    eventually(lambda: "no more" in text_of(page, "tbody[data-rows]"), "the refused attempt", 20)
    eventually(lambda: "The receiver answered 410" in text_of(page, "#webhook-state"), "the state", 20)
    eventually(lambda: "user.online" in text_of(page, "#webhook-posts"), "the parked POST", 20)
    assert violations(page) == []
    receiver.status = lambda number: 200
    receiver.answer = b"thanks"
    click_again(page)
    eventually(lambda: "Done: Send a POST again." in text_of_any(page), "the page behind it")
    eventually(lambda: "thanks" in text_of(page, "tbody[data-rows]"), "the delivered attempt", 20)
    eventually(lambda: "user.online" in [event["type"] for event in receiver.accepted], "the event", 20)
    assert page.complaints() == []
    connect.close()


def text_of_any(page: Page) -> str:
    """The text of the page that is loaded by now; "" between two pages."""
    try:
        return text_of(page)
    except AssertionError:
        return ""


def click_again(page: Page) -> None:
    """Press the button beside the parked POST. The live page may bring a new one at any time."""
    page.evaluate("document.querySelector('#webhook-posts button').click()")


@pytest.mark.parametrize("size", SIZES)
def test_they_are_accessible(inside: OpenPage, size: str) -> None:
    """With everything open, no page has a violation of axe-core's rules, light or dark, an error in its log, or a width
    that must be scrolled."""
    width, height = SIZES[size]
    page = inside(SEND, width=width, height=height)
    for path in (SEND, "/console/sites/plain/send", WEBHOOKS, "/console/sites/plain/webhooks"):
        go(page, path)
        page.evaluate("document.querySelectorAll('details').forEach((one) => { one.open = true; })")
        assert violations_of_both(page) == [], path
        assert page.evaluate("document.documentElement.scrollWidth <= innerWidth"), path
    assert page.complaints() == []
