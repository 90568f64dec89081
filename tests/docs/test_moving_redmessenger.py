"""Each step of docs/moving/redmessenger.md is run on a Redis in which messages of RedMessenger wait."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.support.clients import NODE_KINDS, ConnectCall
from tests.support.connector import Drivers
from tests.support.examples import examples_of
from tests.support.ports import free_port
from tests.support.server import Server, clean_environment
from tests.support.valkey import Valkey

PAGE = "docs/moving/redmessenger.md"
EXAMPLES = {str(one).removeprefix(f"{PAGE} "): one for one in examples_of(PAGE)}
OLD_CLIENT = next(kind for kind in NODE_KINDS if kind.library == "1")
#: As RedMessenger writes it.
WAITED = b'{"source":"rm.users.user1","timestamp":1764000000000,"bubble":false,"payload":"100%25%20old"}'
#: Stand-ins for programs that a test does not have or does not want.
COMMANDS = {
    "curl": '#!/bin/sh\nexec {curl} -sS --fail-with-body --max-time 10 "$@"\n',
    "docker": '#!/bin/sh\necho "$@" >> {folder}/docker.log\n',
    "recado": '#!/bin/sh\nexec {python} -m app "$@"\n',
    "redis-cli": (
        "#!{python}\nimport sys, redis\n"
        "print(redis.Redis(unix_socket_path='{socket}').execute_command(*sys.argv[1:]))\n"
    ),
}


class Move:
    """The folder and the Redis of a deployment that moves over. Lives for the test."""

    def __init__(self, folder: Path, valkey: Valkey) -> None:
        """Write the programs that the steps call."""
        self.folder, self.valkey, self.port = folder, valkey, str(free_port())
        self.environment = clean_environment(PATH=f"{folder / 'bin'}{os.pathsep}{os.environ['PATH']}")
        (folder / "bin").mkdir()
        for name, text in COMMANDS.items():
            file = folder / "bin" / name
            file.write_text(
                text.format(curl=shutil.which("curl"), python=sys.executable, folder=folder, socket=valkey.socket)
            )
            file.chmod(0o755)

    def write(self, example: str) -> None:
        """Write an example into the file that its first line names."""
        text = EXAMPLES[example].text.replace("8080", self.port)
        text = text.replace("redis://127.0.0.1:6379", f"unix://{self.valkey.socket}")
        (self.folder / text.split("\n", 1)[0].strip().removeprefix("# ")).write_text(text)

    def run(self, text: str) -> str:
        """Run commands of the page, and return what they print."""
        command = ["sh", "-eu", "-c", text.replace("8080", self.port)]
        environment = {**self.environment, "PYTHONPATH": str(Path.cwd())}
        done = subprocess.run(
            command, cwd=self.folder, env=environment, capture_output=True, text=True, timeout=60, check=True
        )
        return done.stdout

    def entries(self, user: str) -> list[dict[str, Any]]:
        """The entries of a user that wait, as an application reads them."""
        client: Any = self.valkey.client
        return [json.loads(entry) for entry in client.lrange(f"rm:users:{user}:messages", 0, -1)]


@pytest.fixture
def move(tmp_path: Path, valkey: Valkey) -> Move:
    """A Redis with a user's key and a message of RedMessenger that waits for the user."""
    valkey.client.set("rm:users:user1:key", "secret1")
    valkey.client.rpush("rm:users:user1:messages", WAITED)
    return Move(tmp_path, valkey)


def test_steps(move: Move, drivers: Drivers) -> None:
    """The old message and the new one reach a page of 1.x, decoded; what is left can be read by RedMessenger."""
    for example in ("yaml 1", "yaml 2"):
        move.write(example)
    move.run(EXAMPLES["sh 1"].text)
    stop, serve = EXAMPLES["sh 2"].text.strip().splitlines()
    move.run(stop)
    server = Server(move.folder, *serve.split()[2:])
    try:
        printed = move.run(EXAMPLES["sh 3"].text)
        assert "Hey, you're connected!" in printed
        assert [entry["payload"] for entry in move.entries("user1")] == ["100%25%20old", "Hello,%20world!"]
        client = drivers.node.connect(ConnectCall(OLD_CLIENT, server.url, "rm"))
        client.wait_connected()
        drivers.node.emit(client, "identifier", "user1:secret1")
        client.wait_event("message", 2)
        assert [event.args[0]["payload"] for event in client.events()] == ["100% old", "Hello, world!"]
        client.disconnect()
        move.run("redis-cli PUBLISH rm.users.user2 '100% new'")
    finally:
        server.end()
    assert move.entries("user2")[0] | {"timestamp": 0} == {
        "source": "rm.users.user2",
        "timestamp": 0,
        "bubble": True,
        "payload": "100%25%20new",
    }
    move.run(EXAMPLES["sh 4"].text)
    assert (move.folder / "docker.log").read_text() == "compose stop redmessenger\ncompose start redmessenger\n"
