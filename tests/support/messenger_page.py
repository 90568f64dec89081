"""The demo's page of the messenger as a person uses it: one side of it, its network, and files to send."""

from __future__ import annotations

import base64
import json
import struct
import zlib
from typing import Any

from tests.support.browser import Page
from tests.support.processes import REPOSITORY
from tests.support.waiting import eventually

#: The greatest picture that one may call small.
_LEAST_BYTES = 10_000


class Side:
    """One person's side of a page. Lives as long as the page."""

    def __init__(self, page: Page, name: str) -> None:
        """Find it."""
        self.page = page
        self.name = name
        self.panel = page.find("region", name)
        self._place = page.evaluate("[...document.querySelectorAll('.person h2')].map((one) => one.innerText)").index(
            name
        )

    def log_in(self) -> Side:
        """Log in with the values that the page suggests, and wait for the conversations."""
        self.press("Log in")
        self.wait("online")
        self.page.find("button", "Lunch room", self.panel)
        return self

    def become(self, login: str, name: str, password: str) -> Side:
        """Log in as another user."""
        self.press("Log out")
        self.wait("not logged in")
        self.fill("Login", login)
        self.fill("Password", password)
        self.press("Log in")
        self.wait("online")
        self.name = name
        self.find("button", "Account")
        return self

    def find(self, role: str, name: str) -> int:
        """The one visible element of this role and name."""
        return self.page.find(role, name, self.panel)

    def fill(self, label: str, text: str) -> None:
        """Type into a field."""
        self.page.fill(self.find("textbox", label), text)

    def check(self, label: str) -> None:
        """Press a checkbox."""
        self.page.click(self.find("checkbox", label))

    def more(self, about: str, act: str) -> None:
        """Do with a message what its row of further buttons offers; `about` begins the labels."""
        self.press(f"More for {about}")
        self.press(f"{act} {about}")

    def press(self, name: str) -> None:
        """Press a button."""
        self.page.click_on("button", name, self.panel)

    def open(self, words: str) -> None:
        """Open the conversation whose button begins with these words."""
        buttons = "[...region.querySelectorAll('nav button')]"
        found = f"{buttons}.find((one) => one.innerText.startsWith(words))"
        eventually(lambda: self.ask(f"Boolean({found})", words), words)
        self.ask(f"{found}.click()", words)
        eventually(lambda: words in self.ask("region.querySelector('.log').ariaLabel ?? ''"), words)

    def send(self, text: str) -> None:
        """Write a message and send it with the Enter key."""
        self.fill(f"Message of {self.name}", text)
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
        eventually(lambda: self.state_of(words) == state, f"{words!r} to be {state}", 60)

    def count(self, words: str) -> int:
        """How many messages with the words are shown."""
        return int(self.ask(f"{_MESSAGES}.filter((one) => one.innerText.includes(words)).length", words))

    def ask(self, expression: str, words: str = "") -> Any:
        """The value of JavaScript that knows this side as `region`, and `words`."""
        region = f"const region = document.querySelectorAll('.person')[{self._place}];"
        return self.page.evaluate(f"(() => {{ {region} const words = {json.dumps(words)}; return {expression}; }})()")


_MESSAGES = "[...region.querySelectorAll('.message')]"


def press_enter(page: Page) -> None:
    """Press the Enter key."""
    for kind in ("keyDown", "keyUp"):
        page.call("Input.dispatchKeyEvent", type=kind, key="Enter", code="Enter", text="\r", windowsVirtualKeyCode=13)


def both(page: Page) -> tuple[Side, Side]:
    """Both people, logged in in one window."""
    return Side(page, "Anna").log_in(), Side(page, "Ben").log_in()


def make_user(page: Page, login: str, name: str, password: str) -> None:
    """Let a stranger register, and Anna accept it, in the page but not with its buttons."""
    registered = {"login": login, "name": name, "password": password}
    page.evaluate(f"""(async () => {{
      const {{ Messenger }} = await import("/recado/messenger.js");
      const [anna, stranger] = ["maker", "stranger"].map((storage) => new Messenger({{ site: "team", storage }}));
      await anna.login("anna", "anna in the demo");
      const waiting = new Promise((resolve) => anna.on("directory", ({{ registrations = [] }}) =>
        registrations.filter((one) => one.login === {json.dumps(login)}).forEach(resolve)));
      await stranger.register({json.dumps(registered)});
      await anna.ask("registration_accept", {{ id: (await waiting).id }});
      await anna.logout();
      stranger.close();
    }})()""")


def as_anna(page: Page, body: str) -> Any:
    """Run JavaScript with `chat`, a messenger of Anna that is in; returns what it returns."""
    return page.evaluate(f"""(async () => {{
      const {{ Messenger, newKeys }} = await import("/recado/messenger.js");
      const chat = new Messenger({{ site: "team", storage: "helper" }});
      const isSynced = new Promise((resolve) => chat.on("synced", resolve));
      await chat.login("anna", "anna in the demo");
      await isSynced;
      const result = await (async () => {{ {body} }})();
      await chat.logout();
      return result ?? null;
    }})()""")


def keep_picture(page: Page, name: str, is_written: bool) -> None:
    """Take the picture of the documentation, which has to name it; write it where that is asked for."""
    page.evaluate("document.fonts.ready.then(() => 0)")
    found = page.picture()
    assert len(found) > _LEAST_BYTES
    file = REPOSITORY / f"docs/images/{name}.png"
    if is_written:
        file.write_bytes(found)
    assert file.exists()
    assert f"images/{name}.png" in (REPOSITORY / "docs/messenger.md").read_text()


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


def limit_network(page: Page, *, upload: int = -1, offline: bool = False) -> None:
    """Take the page's network away, or bound the bytes that it sends in a second."""
    page.call(
        "Network.emulateNetworkConditions", offline=offline, latency=0, downloadThroughput=-1, uploadThroughput=upload
    )
