"""A messenger for measurements: its database with users and a room, its server, and what these spend."""

from __future__ import annotations

import asyncio
import contextlib
import json
import sys
import threading
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from sqlalchemy import insert

from app.clock import now_ms
from app.config.settings import Site
from app.protocols.load_rooms import LoadLimits, LoadPlace
from app.protocols.messenger.journal_members import enter
from app.protocols.messenger.journal_store import ChatSql
from app.protocols.messenger.journal_tables import chat_rooms
from app.protocols.messenger.talk.journal_load_runs import begin_run
from bench.processes import ROOT, Child
from bench.usage import cpu_seconds, resident_kb
from tests.support.chat import ITERATIONS, make_users
from tests.support.postgres import running_postgres
from tests.support.valkey import Valkey

SITE = "team"
ROOM = 1
#: The run of the load test that the room takes messages of.
RUN = "bench"
_DAY_MS = 86_400_000
_SETTINGS = {"iterations": ITERATIONS, "events_per_second": 1_000_000}
_LOOK_SECONDS = 0.2


@contextlib.contextmanager
def running_database(kind: str, folder: Path) -> Iterator[tuple[str, list[int]]]:
    """The URL of an empty database, and the processes of its server."""
    if kind == "sqlite":
        yield f"sqlite:///{folder / 'journal.sqlite'}", []
        return
    with running_postgres() as postgres:
        yield postgres.new_database(), [postgres.pid]


def make_room(url: str, users: int) -> list[str]:
    """Users, and a room of all of them, in the database of a server that has not started yet. Answers their logins."""
    logins = [f"user{number}" for number in range(1, users + 1)]
    ids = make_users(url, SITE, logins)
    asyncio.run(_make_room(url, list(ids.values())))
    return logins


async def _make_room(url: str, members: list[int]) -> None:
    sql = ChatSql.open(url)
    limits = LoadLimits(10**9, _DAY_MS, _DAY_MS)
    try:
        async with sql.writing(Site(name=SITE, api_key="k")) as (connection, site_id):
            values = {"id": ROOM, "site_id": site_id, "name": "Load", "kind": "chat", "created_at": now_ms()}
            await connection.execute(insert(chat_rooms).values(**values))
            for user in members:
                await enter(connection, site_id, ROOM, user)
            await begin_run(connection, site_id, LoadPlace(SITE, ROOM, RUN), limits, now_ms())
    finally:
        await sql.close()


@dataclass(frozen=True)
class ChatNode:
    """A running server."""

    pid: int
    port: int
    log: Path
    room: int = ROOM

    @contextlib.contextmanager
    def spending(self, others: Mapping[str, list[int]]) -> Iterator[dict[str, float]]:
        """The CPU seconds of `server` and the others within the block, and the most MB of the server, once it ends."""
        groups = {"server": [self.pid], **others}
        before = {name: sum(map(cpu_seconds, pids)) for name, pids in groups.items()}
        spent: dict[str, float] = {}
        with watching_memory(self.pid) as most:
            yield spent
        spent.update({name: sum(map(cpu_seconds, pids)) - before[name] for name, pids in groups.items()})
        spent.update(server_mb=most[-1])


@contextlib.contextmanager
def watching_memory(pid: int) -> Iterator[list[float]]:
    """The first, the last and the most resident MB of a process and its children, once the block has ended."""
    found: list[float] = []
    is_over = threading.Event()

    def look() -> None:
        while not is_over.wait(_LOOK_SECONDS):
            with contextlib.suppress(OSError):
                found.append(resident_kb(pid) / 1024)

    found.append(resident_kb(pid) / 1024)
    thread = threading.Thread(target=look, daemon=True)
    thread.start()
    try:
        yield found
    finally:
        is_over.set()
        thread.join()
        found[:] = [found[0], found[-1], max(found)]


@contextlib.contextmanager
def serving(
    folder: Path, valkey: Valkey, url: str, workers: int = 1, environment: Mapping[str, str] | None = None, **more: Any
) -> Iterator[ChatNode]:
    """A server with a messenger on these stores. `more` are settings of the messenger."""
    config, sites, log = folder / "config.yml", folder / "sites.yml", folder / "server.log"
    config.write_text(json.dumps({"production": {"drain_timeout": 0, "workers": workers, "data_dir": str(folder)}}))
    sites.write_text(json.dumps({SITE: {"apiKey": "bench-54321", "messenger": {**_SETTINGS, **more}}}))
    command = [sys.executable, "-m", "app", "serve", "--host", "127.0.0.1", "--port", "0"]
    command += ["--config", str(config), "--sites", str(sites)]
    given = {"REDIS_URL": valkey.url, "DATABASE_URL": url, "APP_ENV": "production", "PYTHONPATH": str(ROOT)}
    server = Child(command, log, None, {**given, **(environment or {})})
    try:
        line = server.wait_for(r'.*"listening".*', in_log=True).group(0)
        yield ChatNode(server.pid, urlsplit(json.loads(line)["url"]).port or 0, log)
    finally:
        server.stop()
