"""The state of the database for operators, on both databases."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from pathlib import Path

import pytest
from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncEngine

from app.journal import state
from app.journal.database import is_postgres, open_database
from app.journal.schema import upgrade_schema
from app.journal.state import TableState, database_state
from app.journal.tables import metadata
from app.redis.client import Redis
from tests.support.fates import FIRST_SEQ, FateStream, new_writer, write_all


async def test_the_state_of_the_database(
    redis: Redis, engine: AsyncEngine, stream: FateStream, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Every table is there with its rows and its size; a count is bounded where the database tells of neither."""
    for number in range(12):
        stream.send(FIRST_SEQ + number, [1, 2])
    await write_all(new_writer(redis, engine))
    if is_postgres(engine):
        async with engine.connect() as sql:
            await sql.execute(text("ANALYZE"))
            await sql.commit()
    found = await database_state(engine)
    assert found.kind == ("postgresql" if is_postgres(engine) else "sqlite")
    assert found.version[0].isdigit()
    assert found.bytes > 50_000
    tables = {table.name: table for table in found.tables}
    assert tables.keys() == metadata.tables.keys()
    deliveries = tables["deliveries"]
    if is_postgres(engine):
        # Its own guess, which may count a transaction twice for a while.
        assert 12 <= tables["messages"].rows <= 24
        assert 24 <= deliveries.rows <= 48
        assert not deliveries.is_more
        assert deliveries.is_estimate
    else:
        assert (tables["messages"].rows, deliveries.rows, deliveries.is_estimate) == (12, 24, False)
    assert min(deliveries.bytes or 0, deliveries.index_bytes or 0) > 0
    if not is_postgres(engine):
        monkeypatch.setattr(state, "MOST_COUNTED", 20)
        monkeypatch.setattr(state, "_HAS_PAGES", "SELECT 0")
        bare = {table.name: table for table in (await database_state(engine)).tables}
        assert bare["deliveries"] == TableState("deliveries", 20, is_more=True)


async def test_a_large_table_is_not_read(tmp_path: Path) -> None:
    """Of a large table of SQLite some pages are read; rows and sizes are guesses near the truth, and say so."""
    path = tmp_path / "journal.sqlite"
    engine = open_database(f"sqlite:///{path}", is_writer=True)
    await upgrade_schema(engine)
    with closing(sqlite3.connect(path)) as sql:
        rows = ((seq, device) for seq in range(30_000) for device in range(4))
        sql.executemany("INSERT INTO deliveries (site_id, seq, device_id, state) VALUES (1, ?, ?, 1)", rows)
        lines = ((at, "x" * (at % 900)) for at in range(20_000))
        sql.executemany("INSERT INTO log (at, node, level, event, fields) VALUES (?, 'a', 'error', 'b', ?)", lines)
        sql.commit()
        found = await database_state(engine)
        tables = {table.name: table for table in found.tables}
        for name, count in (("deliveries", 120_000), ("log", 20_000)):
            table = tables[name]
            statement = "SELECT SUM(pgsize) FROM dbstat WHERE name = ?"
            ((size,),) = sql.execute(statement, [name])
            assert table.is_estimate
            assert count * 0.6 < table.rows < count * 1.6
            assert size * 0.6 < (table.bytes or 0) < size * 1.6
    assert sum((table.bytes or 0) + (table.index_bytes or 0) for table in found.tables) <= found.bytes
    await engine.dispose()
