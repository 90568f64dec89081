"""The demo's page of the messenger in Chromium, used by two people: in one window, and in two browsers."""

from __future__ import annotations

import base64
import hashlib
import json
import random
import struct
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.console.test_pages import violations
from tests.demo.conftest import DemoServer
from tests.support.browser import Browser, Page
from tests.support.examples import example
from tests.support.processes import REPOSITORY
from tests.support.waiting import eventually

Open = Callable[..., Page]
#: The greatest picture that one may call small.
_LEAST_BYTES = 10_000


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[DemoServer]:
    """The demo with a database. Tests share its users, so that each looks for words of its own."""
    server = DemoServer(DATABASE_URL=f"sqlite:///{tmp_path_factory.mktemp('chat') / 'journal.sqlite'}")
    yield server
    server.end()


@pytest.fixture
def open_page(server: DemoServer, browser: Browser) -> Iterator[Open]:
    """Opens the page, each time in a profile of its own."""
    pages: list[Page] = []

    def open_page(**options: Any) -> Page:
        pages.append(browser.open(f"{server.url}/demo/messenger", **options))
        return pages[-1]

    yield open_page
    for page in pages:
        page.close()


class Side:
    """One person's side of a page. Lives as long as the page."""

    def __init__(self, page: Page, name: str) -> None:
        """Find it."""
        self.page = page
        self.name = name
        self.panel = page.find("region", name)

    def log_in(self) -> Side:
        """Log in with the values that the page suggests, and wait for the conversations."""
        self.press("Log in")
        self.wait("online")
        self.page.find("button", "Lunch room", self.panel)
        return self

    def press(self, name: str) -> None:
        """Press a button."""
        self.page.click(self.page.find("button", name, self.panel))

    def open(self, words: str) -> None:
        """Open the conversation whose button begins with these words."""
        buttons = "[...region.querySelectorAll('nav button')]"
        found = f"{buttons}.find((one) => one.innerText.startsWith(words))"
        eventually(lambda: self.ask(f"Boolean({found})", words), words)
        self.ask(f"{found}.click()", words)
        eventually(lambda: words in self.ask("region.querySelector('.log').ariaLabel ?? ''"), words)

    def send(self, text: str) -> None:
        """Write a message and send it with the Enter key."""
        field = self.page.find("textbox", f"Message of {self.name}", self.panel)
        self.page.fill(field, text)
        press_enter(self.page)

    def wait(self, text: str) -> str:
        """Wait until the side shows the text; returns all of its text."""
        return self.page.wait_text(self.panel, text)

    def text(self) -> str:
        """The text of the side."""
        return self.page.text(self.panel)

    def state_of(self, words: str) -> str:
        """The state of the ticks of the message with these words; "" when there is none."""
        found = f"{_MESSAGES}.find((one) => one.innerText.includes(words))"
        return str(self.ask(f"{found}?.querySelector('.ticks')?.dataset.state ?? ''", words))

    def wait_state(self, words: str, state: str) -> None:
        """Wait for the ticks of a message."""
        eventually(lambda: self.state_of(words) == state, f"{words!r} to be {state}", 20)

    def count(self, words: str) -> int:
        """How many messages with the words are shown."""
        return int(self.ask(f"{_MESSAGES}.filter((one) => one.innerText.includes(words)).length", words))

    def ask(self, expression: str, words: str = "") -> Any:
        """The value of JavaScript that knows this side as `region`, and `words`."""
        place = ["Anna", "Ben"].index(self.name)
        region = f"const region = document.querySelectorAll('.person')[{place}];"
        return self.page.evaluate(f"(() => {{ {region} const words = {json.dumps(words)}; return {expression}; }})()")


_MESSAGES = "[...region.querySelectorAll('.message')]"


def press_enter(page: Page) -> None:
    """Press the Enter key."""
    for kind in ("keyDown", "keyUp"):
        page.call("Input.dispatchKeyEvent", type=kind, key="Enter", code="Enter", text="\r", windowsVirtualKeyCode=13)


def both(page: Page) -> tuple[Side, Side]:
    """Both people, logged in in one window."""
    return Side(page, "Anna").log_in(), Side(page, "Ben").log_in()


def test_ticks_from_sent_to_read(open_page: Open) -> None:
    """A message in the open room is read at once; one to a conversation that is not open is delivered, shown as unread,
    and read when it is opened."""
    page = open_page()
    anna, ben = both(page)
    anna.send("first in the room")
    ben.wait("first in the room")
    anna.wait_state("first in the room", "read")
    anna.open("Ben")
    anna.send("for you alone")
    anna.wait_state("for you alone", "delivered")
    ben.wait("unread")
    assert "for you alone" not in ben.text()
    ben.open("Anna")
    ben.wait("for you alone")
    anna.wait_state("for you alone", "read")
    assert "unread" not in ben.text()
    assert page.complaints() == []


def test_offline_and_back(open_page: Open) -> None:
    """Messages for a person who is offline are sent and wait; messages written offline wait too, and each arrives
    once after the return."""
    page = open_page()
    anna, ben = both(page)
    ben.press("Go offline")
    ben.wait("offline")
    anna.send("while Ben is away")
    anna.wait_state("while Ben is away", "sent")
    ben.send("written offline, one")
    ben.send("written offline, two")
    ben.wait_state("written offline, two", "waiting")
    ben.press("Come back")
    ben.wait("while Ben is away")
    anna.wait("written offline, two")
    anna.wait_state("while Ben is away", "read")
    ben.wait_state("written offline, two", "read")
    text = anna.text()
    assert text.index("offline, one") < text.index("offline, two")
    assert (anna.count("written offline"), ben.count("written offline"), ben.count("while Ben")) == (2, 2, 1)
    assert page.complaints() == []


def test_two_browsers(open_page: Open) -> None:
    """Two browsers write to each other; after the loss of the network, and after a reload, each goes on without a
    login and has everything."""
    pages = [open_page(), open_page()]
    anna, ben = Side(pages[0], "Anna").log_in(), Side(pages[1], "Ben").log_in()
    anna.send("from one browser to the other")
    ben.wait("from one browser to the other")
    anna.wait_state("from one browser to the other", "read")
    pages[1].call("Network.enable")
    limit_network(pages[1], offline=True)
    ben.wait("connecting")
    anna.send("into the tunnel")
    anna.wait_state("into the tunnel", "sent")
    limit_network(pages[1])
    ben.wait("into the tunnel")
    anna.wait_state("into the tunnel", "read")
    pages[1].call("Page.reload")
    eventually(lambda: pages[1].evaluate("document.readyState") == "complete", "the page")
    again = Side(pages[1], "Ben")
    again.wait("from one browser to the other")
    again.wait("online")
    again.send("still here")
    anna.wait("still here")


HOSTILE = [
    "<script>window.hacked = 1</script>",
    '<img src=x onerror="window.hacked = 1">',
    "[x](javascript:window.hacked=1)",
    "```<svg/onload=window.hacked=1>\n<img src=x onerror=window.hacked=1>\n```",
    "> [#1] **<iframe srcdoc='<script>parent.hacked=1</script>'>**",
]


def test_script_in_every_text(open_page: Open) -> None:
    """Markup in messages, in names of files and in searches is shown as text and runs nowhere."""
    page = open_page()
    anna, ben = both(page)
    for text in HOSTILE:
        field = page.find("textbox", "Message of Anna", anna.panel)
        page.fill(field, text)
        anna.press("Send")
    ben.wait("<iframe srcdoc='<script>parent.hacked=1</script>'>")
    search(ben, "iframe")
    ben.wait("1 found")
    attach(anna, "<img src=x onerror=window.hacked=1>.txt", "text/plain", b"plain")
    ben.wait("Save")
    allowed = "'SCRIPT IFRAME OBJECT SVG'.split(' ').some((tag) => document.querySelector(`main ${tag}`))"
    assert page.evaluate(f"[window.hacked ?? null, {allowed}]") == [None, False]
    assert page.complaints() == []


def search(side: Side, words: str) -> None:
    """Search for words."""
    side.page.fill(side.page.find("searchbox", f"Search as {side.name}", side.panel), words)
    side.press("Search")


def attach(side: Side, name: str, kind: str, content: bytes) -> None:
    """Choose a file, as the dialog of the browser does."""
    file = json.dumps({"name": name, "type": kind, "bytes": base64.b64encode(content).decode()})
    side.ask(
        f"(({{ name, type, bytes }}) => {{ const transfer = new DataTransfer();"
        "const content = Uint8Array.from(atob(bytes), (one) => one.charCodeAt(0));"
        "transfer.items.add(new File([content], name, { type }));"
        "const field = region.querySelector('[type=file]'); field.files = transfer.files;"
        f"field.dispatchEvent(new Event('change')); }})({file})"
    )


def picture(width: int, height: int) -> bytes:
    """A PNG of one colour after another."""
    rows = [b"\0" + bytes(v for x in range(width) for v in (15 + x // 2, 118, 110 + y)) for y in range(height)]

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    head = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    return (
        b"\x89PNG\r\n\x1a\n"
        + chunk(b"IHDR", head)
        + chunk(b"IDAT", zlib.compress(b"".join(rows)))
        + chunk(b"IEND", b"")
    )


_LOADED = "[...region.querySelectorAll('img')].filter((one) => one.naturalWidth === 320).map((one) => one.alt)"


def test_a_picture_is_shown(open_page: Open) -> None:
    """A picture that one person attaches is shown to the other, by a link that is signed."""
    page = open_page()
    anna, ben = both(page)
    attach(anna, "garden.png", "image/png", picture(320, 120))
    eventually(lambda: "garden.png" in ben.ask(_LOADED), "the picture", 20)
    assert page.complaints() == []


def test_search_and_reply(open_page: Open) -> None:
    """A word is found in any conversation, which opens with the message; a reply quotes it, and links to it."""
    page = open_page()
    anna, ben = both(page)
    anna.open("Ben")
    anna.send("The marmalade is in the kitchen")
    anna.wait_state("marmalade", "delivered")
    search(ben, "marmal")
    ben.wait("1 found")
    ben.press("Anna: The marmalade is in the kitchen")
    ben.press("Reply to Anna: The marmalade is in the kitchen")
    field = page.find("textbox", "Message of Ben", ben.panel)
    assert "The marmalade is in the kitchen" in page.text(field)
    page.call("Input.insertText", text="Thank you")
    press_enter(page)
    anna.wait("Thank you")
    quoted = anna.ask("document.querySelector([...region.querySelectorAll('a.recado-quote')].at(-1).hash).innerText")
    assert "The marmalade is in the kitchen" in quoted


def test_typing_is_shown(open_page: Open) -> None:
    """A person at the open conversation sees that the other one is typing."""
    page = open_page()
    anna, ben = both(page)
    page.fill(page.find("textbox", "Message of Anna", anna.panel), "I am about to")
    ben.wait("Anna is typing…")


def test_wrong_passwords_block(browser: Browser, tmp_path: Path) -> None:
    """After three wrong passwords the login is blocked, and the page says for how long; the right one does not help."""
    server = DemoServer(DATABASE_URL=f"sqlite:///{tmp_path / 'journal.sqlite'}")
    page = browser.open(f"{server.url}/demo/messenger")
    try:
        anna = Side(page, "Anna")
        password = page.find("textbox", "Password", anna.panel)
        right = page.text(password)
        for _ in range(3):
            page.fill(password, "wrong")
            anna.ask("region.querySelector('.login .problem').textContent = ''")
            anna.press("Log in")
            anna.wait("Login or password is wrong.")
        page.fill(password, right)
        anna.press("Log in")
        anna.wait("Blocked: try again in")
        assert page.complaints() == []
    finally:
        page.close()
        server.end()


def test_another_password_and_the_end_of_a_session(browser: Browser, tmp_path: Path) -> None:
    """Another password ends the session of the other browser, which asks for a login; the old password is wrong then.
    A logout forgets what the browser keeps."""
    server = DemoServer(DATABASE_URL=f"sqlite:///{tmp_path / 'journal.sqlite'}")
    pages = [browser.open(f"{server.url}/demo/messenger") for _ in range(2)]
    try:
        first, second = (Side(page, "Anna").log_in() for page in pages)
        changed = (
            "const { Messenger } = await import('/recado/messenger.js');"
            "const chat = new Messenger({ site: 'team', storage: 'third' });"
            "await chat.login('anna', 'anna in the demo');"
            "await chat.changePassword('anna in the demo', 'pa\u00dfword \u2168');"
            "await chat.logout(); await chat.login('ANNA', 'pa\u00dfword IX');"
            "const name = chat.user.name; chat.close(); return name;"
        )
        assert pages[0].evaluate(f"(async () => {{ {changed} }})()") == "Anna"
        for side in (first, second):
            side.wait("not logged in")
        second.press("Log in")
        second.wait("Login or password is wrong.")
        pages[1].fill(pages[1].find("textbox", "Password", second.panel), "pa\u00dfword IX")
        second.log_in().press("Log out")
        second.wait("not logged in")
        pages[1].call("Page.reload")
        eventually(lambda: pages[1].evaluate("document.readyState") == "complete", "the page")
        Side(pages[1], "Anna").wait("not logged in")
    finally:
        for page in pages:
            page.close()
        server.end()


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("size", [(1280, 800), (375, 740)], ids=["desk", "phone"])
def test_page_is_accessible(open_page: Open, size: tuple[int, int], scheme: str) -> None:
    """Neither the login nor the conversations have a violation of axe-core, or a width that must be scrolled."""
    page = open_page(width=size[0], height=size[1])
    page.call("Emulation.setEmulatedMedia", features=[{"name": "prefers-color-scheme", "value": scheme}])
    assert violations(page) == []
    anna, ben = both(page)
    anna.send(f"**{'w' * 200}** and `code` of {scheme} {size}\n```py\nreturn 'x'  # 1\n```\n> quoted")
    ben.wait(f"{scheme} {size}")
    anna.wait_state(f"{scheme} {size}", "read")
    assert violations(page) == []
    assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")
    assert page.complaints() == []


def test_keyboard_reaches_everything(open_page: Open) -> None:
    """Tab alone walks through every control of a side in reading order, and each has an accessible name."""
    page = open_page()
    anna, _ = both(page)
    page.evaluate("document.querySelector('.page-head a').focus()")
    expected = [
        ("button", "Go offline"),
        ("button", "Log out"),
        ("button", "Lunch room"),
        ("button", "Ben"),
        ("searchbox", "Search as Anna"),
        ("button", "Search"),
        ("log", "Messages of Anna with Lunch"),
    ]
    reached = []
    for _ in expected:
        page.press_tab()
        reached.append(page.focused())
    # Messages of other tests may be unread.
    assert [(role, name.partition(" online")[0]) for role, name in reached] == expected
    page.call("DOM.focus", backendNodeId=page.find("textbox", "Message of Anna", anna.panel))
    for role, name in (("button", "Attach a file"), ("button", "Send")):
        page.press_tab()
        assert page.focused()[1].startswith(name), role


def test_a_file_goes_on_after_a_cut(open_page: Open) -> None:
    """An upload that the network cuts off goes on where it was, and the bytes are those of the file."""
    page = open_page()
    anna, ben = both(page)
    page.call("Network.enable")
    limit_network(page, upload=3_000_000)
    content = random.Random(7).randbytes(6_000_000)
    attach(anna, "large.bin", "application/octet-stream", content)
    eventually(lambda: anna.ask("region.querySelector('progress').value") >= 4_000_000, "the first part", 20)
    limit_network(page, offline=True)
    anna.wait("connecting")
    limit_network(page)
    ben.wait("large.bin, 6000000 bytes")
    answer = page.evaluate(
        "(async () => { const { Messenger } = await import('/recado/messenger.js');"
        "const chat = new Messenger({ site: 'team', storage: 'ben' }); await chat.open();"
        "while (chat.state !== 'online') await new Promise((resolve) => setTimeout(resolve, 20));"
        "const [found] = (await chat.search('large')).messages;"
        "const body = await (await fetch(await chat.fileLink(found.file.id))).arrayBuffer();"
        "chat.close(); return [...new Uint8Array(await crypto.subtle.digest('SHA-256', body))]; })()"
    )
    assert bytes(answer) == hashlib.sha256(content).digest()


def limit_network(page: Page, *, upload: int = -1, offline: bool = False) -> None:
    """Take the page's network away, or bound the bytes that it sends in a second."""
    page.call(
        "Network.emulateNetworkConditions", offline=offline, latency=0, downloadThroughput=-1, uploadThroughput=upload
    )


def test_the_page_of_the_documentation(server: DemoServer, browser: Browser, tmp_path: Path) -> None:
    """The page runs as it stands from a file: it logs in, shows what comes, and sends."""
    text = example("docs/messenger.md", "html", 1).text
    assert text.count("http://127.0.0.1:1337") == 3
    file = tmp_path / "page.html"
    file.write_text(text.replace("http://127.0.0.1:1337", server.url))
    page = browser.open(file.as_uri())
    try:
        words = "from the documentation"
        field = page.find("textbox", "Message")
        page.fill(field, words)
        page.click(page.find("button", "Send"))
        shown = "[...document.querySelectorAll('#messages li')].map((one) => one.innerText.replace(/\\s+/g, ' '))"
        eventually(lambda: f"Anna: {words}" in page.evaluate(shown), "the message", 20)
        assert page.complaints() == []
    finally:
        page.close()


def test_pictures(open_page: Open, pytestconfig: pytest.Config) -> None:
    """The page can be shown in the documentation, which has its pictures."""
    page = open_page()
    anna, ben = both(page)
    anna.send("Has anybody **seen** the garden today?")
    ben.wait("the garden today?")
    attach(ben, "garden.png", "image/png", picture(320, 120))
    eventually(lambda: "garden.png" in anna.ask(_LOADED), "the picture", 20)
    ben.send("Here it is. See `garden.py`:\n```py\nfor tree in garden:  # all of them\n    water(tree)\n```")
    anna.wait("Here it is.")
    ben.wait_state("Here it is.", "read")
    anna.send("> [#1] Here it is.\nThank you!")
    anna.wait_state("Thank you!", "read")
    for name, size in {"messenger": (1280, 900), "messenger-phone": (390, 844)}.items():
        page.resize(*size)
        page.evaluate("scrollTo(0, 0)")
        found = page.picture()
        assert len(found) > _LEAST_BYTES
        file = REPOSITORY / f"docs/images/{name}.png"
        if pytestconfig.option.write_pictures:
            file.write_bytes(found)
        assert file.exists()
        assert f"images/{name}.png" in (REPOSITORY / "docs/messenger.md").read_text()
