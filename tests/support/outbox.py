"""A tenant's PostgreSQL with an outbox, its transactions, and readers as processes."""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import asyncpg

from app.outbox.schema import install_sql
from tests.support.postgres import Postgres
from tests.support.processes import ForkedCommand
from tests.support.server import clean_environment

SENDER, READER = "outbox_sender", "outbox_reader"

# asyncpg has no types.
Connection = Any


async def new_outbox(postgres: Postgres, schema: str = "public") -> str:
    """Make a database with an outbox; return its URL."""
    url = postgres.new_database()
    connection = await asyncpg.connect(url)
    try:
        if schema != "public":
            await connection.execute(f'CREATE SCHEMA "{schema}"')
        await connection.execute(install_sql(schema, SENDER, READER))
    finally:
        await connection.close()
    return url


async def send(
    tenant: Connection, rooms: Sequence[str], *args: Any, site: str = "shop", options: dict[str, Any] | None = None
) -> int:
    """Send the event "n" within the transaction of a connection; return the message's number."""
    number = await tenant.fetchval(
        "SELECT recado_send($1, $2, 'n', $3::jsonb, $4::jsonb)",
        site,
        list(rooms),
        json.dumps(list(args)),
        json.dumps(options or {}),
    )
    return int(number)


class ReaderProcess(ForkedCommand):
    """A `recado outbox` with its log. The code that starts it calls `end`."""

    def __init__(self, directory: Path, dsn: str, *arguments: str, **environment: str) -> None:
        """Start the command."""
        command = [sys.executable, "-m", "app", "outbox", *arguments]
        settings = {"RECADO_OUTBOX_DSN": dsn, **environment}
        super().__init__("outbox", command, directory, clean_environment(**settings))

    def log(self) -> list[dict[str, Any]]:
        """The lines of its log so far."""
        return [json.loads(line) for line in self.lines.snapshot() if line.startswith("{")]

    def wait_event(self, event: str, **values: Any) -> dict[str, Any]:
        """Block until a line with this event and these values is in the log; return it."""

        def matches(line: str) -> bool:
            found = json.loads(line) if line.startswith("{") else {}
            return found.get("event") == event and values.items() <= found.items()

        found: dict[str, Any] = json.loads(self.lines.wait_for(matches, f"the line {event!r}", 60))
        return found
