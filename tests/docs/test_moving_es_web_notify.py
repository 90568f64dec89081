"""Each step of docs/moving/es-web-notify.md is run, with a page, a backend and a registry of the old server."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
import yaml

from tests.support.bind_keys import KeyPair
from tests.support.bind_server import BindServer
from tests.support.examples import examples_of, text_of
from tests.support.ports import free_port
from tests.support.server import Server, clean_environment
from tests.support.topic_client import TopicStream

PAGE = "docs/moving/es-web-notify.md"
EXAMPLES = {str(one).removeprefix(f"{PAGE} "): one.text for one in examples_of(PAGE)}
#: The port of the page, and its key.
PORT, KEY = "1010", "put-your-entry-token-here"
#: The old server's table, as `mariadb-dump` writes it.
DUMP = """
CREATE TABLE `registered_endpoints` (
  `endpoint` varchar(190) NOT NULL,
  `owner` varchar(64) NOT NULL,
  `pub_password` text NOT NULL,
  `pub` text NOT NULL,
  `sub` text NOT NULL,
  PRIMARY KEY (`endpoint`)
) ENGINE=InnoDB;
INSERT INTO `registered_endpoints` VALUES
('wid-0001/water','u1','""','[\\"u1\\"]','[\\"u2\\"]'),
('wid-0001/power','u1','"$2y$10$hash"','["u1"]','["*"]');
"""
#: Stand-ins for programs that a test does not have or does not want, and a curl that fails with its server.
COMMANDS = {
    "curl": '#!/bin/sh\nexec {curl} -sS --fail-with-body --max-time 10 "$@"\n',
    "mariadb-dump": '#!/bin/sh\n[ "$*" = "notification registered_endpoints" ] && cat {folder}/dump.sql\n',
    "node": '#!/bin/sh\necho "node $@" >> {folder}/node.log\n',
    "recado": '#!/bin/sh\nexec {python} -m app "$@"\n',
}


class MovingDeployment:
    """The folder of a deployment that moves over, with a free port in the place of the page's. Lives for one test."""

    def __init__(self, folder: Path, bind_url: str) -> None:
        """Write the programs that the steps call, and the old server's key."""
        self.folder = folder
        self.port = str(free_port())
        self.pair = KeyPair()
        self.url = f"http://127.0.0.1:{self.port}"
        self._bind_url = bind_url
        self._environment = clean_environment(PATH=f"{folder / 'bin'}{os.pathsep}{os.environ['PATH']}")
        (folder / "bin").mkdir()
        (folder / "dump.sql").write_text(DUMP)
        (folder / "local_private_key.pem").write_text(self.pair.private_pem)
        for name, text in COMMANDS.items():
            file = folder / "bin" / name
            file.write_text(text.format(curl=shutil.which("curl"), python=sys.executable, folder=folder))
            file.chmod(0o755)

    def text_of(self, example: str) -> str:
        """An example of the page, such as "sh 1", with this deployment's port, key file and binding server."""
        text = EXAMPLES[example].replace(PORT, self.port)
        text = text.replace("https://www.example.com/test/session/getUserId", self._bind_url)
        return text.replace("file:", f"file:{self.folder}/")

    def write(self, example: str) -> Any:
        """Write an example into the file that its first line names."""
        text = self.text_of(example)
        file = self.folder / text.splitlines()[0].strip().removeprefix("# ")
        file.write_text(text)
        return yaml.safe_load(text)

    def run(self, text: str) -> str:
        """Run commands in the folder; they have to succeed."""
        done = subprocess.run(
            ["sh", "-eu", "-c", text],
            cwd=self.folder,
            env=self._environment,
            capture_output=True,
            text=True,
            timeout=60,
        )
        assert done.returncode == 0, f"{text}\n{done.stdout}{done.stderr}"
        return done.stdout

    def subscribe(self, *points: Any, **body: Any) -> TopicStream:
        """A page of the old server, at the URL that it has always had."""
        return TopicStream(httpx.Request("POST", f"{self.url}/?wid=0001", json={"ep": list(points), **body}))

    def emit(self, **body: Any) -> httpx.Response:
        """A backend of the old server."""
        return httpx.post(f"{self.url}/event", params={"token": KEY}, json=body)


@pytest.fixture
def bind_server() -> Iterator[BindServer]:
    """The binding server of the old deployment."""
    server = BindServer()
    yield server
    server.end()


@pytest.fixture
def deployment(tmp_path: Path, bind_server: BindServer) -> MovingDeployment:
    """A deployment before its move."""
    return MovingDeployment(tmp_path, bind_server.url)


def test_the_steps(
    deployment: MovingDeployment, served: Callable[[str], Server], bind_server: BindServer, tmp_path: Path
) -> None:
    """The steps in their order. A page, a binding server and a backend of the old server go on as they are;
    the way back is the start of the old server."""
    assert sorted(EXAMPLES) == ["sh 1", "sh 2", "sh 3", "sh 4", "sh 5", "sh 6", "yaml 1", "yaml 2"]
    # 1, 2, 3: the files.
    sites = deployment.write("yaml 1")
    deployment.write("yaml 2")
    assert "shop" in deployment.run(deployment.text_of("sh 1"))
    # 4: the dump, and a look at it.
    looked = deployment.run(deployment.text_of("sh 2"))
    assert "2 to import" in looked
    assert "topic 'wid-0001/power': imported without its password" in looked
    # 5: the change of servers.
    stop, serve = deployment.text_of("sh 3").strip().splitlines()
    old = subprocess.Popen([sys.executable, "-c", "import signal; signal.pause()"])
    (tmp_path / "es-web-notify.pid").write_text(str(old.pid))
    deployment.run(stop)
    assert old.wait(10)
    server = served(serve.strip())
    # 6: the import, twice.
    for _ in range(2):
        assert "2 imported" in deployment.run(deployment.text_of("sh 4"))
    # 7: an event, and who is connected.
    bind_server.know("the key of a session", "u2")
    water = {"topic": "wid-0001/water", "binded": True}
    with deployment.subscribe("wid-0001/#", water, clid="page", bind_key="the key of a session") as page:
        assert page.wait_type("connected")
        assert bind_server.requests.snapshot() == [("RETREIVE", "application/json", "the key of a session")]
        counts = deployment.run(deployment.text_of("sh 5"))
        assert counts == '{"page":1,"@TOTAL@":1}'
        assert page.wait_type("random_number")["e"]["detail"] == 4
        # A bound topic of the registry, with the old server's kind of key.
        event = {"ep": [water], "e": {"type": "level"}}
        assert deployment.emit(**event, bind_key=deployment.pair.key_of("u9")).status_code == 403
        assert deployment.emit(**event, bind_key=deployment.pair.key_of("u1")).status_code == 200
        assert page.wait_type("level")["ep"]["requested"] == "wid-0001/water"
    # 8: from now on the key is asked for.
    del sites["shop"]["topics"]["open_status"]
    server.end()
    (tmp_path / "sites.yml").write_text(yaml.safe_dump(sites))
    server = served(serve.strip())
    assert httpx.get(f"{deployment.url}/connections").status_code == 401
    assert httpx.get(f"{deployment.url}/connections", params={"token": KEY}).json() == {}
    # The registry outlives the restart.
    shown = httpx.get(f"{deployment.url}/topics/shop/registry/wid-0001/water", params={"token": KEY}).json()
    assert (shown["owner"], shown["sub"]) == ("u1", ["u2"])
    # The way back.
    (tmp_path / "recado.pid").write_text(str(server.pid))
    deployment.run(deployment.text_of("sh 6"))
    assert (tmp_path / "node.log").read_text() == "node server/index.js\n"


def test_the_sections() -> None:
    """The page has the steps, what stays, what differs, and the way back."""
    headings = [line for line in text_of(PAGE).splitlines() if line.startswith("## ")]
    assert headings == ["## Steps", "## What stays", "## What differs", "## How to go back"]
