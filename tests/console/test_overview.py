"""The overview: points of an hour and of 30 days, the sites and nodes of this moment, and whose they are."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pytest

from app.console.pages.overview import OverviewInputs, OverviewSources, overview_operations
from app.errors import RequestRefused
from app.journal.chart_points import Chart, ChartPoint
from app.journal.newest import NewestSample
from app.protocols.operations import Actor, Call, Role

ANA = Actor("ana", Role.ADMIN)
BEN = Actor("ben", Role.VIEWER, frozenset(["shop"]))


class Sources:
    """Samples that were made up, and the questions for them. Lives for one test."""

    def __init__(self, points: Sequence[ChartPoint] = (), newest: Sequence[NewestSample] = ()) -> None:
        """The points of every chart, and the newest samples."""
        self.points = list(points)
        self.newest = newest
        self.asked: list[tuple[int, str | None, str | None]] = []
        (self.operation,) = overview_operations(OverviewSources(self.chart, self.newest_samples, lambda: (0.5, 0.25)))

    async def chart(self, seconds: int, since: int, site: str | None, node: str | None) -> Chart:
        """The points."""
        self.asked.append((seconds, site, node))
        return Chart(self.points)

    async def newest_samples(self, since: int) -> Sequence[NewestSample]:
        """The samples."""
        return self.newest

    async def show(self, actor: Actor = ANA, /, **given: Any) -> dict[str, Any]:
        """The overview of an operator."""
        shown: dict[str, Any] = await self.operation.run(Call(actor, OverviewInputs(**given)))
        return shown


async def test_an_hour() -> None:
    """A point of the hour is a sample: counts become rates, states stay."""
    figures: dict[str, float] = {"sends": 20, "deliveries": 100, "connections": 7, "queued": 3}
    sources = Sources([ChartPoint(10_000, figures, 1.5, 4.0, 2), ChartPoint(20_000, {})])
    shown = await sources.show()
    assert [point["at"] for point in shown["points"]] == ["1970-01-01T00:00:10.000Z", "1970-01-01T00:00:20.000Z"]
    first = shown["points"][0]
    assert (first["sends_per_second"], first["deliveries_per_second"], first["acks_per_second"]) == (2, 10, 0)
    assert (first["connections"], first["queued"], first["p50_ms"], first["p99_ms"]) == (7, 3, 1.5, 4.0)
    assert shown["now"]["p99_ms"] is None
    assert shown["canary"] == {"delivered_share": 0.5, "p99_ms": 250}


async def test_30_days() -> None:
    """A point of 30 days is an hour: rates on average, states and times at their greatest."""
    hour = 3_600_000
    points = [ChartPoint(hour + 300_000 * n, {"sends": 300 * n, "connections": n}, n, n) for n in range(12)]
    shown = await Sources([*points, ChartPoint(2 * hour, {"sends": 600})]).show(span="month")
    assert [point["sends_per_second"] for point in shown["points"]] == [5.5, 2]
    assert [point["connections"] for point in shown["points"]] == [11, 0]
    assert [point["p99_ms"] for point in shown["points"]] == [11, None]


async def test_viewers_share_a_question() -> None:
    """A chart that was just read is not read again; that of another site, node or time is."""
    sources = Sources()
    questions: list[dict[str, Any]] = [{}, {}, {"site": "shop"}, {"node": "n1"}, {"span": "month"}, {"site": "shop"}]
    for given in questions:
        await sources.show(**given)
    assert sources.asked == [(10, None, None), (10, "shop", None), (10, None, "n1"), (300, None, None)]


def newest(node: str, site: str | None, **figures: float) -> NewestSample:
    """A sample of now."""
    return NewestSample(0, node, site, figures)


async def test_sites_and_nodes_now() -> None:
    """A site is the sum of its nodes, but for what every node knows of all; the busiest come first."""
    samples = [
        newest("n1", "shop", connections=1, sends=10, queued=5),
        newest("n2", "shop", connections=2, sends=10, queued=6),
        newest("n1", "news", connections=9),
        newest("n1", None, connections=10, lag_ms=1.5),
        newest("n2", None, connections=2),
    ]
    shown = await Sources(newest=samples).show()
    assert [(row["site"], row["connections"], row["queued"]) for row in shown["sites"]] == [
        ("news", 9, 0),
        ("shop", 3, 6),
    ]
    assert shown["sites"][1]["sends_per_second"] == 2
    assert [(row["node"], row["connections"], row["lag_ms"]) for row in shown["nodes"]] == [
        ("n1", 10, 1.5),
        ("n2", 2, 0),
    ]


async def test_sites_of_others() -> None:
    """An operator of one site sees that site alone, and no sums in which others are."""
    sources = Sources(newest=[newest("n1", "shop"), newest("n1", "news"), newest("n1", None)])
    shown = await sources.show(BEN)
    assert ([row["site"] for row in shown["sites"]], shown["nodes"], shown["site"]) == (["shop"], [], "shop")
    assert sources.asked == [(10, "shop", None)]
    for site in ("news", "none"):
        with pytest.raises(RequestRefused, match="no such site"):
            await sources.show(BEN, site=site)
    with pytest.raises(RequestRefused, match="no such site"):
        await sources.show(Actor("eve", Role.VIEWER, frozenset()))
