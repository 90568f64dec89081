"""The client for pages in Chromium, with positions in the page's own database: each message takes effect once."""

from __future__ import annotations

import json
import random
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.support.browser import Browser, Page
from tests.support.deployment import Deployment
from tests.support.tenant import Tenant, User
from tests.support.waiting import eventually

_PAGE = (Path(__file__).parent / "page.js").read_text()
_SECONDS = 30.0


class Tab:
    """A tab with the page, of a user of its own. Lives for one test."""

    def __init__(self, server: Deployment, browser: Browser, user: User) -> None:
        """Open it with an empty database."""
        self.server = server
        self.user = user
        self.page: Page = browser.open(f"{server.url}/healthcheck")
        self._load()

    def run(self, body: str, **values: Any) -> Any:
        """Run JavaScript in the page with these values."""
        given = "".join(f"const {name} = {json.dumps(value)};" for name, value in values.items())
        return self.page.evaluate(f"(async () => {{ {given} {body} }})()")

    def enter(self, body: str = "", site: str = "shop", **options: Any) -> None:
        """Connect, and run JavaScript before the first message."""
        self.run(
            f"enter(site, token, options).on('news', count); {body}", site=site, token=self.user.token, options=options
        )
        self.wait("recado.socket.connected", "the connection")

    def wait(self, expression: str, what: str) -> Any:
        """Block until an expression is true; return its value."""
        return eventually(lambda: self.page.evaluate(expression), what, _SECONDS)

    def counts(self) -> dict[int, int]:
        """How often each message was handled, as the page's database says."""
        return dict(self.run("return entries('counts')"))

    def wait_counted(self, *numbers: int) -> dict[int, int]:
        """Block until these messages were handled."""
        return eventually(
            lambda: found if (found := self.counts()).keys() >= set(numbers) else {}, f"{numbers}", _SECONDS
        )

    def send(self, *numbers: int, site: str = "shop") -> None:
        """Send an event for each number."""
        for number in numbers:
            self.server.send(site, self.user.room, "news", number)

    def waiting(self, site: str = "shop") -> int:
        """How many messages wait for the page's device."""
        device = self.run("return localStorage.recadoDevice")
        query = {"site": site, "apiKey": "the-key", "user": self.user.room, "device": device}
        return len(self.server.get("/devices/queue", params=query).json()["messages"])

    def wait_waiting(self, count: int) -> None:
        """Block until so many messages wait."""
        eventually(lambda: self.waiting() == count, f"{count} messages in the queue", _SECONDS)

    def wait_noted(self) -> None:
        """Block until the loss is noted in the database."""
        eventually(
            lambda: self.run("return (await entries('recado')).some(([key, value]) => key[1] === 0 && value === 1)"),
            "the loss to be noted",
            _SECONDS,
        )

    def wait_forgotten(self, site: str) -> None:
        """Block until the user has no device."""
        query = {"site": site, "apiKey": "the-key", "user": self.user.room}
        eventually(lambda: not self.server.get("/devices", params=query).json().get("devices"), "no device", _SECONDS)

    def kill(self) -> None:
        """Kill its process, and open the page again in the same profile."""
        self.page.kill()
        self.page.visit(f"{self.server.url}/healthcheck")
        self._load()

    def _load(self) -> None:
        self.page.evaluate(_PAGE)
        self.page.evaluate("load()")


@pytest.fixture
def tab(server: Deployment, browser: Browser, tenant: Tenant) -> Iterator[Tab]:
    """A tab of a user of its own; no script in it may have failed unseen."""
    tab = Tab(server, browser, tenant.user())
    yield tab
    assert tab.page.complaints() == []
    tab.page.close()


@pytest.mark.timeout(900)
def test_killed_tabs(tab: Tab, chance: random.Random, is_long: bool, tell: Callable[[str], None]) -> None:
    """A tab that is killed again and again, in the midst of handlers, has handled each message once in the end: none is
    lost, and none was handled twice."""
    kills, total = (60, 6_000) if is_long else (6, 600)
    publisher = threading.Thread(target=tab.send, args=range(total))
    tab.enter()
    publisher.start()
    for _ in range(kills):
        few = min(len(tab.counts()) + chance.randrange(1, 20), total)
        eventually(lambda few=few: len(tab.counts()) >= few, "more messages", 60)  # type: ignore[misc]
        tab.kill()
        tab.enter()
    publisher.join()
    eventually(lambda: len(tab.counts()) == total, "all messages", 60)
    counts = list(tab.counts().values())
    tell(f"{kills} kills, {total} messages: {counts.count(0)} lost, {sum(counts) - total} handled twice")
    assert tab.counts() == dict.fromkeys(range(total), 1)
    tab.wait_waiting(0)


def test_a_handler_that_throws_leaves_nothing(tab: Tab) -> None:
    """The writes of a handler that throws are taken back; the message comes again and takes effect once."""
    tab.run("globalThis.tries = 0")
    tab.enter(
        """
        recado.on("item", async (item, { transaction }) => {
            await asked(transaction.objectStore("items").add(item, ++tries));
            if (tries < 3) throw new Error("as planned");
        });
        """
    )
    tab.server.send("shop", tab.user.room, "item", "it")
    tab.wait("tries === 3", "the last try")
    tab.wait_waiting(0)
    assert tab.run("return entries('items')") == [[3, "it"]]
    assert tab.run("return errors") == ["as planned"] * 2


def test_a_handler_that_waits_for_something_else(tab: Tab) -> None:
    """A handler that lets its transaction end is told so, and the message is not acknowledged: it is not lost."""
    tab.enter(
        """
        recado.on("item", async (item, { transaction }) => {
            await new Promise((resolve) => transaction.addEventListener("complete", resolve));
        });
        """
    )
    tab.server.send("shop", tab.user.room, "item", "it")
    tab.wait("errors.length > 1", "the second try")
    assert "transaction" in tab.run("return errors[0]").lower()
    assert tab.waiting() == 1


def test_a_loss_outlives_the_page(tab: Tab) -> None:
    """A tab that is killed before its `reload` is over runs it when it is opened again, and then not any more."""
    tab.run("globalThis.reload = () => { globalThis.began = true; return new Promise(() => {}); }")
    tab.enter("recado.on('other', () => new Promise(() => {}))", "narrow", reload="given")
    tab.server.send("narrow", tab.user.room, "other")
    tab.send(*range(7), site="narrow")
    tab.wait("resyncs === 1", "_resync")
    tab.wait_noted()
    for reloads in (1, 0):
        tab.kill()
        tab.run("globalThis.reloads = 0; globalThis.reload = async () => { reloads += 1; }")
        tab.enter(site="narrow", reload="given")
        tab.send(100 + reloads, site="narrow")
        tab.wait_counted(100 + reloads)
        # The server tells of the loss again when the first tab was killed before it was known to have heard.
        assert tab.run("return reloads - resyncs") == reloads


def test_a_page_that_was_away_for_too_long(tab: Tab) -> None:
    """A page that is opened when its device is forgotten runs `reload`, and no event has told it of the loss."""
    tab.enter(site="brief")
    tab.send(1, site="brief")
    tab.wait_counted(1)
    tab.kill()
    tab.wait_forgotten("brief")
    tab.run("globalThis.reloads = 0; globalThis.reload = async () => { reloads += 1; }")
    tab.enter(site="brief", reload="given")
    tab.wait("reloads === 1", "reload")
    assert tab.run("return resyncs") == 0


def test_two_windows_are_one_device(tab: Tab) -> None:
    """Two windows of one browser share the positions: each message takes effect in one of them."""
    tab.enter()
    tab.run(
        """
        const frame = document.createElement("iframe");
        frame.src = "/healthcheck";
        const loaded = new Promise((resolve) => (frame.onload = resolve));
        document.body.append(frame);
        await loaded;
        globalThis.other = frame.contentWindow;
        other.eval(source);
        await other.load();
        other.enter("shop", token).on("news", other.count);
        """,
        source=_PAGE,
        token=tab.user.token,
    )
    tab.wait("other.recado.socket.connected", "the other window")
    tab.send(*range(30))
    assert tab.wait_counted(*range(30)) == dict.fromkeys(range(30), 1)
    tab.wait_waiting(0)
    assert tab.run("return [...errors, ...other.errors]") == []


def test_scopes_keep_users_apart(tab: Tab, tenant: Tenant) -> None:
    """Two users who share a browser and its database each get a message to a room of both."""
    lobby = tenant.unique("lobby")
    first, second = tab.user, tenant.user()
    for user in (first, second):
        tenant.set_rooms(user.token, user.room, lobby)
    for user, count in ((second, 0), (first, 1), (second, 2)):
        tab.user = user
        tab.enter(scope=user.id)
        if user is first:
            tab.server.send("shop", lobby, "news", 1)
        eventually(lambda count=count: tab.counts().get(1, 0) == count, f"{count} users", _SECONDS)  # type: ignore[misc]
        tab.wait_waiting(0)
        tab.run("recado.close()")
        tab.wait("!recado.socket.connected", "the end")


def test_old_positions_are_forgotten(tab: Tab) -> None:
    """Of the positions only so many are kept as `keep` says, the newest ones; they are counted now and then."""
    tab.enter("recado.on('tick', () => {})", keep=20)
    for _ in range(5):
        batch = [{"rooms": tab.user.room, "event": "tick"}] * 100
        assert (
            tab.server.post("/send/batch", params={"site": "shop", "apiKey": "the-key"}, json=batch).status_code == 200
        )
    tab.wait_waiting(0)
    positions = tab.run("return (await entries('recado')).map(([key]) => key[1]).filter((one) => one > 1)")
    assert 20 <= len(positions) < 500
