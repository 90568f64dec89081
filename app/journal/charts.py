"""Charts of the samples: the points of all nodes together, of a site or of everything.

A question reads the rows of one index, in parts, and in at most so many rows.
"""

import asyncio
from collections.abc import Iterable, Sequence
from typing import Any

import msgspec
from sqlalchemy import select, tuple_
from sqlalchemy.ext.asyncio import AsyncEngine

from app.journal.chart_points import Chart, ChartPoint
from app.journal.database import asking
from app.journal.samples import ACK_MS
from app.journal.tables import samples, sites

#: The rows of one chart: an hour of 10-s samples of 250 nodes, or 30 days of 5-min samples of 10.
MOST_ROWS = 90_000
#: The rows of one part: some 10 ms of a turn.
_PART_ROWS = 1_000
#: Each node's figure is of all nodes, or of the worst of them: a chart shows the greatest.
_GREATEST = frozenset({"devices", "queued", "lag_ms", "longest_lag_ms"})

_decoder = msgspec.json.Decoder(dict[str, Any])


async def chart(
    engine: AsyncEngine, seconds: int, since: int, site: str | None = None, node: str | None = None
) -> Chart:
    """The samples every so many seconds since a time in ms, of one site or of all. Raises JournalUnavailable."""
    async with asking(engine) as sql:
        columns = samples.c
        site_id = select(sites.c.id).where(sites.c.name == site).scalar_subquery()
        of_site = columns.site_id.is_(None) if site is None else columns.site_id == site_id
        wanted = [of_site, columns.seconds == seconds, columns.at >= since]
        if node is not None:
            wanted.append(columns.node == node)
        statement = select(columns.at, columns.id, columns.figures).where(*wanted)
        statement = statement.order_by(columns.at.desc(), columns.id.desc()).limit(_PART_ROWS)
        merging = _Merging()
        part: Sequence[Any] = (await sql.execute(statement)).all()
        while part and merging.rows < MOST_ROWS:
            merging.add(part)
            if len(part) < _PART_ROWS:
                return Chart(merging.points())
            # Others have their turn.
            await asyncio.sleep(0)
            behind = tuple_(columns.at, columns.id) < (part[-1].at, part[-1].id)
            part = (await sql.execute(statement.where(columns.at <= part[-1].at, behind))).all()
    return Chart(merging.points(), bool(part))


class _Merging:
    """Rows that are being merged. Lives for one question."""

    def __init__(self) -> None:
        self.rows = 0
        self._by_time: dict[int, ChartPoint] = {}
        self._acks: dict[int, list[int]] = {}

    def add(self, rows: Iterable[Any]) -> None:
        """Merges rows into the points of their times."""
        for at, _, text in rows:
            self.rows += 1
            figures = _decoder.decode(text)
            acks = figures.pop(ACK_MS, None)
            point = self._by_time.get(at)
            if point is None:
                point = self._by_time[at] = ChartPoint(at, {})
            point.nodes += 1
            for name, value in figures.items():
                before = point.figures.get(name, 0)
                point.figures[name] = max(before, value) if name in _GREATEST else before + value
            if acks:
                known = self._acks.get(at)
                self._acks[at] = acks if known is None else [one + two for one, two in zip(known, acks, strict=False)]

    def points(self) -> list[ChartPoint]:
        """The points, oldest first."""
        for at, acks in self._acks.items():
            self._by_time[at].p50_ms, self._by_time[at].p99_ms = percentile_ms(acks, 0.5), percentile_ms(acks, 0.99)
        return [self._by_time[at] for at in sorted(self._by_time)]


def percentile_ms(buckets: Sequence[int], share: float) -> float:
    """The time within which this share of the acks came, from buckets as `AckTimes` has them: within a bucket they are
    taken as evenly spread."""
    wanted = share * sum(buckets)
    for number, count in enumerate(buckets):
        if count and wanted <= count:
            low, high = (2 ** (number - 1), 2**number) if number else (0, 1)
            return round(low + (high - low) * wanted / count, 1)
        wanted -= count
    return float(2 ** (len(buckets) - 1))
