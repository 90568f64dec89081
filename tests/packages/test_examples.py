"""The examples, each started by the commands at the head of its file: a note that its form sends is in the browser."""

from __future__ import annotations

import os
import re
import shutil
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
import yaml

from tests.support.browser import Browser
from tests.support.deployment import Deployment
from tests.support.ports import free_port
from tests.support.processes import REPOSITORY, ChildProcess
from tests.support.server import clean_environment
from tests.support.waiting import eventually

SECONDS = 60.0
#: Example -> the file with the commands at its head, and its port.
EXAMPLES = {
    "django": ("manage.py", 8001),
    "fastapi": ("app.py", 8002),
    "express": ("server.mjs", 8003),
    "laravel-style": ("public/index.php", 8004),
    "rails-style": ("server.rb", 8005),
}


def commands_of(name: str) -> list[str]:
    """The commands at the head of an example, without those that install libraries and start Recado."""
    text = (REPOSITORY / "examples" / name / EXAMPLES[name][0]).read_text()
    lines = re.findall(r"^(?:(?://|#)   | {4})(\w.*)$", text.partition("Then open")[0], re.MULTILINE)
    assert f"recado serve --host 127.0.0.1 --sites examples/{name}/sites.yml" in lines
    return [line for line in lines if not re.match(r"(pip|npm) install|recado serve", line)]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of the examples, with the libraries of the tests in the place of those that the commands install."""
    root = tmp_path_factory.mktemp("checkout")
    shutil.copytree(
        REPOSITORY / "examples", root / "examples", ignore=shutil.ignore_patterns("node_modules", "*.sqlite3")
    )
    (root / "clients").symlink_to(REPOSITORY / "clients")
    libraries = root / "examples" / "express" / "node_modules"
    libraries.mkdir()
    (libraries / "express").symlink_to(REPOSITORY / "tests" / "clients" / "node_modules" / "express")
    (libraries / "recado-backend").symlink_to(REPOSITORY / "clients" / "node")
    (root / "bin").mkdir()
    for command in ("python", "uvicorn"):
        module = "" if command == "python" else "-m uvicorn "
        (root / "bin" / command).write_text(f'#!/bin/sh\nexec {sys.executable} {module}"$@"\n')
        (root / "bin" / command).chmod(0o755)
    return root


@pytest.fixture(scope="module")
def ports() -> dict[str, int]:
    """The port on which the tests start each example."""
    return {name: free_port() for name in EXAMPLES}


@pytest.fixture(scope="module")
def server(ports: dict[str, int]) -> Iterator[Deployment]:
    """One server with the sites of all examples."""
    deployment = Deployment({name: site_of(name, port) for name, port in ports.items()})
    yield deployment
    deployment.end()


def site_of(name: str, port: int) -> Any:
    """The site of an example, with the port on which its test starts it."""
    text = (REPOSITORY / "examples" / name / "sites.yml").read_text()
    return yaml.safe_load(text.replace(f":{EXAMPLES[name][1]}/", f":{port}/"))[name]


@pytest.mark.parametrize("name", EXAMPLES)
def test_a_note_reaches_the_browser(
    name: str, folder: Path, server: Deployment, ports: dict[str, int], browser: Browser
) -> None:
    """The page of the example connects by its authUrl, and shows the note that its form has sent. The authUrl refuses
    a token that the backend has not made."""
    port = str(ports[name])
    script = "\n".join(commands_of(name)).replace(str(EXAMPLES[name][1]), port)
    environment = clean_environment(RECADO_URL=server.url, PORT=port, PATH=f"{folder / 'bin'}:{os.environ['PATH']}")
    environment["PYTHONPATH"] = str(REPOSITORY / "clients" / "python")
    backend = ChildProcess(name, ["sh", "-eu", "-c", script], folder, environment)
    try:
        url = f"http://127.0.0.1:{port}/?user=alice"
        eventually(lambda: is_up(url, backend), f"{name} to listen", SECONDS, 0.1)
        page = browser.open(url)
        status, inbox = page.find("status", ""), page.find("list", "Inbox")
        eventually(lambda: "connected" in page.text(status), "the page to connect", SECONDS)
        page.fill(page.find("textbox", "Note"), "Olá <b>&")
        page.click(page.find("button", "Send"))
        eventually(lambda: "Olá <b>&" in page.text(inbox), "the note", SECONDS)
        assert page.complaints() == []
        page.close()
        refused = httpx.get(site_of(name, ports[name])["authUrl"], headers={"Authorization": "Bearer none"})
        assert refused.status_code == 401
    finally:
        backend.end()
    assert "Traceback" not in "\n".join(backend.lines.snapshot())


def is_up(url: str, backend: ChildProcess) -> bool:
    """Whether the backend answers."""
    assert backend.returncode is None, "the backend ended"
    try:
        return httpx.get(url).status_code == 200
    except httpx.TransportError:
        return False


@pytest.mark.parametrize("name", EXAMPLES)
def test_the_sites_of_an_example(name: str) -> None:
    """The sites.yml of an example has the address and the key that its backend has."""
    folder = REPOSITORY / "examples" / name
    site = yaml.safe_load((folder / "sites.yml").read_text())[name]
    file, port = EXAMPLES[name]
    sources = "".join(path.read_text() for path in folder.rglob("*.*") if path.suffix in (".py", ".mjs", ".php", ".rb"))
    assert site["authUrl"] == f"http://127.0.0.1:{port}/recado/rooms"
    assert site["apiKey"] in sources
    assert str(port) in (folder / file).read_text()
