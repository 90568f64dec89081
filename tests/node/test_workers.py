"""Several processes behind one port: their start, replacement and common end, and their separate figures."""

from __future__ import annotations

import shutil
import signal
import socket
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest
import yaml

from app.node.worker_process import Restarts
from tests.support.processes import REPOSITORY, descendants, is_running, kill
from tests.support.server import Server, clean_environment
from tests.support.valkey import Valkey
from tests.support.waiting import eventually

WORKERS = 3


@pytest.fixture
def directory() -> Iterator[Path]:
    """The folder of a server. Its path is short enough for a socket."""
    made = Path(tempfile.mkdtemp(prefix="recado-"))
    yield made
    shutil.rmtree(made)


@pytest.fixture
def embedded(directory: Path) -> Iterator[Server]:
    """Workers with the demo, on the supervisor's own Valkey."""
    server = Server(directory, "--port", "0", "--demo", "--workers", str(WORKERS), TMPDIR=str(directory))
    yield server
    server.end()


@pytest.fixture
def clustered(directory: Path, valkey: Valkey) -> Iterator[Server]:
    """Workers on the Valkey of the tests."""
    server = Server(directory, "--port", "0", "--demo", RECADO_WORKERS=str(WORKERS), REDIS_URL=valkey.url)
    yield server
    server.end()


def workers_of(server: Server) -> list[int]:
    """The process ids of the workers that run."""
    listing = subprocess.run(["ps", "-A", "-o", "pid=,args="], capture_output=True, check=True, text=True).stdout
    commands = dict(line.strip().split(" ", 1) for line in listing.splitlines())
    return [pid for pid in descendants(server.pid) if commands.get(str(pid), "").endswith("-m app worker")]


def lines_of(server: Server, event: str) -> list[dict[str, object]]:
    """The log lines of this event."""
    return [line for line in server.log() if line.get("event") == event]


def samples(server: Server, name: str) -> list[str]:
    """The lines of a metric."""
    text = httpx.get(f"{server.url}/metrics", timeout=60).text
    return [line for line in text.splitlines() if line.startswith(f"{name}{{")]


def post(server: Server) -> str:
    """Sends an event to the demo's alice."""
    query = {"site": "demo", "apiKey": "demo"}
    return httpx.post(f"{server.url}/send", params=query, json={"rooms": "user_alice", "event": "news"}).text


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_start_and_end(embedded: Server, directory: Path, number: signal.Signals) -> None:
    """One line says that all workers listen, and any worker answers. One signal ends all with status 0 and leaves no
    process and no file."""
    family = descendants(embedded.pid)
    assert len(workers_of(embedded)) == WORKERS
    assert len(family) == WORKERS + 1
    assert [line["workers"] for line in lines_of(embedded, "listening")] == [WORKERS]
    assert {post(embedded) for _ in range(10)} == {"OK"}
    assert httpx.get(f"{embedded.url}/readyz").status_code == 200
    embedded.signal(number)
    assert embedded.wait() == 0
    assert [pid for pid in family if is_running(pid)] == []
    assert [path.name for path in directory.iterdir()] == ["data"]
    assert len(lines_of(embedded, "draining")) == WORKERS


def test_figures_of_all(clustered: Server) -> None:
    """Any worker answers with the figures of all: each sample has the worker's number, and each metric stands in one
    place."""
    for _ in range(10):
        post(clustered)
    accepted = samples(clustered, "recado_sends_total")
    assert sum(float(line.rpartition(" ")[2]) for line in accepted) == 10
    text = httpx.get(f"{clustered.url}/metrics").text
    assert text.count("# TYPE recado_worker_up gauge") == 1
    assert samples(clustered, "recado_worker_up") == [f'recado_worker_up{{worker="{n}"}} 1.0' for n in range(WORKERS)]
    nodes = {line.partition('node="')[2][:10] for line in samples(clustered, "recado_node_info")}
    assert len(nodes) == WORKERS
    own = httpx.get(f"{clustered.url}/metrics/own").text
    assert len({part.partition('"')[0] for part in own.split('worker="')[1:]}) == 1


def test_dead_worker_is_replaced(clustered: Server) -> None:
    """A worker that was killed is started again in its place, while the others keep serving."""
    first, *others = workers_of(clustered)
    kill(first)
    eventually(lambda: len(lines_of(clustered, "worker ended")) == 1, "the supervisor to see it")
    assert post(clustered) == "OK"
    eventually(lambda: len(set(workers_of(clustered)) - {first, *others}) == 1, "another worker", 60)

    def all_answer() -> bool:
        return [line.rpartition(" ")[2] for line in samples(clustered, "recado_worker_up")] == ["1.0"] * WORKERS

    eventually(all_answer, "it to serve", 60)
    assert len(lines_of(clustered, "listening")) == 1


def test_workers_that_die_again_and_again(clustered: Server) -> None:
    """When workers die as soon as they are started, the supervisor gives up with one line and status 1."""
    others = workers_of(clustered)[1:]

    def is_over() -> bool:
        for pid in set(workers_of(clustered)) - set(others):
            kill(pid)
        return clustered.returncode is not None

    eventually(is_over, "the supervisor to give up", 60)
    assert clustered.wait() == 1
    [line] = [line["raw"] for line in clustered.log() if "raw" in line]
    assert line == (
        "recado: a worker died 5 times in a row soon after its start: "
        "a worker ended with SIGKILL before it served, see what it logged"
    )
    assert [pid for pid in others if is_running(pid)] == []


def test_killed_supervisor_leaves_nothing(embedded: Server) -> None:
    """When the supervisor is killed, its workers and its Valkey end by themselves."""
    family = descendants(embedded.pid)
    assert len(family) == WORKERS + 1
    embedded.signal(signal.SIGKILL)
    embedded.wait()
    eventually(lambda: not [pid for pid in family if is_running(pid)], "all to end", 60)


@pytest.mark.long
def test_worker_that_does_not_end(directory: Path, valkey: Valkey) -> None:
    """A worker that hangs when all are to end is killed after its time. The status is 0 all the same."""
    (directory / "config.yml").write_text("production: {drain_timeout: 0, shutdown_timeout: 0.5}")
    server = Server(directory, "--port", "0", "--workers", "2", REDIS_URL=valkey.url)
    try:
        hanging = workers_of(server)[0]
        subprocess.run(["kill", "-STOP", str(hanging)], check=True)
        server.signal(signal.SIGTERM)
        assert server.wait(30) == 0
        assert not is_running(hanging)
    finally:
        server.end()


def run_to_the_end(directory: Path, *arguments: str, **environment: str) -> tuple[int, str]:
    """Status and stderr of a server that cannot start."""
    command = [sys.executable, "-m", "app", "serve", "--host", "127.0.0.1", "--workers", "2", *arguments]
    ended = subprocess.run(
        command,
        cwd=directory,
        env=clean_environment(**environment, PYTHONPATH=str(REPOSITORY)),
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
    )
    return ended.returncode, ended.stderr


def test_failures_at_the_start(directory: Path) -> None:
    """A failed start gives one line for any number of workers. A wrong setting exits with 2, any other failure with
    1."""
    (directory / "sites.yml").write_text(
        yaml.safe_dump({"shop": {"apiKey": "pu3WqTqXo0CqE5q1H5o0Jw", "authUrl": "http://127.0.0.1/rooms"}})
    )
    away = f"unix://{directory}/nowhere"
    status, said = run_to_the_end(directory, "--port", "0", REDIS_URL=away)
    assert (status, said) == (1, f"recado: Redis at {directory}/nowhere does not answer (FileNotFoundError)\n")
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        status, said = run_to_the_end(directory, "--port", str(port), REDIS_URL=away)
    expected = f"recado: port: expected a free port to listen on, 127.0.0.1:{port} is not (Address already in use)\n"
    assert (status, said) == (2, expected)
    (directory / "config.yml").write_text(yaml.safe_dump({"production": {"flakeid": {"worker": 3}}}))
    status, said = run_to_the_end(directory, "--port", "0", REDIS_URL=away)
    assert (status, said.startswith("recado: flakeid.worker: expected none with several workers")) == (2, True)


def test_restarts() -> None:
    """Pauses double with each death soon after a start, and the fifth death is the last. A long service resets the
    count."""
    restarts = Restarts()
    assert [restarts.died(0.0) for _ in range(5)] == [0.1, 0.2, 0.4, 0.8, None]
    restarts = Restarts()
    assert [restarts.died(seconds) for seconds in (9.9, 0.0, 10.0, 3.0)] == [0.1, 0.2, 0.1, 0.2]
