"""The writer of the journal, from entries in a real Valkey to rows in both databases."""

from __future__ import annotations

from sqlalchemy.ext.asyncio import AsyncEngine

from app.journal.states import Fate, reason_number
from app.journal.tables import deliveries, devices, messages
from app.redis.client import Redis
from tests.support.fates import FIRST_SEQ, FateStream, new_writer, rows_of, write_all


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
