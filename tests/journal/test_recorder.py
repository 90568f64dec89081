"""Rows that nodes write themselves, from the buffer to SQL."""

from __future__ import annotations

import io
import json
from typing import Any

import pytest
import structlog
from sqlalchemy.ext.asyncio import AsyncEngine

from app.journal import recorder as recorder_module
from app.journal.figures import JournalCounts, WriterWatch
from app.journal.recorder import MAX_LOG_ROWS, Recorder
from app.journal.streams import NODES_STREAM
from app.journal.tables import connections, log, samples
from app.observe.counts import Counts
from app.observe.log import configure_logging
from app.observe.records import MAX_ROWS, NodeRecords
from app.redis.client import Redis
from tests.support.fates import SITE, FateStream, new_writer, rows_of, write_all
from tests.support.valkey import Valkey


@pytest.fixture(autouse=True)
def _no_round_by_itself(monkeypatch: pytest.MonkeyPatch) -> None:
    """Rows are brought into Redis when a test says so."""
    monkeypatch.setattr(recorder_module, "_FLUSH_SECONDS", 1_000.0)


@pytest.fixture
def counts() -> Counts:
    """The figures of a node with one site."""
    return Counts([SITE])


async def test_rows_reach_sql(redis: Redis, engine: AsyncEngine, counts: Counts, valkey: Valkey) -> None:
    """Rows go into the stream of their site, of no site into that of the nodes, and from there into their tables."""
    recorder = Recorder(redis, "node1", counts, 100)
    recorder.start()
    counts.records.add("connections", SITE, {"user": "user_1\ud800", "disconnected_at": 5, "nonsense": 1})
    counts.of(SITE).connections = 2
    await recorder.sample()
    await recorder.close()
    assert valkey.client.xlen(NODES_STREAM) == 1
    await write_all(new_writer(redis, engine))
    (row,) = await rows_of(engine, connections)
    assert (row["user"], row["node"], row["disconnected_at"]) == ("user_1?", "node1", 5)
    found = {(row["seconds"], row["site_id"]): json.loads(row["figures"]) for row in await rows_of(engine, samples)}
    # Of the node and of its site, for an hour and for 30 days.
    assert [figures["connections"] for figures in found.values()] == [2, 2, 2, 2]
    assert {seconds for seconds, _ in found} == {10, 300}
    assert len({site for _, site in found}) == 2


async def test_warnings_are_kept_without_secrets(redis: Redis, engine: AsyncEngine, counts: Counts) -> None:
    """Warnings and errors become rows, with their site and masked; information does not, and none after the end."""
    configure_logging("info", "json", io.StringIO())
    # The loggers of modules must not keep this output for later tests.
    structlog.configure(cache_logger_on_first_use=False)
    logger = structlog.get_logger("somewhere")
    recorder = Recorder(redis, "node1", counts, 100)
    recorder.start()
    logger.info("nothing special")
    logger.warning("odd", site=SITE, token="topsecret", url="redis://:topsecret@host", what=b"\xff")
    logger.error("odd", site="of nobody")
    await recorder.close()
    logger.error("too late")
    await write_all(new_writer(redis, engine))
    rows = await rows_of(engine, log)
    assert [(row["level"], row["event"], row["site_id"] is None) for row in rows] == [
        ("warning", "odd", False),
        ("error", "odd", True),
    ]
    assert "topsecret" not in str(rows)
    structlog.reset_defaults()


async def test_a_flood_of_warnings_is_counted(redis: Redis, counts: Counts, valkey: Valkey) -> None:
    """Past the bound of a second, lines are left out; one row tells how many, and the figures count every error."""
    configure_logging("info", "json", io.StringIO())
    structlog.configure(cache_logger_on_first_use=False)
    logger = structlog.get_logger("somewhere")
    recorder = Recorder(redis, "node1", counts, 100)
    recorder.start()
    for _ in range(MAX_LOG_ROWS + 7):
        logger.error("odd", site=SITE)
    logger.warning("odd")
    await recorder.close()
    assert (counts.errors, counts.of(SITE).errors) == (MAX_LOG_ROWS + 7, MAX_LOG_ROWS + 7)
    entries: Any = valkey.client.xrange(NODES_STREAM)
    ((_, entry),) = entries
    rows = json.loads(entry[b"rows"])
    assert len(rows) == MAX_LOG_ROWS + 1
    assert (rows[-1]["event"], rows[-1]["fields"]) == ("log lines left out", {"count": 8})
    structlog.reset_defaults()


def test_the_buffer_is_bounded() -> None:
    """Past the bound rows are dropped and counted; without a journal none is kept."""
    records = NodeRecords()
    records.add("log", None, {})
    assert records.take() == {}
    records.is_kept = True
    for _ in range(MAX_ROWS + 3):
        records.add("log", None, {})
    assert records.dropped == {"log": 3}
    assert len(records.take()[None, "log"]) == MAX_ROWS
    records.add("log", None, {})
    assert records.take() == {(None, "log"): [{}]}


async def test_rows_wait_while_redis_is_away(redis: Redis, counts: Counts, valkey: Valkey) -> None:
    """Without a link the rows stay in the buffer; a Redis that refuses them has them dropped and counted."""
    recorder = Recorder(redis, "node1", counts, 100)
    counts.records.is_kept = True
    valkey.client.set(NODES_STREAM, "no stream")
    counts.records.add("log", None, {"at": 1})
    await recorder.flush()
    assert counts.records.dropped == {"log": 1}
    redis.give_up()
    counts.records.add("log", None, {"at": 2})
    await recorder.flush()
    assert len(counts.records.take()[None, "log"]) == 1


async def test_the_writers_figures(redis: Redis, engine: AsyncEngine, stream: FateStream, counts: Counts) -> None:
    """A node shows the figures that the writer has left in Redis, and a writer that is silent as one that is behind."""
    watch = WriterWatch(redis, counts)
    await watch.read()
    assert counts.part(JournalCounts).rows == 0
    stream.send(3_000_000_000, [1, 2])
    stream.add("nonsense")
    await write_all(new_writer(redis, engine))
    await watch.read()
    shown = counts.part(JournalCounts)
    assert (shown.rows, shown.backlog, shown.dropped["unreadable"]) == (3, 0, 1)
    await redis.command("HSET", "recado:journal", "at", 1)
    await watch.read()
    assert shown.lag_seconds > 1_000
