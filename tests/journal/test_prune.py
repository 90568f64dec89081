"""Retention, on both databases."""

from __future__ import annotations

import asyncio

import pytest
from sqlalchemy.ext.asyncio import AsyncEngine

from app.config.settings import JournalSettings
from app.journal import prune as pruning
from app.journal.prune import prune
from app.journal.tables import connections, deliveries, log, message_rooms, messages, samples
from app.redis.client import Redis
from tests.support.fates import FIRST_SEQ, FateStream, new_writer, rows_of, write_all

DAY_MS = 86_400_000
NOW = 100 * DAY_MS


async def fill(redis: Redis, engine: AsyncEngine, stream: FateStream) -> None:
    """One message for each of the last twenty days, with deliveries to three devices; rows of nodes beside them."""
    for handle in (1, 2, 3):
        stream.device(handle)
    for age in range(20, 0, -1):
        stream.send(FIRST_SEQ - age, [1, 2, 3], at=NOW - age * DAY_MS + 1)
        stream.rows("connections", {"user": "u", "disconnected_at": NOW - age * DAY_MS + 1})
        stream.rows("log", {"at": NOW - age * DAY_MS + 1, "level": "error", "event": "e"})
    for seconds in (10, 300):
        for age in (1, 2 * DAY_MS):
            stream.rows("samples", {"at": NOW - age, "node": "n", "seconds": seconds, "figures": {}})
    await write_all(new_writer(redis, engine))


async def test_old_rows_go(
    redis: Redis, engine: AsyncEngine, stream: FateStream, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each table keeps its days; a delivery goes with its message at the latest. Many parts do what one would."""
    monkeypatch.setattr(pruning, "PART_ROWS", 5)
    await fill(redis, engine, stream)
    settings = JournalSettings(retention={"messages": 7, "deliveries": 30, "connections": 3})
    deleted = await prune(engine, settings, now_ms=NOW)
    assert (deleted["messages"], deleted["message_rooms"], deleted["deliveries"]) == (13, 13, 39)
    assert len(await rows_of(engine, messages)) == len(await rows_of(engine, message_rooms)) == 7
    assert len(await rows_of(engine, deliveries)) == 21
    assert len(await rows_of(engine, connections)) == 3
    assert len(await rows_of(engine, log)) == 7
    # Samples every 10 s are for an hour.
    assert sorted(row["seconds"] for row in await rows_of(engine, samples)) == [10, 300, 300]
    assert await prune(engine, settings, now_ms=NOW) == {}


async def test_deliveries_may_go_first(redis: Redis, engine: AsyncEngine, stream: FateStream) -> None:
    """With a shorter time for deliveries the messages keep their counts."""
    await fill(redis, engine, stream)
    await prune(engine, JournalSettings(retention={"messages": 30, "deliveries": 1}), now_ms=NOW)
    assert {row["addressed"] for row in await rows_of(engine, messages)} == {3}
    assert len(await rows_of(engine, deliveries)) == 3


async def test_a_writer_goes_on_beside_it(
    redis: Redis, engine: AsyncEngine, stream: FateStream, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Rows are written while old ones are deleted in parts."""
    monkeypatch.setattr(pruning, "PART_ROWS", 2)
    await fill(redis, engine, stream)
    pruned = asyncio.create_task(prune(engine, JournalSettings(retention=1), now_ms=NOW))
    for number in range(5):
        stream.send(FIRST_SEQ + number, [1], at=NOW)
        await write_all(new_writer(redis, engine))
    await pruned
    assert [row["seq"] for row in await rows_of(engine, messages)] == [FIRST_SEQ - 1, *range(FIRST_SEQ, FIRST_SEQ + 5)]
