"""Each step of docs/moving/socket.io-webservice.md is run on a Redis in which messages of the old server wait."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.support.clients import ACK_NONE, NODE_KINDS, Client, ConnectCall
from tests.support.connector import Drivers
from tests.support.examples import examples_of
from tests.support.ports import free_port
from tests.support.processes import REPOSITORY
from tests.support.server import Server, clean_environment
from tests.support.tenant import Tenant
from tests.support.valkey import Valkey

PAGE = "docs/moving/socket.io-webservice.md"
EXAMPLES = {str(one).removeprefix(f"{PAGE} "): one for one in examples_of(PAGE)}
RECORDED = json.loads((REPOSITORY / "tests/contract/exchanges/socket.io-webservice.json").read_text())
OLD_CLIENT = next(kind for kind in NODE_KINDS if kind.library == "1")
TOKEN = "moving"
#: The messages that wait for each of the four devices of the recording, in the order of sending.
WAITED = [[one["event"], *one.get("args", [None])] for one in RECORDED["sent"]]
#: Stand-ins for programs that a test does not have or does not want.
COMMANDS = {
    "curl": '#!/bin/sh\nexec {curl} -sS --fail-with-body --max-time 10 "$@"\n',
    "docker": '#!/bin/sh\necho "$@" >> {folder}/docker.log\n',
    "recado": '#!/bin/sh\nexec {python} -m app "$@"\n',
}


class Move:
    """The folder and the Redis of a deployment that moves over. Lives for the test."""

    def __init__(self, folder: Path, valkey: Valkey, tenant: Tenant) -> None:
        """Write the programs that the steps call."""
        self._folder, self._port = folder, str(free_port())
        self._replaced = {
            "1337": self._port,
            "redis://127.0.0.1:6379": f"unix://{valkey.socket}",
            "https://www.example.com": tenant.url,
        }
        path = f"{folder / 'bin'}{os.pathsep}{os.environ['PATH']}"
        self._environment = clean_environment(PATH=path, PYTHONPATH=str(REPOSITORY))
        (folder / "bin").mkdir()
        for name, text in COMMANDS.items():
            file = folder / "bin" / name
            file.write_text(text.format(curl=shutil.which("curl"), python=sys.executable, folder=folder))
            file.chmod(0o755)

    def write(self, example: str) -> None:
        """Write an example into the file that its first line names."""
        text = self._here(EXAMPLES[example].text)
        (self._folder / text.split("\n", 1)[0].strip().removeprefix("# ")).write_text(text)

    def run(self, text: str) -> str:
        """Run commands of the page, and return what they print."""
        command = ["sh", "-eu", "-c", self._here(text)]
        done = subprocess.run(
            command, cwd=self._folder, env=self._environment, capture_output=True, text=True, timeout=60, check=True
        )
        return done.stdout

    def serve(self, command: str) -> Server:
        """Run the command that serves, with its options."""
        return Server(self._folder, *command.split()[2:])

    def _here(self, text: str) -> str:
        for there, here in self._replaced.items():
            text = text.replace(there, here)
        return text


@pytest.fixture
def move(tmp_path: Path, valkey: Valkey, tenant: Tenant) -> Move:
    """A Redis with the recorded lists, and a backend that knows the user."""
    client: Any = valkey.client
    for key, found in RECORDED["lists"].items():
        client.rpush(key, *found["entries"])
        client.expire(key, found["ttl"])
    tenant.set_rooms(TOKEN, "user_8", "Editors")
    return Move(tmp_path, valkey, tenant)


def connect(drivers: Drivers, server: Server, device: str) -> Client:
    """A page of the old server's own socket.io-client, which acknowledges nothing."""
    call = ConnectCall(OLD_CLIENT, server.url, "newsite", {"token": TOKEN, "deviceId": device}, ack=ACK_NONE)
    client = drivers.node.connect(call)
    client.wait_connected()
    return client


def test_steps(move: Move, drivers: Drivers, valkey: Valkey) -> None:
    """Each device gets what waited for it, once, in the order of sending, and then what is sent from now on."""
    for example in ("yaml 1", "yaml 2"):
        move.write(example)
    move.run(EXAMPLES["sh 1"].text)
    stop, serve = EXAMPLES["sh 2"].text.strip().splitlines()
    move.run(stop)
    server = move.serve(serve.strip())
    try:
        clients = [connect(drivers, server, device) for device in ("090909", "a:b", "kept", "")]
        for client in clients:
            assert client.wait_event("_batch").args == [WAITED]
        recorded = next(args for name, *args in RECORDED["batch"] if name == "_batch")
        assert sorted(map(str, recorded[0])) == sorted(map(str, WAITED))
        assert valkey.client.keys("/newsite:*") == []
        assert move.run(EXAMPLES["sh 3"].text) == "okOK"
        for client in clients:
            assert client.wait_event("news").args == [{"id": 2}]
            assert client.names() == ["_batch", "news"]
            client.disconnect()
        again = connect(drivers, server, "090909")
        assert again.wait_event("_batch").args == [[*WAITED, ["news", {"id": 2}]]]
        again.forget()
    finally:
        server.end()
    move.run(EXAMPLES["sh 4"].text)
