"""Each step of docs/moving/push0k.md is run on a database and a folder of push0k; then its users log in."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.support.chat import log_in
from tests.support.clients import ACK_ALL, MODERN, ConnectCall
from tests.support.connector import Drivers
from tests.support.examples import examples_of, text_of
from tests.support.ports import free_port
from tests.support.postgres import running_postgres
from tests.support.push0k import PushDatabase, attach, hash_of
from tests.support.server import Server, clean_environment
from tests.support.valkey import Valkey

PAGE = "docs/moving/push0k.md"
EXAMPLES = {str(one).removeprefix(f"{PAGE} "): one.text for one in examples_of(PAGE)}
#: The port of the page, and its databases.
PORT, DSN, TARGET = "1901", "postgresql://postgres@localhost/push0k", "postgresql://recado@localhost/recado"
ANN, BEN = "79990000001", "79990000002"
#: Stand-ins for a program that a test does not have, and the command from the checkout.
COMMANDS = {
    "pm2": '#!/bin/sh\necho "pm2 $@" >> {folder}/pm2.log\n',
    "recado": '#!/bin/sh\nexec {python} -m app "$@"\n',
}


class MovingMessenger:
    """The folder of a deployment that moves over, with a free port in the place of the page's. Lives for one test."""

    def __init__(self, folder: Path, database: str, target: str) -> None:
        """Write the programs that the steps call."""
        self.folder = folder
        self.port = str(free_port())
        self.url = f"http://127.0.0.1:{self.port}"
        self._database = database
        self.target = target
        path = f"{folder / 'bin'}{os.pathsep}{os.environ['PATH']}"
        self._environment = clean_environment(PATH=path, DATABASE_URL=target)
        (folder / "bin").mkdir()
        for name, text in COMMANDS.items():
            file = folder / "bin" / name
            file.write_text(text.format(python=sys.executable, folder=folder))
            file.chmod(0o755)

    def text_of(self, example: str) -> str:
        """An example of the page, such as "sh 1", with this deployment's port and database."""
        return EXAMPLES[example].replace(PORT, self.port).replace(DSN, self._database).replace(TARGET, self.target)

    def write(self, example: str) -> dict[str, Any]:
        """Write an example into the file that its first line names. The keys of tests are made faster."""
        text = self.text_of(example)
        value: dict[str, Any] = yaml.safe_load(text)
        if "team" in value:
            value["team"]["messenger"]["iterations"] = 4096
        (self.folder / text.splitlines()[0].strip().removeprefix("# ")).write_text(yaml.safe_dump(value))
        return value

    def run(self, text: str) -> str:
        """Run commands in the folder; they have to succeed."""
        done = subprocess.run(
            ["sh", "-eu", "-c", text],
            cwd=self.folder,
            env=self._environment | {"PUSH0K_DSN": self._database, "REDIS_URL": "redis://127.0.0.1:1"},
            capture_output=True,
            text=True,
            timeout=60,
        )
        assert done.returncode == 0, f"{text}\n{done.stdout}{done.stderr}"
        return done.stdout


@pytest.fixture
def deployment(tmp_path: Path) -> Iterator[MovingMessenger]:
    """A deployment before its move."""
    with running_postgres() as postgres:
        database = postgres.new_database()
        _fill(database, tmp_path)
        yield MovingMessenger(tmp_path, database, postgres.new_database())


@pytest.fixture
def served(deployment: MovingMessenger, valkey: Valkey) -> Iterator[Callable[[str], Server]]:
    """Runs the page's `recado serve ...` until the end of the test, with the database of config.yml."""
    servers: list[Server] = []

    def serve(command: str) -> Server:
        words = command.split()[2:]
        servers.append(Server(deployment.folder, *words, REDIS_URL=valkey.url, DATABASE_URL=deployment.target))
        return servers[-1]

    yield serve
    for server in servers:
        server.end()


def _fill(database: str, tmp_path: Path) -> None:
    (tmp_path / "atach").mkdir()
    push = PushDatabase()
    push.user("ann", int(ANN), "777")
    push.user("ben", int(BEN), pwd=hash_of("x").upper())
    push.room("Administrators", ["ann"], ["ann"], roomtype=7)
    push.room("Lunch", ["ann", "ben"])
    push.message("m1", "ann", 1, roomid="Lunch", message="<b>hello</b>")
    push.message("m2", "ben", 2, roomid="Lunch", message="look", extdata="a.txt", datatype=1, datasize=5)
    push.message("m3", "ben", 3, roomid="Lunch", message="and", extdata="b.txt", datatype=1, datasize=5)
    attach(tmp_path / "atach", "m2", [b"hello"])
    push.write(database)


def test_the_steps(
    deployment: MovingMessenger, served: Callable[[str], Server], drivers: Drivers, tmp_path: Path
) -> None:
    """The steps in their order: a user of push0k logs in with its old password and reads what was written there; the
    way back is the start of the old server."""
    assert sorted(EXAMPLES) == ["sh 1", "sh 2", "sh 3", "sh 4", "sh 5", "sh 6", "sh 7", "yaml 1", "yaml 2"]
    # 1, 2, 3: the files.
    deployment.write("yaml 1")
    deployment.write("yaml 2")
    assert "team" in deployment.run(deployment.text_of("sh 1"))
    # 4: a look.
    looked = deployment.run(deployment.text_of("sh 2"))
    assert "OK to import: users 2, rooms 2, messages 3, attachments 2, first passwords 1, missing files 1" in looked
    # 5, 6: two imports.
    assert "users 2" in deployment.run(deployment.text_of("sh 3"))
    assert "messages there 3" in deployment.run(deployment.text_of("sh 4"))
    # 7: the start, and logins with the old and with the first password.
    server = served(deployment.text_of("sh 5").strip())
    first = (tmp_path / "first-passwords.txt").read_text().split()
    assert first[0] == BEN
    assert (tmp_path / "first-passwords.txt").stat().st_mode & 0o777 == 0o600
    for login, password, must_change in ((ANN, hash_of("777"), False), (BEN, first[1], True)):
        call = ConnectCall(MODERN, deployment.url, "team", auth={"deviceId": "d"}, ack=ACK_ALL)
        client = drivers.python.connect(call)
        client.wait_connected()
        answer = log_in(client, login, password)
        assert (answer["ok"], answer["must_change_password"]) == (True, must_change)
        client.wait_event("_settings")
        if not must_change:
            rooms = client.ask("sync", {"cursor": None})["rooms"]
            lunch = next(room["id"] for room in rooms if room["name"] == "Lunch")
            history = client.ask("history", {"with": {"room": lunch}, "limit": 10})["messages"]
            assert [(one["text"], one["file"] and one["file"]["size"]) for one in history] == [
                ("and", None),
                ("look", 5),
                ("**hello**", None),
            ]
        client.forget()
    # 8: the list of users, and the end of the file.
    assert ANN in deployment.run(deployment.text_of("sh 6"))
    assert not (tmp_path / "first-passwords.txt").exists()
    # The way back.
    (tmp_path / "recado.pid").write_text(str(server.pid))
    deployment.run(deployment.text_of("sh 7"))
    assert (tmp_path / "pm2.log").read_text() == "pm2 stop push0k\npm2 start push0k\n"


def test_the_sections() -> None:
    """The page has the steps, what stays, what differs, and the way back."""
    headings = [line for line in text_of(PAGE).splitlines() if line.startswith("## ")]
    assert headings == ["## Steps", "## What stays", "## What differs", "## How to go back"]
