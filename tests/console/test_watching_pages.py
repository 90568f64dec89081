"""The pages of messages, devices and users in Chromium, on a real server with real clients."""

from __future__ import annotations

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
    wait_for,
)
from tests.support.browser import Page
from tests.support.clients import ACK_ALL, ACK_NONE, PYTHON_KINDS
from tests.support.connector import Connector, Drivers
from tests.support.deployment import Deployment
from tests.support.sites import contract_sites
from tests.support.tenant import Tenant, User
from tests.support.waiting import eventually

__all__ = ["inside", "open_page"]

ALPHA = "/console/sites/alpha"


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory, tenant: Tenant) -> Iterator[Deployment]:
    """A server with a journal, an administrator and a site. Tests share it, each with a user of its own."""
    file = tmp_path_factory.mktemp("journal") / "journal.sqlite"
    environment = {"DATABASE_URL": f"sqlite:///{file}", "RECADO_OPERATOR": NAME, "RECADO_OPERATOR_PASSWORD": PASSWORD}
    deployment = Deployment({"alpha": contract_sites(tenant)["alpha"]}, environment=environment)
    eventually(lambda: can_log_in(deployment.url), "the operator", 60, interval_seconds=0.5)
    yield deployment
    deployment.end()


@pytest.fixture
def connect(server: Deployment, drivers: Drivers) -> Connector:
    """Connects clients to the server."""
    return Connector(server, drivers)


def send(server: Deployment, user: User, event: str) -> str:
    """Send a message to a user; its id."""
    answer = server.try_send("alpha", {"rooms": user.room, "event": event, "args": [1]})
    assert answer.status_code == 200, answer.text
    return str(answer.headers["x-message-id"])


def wait_row(page: Page, id: str, *texts: str) -> None:
    """Wait until the row with this id has all of these texts."""
    row = f"document.getElementById({id!r})"
    found = " && ".join(f"{row}.innerText.includes({text!r})" for text in texts)
    wait_for(page, f"{row} !== null && {found}", f"{texts} in the row {id}")


def press(page: Page, name: str) -> None:
    """Open the question behind a word and answer it."""
    page.evaluate(
        f"[...document.querySelectorAll('details.asked')].find(one => one.innerText.startsWith({name!r})).open = true"
    )
    page.click(page.find("button", name))


@pytest.mark.parametrize("size", SIZES)
def test_the_life_of_a_message(
    inside: OpenPage, server: Deployment, connect: Connector, tenant: Tenant, size: str
) -> None:
    """A message that one device has not taken is found by its state, tells why, and is withdrawn."""
    user = tenant.user()
    taking = connect("alpha", user, PYTHON_KINDS[0], device="phone", ack=ACK_ALL)
    silent = connect("alpha", user, PYTHON_KINDS[0], device="tablet", ack=ACK_NONE)
    id = send(server, user, "order.changed")
    taking.wait_event("order.changed")
    silent.wait_event("order.changed")
    width, height = SIZES[size]
    page = inside(f"{ALPHA}/messages?state=written&user={user.room}", width=width, height=height)
    wait_row(page, f"message-{id}", "order.changed", "2")
    assert violations(page) == []
    page.click(page.find("link", id))
    wait_row(page, f"device-{user.room}-phone", "acked")
    wait_row(page, f"device-{user.room}-tablet", "written", "not acknowledged yet")
    assert violations(page) == []
    page.click(page.find("button", "Send again"))
    taking.wait_event("order.changed", nth=2)
    wait_for(page, "document.querySelector('[role=status]') !== null", "the note")
    silent.disconnect()
    wait_row(page, f"device-{user.room}-tablet", "away since")
    press(page, "Withdraw")
    wait_row(page, f"device-{user.room}-tablet", "withdrawn")
    wait_row(page, f"device-{user.room}-phone", "acked")
    go(page, f"{ALPHA}/trace?user={user.room}")
    text = page.evaluate("document.querySelector('main').innerText")
    assert "acknowledged after" in text
    assert "(order.changed) withdrawn" in text
    assert violations(page) == []
    assert page.complaints() == []


@pytest.mark.parametrize("size", SIZES)
def test_the_queue_of_a_device(
    inside: OpenPage, server: Deployment, connect: Connector, tenant: Tenant, size: str
) -> None:
    """The queue of a device is opened and dropped, and its client gets `_resync`; forgotten, the device is gone."""
    user = tenant.user()
    client = connect("alpha", user, PYTHON_KINDS[0], device="tablet", ack=ACK_NONE)
    ids = [send(server, user, f"news{number}") for number in range(2)]
    client.wait_event("news1")
    width, height = SIZES[size]
    page = inside(f"{ALPHA}/devices?user={user.room}&state=waiting", width=width, height=height)
    wait_row(page, f"device-{user.room}-tablet", "connected", "2")
    assert violations(page) == []
    page.click(page.find("link", "tablet"))
    for number, id in enumerate(ids):
        wait_row(page, f"message-{id}", f"news{number}")
    assert violations(page) == []
    press(page, "Drop the queue")
    client.wait_event("_resync")
    wait_for(page, "document.querySelector('.empty')?.innerText.startsWith('Nothing waits')", "the empty queue")
    press(page, "Forget the device")
    client.wait_disconnected()
    wait_for(page, f"location.pathname === '{ALPHA}/devices'", "the list")
    go(page, f"{ALPHA}/trace?user={user.room}&device=tablet")
    wait_for(page, "document.querySelector('main').innerText.includes('dropped with the queue')", "the trace")
    assert page.complaints() == []


def test_words_of_a_client(inside: OpenPage, server: Deployment, connect: Connector, tenant: Tenant) -> None:
    """Markup in an event and in a device's id is shown as text."""
    user = tenant.user()
    script = "<img src=x onerror=document.title='stolen'>"
    client = connect("alpha", user, PYTHON_KINDS[0], device=script, ack=ACK_NONE)
    id = send(server, user, script)
    client.wait_event(script)
    page = inside(f"{ALPHA}/messages?user={user.room}")
    for path in (f"/messages/{id}", f"/devices?user={user.room}", f"/trace?user={user.room}", "/messages?event=%3Cimg"):
        go(page, ALPHA + path)
        assert page.evaluate("document.querySelector('main img')") is None
    go(page, f"{ALPHA}/messages/{id}")
    assert script in page.evaluate("document.querySelector('main').innerText")
    assert page.evaluate("document.title") == "Message · Recado"
    assert page.complaints() == []


EMPTY: dict[str, str] = {
    "/messages?event=none": "No message passes this filter.",
    "/devices?user=user_0": "No device passes this filter.",
    "/trace": "Name a user",
    "/trace?user=user_0": "Nothing happened to user_0",
}


@pytest.mark.parametrize("path", EMPTY)
def test_what_to_do(inside: OpenPage, path: str) -> None:
    """An empty page says what to do."""
    page = inside(ALPHA + path)
    wait_for(page, "document.querySelector('.empty') !== null", "the words")
    assert page.evaluate("document.querySelector('.empty').innerText").startswith(EMPTY[path])
    assert page.complaints() == []
