"""The pages of sites in Chromium: a site is added, used by a real client, given another key, and removed."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from urllib.parse import quote

import httpx
import pytest

from tests.console.test_pages import NAME, PASSWORD, SITES, can_log_in, go, log_in, violations, wait_for
from tests.support.browser import Browser, Page
from tests.support.connector import Connector, Drivers
from tests.support.deployment import Deployment
from tests.support.tenant import Tenant
from tests.support.waiting import eventually

BLOCK = """authUrl: {url}/bakery/rooms
authScheme: Token
userRoomPrefix: user_
"""


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Deployment]:
    """A server with two sites, a journal, and an administrator."""
    file = tmp_path_factory.mktemp("journal") / "journal.sqlite"
    environment = {"DATABASE_URL": f"sqlite:///{file}", "RECADO_OPERATOR": NAME, "RECADO_OPERATOR_PASSWORD": PASSWORD}
    deployment = Deployment(SITES, environment=environment)
    eventually(lambda: can_log_in(deployment.url), "the operator", 60, interval_seconds=0.5)
    yield deployment
    deployment.end()


@pytest.fixture
def page(server: Deployment, browser: Browser) -> Iterator[Page]:
    """The page of sites, on a phone, for an operator who is logged in."""
    page = browser.open(f"{server.url}/console/sites", width=375, height=740)
    log_in(page)
    yield page
    page.close()


def text_of(page: Page) -> str:
    """The words of the page's content."""
    return str(page.evaluate("document.querySelector('main').innerText"))


def shown_secret(page: Page, name: str) -> str:
    """The secret that the page shows once, under this name."""
    wait_for(page, "document.querySelector('dl.facts code') !== null", "what is shown once")
    terms = f"[...document.querySelectorAll('dt')].find((term) => term.innerText === '{name}')"
    return str(page.evaluate(f"{terms}.nextElementSibling.innerText"))


def send(server: Deployment, key: str, room: str, event: str) -> int:
    """The status of a message to the site of the test."""
    query = {"site": "bakery", "apiKey": key}
    return httpx.post(f"{server.url}/send", params=query, json={"rooms": room, "event": event}).status_code


def test_the_life_of_a_site(
    server: Deployment, page: Page, drivers: Drivers, tenant: Tenant, tell: Callable[[str], None]
) -> None:
    """A site that is added on the page is served at once; its key is rotated without a refused send; removed, it is
    gone from the list, and its client leaves. The pages have no violation on the way."""
    form = page.find("region", "Add a site")
    page.fill(page.find("textbox", "Name", form), "bakery")
    page.fill(
        page.find("textbox", "Settings, as they would stand in sites.yml behind the name", form),
        BLOCK.format(url=tenant.url),
    )
    began = time.monotonic()
    page.click(page.find("button", "Add", form))
    key = shown_secret(page, "apiKey")
    eventually(lambda: send(server, key, "user_nobody", "news") == 200, "the site")
    tell(f"served {time.monotonic() - began:.2f} s after the click")
    connector = Connector(server, drivers)
    try:
        user = tenant.user()
        client = connector("bakery", user)
        go(page, "/console/sites/bakery")
        assert violations(page) == []
        page.click(page.find("button", "Make a new key"))
        second = shown_secret(page, "apiKey")
        while send(server, second, user.room, "fresh") != 200:
            assert send(server, key, user.room, "old") == 200
        client.wait_event("fresh")
        go(page, "/console/sites/bakery")
        wait_for(page, "document.querySelectorAll('[id^=key-]').length === 2", "both keys")
        eventually(lambda: "never" not in used_times(page), "the last use of both keys", 60)
        page.evaluate("[...document.querySelectorAll('[id^=key-]')].at(-1).querySelector('details').open = true")
        page.click(page.find("button", "Remove"))
        wait_for(page, "document.querySelectorAll('[id^=key-]').length === 1", "one key")
        eventually(lambda: send(server, key, user.room, "old") == 401, "the old key to be refused")
        assert send(server, second, user.room, "still") == 200
        client.wait_event("still")

        page.evaluate("[...document.querySelectorAll('details.asked')].at(-1).open = true")
        page.click(page.find("button", "Remove the site"))
        client.wait_disconnected()
        wait_for(page, "location.pathname === '/console/sites'", "the list")
        eventually(lambda: "bakery" not in text_of(page), "the site to leave the list", 60)
    finally:
        connector.close()
    go(page, "/console/audit")
    audit = text_of(page)
    actions = ("sites.add", "sites.add_key", "sites.remove_key", "sites.remove")
    assert [action in audit for action in actions] == [True] * 4
    assert [secret in audit for secret in (key, second)] == [False, False]
    assert page.complaints() == []


def used_times(page: Page) -> str:
    """The column of last uses."""
    cells = "[...document.querySelectorAll('[id^=key-] td:nth-child(3)')].map((cell) => cell.innerText).join()"
    return str(page.evaluate(cells))


def test_mistakes_are_told(page: Page, server: Deployment) -> None:
    """A block with mistakes changes nothing, and the page says what is wrong; a site of the file has no form."""
    form = page.find("region", "Add a site")
    page.fill(page.find("textbox", "Name", form), "broken")
    page.fill(
        page.find("textbox", "Settings, as they would stand in sites.yml behind the name", form), "authUrl: nowhere"
    )
    page.click(page.find("button", "Add", form))
    wait_for(page, "document.querySelector('main').innerText.includes('broken.authUrl')", "the mistake")
    assert violations(page) == []
    go(page, "/console/sites/shop")
    assert "read only here" in text_of(page)
    assert page.evaluate("document.querySelector('textarea') === null")


def test_a_name_is_no_markup(page: Page, server: Deployment) -> None:
    """The name of a site is text on every page, whatever is in it."""
    name = '<img src=x onerror="document.title=1">'
    form = page.find("region", "Add a site")
    page.fill(page.find("textbox", "Name", form), name)
    page.fill(page.find("textbox", "Settings, as they would stand in sites.yml behind the name", form), "topics: {}")
    page.click(page.find("button", "Add", form))
    shown_secret(page, "apiKey")
    go(page, "/console/sites")
    eventually(lambda: name in text_of(page), "the site in the list", 60)
    go(page, f"/console/sites/{quote(name, safe='')}")
    assert name in text_of(page)
    assert page.evaluate("document.querySelectorAll('main img').length") == 0
    assert violations(page) == []
    assert page.complaints() == []
