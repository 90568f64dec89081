"""The pages in Chromium on a real server: with mouse and keyboard, on a desk and on a phone, checked by axe-core."""

from __future__ import annotations

import itertools
import json
from collections.abc import Callable, Iterator

import httpx
import pytest

from tests.support.browser import Browser, Page
from tests.support.deployment import Deployment
from tests.support.node_clients import install_clients
from tests.support.processes import REPOSITORY
from tests.support.waiting import eventually

NAME, PASSWORD = "root", "correct horse battery"
SITES = {
    name: {"authUrl": "http://127.0.0.1:9/rooms", "apiKey": f"key of {name}", "userRoomPrefix": "user_"}
    for name in ("shop", "news")
}
_ADDRESSES = itertools.cycle(range(1, 255))
SIZES = {"desk": (1280, 800), "phone": (375, 740)}

OpenPage = Callable[..., Page]


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Deployment]:
    """A server with two sites, a journal, and an administrator. Tests share it."""
    file = tmp_path_factory.mktemp("journal") / "journal.sqlite"
    environment = {"DATABASE_URL": f"sqlite:///{file}", "RECADO_OPERATOR": NAME, "RECADO_OPERATOR_PASSWORD": PASSWORD}
    deployment = Deployment(SITES, environment=environment)
    eventually(lambda: can_log_in(deployment.url), "the operator", 60, interval_seconds=0.5)
    yield deployment
    deployment.end()


def can_log_in(url: str) -> bool:
    """Whether the administrator is made. Each try comes from another address: five failures of one would block it."""
    transport = httpx.HTTPTransport(local_address=f"127.0.1.{next(_ADDRESSES)}")
    with httpx.Client(transport=transport) as client:
        return client.post(f"{url}/console/login", data={"name": NAME, "password": PASSWORD}).status_code == 303


@pytest.fixture
def open_page(server: Deployment, browser: Browser) -> Iterator[OpenPage]:
    """Opens a path of the server, with the options of `Browser.open`; its pages are closed when the test ends."""
    pages: list[Page] = []

    def open_page(path: str, width: int = 1280, height: int = 800) -> Page:
        pages.append(browser.open(server.url + path, width=width, height=height))
        return pages[-1]

    yield open_page
    for page in pages:
        page.close()


@pytest.fixture
def inside(open_page: OpenPage) -> OpenPage:
    """Opens a path as an operator who is logged in."""

    def inside(path: str, **options: int) -> Page:
        page = open_page(path, **options)
        log_in(page)
        return page

    return inside


def log_in(page: Page) -> None:
    """Fill in the login, and wait for the page behind it."""
    page.fill(page.find("textbox", "Name"), NAME)
    page.fill(page.find("textbox", "Password"), PASSWORD)
    page.click(page.find("button", "Log in"))
    wait_for(page, "document.querySelector('nav') !== null", "the page")


def wait_for(page: Page, condition: str, what: str) -> None:
    """Wait until an expression is true, on whatever page is loaded by then."""

    def is_true() -> bool:
        try:
            return bool(page.evaluate(f"document.readyState === 'complete' && ({condition})"))
        except AssertionError:
            # Between two pages there is nothing to ask.
            return False

    eventually(is_true, what)


def go(page: Page, path: str) -> None:
    """Load another path of the server."""
    origin = page.evaluate("location.origin")
    page.call("Page.navigate", url=origin + path)
    wait_for(page, f"location.pathname + location.search === {json.dumps(path)}", path)


def violations(page: Page, *rules: str) -> list[str]:
    """The findings of axe-core in the page, one line each; with `rules`, those of these alone."""
    install_clients()
    page.evaluate((REPOSITORY / "tests/clients/node_modules/axe-core/axe.min.js").read_text() + "; 0")
    options = json.dumps({"runOnly": rules} if rules else {})
    found = page.evaluate(f"axe.run({options}).then((result) => result.violations)")
    return [f"{one['id']}: {node['html']}" for one in found for node in one["nodes"]]


def violations_of_both(page: Page) -> list[str]:
    """The findings in light, and in dark those of the rule that looks at colours."""
    found = violations(page)
    page.call("Emulation.setEmulatedMedia", features=[{"name": "prefers-color-scheme", "value": "dark"}])
    found += violations(page, "color-contrast")
    page.call("Emulation.setEmulatedMedia", features=[{"name": "prefers-color-scheme", "value": "light"}])
    return found


@pytest.mark.parametrize("size", SIZES)
def test_pages_are_accessible(inside: OpenPage, size: str) -> None:
    """No page of the menu has a violation of axe-core, light or dark, an error in its log, or a width that must be
    scrolled."""
    width, height = SIZES[size]
    page = inside("/console/log", width=width, height=height)
    paths = page.evaluate("[...document.querySelectorAll('nav > ul a')].map((link) => link.pathname)")
    assert "/console/audit" in paths
    for path in paths:
        go(page, path)
        assert violations_of_both(page) == [], path
        assert page.evaluate("document.documentElement.scrollWidth <= innerWidth"), path
    assert page.complaints() == []


def test_the_menu_on_a_phone(inside: OpenPage) -> None:
    """On a phone the menu is behind a button, and nothing of it must be scrolled sideways."""
    page = inside("/console/log", width=375, height=740)
    is_shown = "document.querySelector('#menu').checkVisibility()"
    assert page.evaluate(is_shown) is False
    page.click(page.find("button", "Menu"))
    assert page.evaluate(is_shown) is True
    assert page.evaluate("document.querySelector('#menu').scrollWidth <= document.querySelector('#menu').clientWidth")
    assert violations(page) == []
    page.click(page.find("link", "Audit"))
    wait_for(page, "location.pathname === '/console/audit'", "the page")
    assert page.evaluate(is_shown) is False


def test_the_login_is_accessible(open_page: OpenPage) -> None:
    """The login, and its answer to a wrong password, have no violation."""
    page = open_page("/console", width=375, height=740)
    assert violations(page) == []
    page.fill(page.find("textbox", "Name"), "nobody")
    page.fill(page.find("textbox", "Password"), "wrong")
    page.click(page.find("button", "Log in"))
    wait_for(page, "document.querySelector('[role=alert]') !== null", "the answer")
    assert "Name or password is wrong." in page.evaluate("document.querySelector('main').innerText")
    assert violations(page) == []


def test_by_keyboard(open_page: OpenPage) -> None:
    """Keyboard alone logs in; behind it the first Tab is the way past the menu."""
    page = open_page("/console/operators")
    wait_for(page, "document.activeElement.name === 'name'", "the focus")
    page.call("Input.insertText", text=NAME)
    page.press_tab()
    page.call("Input.insertText", text=PASSWORD)
    page.press_tab()
    assert page.focused() == ("button", "Log in")
    press_enter(page)
    wait_for(page, "document.querySelector('nav') !== null", "the page")
    assert page.evaluate("location.pathname") == "/console/operators"
    page.press_tab()
    assert page.focused() == ("link", "Skip to the content")
    press_enter(page)
    wait_for(page, "document.activeElement.id === 'main'", "the content")


def press_enter(page: Page) -> None:
    """Press the Enter key."""
    key = {"key": "Enter", "code": "Enter", "windowsVirtualKeyCode": 13, "text": "\r"}
    page.call("Input.dispatchKeyEvent", type="keyDown", **key)
    page.call("Input.dispatchKeyEvent", type="keyUp", **{**key, "text": ""})


def test_the_life_of_an_operator(inside: OpenPage) -> None:
    """An operator is added, changed and removed on the pages; the audit has it all, and no password."""
    page = inside("/console/operators")
    form = page.find("region", "Add an operator")
    page.fill(page.find("textbox", "Name", form), "ben")
    page.fill(page.find("textbox", "Password, at least 10 characters", form), "bens own password")
    page.click(page.find("button", "Add", form))
    wait_for(page, "document.querySelector('#operator-ben') !== null", "the operator in the list")
    assert "Done: Add an operator." in page.evaluate("document.querySelector('[role=status]').innerText")
    page.click(page.find("button", "Disable"))
    wait_for(page, "document.querySelector('#operator-ben .state')?.innerText === 'disabled'", "the change")
    page.evaluate("[...document.querySelectorAll('#operator-ben details')].at(-1).open = true")
    page.click(page.find("button", "Remove"))
    wait_for(page, "document.querySelector('#operator-ben') === null", "the removal")
    go(page, "/console/audit")
    text = page.evaluate("document.querySelector('main').innerText")
    assert [action in text for action in ("operators.add", "operators.change", "operators.remove")] == [True] * 3
    assert "bens own password" not in text
    assert page.complaints() == []


def test_a_live_list_keeps_the_place(inside: OpenPage, server: Deployment) -> None:
    """A warning of the server shows up in the open log, without a load. While somebody holds the list, a further one
    waits behind a button."""
    page = inside("/console/log?event=console+login+refused")
    page.evaluate("window.isSame = true")

    def rows() -> int:
        return int(page.evaluate("document.querySelectorAll('tbody tr').length"))

    # A line with the same reason within a second is only counted.
    httpx.post(f"{server.url}/console/login", data={"name": "nobody", "password": "x"})
    eventually(lambda: rows() > 0, "the row", 60)
    page.click(page.find("button", "Pause"))
    before = rows()
    httpx.post(f"{server.url}/console/login", data={"name": "nobody else", "password": "x"})
    with httpx.Client(base_url=server.url) as client:
        client.post("/console/login", data={"name": NAME, "password": PASSWORD})
        eventually(lambda: lines_of(client) > before, "the second row in SQL", 60)
    assert rows() == before
    page.click(page.find("button", "Go on"))
    eventually(lambda: rows() > before, "the second row", 60)
    assert page.evaluate("window.isSame") is True
    assert page.complaints() == []


def lines_of(client: httpx.Client) -> int:
    """How many of the lines the journal has by now."""
    return client.get("/console/log", params={"event": "console login refused"}).text.count('id="log-')


def test_a_filter_is_an_address(inside: OpenPage) -> None:
    """A filter changes the address and the list without loading the page; the browser's button goes back."""
    page = inside("/console/log")
    page.evaluate("window.isSame = true")
    page.choose(page.find("combobox", "Level"), "critical")
    page.click(page.find("button", "Filter"))
    wait_for(page, "location.search === '?level=critical'", "the address")
    wait_for(page, "document.querySelector('.empty') !== null", "the list")
    assert page.evaluate("window.isSame") is True
    assert page.evaluate("document.querySelector('select').value") == "critical"
    page.evaluate("history.back()")
    wait_for(page, "location.search === ''", "the way back")
    assert page.complaints() == []
