"""docs/tutorial.md to its end: each file and each command of it, a browser, and a server that is killed."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import httpx
import pytest
import yaml

from tests.support.browser import Browser, Page
from tests.support.deployment import Deployment
from tests.support.examples import example, examples_of
from tests.support.ports import free_port
from tests.support.processes import ChildProcess, descendants
from tests.support.waiting import eventually

_PAGE = "docs/tutorial.md"
_SH = [one.text for one in examples_of(_PAGE) if one.language == "sh"]
INSTALL, BACKEND, SERVE, SEND, SEND_AWAY, DEVICES, KILL, FATE = _SH
SECONDS = 60.0


class Reader:
    """A reader who does what the page says, with other ports. Lives for the test; `end` ends what was started."""

    def __init__(self, browser: Browser) -> None:
        """Write the files, and start the backend and the server."""
        self._browser = browser
        self.port = free_port()
        settings = yaml.safe_load(self.here(example(_PAGE, "yaml").text))
        assert SERVE.split("recado serve ")[1].split(" &")[0] == "--host 127.0.0.1 --sites sites.yml"
        named = dict(re.findall(r"(RECADO_\w+)=(\S+)", SERVE))
        self.deployment = Deployment(settings, is_embedded=True, environment={"DATABASE_URL": "", **named})
        self.folder = self.deployment.directory
        (self.folder / "backend.py").write_text(example(_PAGE, "py").text)
        (self.folder / "page.html").write_text(self.here(example(_PAGE, "html").text))
        assert BACKEND.split() == ["python3", "backend.py"]
        command = [sys.executable, "backend.py", str(self.port)]
        self.backend = ChildProcess("backend", command, self.folder, dict(os.environ))
        self.note_server()

    def here(self, text: str) -> str:
        """The text with the ports of this test."""
        text = text.replace("127.0.0.1:8000", f"127.0.0.1:{self.port}")
        return text.replace("http://127.0.0.1:1337", self.deployment.url) if hasattr(self, "deployment") else text

    def note_server(self) -> None:
        """Do what the command does behind the `&`."""
        (self.folder / "server.pid").write_text(f"{self.deployment.server.pid}\n")

    def run(self, command: str) -> str:
        """Run a command of the page; return what it prints."""
        words = ["sh", "-eu", "-c", self.here(command)]
        done = subprocess.run(words, cwd=self.folder, capture_output=True, text=True, timeout=60, check=False)
        assert done.returncode == 0, done.stderr
        return done.stdout

    def open(self, device: str = "") -> Page:
        """Open the page, in the browser with this device if there is one already."""
        page = self._browser.open(f"http://127.0.0.1:{self.port}/other")
        if device:
            page.evaluate(f"localStorage.deviceId = {json.dumps(device)}")
        page.call("Page.navigate", url=f"http://127.0.0.1:{self.port}/")
        return page

    def wait_printed(self, line: str, nth: int = 1) -> None:
        """Wait until the backend has printed a line so often."""
        lines = self.backend.lines
        lines.wait_until(lambda seen: seen.count(line) >= nth, f"{line!r} of the backend", SECONDS)

    def pull_the_plug(self) -> None:
        """Kill the server with the command of the page."""
        node = self.deployment.nodes[0]
        left = descendants(node.server.pid)
        self.run(KILL)
        node.server.wait()
        # They end with the deployment, if they have not ended by themselves.
        node._orphans += left

    def start_again(self) -> None:
        """Start the server again."""
        self.deployment.start()
        self.note_server()

    def end(self) -> None:
        """End everything."""
        self.backend.end()
        self.deployment.end()


@pytest.fixture
def reader(browser: Browser) -> Iterator[Reader]:
    """A reader at step 5."""
    reader = Reader(browser)
    yield reader
    reader.end()


def wait_shown(page: Page, state: str, *items: str) -> None:
    """Wait until the page is in a state and shows these items."""
    expected = [state, *items]
    eventually(lambda: page.evaluate(_SHOWN) == expected, f"the page to show {expected}", SECONDS)


_SHOWN = """
[document.getElementById("state")?.value, ...[...document.querySelectorAll("li")].map((one) => one.textContent)]
"""


def look_at_the_console(url: str, device: str) -> None:
    """Log in and follow the links that the page names, as a browser does: a real one is too slow on a busy machine."""
    named = dict(re.findall(r"RECADO_(\w+)=(\S+)", SERVE))
    with httpx.Client(base_url=url, timeout=SECONDS, follow_redirects=True) as client:
        login = {"name": named["OPERATOR"], "password": named["OPERATOR_PASSWORD"]}
        begin = client.post("/console/login", data=login)
        assert begin.status_code == 200, begin.text
        for link, shown in (("Messages", "news"), ("Devices", device), ("Connections", "user_ada")):
            found = re.search(rf'<a\b[^>]*\bhref="([^"]+)"[^>]*>\s*{link}\s*</a>', begin.text)
            assert found, f"no link {link} in {begin.text}"
            eventually(partial(is_shown, client, found[1], shown), f"{shown} on the page {link}", SECONDS)


def is_shown(client: httpx.Client, path: str, text: str) -> bool:
    """Whether a page of the console has this text."""
    answer = client.get(path.replace("&amp;", "&"))
    return answer.status_code == 200 and text in answer.text


def answer_of(printed: str) -> dict[str, Any]:
    """The JSON that a command has printed."""
    value: dict[str, Any] = json.loads(printed)
    return value


def test_the_tutorial(reader: Reader) -> None:
    """Everything comes as the page says, in its order."""
    page = reader.open()
    wait_shown(page, "connected")
    reader.wait_printed("user.online user_ada")
    assert reader.run(SEND) == "OK"
    wait_shown(page, "connected", "hello, Ada")
    # 7. The page is closed.
    browser = page.evaluate("localStorage.deviceId")
    page.close()
    reader.wait_printed("user.offline user_ada")
    assert reader.run(SEND_AWAY) == "OKOK"
    (device,) = answer_of(reader.run(DEVICES))["devices"]
    assert (device["device"], device["state"], device["queue"]["messages"]) == (browser, "away", 2)
    # 8. The plug is pulled, twice.
    reader.pull_the_plug()
    reader.start_again()
    page = reader.open(browser)
    missed = ("sent while you were away", "and one more")
    wait_shown(page, "connected", *missed)
    reader.pull_the_plug()
    wait_shown(page, "disconnected", *missed)
    reader.start_again()
    wait_shown(page, "connected", *missed)
    # 9. The fate of a message.
    id = answer_of(reader.run(FATE))["id"]
    ask = FATE.splitlines()[-1].replace("$id", id)
    assert ask.startswith("curl ")
    # The page acknowledges a moment later, and the journal is behind by another one.
    eventually(lambda: '"acked"' in reader.run(ask), "the fate of a message", SECONDS)
    wait_shown(page, "connected", *missed, "did you get this?")
    reader.wait_printed("message.acknowledged user_ada")
    # 10. The console.
    look_at_the_console(reader.deployment.url, browser)
    page.close()


def test_the_page_names_its_own_things() -> None:
    """The words of the text are those of the files and commands."""
    text = (Path(__file__).parents[2] / _PAGE).read_text()
    operator = dict(re.findall(r"RECADO_(\w+)=(\S+)", SERVE))
    assert f"log in as `{operator['OPERATOR']}` with `{operator['OPERATOR_PASSWORD']}`" in text
    assert all("the-key-of-the-tutorial" in command for command in (SEND, SEND_AWAY, DEVICES, FATE))
    assert "scripts/install" in INSTALL
