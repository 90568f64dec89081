"""The writer of the journal as a process: beside a server, with workers, alone, and after kills."""

from __future__ import annotations

import json
import shutil
import signal
import sqlite3
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.support.deployment import Deployment
from tests.support.fates import FIRST_SEQ, SITE, FateStream
from tests.support.processes import REPOSITORY, ChildProcess, is_running, kill, writers_of
from tests.support.server import Server, clean_environment
from tests.support.sites import load_sites
from tests.support.swarm import Swarm
from tests.support.tenant import Tenant
from tests.support.valkey import Valkey
from tests.support.waiting import eventually


@pytest.fixture
def directory() -> Iterator[Path]:
    """The folder of a server. Its path is short enough for a socket."""
    made = Path(tempfile.mkdtemp(prefix="recado-"))
    yield made
    shutil.rmtree(made)


def messages_in(path: Path) -> int:
    """How many messages the journal has; 0 while there is no journal."""
    if not path.exists():
        return 0
    connection = sqlite3.connect(path)
    try:
        return int(connection.execute("SELECT count(*) FROM messages").fetchone()[0])
    except sqlite3.OperationalError:
        return 0
    finally:
        connection.close()


def rows_in(path: Path, query: str) -> list[tuple[Any, ...]]:
    """The answer of the journal to a query; nothing while it has no tables."""
    connection = sqlite3.connect(path)
    try:
        return connection.execute(query).fetchall()
    except sqlite3.OperationalError:
        return []
    finally:
        connection.close()


@pytest.mark.parametrize("workers", ["1", "2"])
def test_one_writer_beside_a_server(directory: Path, valkey: Valkey, workers: str) -> None:
    """A server keeps one writer, whatever its number of workers, starts it again after a kill, and ends it last."""
    path = directory / "journal.sqlite"
    environment = {"REDIS_URL": valkey.url, "DATABASE_URL": f"sqlite:///{path}", "RECADO_WORKERS": workers}
    server = Server(directory, "--port", "0", "--demo", **environment)
    try:
        stream = FateStream(valkey, "demo")
        stream.send(FIRST_SEQ, [1, 2])
        eventually(lambda: messages_in(path) == 1, "the message in the journal", 60)
        (writer,) = writers_of(server)
        kill(writer)
        stream.send(FIRST_SEQ + 1, [1, 2])
        eventually(lambda: messages_in(path) == 2, "a writer after the kill", 60)
        assert [line["status"] for line in server.log() if line.get("event") == "journal writer ended"] == [-9]
        (writer,) = writers_of(server)
        stream.send(FIRST_SEQ + 2, [1])
    finally:
        server.signal(signal.SIGTERM)
        assert server.wait(40) == 0
        server.end()
    assert messages_in(path) == 3
    assert not is_running(writer)
    assert stream.length == 0


def test_a_server_with_devices(tenant: Tenant, tmp_path: Path) -> None:
    """Of a real server with devices the journal has each message with its acks, and the connections that ended."""
    path = tmp_path / "journal.sqlite"
    deployment = Deployment(load_sites(tenant), environment={"DATABASE_URL": f"sqlite:///{path}"})
    try:
        room = tenant.unique("room")
        with Swarm(deployment, "one") as swarm:
            for _ in range(5):
                swarm.add(tenant.user(room))
            swarm.board()
            swarm.send_all(room, 20, 2)
            swarm.check()
            eventually(
                lambda: rows_in(path, "SELECT count(*) FROM deliveries WHERE state = 2") == [(100,)], "the acks", 20
            )
        ended = "SELECT user, protocol, reason FROM connections"
        eventually(lambda: len(rows_in(path, ended)) == 5, "the connections that ended", 60)
        assert {row[1:] for row in rows_in(path, ended)} == {("sites", "transport close")}
        counted = rows_in(path, "SELECT addressed, n_acked, n_waiting, event FROM messages")
        assert {row[:3] for row in counted} == {(5, 5, 0)}
        assert len(counted) == 20
        assert rows_in(path, "SELECT count(*) FROM deliveries WHERE ms IS NULL") == [(0,)]
    finally:
        deployment.end()


@pytest.mark.parametrize("workers", ["1", "2"])
def test_beside_the_embedded_server(directory: Path, workers: str) -> None:
    """Without settings the journal is a file beside the embedded Valkey, for this user alone. The password that a demo
    shows is right at once."""
    arguments = ("--port", "0", "--demo", "--workers", workers, "--data-dir", str(directory / "data"))
    server = Server(directory, *arguments, DATABASE_URL="")
    path = directory / "data" / "journal.sqlite"
    try:
        shown = server.lines.wait_for(lambda line: line.startswith("Console: "), "the password", 5)
        assert shown.startswith(f"Console: {server.url}/console ")
        login = {"name": "demo", "password": shown.rpartition(" ")[2]}
        assert httpx.post(f"{server.url}/console/login", data=login).status_code == 303
        server.lines.wait_for(lambda line: "journal begun" in line, "a writer", 20)
        assert len(writers_of(server)) == 1
        assert path.stat().st_mode & 0o077 == 0
    finally:
        server.end()


def test_no_journal_without_a_database(directory: Path, valkey: Valkey) -> None:
    """With a Redis of one's own and no database there is no writer, and the log says so once."""
    server = Server(directory, "--port", "0", "--demo", REDIS_URL=valkey.url, DATABASE_URL="")
    try:
        assert writers_of(server) == []
        assert [line.get("event") for line in server.log()].count("journal off") == 1
    finally:
        server.end()


def test_the_writer_alone(directory: Path, valkey: Valkey) -> None:
    """`recado journal` writes for servers elsewhere; of two one works, and the other takes over when it is killed."""
    path = directory / "journal.sqlite"
    environment = clean_environment(REDIS_URL=valkey.url, DATABASE_URL=f"sqlite:///{path}")
    command = [sys.executable, "-m", "app", "journal"]
    valkey.client.zadd("recado:nodes", {"somewhere": 1})
    valkey.client.sadd("recado:sites:somewhere", SITE)
    stream = FateStream(valkey)
    writers = [ChildProcess(f"journal {number}", command, directory, environment) for number in range(2)]
    try:
        stream.send(FIRST_SEQ, [1])
        eventually(lambda: messages_in(path) == 1, "the message in the journal", 60)
        for number, writer in enumerate(writers, 1):
            kill(writer.pid)
            writer.wait()
            if writer is not writers[-1]:
                stream.send(FIRST_SEQ + number, [1])
                eventually(lambda: messages_in(path) == 2, "the other writer", 60)
    finally:
        for writer in writers:
            writer.end()


def test_the_database_by_command(directory: Path) -> None:
    """`recado db upgrade` makes the tables and is repeatable; `recado db prune` says how much it deleted."""
    environment = clean_environment(DATABASE_URL=f"sqlite:///{directory / 'journal.sqlite'}")

    def run(*words: str) -> str:
        command = [sys.executable, "-m", "app", "db", *words]
        done = subprocess.run(command, cwd=directory, env=environment, capture_output=True, text=True, timeout=60)
        assert done.returncode == 0, done.stderr
        return done.stdout

    newest = max(path.stem[1:5] for path in (REPOSITORY / "app/journal/migrations/versions").glob("v*.py"))
    assert run("upgrade") == f"OK tables have version {newest}, had None\n"
    assert run("upgrade") == f"OK tables have version {newest}\n"
    assert run("prune") == "OK nothing is so old\n"


def test_a_wrong_database_is_told(directory: Path) -> None:
    """A URL of another database is a mistake in the configuration, and its password is not shown."""
    environment = clean_environment(DATABASE_URL="mysql://me:topsecret@host/db", PYTHONPATH=str(REPOSITORY))
    command = [sys.executable, "-m", "app", "check-config"]
    done = subprocess.run(command, cwd=directory, env=environment, capture_output=True, text=True, timeout=60)
    assert done.returncode == 2
    assert "DATABASE_URL: expected a URL such as postgresql://" in done.stderr
    assert "topsecret" not in done.stderr + json.dumps(done.stdout)
