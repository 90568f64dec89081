"""The runs and their totals in SQL, in a table of their own."""

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from typing import Any

import msgspec
from sqlalchemy import Row, delete, func, insert, literal, or_, select, update
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

from app.clock import now_ms, rfc3339
from app.journal.database import translated
from app.journal.tables import load_runs
from app.load.plan import MAX_SECONDS, LoadPlan

#: Runs that are kept; a further one is refused until one is removed.
MAX_RUNS = 10_000
_SECONDS = 5.0
_LOST_MS = 1000 * (MAX_SECONDS + 60)


class SqlRuns:
    """The table of runs. Lives as long as the node; the owner of the engine disposes of it.

    Each method raises JournalUnavailable when SQL does not answer in time.
    """

    def __init__(self, engine: AsyncEngine) -> None:
        self._engine = engine

    async def begin(self, plan: LoadPlan, description: str, operator: str, node: str) -> int | None:
        """Keeps a run that begins. Its number; None: there are too many runs."""
        row = {
            "started_at": now_ms(),
            "operator": operator,
            "node": node,
            "description": description,
            "plan": msgspec.json.encode(plan).decode(),
            "state": "running",
        }
        count = select(func.count()).select_from(load_runs).scalar_subquery()
        values = [literal(value, load_runs.c[name].type) for name, value in row.items()]
        statement = insert(load_runs).from_select(list(row), select(*values).where(count < MAX_RUNS))
        async with self._sql() as sql:
            found = (await sql.execute(statement.returning(load_runs.c.id))).first()
        return int(found[0]) if found is not None else None

    async def end(self, id: int, state: str, totals: dict[str, Any]) -> None:
        """Keeps the end of a run."""
        values = {"ended_at": now_ms(), "state": state, "totals": msgspec.json.encode(totals).decode()}
        async with self._sql() as sql:
            await sql.execute(update(load_runs).where(load_runs.c.id == id).values(**values))

    async def list_runs(self, limit: int, below: int | None) -> Sequence[dict[str, Any]]:
        """The runs, newest first, with smaller numbers than `below`."""
        statement = select(load_runs).order_by(load_runs.c.id.desc()).limit(limit)
        if below is not None:
            statement = statement.where(load_runs.c.id < below)
        async with self._sql() as sql:
            return list(map(_shown, await sql.execute(statement)))

    async def find(self, id: int) -> dict[str, Any] | None:
        """One run."""
        async with self._sql() as sql:
            row = (await sql.execute(select(load_runs).where(load_runs.c.id == id))).one_or_none()
        return _shown(row) if row is not None else None

    async def remove(self, id: int) -> bool:
        """Removes a run that has ended. False: there is none."""
        of_run = (load_runs.c.id == id, or_(load_runs.c.state != "running", load_runs.c.started_at < _lost_before()))
        async with self._sql() as sql:
            return (await sql.execute(delete(load_runs).where(*of_run))).rowcount > 0

    @asynccontextmanager
    async def _sql(self) -> AsyncIterator[AsyncConnection]:
        with translated():
            async with asyncio.timeout(_SECONDS), self._engine.begin() as sql:
                yield sql


def _lost_before() -> int:
    """A run that began before this has ended, whatever its row says: its node has died."""
    return now_ms() - _LOST_MS


def _shown(row: Row[Any]) -> dict[str, Any]:
    values = dict(row._mapping)
    if values["state"] == "running" and values["started_at"] < _lost_before():
        values["state"] = "lost"
    values["plan"] = msgspec.json.decode(values["plan"])
    values["totals"] = None if values["totals"] is None else msgspec.json.decode(values["totals"])
    for name in ("started_at", "ended_at"):
        values[name] = None if values[name] is None else rfc3339(values[name])
    return values
