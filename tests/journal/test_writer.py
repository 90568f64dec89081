"""The writer of the journal, from entries in a real Valkey to rows in both databases."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from sqlalchemy.ext.asyncio import AsyncEngine
from structlog.testing import capture_logs

from app.journal import apply as applying
from app.journal.database import open_database
from app.journal.states import Fate, reason_number
from app.journal.tables import deliveries, devices, messages, missing, sites
from app.redis.client import Redis
from tests.support.fates import FIRST_SEQ, SITE, FateStream, new_writer, rows_of, write_all
from tests.support.valkey import Valkey
from tests.support.waiting import until


async def test_a_message_and_its_acks_are_one_row_each(redis: Redis, engine: AsyncEngine, stream: FateStream) -> None:
    """A message that was acknowledged by some devices is one row with exact counts, and one row for each device."""
    stream.device(1)
    stream.device(2)
    stream.send(FIRST_SEQ, [1, 2])
    stream.ack((FIRST_SEQ, [1]), written=4_990, acked=5_000)
    await write_all(new_writer(redis, engine))
    (message,) = await rows_of(engine, messages)
    assert (message["addressed"], message["n_waiting"], message["n_acked"]) == (2, 1, 1)
    first, second = await rows_of(engine, deliveries)
    names = {row["id"]: row["user"] for row in await rows_of(engine, devices)}
    assert names[first["device_id"]] == "user_1"
    assert (first["state"], first["written_at"], first["acked_at"], first["ms"]) == (Fate.ACKED, 4_990, 5_000, 10)
    assert (second["state"], second["ended_at"]) == (Fate.WAITING, None)
    assert stream.length == 0


async def test_a_fate_meets_an_earlier_row(redis: Redis, engine: AsyncEngine, stream: FateStream) -> None:
    """Fates of later batches change the rows and the counts; the first final one wins."""
    for handle in (1, 2, 3):
        stream.device(handle)
    stream.send(FIRST_SEQ, [1, 2])
    await write_all(new_writer(redis, engine))
    stream.more(FIRST_SEQ, [3])
    stream.written(FIRST_SEQ, [1], written=4_000)
    stream.fate("expired", "ttl", (FIRST_SEQ, [2]))
    await write_all(new_writer(redis, engine))
    stream.ack((FIRST_SEQ, [1, 2]), acked=5_000, kind="batch")
    await write_all(new_writer(redis, engine))
    (message,) = await rows_of(engine, messages)
    counts = {state: message[state.column] for state in Fate if message[state.column]}
    assert (message["addressed"], counts) == (3, {Fate.ACKED: 1, Fate.EXPIRED: 1, Fate.WAITING: 1})
    rows = await rows_of(engine, deliveries)
    assert [row["state"] for row in rows] == [Fate.ACKED, Fate.EXPIRED, Fate.WAITING]
    assert (rows[0]["written_at"], rows[0]["ms"], rows[0]["is_batch"]) == (4_000, None, True)
    assert rows[1]["reason"] == reason_number("ttl")


async def test_a_handle_that_no_entry_has_named(
    redis: Redis, engine: AsyncEngine, stream: FateStream, valkey: Valkey
) -> None:
    """It is looked up in Redis; a handle that Redis does not know any more is a device without a user."""
    valkey.client.hset(f"recado:{{{SITE}}}:device:5", mapping={"user": "user_9", "device": "phone"})
    stream.send(FIRST_SEQ, [5, 6])
    await write_all(new_writer(redis, engine))
    named = [(row["user"], row["device"], row["handle"]) for row in await rows_of(engine, devices)]
    assert sorted(named) == [("", "handle 6", 6), ("user_9", "phone", 5)]


async def test_handles_that_begin_again(redis: Redis, engine: AsyncEngine, stream: FateStream) -> None:
    """After Redis has lost everything a handle belongs to another device, and a device has another handle."""
    stream.device(1, "user_a")
    stream.device(2, "user_b")
    stream.send(FIRST_SEQ, [1])
    await write_all(new_writer(redis, engine))
    stream.device(1, "user_b")
    stream.send(FIRST_SEQ + 1, [1])
    await write_all(new_writer(redis, engine))
    users = {row["id"]: (row["user"], row["handle"]) for row in await rows_of(engine, devices)}
    assert sorted(users.values()) == [("user_a", None), ("user_b", 1)]
    assert [users[row["device_id"]][0] for row in await rows_of(engine, deliveries)] == ["user_a", "user_b"]


async def test_entries_that_left_a_full_stream(redis: Redis, engine: AsyncEngine, stream: FateStream) -> None:
    """A row says how many entries were lost unread, once; those that were read do not count."""
    stream.send(FIRST_SEQ, [1])
    await write_all(new_writer(redis, engine))
    stream.backlog = 5
    for number in range(1, 13):
        stream.send(FIRST_SEQ + number, [1])
    for _ in range(2):
        await write_all(new_writer(redis, engine))
    (row,) = await rows_of(engine, missing)
    assert (row["stream"], row["entries"]) == (stream.key, 7)
    assert [one["seq"] - FIRST_SEQ for one in await rows_of(engine, messages)] == [0, 8, 9, 10, 11, 12]


async def test_a_row_that_sql_refuses(
    redis: Redis, engine: AsyncEngine, stream: FateStream, valkey: Valkey, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An entry whose row SQL refuses is passed over and counted; all others are written, those of other sites too."""
    other = FateStream(valkey, "other")
    for number in range(5):
        stream.send(FIRST_SEQ + number, [1], event="refused" if number == 2 else "news")
        other.send(FIRST_SEQ + number, [1], event="refused" if number == 4 else "news")
    original = applying._message_row

    def row(*given: Any) -> tuple[Any, ...]:
        made = original(*given)
        return (*made[:3], None, *made[4:]) if made[3] == "refused" else made

    monkeypatch.setattr(applying, "_message_row", row)
    writer = new_writer(redis, engine, SITE, "other")
    await write_all(writer)
    assert writer.figures.unreadable == 2
    assert [one["seq"] - FIRST_SEQ for one in await rows_of(engine, messages)] == [*(0, 1, 3, 4), *(0, 1, 2, 3)]
    assert other.length == 0
    assert stream.length == 0


async def test_sites_that_come_later(redis: Redis, engine: AsyncEngine, valkey: Valkey) -> None:
    """A site that a node begins to serve is found in Redis, and so is one of a node that has died."""
    for node, site in (("one", "new"), ("two", "old")):
        valkey.client.zadd("recado:nodes", {f"~{node}" if node == "two" else node: 1})
        valkey.client.sadd(f"recado:sites:{node}", site)
        FateStream(valkey, site).send(FIRST_SEQ, [1])
    await write_all(new_writer(redis, engine))
    assert {row["name"] for row in await rows_of(engine, sites)} == {"new", "old"}
    assert len(await rows_of(engine, messages)) == 2


async def test_one_writer_holds_the_lease(redis: Redis, engine: AsyncEngine, stream: FateStream) -> None:
    """While another writer has the lease, nothing is written; its end gives the lease back."""
    await redis.command("SET", "recado:journal:lease", "another", "PX", 60_000)
    stream.send(FIRST_SEQ, [1])
    writer = new_writer(redis, engine)
    await write_all(writer)
    assert not writer.is_in_charge
    assert await rows_of(engine, messages) == []
    assert await redis.command("GET", "recado:journal:lease") == b"another"
    await redis.command("DEL", "recado:journal:lease")
    await write_all(new_writer(redis, engine))
    assert len(await rows_of(engine, messages)) == 1
    assert await redis.command("GET", "recado:journal:lease") is None


async def test_a_message_that_is_unknown(redis: Redis, engine: AsyncEngine, stream: FateStream) -> None:
    """Fates of a message that the journal does not have (its entry was lost, or it is old) leave no row."""
    stream.device(1)
    stream.ack((FIRST_SEQ, [1]))
    stream.more(FIRST_SEQ + 1, [1])
    await write_all(new_writer(redis, engine))
    assert await rows_of(engine, deliveries) == []
    assert stream.length == 0


async def test_many_sites_in_one_transaction(redis: Redis, engine: AsyncEngine, valkey: Valkey) -> None:
    """More sites than one transaction takes are all written, each under its own name."""
    names = [f"site{number}" for number in range(120)]
    for name in names:
        FateStream(valkey, name).send(FIRST_SEQ, [1])
    await write_all(new_writer(redis, engine, *names))
    assert len(await rows_of(engine, messages)) == 120
    assert len({row["site_id"] for row in await rows_of(engine, deliveries)}) == 120


async def test_sql_that_is_away(redis: Redis, stream: FateStream, valkey: Valkey) -> None:
    """Without SQL entries wait in Redis, the log says so once, and the figures tell how many and since when."""
    stream.send(FIRST_SEQ, [1])
    stream.send(FIRST_SEQ + 1, [1])
    engine = open_database("postgresql://nobody@/none?host=/nowhere", is_writer=True)
    writer = new_writer(redis, engine)
    with capture_logs() as lines:
        running = asyncio.create_task(writer.run(last_seconds=0.1))
        await until(lambda: int(valkey.client.hget("recado:journal", "lag_ms") or 0) > 1_000, "the lag")
        writer.stop()
        await running
    assert [line["event"] for line in lines] == ["journal not written"]
    assert valkey.client.hget("recado:journal", "backlog") == b"2"
    assert stream.length == 2
    await engine.dispose()
