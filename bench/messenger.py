"""The load test over a messenger's room, as push0k publishes it: 3 users, 10,000 messages of each, 4 processes.

`python -m bench.messenger` serves a messenger on SQLite and on PostgreSQL, has the users log in and write, and prints a
row for each database and number of processes. `--messages`, `--workers` and `--databases` choose less.
"""

from __future__ import annotations

import argparse
import asyncio
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from app.canary.wire import OwnPort
from app.load.chat_device import ChatUserLogin
from app.load.chat_run import ChatLoadRun, ChatLoadTask
from app.load.plan import LoadPlan
from bench.messenger_node import RUN, SITE, ChatNode, make_room, running_database, serving
from tests.support.chat import password_of
from tests.support.store import running_valkey

_SECONDS = 600
_HEAD = (
    "| database | processes | messages/s | operations | operations/s | seconds | answered p50/p99 ms "
    "| delivered p50/p99 ms | server CPU µs/operation | database CPU | Redis CPU | server MB |\n"
    "| --- | --- | --- | --- | --- | --- | --- | --- | --- | --- | --- | --- |"
)


def main(arguments: argparse.Namespace) -> None:
    """Measure each database with each number of processes, and print the rows of the table."""
    print(_HEAD, flush=True)
    with tempfile.TemporaryDirectory(prefix="recado-chat-") as scratch:
        for kind in arguments.databases:
            for workers in arguments.workers:
                folder = Path(scratch) / f"{kind}{workers}"
                folder.mkdir()
                with running_valkey() as valkey, running_database(kind, folder) as database:
                    url, pids = database
                    users = make_room(url, arguments.users)
                    with serving(folder, valkey, url, workers) as node:
                        totals, spent = measure(node, users, arguments.messages, {"redis": [valkey.pid], "sql": pids})
                    print(row_of(kind, workers, totals, spent), flush=True)


def measure(
    node: ChatNode, users: list[str], messages: int, others: Mapping[str, list[int]]
) -> tuple[dict[str, Any], dict[str, float]]:
    """The totals of a run with these users, and what the server and the others have spent."""
    logins = [ChatUserLogin(login, password_of(login)) for login in users]
    plan = LoadPlan(devices=len(users), messages=messages, seconds=_SECONDS)
    task = ChatLoadTask(plan, RUN, SITE, node.room, logins)
    with node.spending(others) as spent:
        totals = asyncio.run(ChatLoadRun(task, OwnPort("127.0.0.1", node.port)).drive())
    return totals, spent


def row_of(kind: str, workers: int, totals: dict[str, Any], spent: dict[str, float]) -> str:
    """A row of the table."""
    operations = totals["counts"]["operations"]
    answered, delivered = totals["store_ms"], totals["delivery_ms"]
    lost = f" ({totals['lost']} lost, {totals['refused']} refused)" if totals["lost"] or totals["refused"] else ""
    cells = [
        f"{kind}{lost}",
        workers,
        f"{totals['per_second']['received']:,.0f}",
        f"{operations:,}",
        f"{totals['per_second']['operations']:,.0f}",
        f"{totals['seconds']:.1f}",
        f"{answered['p50']:.1f}/{answered['p99']:.1f}",
        f"{delivered['p50']:.1f}/{delivered['p99']:.1f}",
        *(f"{spent[name] / operations * 1e6:.1f}" for name in ("server", "sql", "redis")),
        f"{spent['server_mb']:.0f}",
    ]
    return "| " + " | ".join(map(str, cells)) + " |"


def _numbers(text: str) -> list[int]:
    return [int(word) for word in text.split(",")]


def parse(words: list[str] | None = None) -> argparse.Namespace:
    """The arguments of the command."""
    parser = argparse.ArgumentParser(prog="python -m bench.messenger")
    parser.add_argument("--users", type=int, default=3)
    parser.add_argument("--messages", type=int, default=10_000, help="of each user")
    parser.add_argument("--workers", type=_numbers, default=[4], help="numbers of processes, such as 1,4")
    parser.add_argument("--databases", type=lambda text: text.split(","), default=["sqlite", "postgresql"])
    return parser.parse_args(words)


if __name__ == "__main__":
    main(parse())
