"""The pages for beginners, followed word for word: from an empty folder to a message in a browser, in five minutes.

A page in `docs/start` joins by being there. Its shell examples run one behind the other, as one script, in an empty
folder; `recado` is the checkout, and the ports are the test's own. Then the page on port 8000 is opened and its button
pressed. With `--long` the libraries come from the registries, as for a reader; else they are those of the tests.
"""

from __future__ import annotations

import os
import re
import sys
import sysconfig
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

import httpx
import pytest

from tests.support.browser import Browser
from tests.support.examples import examples_of
from tests.support.ports import free_port
from tests.support.processes import REPOSITORY, ChildProcess
from tests.support.server import clean_environment
from tests.support.waiting import eventually

PAGES = sorted(path.stem for path in (REPOSITORY / "docs" / "start").glob("*.md"))
LONGEST_SECONDS = 300.0
MESSAGES = {"site": "hello", "apiKey": "put-a-key-of-your-own-here"}


def environment_of(folder: Path, has_registry: bool) -> dict[str, str]:
    """The environment of a reader who has the command `recado`, and who reaches the registries of packages or has the
    libraries already."""
    folder.mkdir()
    commands = {
        "recado": f"PYTHONPATH={REPOSITORY} exec {sys.executable} -P -m app",
        "python3": f"exec {sys.executable}",
    }
    for name, command in commands.items():
        (folder / name).write_text(f'#!/bin/sh\n{command} "$@"\n')
        (folder / name).chmod(0o755)
    python = {"PYTHONPATH": sysconfig.get_path("purelib"), "PIP_NO_INDEX": "1", "PIP_NO_BUILD_ISOLATION": "0"}
    npm = {"npm_config_offline": "true", "npm_config_audit": "false", "npm_config_fund": "false"}
    path = {"PATH": f"{folder}{os.pathsep}{os.environ['PATH']}", "RECADO": str(REPOSITORY)}
    environment = clean_environment(**path)
    for name in ("DATABASE_URL", "PYTHONPATH"):
        del environment[name]
    return environment if has_registry else environment | python | npm


@pytest.mark.timeout(400)
@pytest.mark.parametrize("page", PAGES)
def test_from_an_empty_folder_to_a_message(
    page: str, tmp_path: Path, browser: Browser, is_long: bool, tell: Callable[[str], None]
) -> None:
    """The commands of the page bring a message into a browser in less than five minutes."""
    begin = time.monotonic()
    name = f"docs/start/{page}.md"
    commands = [example.text for example in examples_of(name) if example.language == "sh"]
    assert commands
    server, backend = str(free_port()), str(free_port())
    script = re.sub(r"\b8000\b", backend, re.sub(r"\b1337\b", server, "\n".join(commands)))
    (tmp_path / "empty").mkdir()
    environment = environment_of(tmp_path / "bin", is_long) | {"PORT": server}
    reader = ChildProcess(page, ["sh", "-eu", "-c", script], tmp_path / "empty", environment)
    try:
        for port in (server, backend):
            eventually(partial(is_up, f"http://127.0.0.1:{port}/healthcheck", reader), page, LONGEST_SECONDS, 0.1)
        opened = browser.open(f"http://127.0.0.1:{backend}/")
        inbox = opened.find("list", "Inbox")
        eventually(lambda: "connected" in opened.text(inbox), "the page to connect", LONGEST_SECONDS)
        opened.click(opened.find("button", "Say hello"))
        eventually(lambda: "Hello from" in opened.text(inbox), "the message", LONGEST_SECONDS)
        seconds = time.monotonic() - begin
        assert opened.complaints() == []
        opened.close()
        # The files of the reader stand in nobody's way: an app.py is not the server's.
        messages = f"http://127.0.0.1:{server}/messages"
        eventually(lambda: httpx.get(messages, params=MESSAGES).status_code == 200, "the journal", LONGEST_SECONDS)
    finally:
        reader.end()
    tell(f"{page}: {seconds:.1f} s from an empty folder to the message")
    assert seconds < LONGEST_SECONDS


def is_up(url: str, reader: ChildProcess) -> bool:
    """Whether something answers at this address."""
    assert reader.returncode is None, "the commands ended"
    try:
        return httpx.get(url).status_code < 500
    except httpx.TransportError:
        return False
