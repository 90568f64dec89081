"""The pages for beginners, followed word for word: from an empty folder to a message in a browser, in five minutes.

A page in `docs/start` joins by being there. Its first shell example installs Recado and is not run: the test brings
`recado` and `RECADO` itself. The three steps run one behind the other, as one script, in an empty folder; the ports are
the test's own. Then the page on port 8000 is opened, its button pressed, and the last example sends while it is away.
With `--long` the libraries come from the registries, as for a reader; else they are those of the tests.
"""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import sysconfig
import time
import tomllib
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
#: The first example of each page, which would install into the checkout of the tests.
NOT_RUN = """\
export RECADO=/path/to/recado
"$RECADO/scripts/install"
export PATH="$RECADO/.venv/bin:$PATH"
"""
SERVE = "recado serve --host 127.0.0.1 --sites sites.yml &\n"
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
    """The steps of the page bring a message into a browser in less than five minutes, and one that it missed."""
    begin = time.monotonic()
    _, *steps, send = commands_of(page)
    server, backend = str(free_port()), str(free_port())
    # `kill %1` names the server in a terminal; a script has no jobs and keeps the process's id.
    script = "\n".join(steps).replace(SERVE, f"{SERVE}echo $! > server.pid\n")
    script, send = (re.sub(r"\b8000\b", backend, re.sub(r"\b1337\b", server, text)) for text in (script, send))
    empty = tmp_path / "empty"
    empty.mkdir()
    environment = environment_of(tmp_path / "bin", is_long) | {"PORT": server}
    reader = ChildProcess(page, ["sh", "-eu", "-c", script], empty, environment)
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
        opened.visit("about:blank")
        subprocess.run(["sh", "-eu", "-c", send], check=True, capture_output=True, timeout=LONGEST_SECONDS)
        opened.visit(f"http://127.0.0.1:{backend}/")
        inbox = opened.find("list", "Inbox")
        eventually(lambda: "Hello from" in opened.text(inbox), "the message that was missed", LONGEST_SECONDS)
        opened.close()
        # The files of the reader stand in nobody's way: an app.py is not the server's.
        messages = f"http://127.0.0.1:{server}/messages"
        eventually(lambda: httpx.get(messages, params=MESSAGES).status_code == 200, "the journal", LONGEST_SECONDS)
        os.kill(int((empty / "server.pid").read_text()), signal.SIGTERM)
        eventually(partial(refusal, f"http://127.0.0.1:{backend}/hello"), "a refusal with a reason", LONGEST_SECONDS)
        eventually(partial(is_up, f"http://127.0.0.1:{backend}/", reader), "the page without a server", LONGEST_SECONDS)
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


def commands_of(page: str) -> list[str]:
    """The shell examples of a page."""
    return [example.text for example in examples_of(f"docs/start/{page}.md") if example.language == "sh"]


def refusal(url: str) -> str:
    """The text with which the backend answers 502 without a server; empty while the server still ends."""
    answer = httpx.post(url, timeout=LONGEST_SECONDS)
    return answer.text if answer.status_code == 502 else ""


@pytest.mark.parametrize("page", PAGES)
def test_what_is_not_run(page: str) -> None:
    """The first example names a script and a command that exist; three steps and a send follow."""
    install, *steps, _ = commands_of(page)
    assert install == NOT_RUN
    assert len(steps) == 3
    assert SERVE in steps[-1]
    assert os.access(REPOSITORY / "scripts" / "install", os.X_OK)
    assert "recado" in tomllib.loads((REPOSITORY / "pyproject.toml").read_text())["project"]["scripts"]
