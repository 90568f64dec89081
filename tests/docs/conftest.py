"""A server with the sites of the documentation, and a shell in which the documentation's commands run."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, Protocol

import httpx
import pytest
import yaml

from tests.support.deployment import Deployment
from tests.support.examples import Example, example
from tests.support.node_page import NodePage, Script
from tests.support.server import Server, clean_environment
from tests.support.tenant import Tenant
from tests.support.valkey import Valkey
from tests.support.waiting import eventually

TOKEN = "12345"
_HOSTS = re.compile(r"(https?|wss?)://(?:push\.example\.com|(?:127\.0\.0\.1|localhost):1337)")
_COMMAND_SECONDS = 120
#: The commands in the PATH of shell examples: a curl that fails when the server refuses; `recado` from the checkout,
#: whose `serve` only reads its options; and a client for the Redis that is running already.
_COMMANDS = {
    "curl": '#!/bin/sh\nexec {curl} -sS --fail-with-body --max-time 10 "$@"\n',
    "recado": '#!/bin/sh\n[ "$1" = serve ] && set -- "$@" --help\nexec {python} -m app "$@"\n',
    "redis-server": "#!/bin/sh\n",
    "redis-cli": (
        "#!{python}\nimport sys, redis\n"
        "print(redis.Redis(unix_socket_path='{socket}').execute_command(*sys.argv[1:]))\n"
    ),
}


def settings_of(page: str, number: int = 1) -> dict[str, Any]:
    """The sites.yml or config.yml of an example, as a value."""
    value: dict[str, Any] = yaml.safe_load(example(page, "yaml", number).text)
    return value


def sites_of_the_docs(tenant: Tenant) -> dict[str, dict[str, Any]]:
    """The sites of the pages' own examples, with the tests' backend in the place of www.example.com."""
    backend = {"authUrl": f"{tenant.url}/rooms", "updateUserUrl": f"{tenant.url}/users/:id", "apiKey": 54321}
    channels, topics = settings_of("docs/channels.md")["shop"], settings_of("docs/topics.md")["shop"]
    return {
        "newsite": settings_of("docs/clients.md")["newsite"] | backend | {"presence": True},
        # The same page on a site without userRoomPrefix: its events have no acknowledging function.
        "plain": {"authUrl": f"{tenant.url}/rooms", "apiKey": 54321},
        "shop": channels | topics,
        "club": settings_of("docs/tokens.md")["club"],
        "news": settings_of("docs/redis-publish.md")["news"],
        "demo": {"authUrl": f"{tenant.url}/demo", "apiKey": "demo", "userRoomPrefix": "user_"},
    }


@pytest.fixture(scope="module")
def server(tenant: Tenant, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Deployment]:
    """One node with the sites of the documentation."""
    file = tmp_path_factory.mktemp("journal") / "journal.sqlite"
    deployment = Deployment(sites_of_the_docs(tenant), environment={"DATABASE_URL": f"sqlite:///{file}"})
    _write_commands(deployment)
    query = {"site": "demo", "apiKey": "demo"}
    eventually(lambda: deployment.get("/messages", params=query).status_code == 200, "the journal to begin", 60)
    yield deployment
    deployment.end()


def _write_commands(deployment: Deployment) -> None:
    folder = deployment.directory / "bin"
    folder.mkdir()
    for name, text in _COMMANDS.items():
        file = folder / name
        file.write_text(text.format(curl=shutil.which("curl"), python=sys.executable, socket=deployment.redis.socket))
        file.chmod(0o755)


def here(text: str, deployment: Deployment) -> str:
    """An example's text with this server in the place of the documentation's."""
    address = deployment.url.partition("://")[2]
    return _HOSTS.sub(lambda match: f"{match[1].removesuffix('s')}://{address}", text)


@pytest.fixture
def run(server: Deployment) -> Callable[[str], str]:
    """Runs commands of the documentation in a shell against the server, and returns their output."""
    port = server.url.rpartition(":")[2]
    path = f"{server.directory / 'bin'}{os.pathsep}{os.environ['PATH']}"
    environment = clean_environment(PATH=path, PORT=port)

    def run(text: str) -> str:
        command = ["sh", "-eu", "-c", here(text, server)]
        done = subprocess.run(
            command, cwd=server.directory, env=environment, capture_output=True, text=True, timeout=_COMMAND_SECONDS
        )
        assert done.returncode == 0, f"{command[-1]}\n{done.stdout}{done.stderr}"
        return done.stdout

    return run


class Pages:
    """Opens pages of the documentation against one server; `end` closes all pages that are still open."""

    def __init__(self, server: Deployment) -> None:
        """Open none yet."""
        self._server = server
        self._opened: list[NodePage] = []

    def open(self, page: Example, *, change: Callable[[str], str] = str, after: str = "", **options: Any) -> NodePage:
        """Run a page's scripts, changed, and `after` behind them; `options` are those of NodePage."""
        scripts = page.scripts if page.language == "html" else [("", page.text)]
        loaded = [
            self._load(source) if source else Script(here(change(text), self._server)) for source, text in scripts
        ]
        opened = NodePage([*(one for one in loaded if one), Script(after)], **options)
        self._opened.append(opened)
        return opened

    def load(self, path: str) -> Script:
        """A script that the server offers."""
        url = f"{self._server.url}{path}"
        answer = httpx.get(url)
        assert answer.status_code == 200, url
        return Script(answer.text, url)

    def _load(self, source: str) -> Script | None:
        """The script of a `src`; None for the browser's client, because Node has the library itself."""
        path = _HOSTS.sub("", source)
        loaded = self.load(path)
        return None if path.endswith("/socket.io.js") else loaded

    def end(self) -> None:
        """Close every page."""
        for page in self._opened:
            page.end()
            assert "uncaught" not in page.names(), page.calls.snapshot()


@pytest.fixture
def pages(server: Deployment) -> Iterator[Pages]:
    """Opens pages of the documentation. At the end of the test they are closed, and no script may have failed."""
    opener = Pages(server)
    yield opener
    opener.end()


def shape(value: Any) -> Any:
    """The shape of a value: the keys of objects, the shape of a list's first entry, and types instead of values."""
    if isinstance(value, Mapping):
        return {key: shape(inner) for key, inner in value.items()}
    if isinstance(value, list):
        return [shape(inner) for inner in value[:1]]
    return float if isinstance(value, int | float) and not isinstance(value, bool) else type(value)


class Moving(Protocol):
    """A deployment that moves over: the fixture `deployment` of a page's tests."""

    folder: Path


@pytest.fixture
def served(deployment: Moving, valkey: Valkey) -> Iterator[Callable[[str], Server]]:
    """Runs a page's `recado serve ...` in the folder of its deployment until the end of the test."""
    servers: list[Server] = []

    def serve(command: str) -> Server:
        words = command.split()
        assert words[:2] == ["recado", "serve"]
        servers.append(Server(deployment.folder, *words[2:], REDIS_URL=valkey.url))
        return servers[-1]

    yield serve
    for server in servers:
        server.end()
