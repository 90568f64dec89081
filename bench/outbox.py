"""The outbox: messages a second that readers send, their CPU, and the price of `recado_send` in a transaction.

`python -m bench.outbox [messages]` prints the rows of both tables. The messages are committed before the readers start.
PostgreSQL runs without fsync, so a commit costs its CPU alone.
"""

from __future__ import annotations

import asyncio
import sys
import tempfile
import time
from contextlib import ExitStack
from pathlib import Path

import asyncpg

from bench.usage import cpu_seconds
from tests.support.deployment import Deployment
from tests.support.outbox import ReaderProcess, new_outbox
from tests.support.postgres import Postgres, running_postgres
from tests.support.waiting import until_answer

_KEY = "the-key-of-the-benchmark"
_SITE = {"apiKey": _KEY, "authUrl": "http://127.0.0.1:9/", "userRoomPrefix": "user_"}
_CONNECTIONS = 4
_TRANSACTIONS = 1_000
_POLL_SECONDS = 0.02
_LONGEST_SECONDS = 3600.0


def main(messages: int) -> None:
    """Measure both, and print the rows."""
    with running_postgres() as postgres, tempfile.TemporaryDirectory() as folder:
        server = Deployment({"shop": _SITE})
        try:
            for readers, rooms in ((1, 1_000), (2, 1_000), (1, 1)):
                print(_read(postgres, server, Path(folder), messages, readers, rooms), flush=True)
        finally:
            server.end()
        dsn = asyncio.run(new_outbox(postgres))
        for name, statement in (
            ("an insert", ""),
            ("with recado_send, rooms differ", "SELECT recado_send('shop', array[$1], 'n', '[1]')"),
            ("with recado_send, one room", "SELECT recado_send('shop', array[left($1, 0) || 'all'], 'n', '[1]')"),
        ):
            print(asyncio.run(_transact(dsn, postgres.pid, name, statement)), flush=True)


def _read(postgres: Postgres, server: Deployment, folder: Path, messages: int, readers: int, rooms: int) -> str:
    dsn = asyncio.run(new_outbox(postgres))
    asyncio.run(_fill(dsn, messages, rooms))
    with ExitStack() as stack:
        running = []
        for _ in range(readers):
            running.append(ReaderProcess(folder, dsn, "--site", "shop", "--url", server.url, API_KEY=_KEY))
            stack.callback(running[-1].end)
        for reader in running:
            reader.wait_event("outbox is read")
        pids = [reader.pid for reader in running]
        left = asyncio.run(_left(dsn))
        before, server_before, postgres_before = (
            sum(map(cpu_seconds, pids)),
            cpu_seconds(server.server.pid),
            cpu_seconds(postgres.pid),
        )
        began = time.monotonic()
        asyncio.run(_until_empty(dsn))
        seconds = time.monotonic() - began
        costs = (
            sum(map(cpu_seconds, pids)) - before,
            cpu_seconds(server.server.pid) - server_before,
            cpu_seconds(postgres.pid) - postgres_before,
        )
    return (
        f"| {readers} | {rooms} | {left / seconds:,.0f} | " + " | ".join(f"{c / left * 1e6:.0f}" for c in costs) + " |"
    )


async def _fill(dsn: str, messages: int, rooms: int) -> None:
    connection = await asyncpg.connect(dsn)
    call = "recado_send('shop', array['user_' || number % $2], 'n', jsonb_build_array(number))"
    await connection.execute(f"SELECT {call} FROM generate_series(1, $1) number", messages, rooms)
    await connection.execute("ANALYZE")
    await connection.close()


async def _left(dsn: str) -> int:
    connection = await asyncpg.connect(dsn)
    left: int = await connection.fetchval("SELECT count(*) FROM recado_outbox_place WHERE state = 0")
    await connection.close()
    return left


async def _until_empty(dsn: str) -> None:
    connection = await asyncpg.connect(dsn)
    is_empty = "SELECT NOT EXISTS (SELECT FROM recado_outbox_place WHERE state = 0)"
    await until_answer(lambda: connection.fetchval(is_empty), "the end", (), _LONGEST_SECONDS, _POLL_SECONDS)
    await connection.close()


async def _transact(dsn: str, postgres_pid: int, name: str, statement: str) -> str:
    connections = [await asyncpg.connect(dsn) for _ in range(_CONNECTIONS)]
    await connections[0].execute("CREATE TABLE IF NOT EXISTS orders (id bigserial PRIMARY KEY, text text)")

    async def work(connection: asyncpg.Connection, place: int) -> None:
        for number in range(_TRANSACTIONS):
            async with connection.transaction():
                await connection.execute("INSERT INTO orders (text) VALUES ($1)", "an order")
                if statement:
                    await connection.execute(statement, f"user_{place}_{number}")

    before, began = cpu_seconds(postgres_pid), time.monotonic()
    await asyncio.gather(*(work(connection, place) for place, connection in enumerate(connections)))
    seconds, count = time.monotonic() - began, _CONNECTIONS * _TRANSACTIONS
    cost = (cpu_seconds(postgres_pid) - before) / count
    for connection in connections:
        await connection.close()
    return f"| {name} | {count / seconds:,.0f} | {cost * 1e6:.0f} |"


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 10_000)
