"""The private Valkey: its data survive any end, it ends with its owner, and one directory has one server."""

from __future__ import annotations

import asyncio
import os
import shutil
import signal
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from structlog.testing import capture_logs

from app.errors import ConfigError, StoreError, StoreUnavailable
from app.redis import embedded as embedded_module
from app.redis.address import Address
from app.redis.embedded import EmbeddedValkey
from app.redis.link import Link
from tests.redis.fake_redis import Served, fake_redis
from tests.support.processes import REPOSITORY, ChildProcess, is_running
from tests.support.waiting import until, until_answer

OWNER = """
import asyncio, sys
from pathlib import Path
from app.redis.embedded import EmbeddedValkey
from app.redis.link import Link

async def own():
    embedded = EmbeddedValkey(Path(sys.argv[1]))
    await embedded.start()
    link = await Link.open(embedded.address, 2.0)
    await link.command("SET", "kept", "yes")
    # As durable as the second of the append-only file's policy would make it.
    await link.command("WAITAOF", 1, 0, 5000)
    print(embedded.address.path, embedded._process.pid, flush=True)
    # It lives until it is killed, and never longer than the test.
    await asyncio.to_thread(sys.stdin.read)

asyncio.run(own())
"""


@pytest.fixture
def data_dir(tmp_path: Path) -> Path:
    """The data directory, which does not exist yet."""
    return tmp_path / "some" / "data"


@pytest.fixture
def temporary(monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """The directory of sockets, to see which ones are left; its path is short, because socket paths have to be."""
    directory = Path(tempfile.mkdtemp(prefix="r-"))
    monkeypatch.setattr(tempfile, "tempdir", str(directory))
    yield directory
    shutil.rmtree(directory)


def files_in(directory: Path) -> list[str]:
    """The names in a directory."""
    return sorted(path.name for path in directory.iterdir())


def mode_of(path: str) -> int:
    """The permissions of a file."""
    return Path(path).stat().st_mode


async def ask(address: Address, *words: str) -> object:
    """One command on a link of its own."""
    link = await Link.open(address, 2.0)
    try:
        return await link.command(*words)
    finally:
        link.abort()


async def test_data_survive_an_orderly_end(data_dir: Path) -> None:
    """A second start on the same directory finds the data of the first one; nothing else is left of it."""
    for expected in (None, b"yes"):
        embedded = EmbeddedValkey(data_dir)
        await embedded.start()
        assert await ask(embedded.address, "GET", "kept") == expected
        await ask(embedded.address, "SET", "kept", "yes")
        await embedded.stop()
        await embedded.stop()
        with pytest.raises(StoreUnavailable):
            await ask(embedded.address, "PING")
        assert files_in(data_dir) == ["appendonlydir", "lock", "valkey.log"]


async def test_killed_valkey_is_started_anew(data_dir: Path) -> None:
    """A Valkey that dies is started again on the same socket with its data."""
    embedded = EmbeddedValkey(data_dir)
    await embedded.start()
    try:
        for value in ("1", "2"):
            await ask(embedded.address, "SET", "kept", value)
            await ask(embedded.address, "WAITAOF", "1", "0", "5000")
            process = embedded._process
            assert process
            process.kill()
            await process.wait()
            await until(lambda: embedded._process is not process, "a new process")  # noqa: B023  # awaited in the loop
            await until_answering(embedded.address)
            assert await ask(embedded.address, "GET", "kept") == value.encode()
    finally:
        await embedded.stop()


async def until_answering(address: Address) -> None:
    """The server has read its data."""
    await until_answer(lambda: ask(address, "PING"), "the server to read its data", (StoreUnavailable,))


async def test_killed_owner_takes_valkey_along(data_dir: Path) -> None:
    """After SIGKILL of the server its Valkey ends by itself, and the next start finds the data."""
    owner = ChildProcess(
        "owner",
        [sys.executable, "-c", OWNER, str(data_dir)],
        REPOSITORY,
        {**os.environ, "PYTHONPATH": str(REPOSITORY)},
    )
    try:
        lines = owner.lines.wait_until(lambda seen: any(".sock " in line for line in seen), "the owner to start")
        pid = int(next(line for line in lines if ".sock " in line).split()[-1])
        assert is_running(pid)
        owner.signal(signal.SIGKILL)
        owner.wait()
        embedded = EmbeddedValkey(data_dir)
        await embedded.start()
        assert await ask(embedded.address, "GET", "kept") == b"yes"
        await embedded.stop()
        assert not is_running(pid)
    finally:
        owner.end()


async def test_second_server_on_a_directory_is_refused(data_dir: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Two servers would overwrite each other: the second is refused with the reason, and the first goes on."""
    monkeypatch.setattr(embedded_module, "_LOCK_SECONDS", 0.1)
    first, second = EmbeddedValkey(data_dir), EmbeddedValkey(data_dir)
    await first.start()
    try:
        with pytest.raises(ConfigError, match=f"data_dir {data_dir}: another server uses this directory"):
            await second.start()
        await second.stop()
        assert await ask(first.address, "PING") == b"PONG"
    finally:
        await first.stop()


async def test_directory_that_cannot_be_used(tmp_path: Path) -> None:
    """A file in the place of the directory is named in the error, with what was expected."""
    (tmp_path / "file").write_text("")
    for path in (tmp_path / "file", tmp_path / "file" / "below"):
        embedded = EmbeddedValkey(path)
        with pytest.raises(ConfigError, match=f"data_dir {path}: expected a directory to write to"):
            await embedded.start()
        await embedded.stop()


async def test_broken_data_are_not_thrown_away(data_dir: Path) -> None:
    """A Valkey that cannot read its data is an error that names its log, not an empty store."""
    (data_dir / "appendonlydir").mkdir(parents=True)
    (data_dir / "appendonlydir" / "appendonly.aof.manifest").write_text("nonsense\n")
    embedded = EmbeddedValkey(data_dir)
    with pytest.raises(StoreError, match=r"valkey\.log"):
        await embedded.start()
    await embedded.stop()
    assert (data_dir / "valkey.log").stat().st_size > 0


async def test_long_path(tmp_path: Path, temporary: Path) -> None:
    """The path of a data directory may be longer than that of a unix socket."""
    data_dir = tmp_path / ("long" * 30) / ("longer" * 20)
    embedded = EmbeddedValkey(data_dir)
    await embedded.start()
    assert len(str(embedded.address.path)) < 108 < len(str(data_dir))
    assert await ask(embedded.address, "PING") == b"PONG"
    await embedded.stop()
    assert files_in(temporary) == []


async def test_only_its_owner_may_connect(data_dir: Path) -> None:
    """No other user may open the socket, and there is no port."""
    embedded = EmbeddedValkey(data_dir)
    await embedded.start()
    assert mode_of(str(embedded.address.path)) & 0o077 == 0
    assert await ask(embedded.address, "CONFIG", "GET", "port") == [b"port", b"0"]
    await embedded.stop()


@pytest.fixture
def idle_binary(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A program that does nothing until SIGTERM replaces Valkey; tests answer in its place."""
    binary = tmp_path / "valkey"
    binary.write_text("#!/bin/sh\nexec sleep 60\n")
    binary.chmod(0o700)
    monkeypatch.setattr(embedded_module, "get_binary_path", lambda: binary)
    monkeypatch.setattr(embedded_module, "_START_SECONDS", 1.0)


async def test_valkey_that_loads(idle_binary: None, tmp_path: Path) -> None:
    """A server that loads its data is waited for past the time of the start, which the log says once. No connection is
    left open."""
    embedded = EmbeddedValkey(tmp_path)
    ready_at = time.monotonic() + 1.5

    def answer(served: Served, data: bytes) -> None:
        if b"PING" not in data:
            served.transport.write(b"+OK\r\n" * data.count(b"*"))
        elif time.monotonic() < ready_at:
            served.transport.write(b"-LOADING its data\r\n")
        else:
            served.transport.write(b"+PONG\r\n")

    async with fake_redis(tmp_path, answer, "valkey.sock") as (fake, _):
        with capture_logs() as logs:
            await embedded.start()
        assert time.monotonic() > ready_at
        await until(lambda: not fake.opened, "every connection to be closed")
    await embedded.stop()
    assert [line["event"] for line in logs] == ["embedded valkey loads its data"]


async def test_valkey_that_refuses_to_end(idle_binary: None, tmp_path: Path) -> None:
    """A server that refuses to shut down says why in the log, and is ended by a signal."""
    embedded = EmbeddedValkey(tmp_path)

    def answer(served: Served, data: bytes) -> None:
        if b"PING" in data:
            served.transport.write(b"+PONG\r\n")
        elif b"SHUTDOWN" in data:
            served.transport.write(b"-ERR Errors trying to SHUTDOWN\r\n")
        else:
            served.transport.write(b"+OK\r\n" * data.count(b"*"))

    async with fake_redis(tmp_path, answer, "valkey.sock") as (fake, _):
        await embedded.start()
        with capture_logs() as logs:
            await embedded.stop()
        assert fake.opened == set()
    assert [line["event"] for line in logs] == ["embedded valkey refused to shut down"]
    assert embedded._process
    assert embedded._process.returncode == -signal.SIGTERM


async def test_valkey_that_does_not_answer(idle_binary: None, data_dir: Path) -> None:
    """A server that never answers is an error that points to its log, after a while."""
    embedded = EmbeddedValkey(data_dir)
    with pytest.raises(StoreUnavailable, match=r"valkey\.log"):
        await embedded.start()
    await embedded.stop()


async def test_hanging_valkey_is_killed(data_dir: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A server that does not end within the time is killed."""
    monkeypatch.setattr(embedded_module, "_STOP_SECONDS", 0.2)
    embedded = EmbeddedValkey(data_dir)
    await embedded.start()
    process = embedded._process
    assert process
    process.send_signal(signal.SIGSTOP)
    await embedded.stop()
    assert process.returncode == -signal.SIGKILL


async def test_a_failed_start_is_tried_again(data_dir: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """No process can be made for a moment: the keeper says so and starts Valkey when it can."""
    monkeypatch.setattr(embedded_module, "_RESTART_SECONDS", (0.01,))
    embedded = EmbeddedValkey(data_dir)
    await embedded.start()
    spawn, failures = asyncio.create_subprocess_exec, iter([OSError("no memory"), OSError("no memory")])

    async def fail_first(*words: str, **options: Any) -> asyncio.subprocess.Process:
        if failure := next(failures, None):
            raise failure
        return await spawn(*words, **options)

    monkeypatch.setattr(asyncio, "create_subprocess_exec", fail_first)
    try:
        process = embedded._process
        assert process
        with capture_logs() as logs:
            process.kill()
            await until(lambda: embedded._process is not process, "a new process")
            await until_answering(embedded.address)
        assert [line["event"] for line in logs].count("embedded valkey not started") == 2
    finally:
        await embedded.stop()


def make_readable(data_dir: Path) -> None:
    """A data directory that others may read, with a log of an earlier version."""
    data_dir.mkdir(parents=True, mode=0o755)
    (data_dir / "valkey.log").touch(mode=0o644)


def rights_of_others(data_dir: Path) -> dict[str, int]:
    """The rights of other users to each file."""
    return {path.name: mode_of(str(path)) & 0o077 for path in data_dir.rglob("*") if path.is_file()}


def make_slow_to_load(data_dir: Path) -> None:
    """Data that take 3 s to load; Valkey answers LOADING every 0.1 s meanwhile."""
    ping, pause = b"*1\r\n$4\r\nPING\r\n", b"*3\r\n$5\r\nDEBUG\r\n$5\r\nSLEEP\r\n$3\r\n0.1\r\n"
    with next(data_dir.glob("appendonlydir/*.incr.aof")).open("ab") as file:
        file.write(b"*2\r\n$6\r\nSELECT\r\n$1\r\n0\r\n" + (pause + ping * 1023) * 30)


async def test_files_are_private(data_dir: Path) -> None:
    """Files are 0600 in a directory that others may read, also those that were there with another mode."""
    make_readable(data_dir)
    before = os.umask(0o022)
    embedded = EmbeddedValkey(data_dir)
    try:
        await embedded.start()
        modes = rights_of_others(data_dir)
        assert len(modes) >= 4
        assert not any(modes.values()), modes
    finally:
        os.umask(before)
        await embedded.stop()


async def test_a_directory_in_use_is_said_at_once(data_dir: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A start that waits for another server says so in the log, once."""
    monkeypatch.setattr(embedded_module, "_SAY_LOCKED_SECONDS", 0.05)
    monkeypatch.setattr(embedded_module, "_LOCK_SECONDS", 1.0)
    first, second = EmbeddedValkey(data_dir), EmbeddedValkey(data_dir)
    await first.start()
    try:
        with capture_logs() as logs, pytest.raises(ConfigError):
            await second.start()
        assert [line["event"] for line in logs] == ["waiting for another server to leave data_dir"]
    finally:
        await second.stop()
        await first.stop()


async def test_data_that_take_long_to_load(data_dir: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Valkey that answers LOADING for longer than the time of the start is waited for, and leaves no descriptors."""
    embedded = EmbeddedValkey(data_dir)
    await embedded.start()
    await ask(embedded.address, "SET", "kept", "yes")
    await embedded.stop()
    make_slow_to_load(data_dir)
    # Not less: the process itself starts slowly on a busy machine.
    monkeypatch.setattr(embedded_module, "_START_SECONDS", 2.0)
    before = len(os.listdir("/proc/self/fd"))
    again = EmbeddedValkey(data_dir)
    with capture_logs() as logs:
        await again.start()
    # The lock alone is new: a link for each question would be here.
    assert len(os.listdir("/proc/self/fd")) <= before + 3
    assert await ask(again.address, "GET", "kept") == b"yes"
    await again.stop()
    assert "embedded valkey loads its data" in [line["event"] for line in logs]


async def test_start_that_is_cancelled(idle_binary: None, tmp_path: Path) -> None:
    """Whenever the wait for the start is cancelled, no connection is left open."""
    embedded = EmbeddedValkey(tmp_path)

    def answer(served: Served, data: bytes) -> None:
        served.transport.write(b"+PONG\r\n" if b"PING" in data else b"+OK\r\n" * data.count(b"*"))

    async with fake_redis(tmp_path, answer, "valkey.sock") as (fake, _):
        await embedded.start()
        was_done = False
        for turns in range(100):
            waiting = asyncio.ensure_future(embedded._answers())
            for _ in range(turns):
                await asyncio.sleep(0)
            was_done = waiting.done()
            waiting.cancel()
            await asyncio.gather(waiting, return_exceptions=True)
            if was_done:
                break
        assert was_done
        await until(lambda: not fake.opened, "every connection to be closed")
    await embedded.stop()
