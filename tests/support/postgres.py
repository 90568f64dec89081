"""A real PostgreSQL on a socket in a folder of its own, which tests may kill and start again on the same data."""

from __future__ import annotations

import contextlib
import itertools
import os
import pwd
import shutil
import signal
import subprocess
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path

from tests.support.processes import REPOSITORY, ChildProcess
from tests.support.tables import make_tables
from tests.support.waiting import eventually

_USER = "recado"
#: PostgreSQL refuses root; this account comes with Debian's package, the other one with every system.
_ACCOUNTS = ("postgres", "nobody")
_numbers = itertools.count(1)


class Postgres:
    """One server. Lives as long as the fixture that started it; `end` stops the process."""

    def __init__(self, directory: Path) -> None:
        """Make a cluster of databases in the directory, and start its server."""
        self._directory = directory
        self._data = directory / "data"
        self._account = _account()
        if self._account:
            shutil.chown(directory, self._account)
        options = ["-D", str(self._data), "-U", _USER, "-A", "trust", "-E", "UTF8", "--no-sync", "--no-instructions"]
        self._run("initdb", *options)
        #: The database that those with tables are copied from.
        self._with_tables = ""
        self._process: ChildProcess | None = None
        self.start()

    def start(self) -> None:
        """Start the process on the existing data; return when it answers."""
        # A killed server leaves these; the tests wait for the end of its processes by themselves.
        for name in ("postmaster.pid",):
            (self._data / name).unlink(missing_ok=True)
        settings = ("fsync=off", "max_connections=60", "listen_addresses=", "shared_buffers=64MB")
        options = [word for setting in settings for word in ("-c", setting)]
        command = [
            *self._as_account(),
            _binary("postgres"),
            "-D",
            str(self._data),
            "-k",
            str(self._directory),
            *options,
        ]
        self._process = ChildProcess("postgres", command, REPOSITORY)
        eventually(self._answers, "PostgreSQL to answer", 60)

    @property
    def pid(self) -> int:
        """The process that starts the others."""
        assert self._process
        return self._process.pid

    def new_database(self, template: str = "template0") -> str:
        """Make an empty database; return its URL."""
        name = f"test{next(_numbers)}"
        assert self._psql(f"CREATE DATABASE {name} TEMPLATE {template}")
        return f"postgresql://{_USER}@/{name}?host={self._directory}"

    def database_with_tables(self) -> str:
        """Make a database with the product's tables and no row; return its URL."""
        if not self._with_tables:
            url = self.new_database()
            make_tables(url)
            self._with_tables = _name(url)
        return self.new_database(self._with_tables)

    def database_bytes(self, url: str) -> int:
        """The size of a database on disk, with its indexes."""
        options = ["-X", "-q", "-t", "-A", "-h", str(self._directory), "-U", _USER, "-d", _name(url)]
        command = [_binary("psql"), *options, "-c", "SELECT pg_database_size(current_database())"]
        return int(subprocess.run(command, cwd="/", capture_output=True, timeout=30, check=True, text=True).stdout)

    def kill(self) -> None:
        """End all its processes at once, as a crash of the machine does."""
        assert self._process
        self._process.signal(signal.SIGQUIT)
        self._process.wait()

    def end(self) -> None:
        """Stop the process; idempotent."""
        if self._process:
            self._process.signal(signal.SIGINT)
            self._process.end()
            self._process = None

    def _answers(self) -> bool:
        return self._psql("SELECT 1")

    def _psql(self, statement: str) -> bool:
        options = ["-X", "-q", "-h", str(self._directory), "-U", _USER, "-d", "postgres", "-c", statement]
        return not subprocess.run([_binary("psql"), *options], cwd="/", capture_output=True, timeout=30).returncode

    def _as_account(self) -> Sequence[str]:
        if not self._account:
            return []
        return ["setpriv", f"--reuid={self._account}", f"--regid={self._account}", "--clear-groups"]

    def _run(self, program: str, *options: str) -> None:
        command = [*self._as_account(), _binary(program), *options]
        subprocess.run(command, check=True, cwd="/", capture_output=True, timeout=60)


@contextlib.contextmanager
def running_postgres() -> Iterator[Postgres]:
    """A server in a directory of its own, ended and removed after the block."""
    directory = Path(tempfile.mkdtemp(prefix="recado-pg-"))
    try:
        server = Postgres(directory)
        try:
            yield server
        finally:
            server.end()
    finally:
        shutil.rmtree(directory)


def _name(url: str) -> str:
    """The name of the database in a URL."""
    return url.partition("@/")[2].partition("?")[0]


def _account() -> str:
    """The account that the server runs as; "" for our own."""
    if os.getuid() != 0:
        return ""
    known = {entry.pw_name for entry in pwd.getpwall()}
    return next(name for name in _ACCOUNTS if name in known)


def _binary(name: str) -> str:
    """The path of a program of PostgreSQL; Debian keeps most of them outside of PATH."""
    beside = [path.parent / name for path in Path("/usr/lib/postgresql").glob("*/bin/postgres")]
    found = shutil.which(name) or next((str(path) for path in sorted(beside, reverse=True) if path.exists()), None)
    assert found, f"expected the command {name}; scripts/test installs PostgreSQL"
    return found
