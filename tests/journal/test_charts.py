"""Charts of the samples, on both databases."""

from __future__ import annotations

import pytest
from sqlalchemy.ext.asyncio import AsyncEngine

from app.journal import charts
from app.journal.charts import chart, percentile_ms
from app.journal.streams import NODES_STREAM
from app.observe.counts import AckTimes
from app.redis.client import Redis
from tests.support.fates import SITE, FateStream, new_writer, write_all
from tests.support.valkey import Valkey


async def keep(redis: Redis, engine: AsyncEngine, valkey: Valkey, *rows: dict[str, object]) -> None:
    """Brings samples into SQL."""
    stream = FateStream(valkey)
    stream.key = NODES_STREAM
    stream.rows("samples", *rows)
    await write_all(new_writer(redis, engine))


def sample(node: str, at: int, figures: dict[str, object], seconds: int = 10, **more: object) -> dict[str, object]:
    """A row as a node writes it."""
    return {"node": node, "at": at, "seconds": seconds, "figures": figures, **more}


async def test_the_nodes_are_one_line(redis: Redis, engine: AsyncEngine, valkey: Valkey) -> None:
    """Counts and connections of all nodes are added, the guess of what waits is that of one node; acks of all nodes
    have one percentile."""
    fast, slow = AckTimes(), AckTimes()
    fast.note(3, 99)
    slow.note(1_500, 1)
    await keep(
        redis,
        engine,
        valkey,
        sample("n1", 10_000, {"sends": 1, "queued": 7, "connections": 2, "ack_ms": fast.buckets}),
        sample("n2", 10_000, {"sends": 2, "queued": 9, "connections": 1, "ack_ms": slow.buckets}),
        sample("n1", 20_000, {"sends": 5}),
        sample("n1", 20_000, {"sends": 99}, 300),
        sample("n1", 20_000, {"sends": 4}, site=SITE),
    )
    found = await chart(engine, 10, 10_000)
    assert [(point.at, point.nodes) for point in found.points] == [(10_000, 2), (20_000, 1)]
    first = found.points[0]
    assert first.figures == {"sends": 3, "queued": 9, "connections": 3}
    assert 2 <= (first.p50_ms or 0) <= 4 <= (first.p99_ms or 0)
    assert found.points[1].p99_ms is None
    assert [point.figures for point in (await chart(engine, 10, 0, site=SITE)).points] == [{"sends": 4}]
    assert [point.figures["sends"] for point in (await chart(engine, 10, 15_000)).points] == [5]
    assert [point.figures["sends"] for point in (await chart(engine, 300, 0)).points] == [99]
    assert [point.nodes for point in (await chart(engine, 10, 0, node="n2")).points] == [1]
    assert (await chart(engine, 10, 0, site="of nobody")).points == []


async def test_a_chart_is_read_in_parts(
    redis: Redis, engine: AsyncEngine, valkey: Valkey, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Rows of one time may stand in two parts; past the bound the newest are shown, which the chart says."""
    monkeypatch.setattr(charts, "_PART_ROWS", 3)
    rows = [sample(f"n{number % 4}", 1_000 * (number // 4), {"sends": 1}) for number in range(20)]
    await keep(redis, engine, valkey, *rows)
    found = await chart(engine, 10, 0)
    assert [(point.at, point.figures["sends"]) for point in found.points] == [(1_000 * n, 4) for n in range(5)]
    assert not found.is_cut
    monkeypatch.setattr(charts, "MOST_ROWS", 7)
    cut = await chart(engine, 10, 0)
    assert cut.is_cut
    assert cut.points[-1].at == 4_000
    assert len(cut.points) < 5


@pytest.mark.parametrize(("ms", "low", "high"), [(0, 0, 1), (1, 1, 2), (6, 4, 8), (1_000, 512, 1_024)])
def test_the_percentile_is_within_the_bucket(ms: int, low: float, high: float) -> None:
    """A time is known to a factor of two."""
    times = AckTimes()
    times.note(ms, 10)
    assert low <= percentile_ms(times.buckets, 0.5) <= percentile_ms(times.buckets, 0.99) <= high


def test_the_percentile_of_nothing() -> None:
    """Rounding cannot lead past the last bucket."""
    assert percentile_ms([0, 0], 0.5) == 2.0
