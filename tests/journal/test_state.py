"""The state of the database for operators, on both databases."""

from __future__ import annotations

import pytest
from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncEngine

from app.journal import state
from app.journal.database import is_postgres
from app.journal.state import database_state
from app.journal.tables import metadata
from app.redis.client import Redis
from tests.support.fates import FIRST_SEQ, FateStream, new_writer, write_all


async def test_the_state_of_the_database(
    redis: Redis, engine: AsyncEngine, stream: FateStream, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Every table is there with its rows; a count is bounded where the database has none of its own."""
    for number in range(12):
        stream.send(FIRST_SEQ + number, [1, 2])
    await write_all(new_writer(redis, engine))
    if is_postgres(engine):
        async with engine.connect() as sql:
            await sql.execute(text("ANALYZE"))
            await sql.commit()
    monkeypatch.setattr(state, "MOST_COUNTED", 20)
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
        assert deliveries.bytes is not None
        assert deliveries.bytes > 0
    else:
        assert tables["messages"].rows == 12
        assert (deliveries.rows, deliveries.is_more) == (20, True)
