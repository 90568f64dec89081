"""The lists of the console on a large history: 10,000,000 deliveries and 100,000 devices, on SQLite and PostgreSQL.

`python -m bench.lists [deliveries [devices]]` fills both databases and a Valkey, starts a server on each, and asks
every list of the API in every way that an operator can. One row of the table is one question; `--keep FOLDER` keeps the
SQLite file for the next run.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import json
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any, TypeAlias
from urllib.parse import urlencode, urlsplit

from bench.filled import MANY_USER, SITE, Size, fill_journal, fill_queues
from bench.operator import Credentials, OperatorClient, make_operator
from bench.processes import ROOT, BenchError, Child
from bench.usage import cpu_seconds
from tests.support.postgres import running_postgres
from tests.support.store import running_valkey
from tests.support.valkey import Valkey

_ROUNDS = 5
#: Of the CPU of server, database and Valkey together: the time of an answer on a machine with nothing else to do.
_LIMIT_MS = 100.0
_NAME = "bench"
_OF_SITE = f"/sites/{SITE}"
#: Between the first and the last message.
_MIDDLE_MS = 3 * 86_400_000


_Query: TypeAlias = Mapping[str, Any]


def questions(size: Size, now_ms: int) -> list[tuple[str, str, _Query, int]]:
    """A name, the path, the query, and which page of the list is measured."""
    middle = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime((now_ms - _MIDDLE_MS) / 1000))
    later = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime((now_ms - _MIDDLE_MS) / 1000 + 600))
    found: list[tuple[str, str, _Query, int]] = []

    def ask(path: str, page: int = 1, **query: Any) -> None:
        text = " ".join(f"{name}={value}" for name, value in query.items())
        name = f"{path} {text}" + (f" page {page}" if page > 1 else "")
        found.append((name, path if path.startswith("/") else f"{_OF_SITE}/{path}", query, page))

    messages: list[_Query] = [
        {},
        {"room": "everyone"},
        {"room": "room_7"},
        {"room": "old_room"},
        {"room": "nowhere"},
        {"user": "user_5"},
        {"user": MANY_USER},
        {"user": "nobody"},
        {"event": "news"},
        {"event": "rare"},
        {"event": "nothing"},
        *({"state": state} for state in ("waiting", "written", "acked", "expired", "replaced", "withdrawn")),
        {"room": "everyone", "event": "rare"},
        {"room": "everyone", "event": "nothing"},
        {"room": "everyone", "state": "expired"},
        {"room": "room_7", "state": "replaced"},
        {"room": "room_7", "event": "nothing"},
        {"event": "news", "state": "expired"},
        {"event": "news", "state": "waiting"},
        {"event": "chat", "state": "replaced"},
        {"user": "user_5", "event": "nothing"},
        {"user": MANY_USER, "event": "nothing"},
        {"user": MANY_USER, "room": "old_room"},
        {"user": MANY_USER, "state": "expired"},
        {"user": "user_5", "room": "everyone", "event": "news", "state": "acked"},
    ]
    for query in messages:
        ask("messages", **query)
    whole: list[_Query] = [{}, {"room": "everyone"}, {"event": "news"}, {"state": "acked"}, {"user": MANY_USER}]
    for query in whole:
        ask("messages", limit=1000, **query)
        ask("messages", page=20, **query)
        ask("messages", until=middle, **query)
        ask("messages", since=middle, until=later, **query)
    ask("messages", since=middle, state="expired")
    ask("messages", until=middle, room="everyone", event="nothing")
    ask(f"messages/{size.messages // 2}")
    ask(f"messages/{size.wide_id}")
    ask(f"messages/{size.wide_id}", limit=1000)
    ask(f"messages/{size.wide_id}", page=20)
    ask("devices")
    ask("devices", limit=1000)
    ask("devices", page=20)
    ask("devices", user="user_5")
    ask("devices", user="nobody")
    for state in ("connected", "away", "waiting", "resync"):
        ask("devices", state=state)
        ask("devices", state=state, limit=1000)
        ask("devices", state=state, page=2)
    ask("devices/queue", user="user_1", device="d")
    ask("connections/ended")
    ask("connections/ended", user="user_5")
    ask("connections/ended", user="nobody")
    ask("trace", user="user_5")
    ask("trace", user=MANY_USER)
    tables: list[tuple[str, Sequence[_Query]]] = [
        ("/log", ({}, {"level": "error"}, {"level": "critical"}, {"event": "nothing"}, {"site": SITE}, {"node": "x"})),
        ("/audit", ({}, {"operator": "ben"}, {"action": "nothing"}, {"site": SITE})),
        ("webhooks", ({}, {"outcome": "parked"}, {"outcome": "off"}, {"webhook_id": "post-299999"})),
    ]
    for table, filters in tables:
        for query in filters:
            ask(table, **query)
        ask(table, limit=1000)
        ask(table, page=20)
        ask(table, until=middle)
    ask("/sites")
    ask("/overview")
    ask("/overview", span="month", site=SITE)
    ask("/database")
    return found


PAGES = (
    "/overview",
    "/sites",
    f"{_OF_SITE}/connections",
    f"{_OF_SITE}/devices",
    f"{_OF_SITE}/devices?state=waiting",
    f"{_OF_SITE}/messages",
    f"{_OF_SITE}/messages?state=waiting",
    f"{_OF_SITE}/trace?user=user_5",
    f"{_OF_SITE}/webhooks",
    "/log",
    "/audit",
    "/nodes",
)


def measure(client: OperatorClient, pids: Sequence[int], size: Size) -> Iterator[tuple[str, float, float, float, str]]:
    """For each question: its name, the first answer's ms, the median ms of more, the CPU ms of one, and what came."""
    for name, path, query, page in questions(size, int(time.time() * 1000)):
        cursor = None
        for _ in range(page - 1):
            cursor = client.ask(_url(path, query, cursor))["cursor"]
            if cursor is None:
                break
        if page > 1 and cursor is None:
            continue
        url = _url(path, query, cursor)
        answer: dict[str, Any] = {}

        def ask(url: str = url, answer: dict[str, Any] = answer) -> None:
            try:
                answer.update(client.ask(url))
            except BenchError as error:
                answer["refused"] = str(error)

        yield name, *_timed(ask, pids), _told(answer)
    for path in PAGES:
        yield f"page {path}", *_timed(partial(client.page, path), pids), ""


def _timed(ask: Callable[[], object], pids: Sequence[int]) -> tuple[float, float, float]:
    """The first answer's time, the median of the others, and the CPU of the processes for one of these, in ms."""

    def cpu() -> float:
        return sum(map(cpu_seconds, pids))

    began = time.perf_counter()
    ask()
    first, times = time.perf_counter() - began, []
    before = cpu()
    for _ in range(_ROUNDS):
        began = time.perf_counter()
        ask()
        times.append(time.perf_counter() - began)
    return first * 1000, statistics.median(times) * 1000, (cpu() - before) / _ROUNDS * 1000


def _told(answer: dict[str, Any]) -> str:
    if "refused" in answer:
        return str(answer["refused"])
    items: list[Any] = next((answer[name] for name in ("items", "devices", "lines", "tables") if name in answer), [])
    return f"{len(items)} items" + (", and more" if answer.get("cursor") else "")


def _url(path: str, query: _Query, cursor: str | None) -> str:
    given = {**query, **({} if cursor is None else {"cursor": cursor})}
    return path + ("?" + urlencode(given) if given else "")


@contextlib.contextmanager
def serving(folder: Path, valkey: Valkey, url: str) -> Iterator[tuple[OperatorClient, int]]:
    """A server on these stores, with an operator: its client, and the id of the process."""
    credentials: Credentials = make_operator(url, f"{_NAME}-{time.time_ns()}")
    config, sites, log = folder / "config.yml", folder / "sites.yml", folder / "server.log"
    config.write_text(json.dumps({"production": {"drain_timeout": 0, "journal": {"retention": 60}}}))
    site = {"authUrl": "http://127.0.0.1:1/auth", "apiKey": "bench-54321", "userRoomPrefix": "user_"}
    sites.write_text(json.dumps({SITE: site}))
    command = [sys.executable, "-m", "app", "serve", "--host", "127.0.0.1", "--port", "0"]
    command += ["--config", str(config), "--sites", str(sites)]
    environment = {"REDIS_URL": valkey.url, "DATABASE_URL": url, "APP_ENV": "production", "PYTHONPATH": str(ROOT)}
    server = Child(command, log, None, environment)
    try:
        line = server.wait_for(r'.*"listening".*', in_log=True).group(0)
        port = urlsplit(json.loads(line)["url"]).port or 0
        client = OperatorClient(("127.0.0.1", port), credentials)
        try:
            yield client, server.pid
        finally:
            client.close()
    finally:
        server.stop()


def main(arguments: argparse.Namespace) -> int:
    """Fill, ask, and print the table; 1 when an answer took too long."""
    size = Size(arguments.deliveries, arguments.devices, arguments.rows)
    slow = 0
    with tempfile.TemporaryDirectory(prefix="recado-lists-") as scratch, running_valkey() as valkey:
        folder = Path(scratch)
        began = time.monotonic()
        asyncio.run(fill_queues(valkey, size.devices))
        print(f"{size.devices:,} devices in Redis after {time.monotonic() - began:.0f} s", file=sys.stderr)
        for kind in arguments.databases:
            with contextlib.ExitStack() as stack:
                url, pids = stack.enter_context(_database(kind, folder, size, arguments.keep))
                client, pid = stack.enter_context(serving(folder, valkey, url))
                print(f"\n| {kind}: question | first ms | ms | CPU ms | answer |\n| --- | --- | --- | --- | --- |")
                for name, first, ms, cpu, told in measure(client, [pid, valkey.pid, *pids], size):
                    slow += cpu > _LIMIT_MS
                    mark = " SLOW" if cpu > _LIMIT_MS else ""
                    print(f"| `{name.strip()}` | {first:.0f} | {ms:.1f} | {cpu:.1f}{mark} | {told} |", flush=True)
    print(f"{slow} questions took more than {_LIMIT_MS:.0f} ms of CPU", file=sys.stderr)
    return 1 if slow else 0


@contextlib.contextmanager
def _database(kind: str, folder: Path, size: Size, keep: Path | None) -> Iterator[tuple[str, list[int]]]:
    """The URL of a filled database, and the process of its server."""
    if kind == "sqlite":
        path = (keep or folder) / "journal.sqlite"
        url = f"sqlite:///{path}"
        if not path.exists():
            _tell_filled(kind, asyncio.run(fill_journal(url, size)), path.stat().st_size)
        yield url, []
        return
    with running_postgres() as postgres:
        url = postgres.new_database()
        _tell_filled(kind, asyncio.run(fill_journal(url, size)), postgres.database_bytes(url))
        yield url, [postgres.pid]


def _tell_filled(kind: str, seconds: float, size: int) -> None:
    print(f"{kind} filled after {seconds:.0f} s: {size / 1e9:.1f} GB", file=sys.stderr)


def _parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m bench.lists")
    parser.add_argument("deliveries", type=int, nargs="?", default=10_000_000)
    parser.add_argument("devices", type=int, nargs="?", default=100_000)
    parser.add_argument("--rows", type=int, default=300_000, help="of each of the other tables")
    parser.add_argument("--databases", type=lambda text: text.split(","), default=["sqlite", "postgresql"])
    parser.add_argument("--keep", type=Path, help="a folder for the SQLite file")
    return parser.parse_args()


if __name__ == "__main__":
    sys.exit(main(_parse()))
