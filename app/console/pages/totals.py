"""The page of totals: what there is at this moment, what happened in 30 days, and the top speeds, from the samples."""

from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Any

from msgspec import Struct

from app.clock import now_ms, rfc3339
from app.config.settings import Site
from app.console.page import ConsolePage
from app.journal.chart_points import Chart, ChartPoint
from app.journal.newest import NewestSample
from app.protocols.operations import Call, Operation, Role

#: Not live: each look asks the database to count.
TOTALS = ConsolePage(
    "totals", "Totals", "totals.show", also={"database": "database.show", "pruning": "database.pruning"}
)

#: Figure of the samples -> its name among the totals.
_COUNTED = {
    "connects": "connects",
    "refusals": "refusals",
    "sends": "messages",
    "deliveries": "deliveries",
    "acks": "acks",
    "resyncs": "resyncs",
}
_FAST = ("connects", "sends", "deliveries", "acks")
_DAY_MS = 86_400_000
#: Interval of samples in seconds -> how far back they are read. The shorter ones are kept for an hour.
_BACK_MS = {10: 3_600_000, 300: 30 * _DAY_MS}
#: A node that has no sample for this time is gone.
_NOW_MS = 30_000
#: How long an answer is remembered: several viewers cost one question.
_REMEMBERED_MS = 60_000


class TotalsSources(Struct, frozen=True):
    """Where the figures come from. Lives as long as the node."""

    #: `chart` of the journal: seconds, since.
    read_chart: Callable[[int, int], Awaitable[Chart]]
    #: `newest_samples` of the journal.
    read_newest: Callable[[int], Awaitable[Sequence[NewestSample]]]
    #: It may grow and shrink.
    sites: Mapping[str, Site]


class _Totals:
    """The totals that were just read. Lives as long as the node."""

    def __init__(self, sources: TotalsSources) -> None:
        self._sources = sources
        self._known: dict[str, Any] = {}
        self._read_at = 0

    async def show(self, call: Call) -> dict[str, Any]:
        now = now_ms()
        if now - self._read_at >= _REMEMBERED_MS:
            self._known = await self._read_past(now)
            self._read_at = now
        return {"now": await self._present(now), **self._known}

    async def _read_past(self, now: int) -> dict[str, Any]:
        charts = {seconds: await self._sources.read_chart(seconds, now - back) for seconds, back in _BACK_MS.items()}
        month = charts[300]
        sums = {
            name: int(sum(point.figures.get(figure, 0) for point in month.points)) for figure, name in _COUNTED.items()
        }
        return {
            "month": sums,
            "since": rfc3339(month.points[0].at) if month.points else None,
            "is_cut": month.is_cut,
            "top": {_COUNTED[figure]: _fastest(charts, figure) for figure in _FAST},
        }

    async def _present(self, now: int) -> dict[str, int]:
        samples = await self._sources.read_newest(now - _NOW_MS)
        nodes = [sample.figures for sample in samples if sample.site is None]
        return {
            "sites": sum(not site.is_hidden for site in list(self._sources.sites.values())),
            "nodes": len(nodes),
            "connections": int(sum(figures.get("connections", 0) for figures in nodes)),
            # Every node knows all devices of its sites.
            "devices": int(max((figures.get("devices", 0) for figures in nodes), default=0)),
            "waiting": int(max((figures.get("queued", 0) for figures in nodes), default=0)),
        }


def total_operations(sources: TotalsSources) -> list[Operation]:
    """The totals, of all sites: for administrators."""
    summary = "Show the totals of this moment and of 30 days, and the top speeds"
    return [Operation("totals.show", summary, "GET", "/totals", Role.ADMIN, _Totals(sources).show)]


def _fastest(charts: Mapping[int, Chart], figure: str) -> dict[str, Any] | None:
    """The greatest number a second of a figure, and when; None: it never happened."""

    def rate(pair: tuple[int, ChartPoint]) -> float:
        seconds, point = pair
        return point.figures.get(figure, 0) / seconds

    points = [(seconds, point) for seconds, chart in charts.items() for point in chart.points]
    seconds, point = best = max(points, key=rate, default=(1, ChartPoint(0, {})))
    if not rate(best):
        return None
    return {"per_second": round(rate(best), 2), "at": rfc3339(point.at), "over_seconds": seconds}
