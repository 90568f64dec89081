"""The first page: rates, connections, queues and times, of everything or of one site, for an hour or for 30 days."""

from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from typing import Any, Literal

from msgspec import Struct

from app.clock import now_ms, rfc3339
from app.console.page import ConsolePage
from app.errors import RequestRefused
from app.journal.chart_points import Chart, ChartPoint
from app.journal.newest import NewestSample
from app.protocols.operations import Actor, Call, Inputs, Operation, Role, Words

OVERVIEW = ConsolePage("overview", "Overview", "overview.show", live_seconds=10.0, is_shared=True)

#: Figures that a point shows as so many a second; the others are states.
RATES = ("connects", "refusals", "sends", "deliveries", "acks", "resyncs", "errors")
STATES = ("connections", "devices", "queued")
#: The sites and nodes in the table of this moment, the busiest.
MAX_ROWS = 50
#: Charts that are remembered, so that several viewers cost one question.
MAX_REMEMBERED = 100
_HOUR_MS = 3_600_000
#: A node that has no sample for this time is gone.
_NOW_MS = 30_000


class Span(Struct, frozen=True):
    """How far a chart looks back. Lives as long as the process."""

    #: Between two samples, and between two points of the chart.
    seconds: int
    point_seconds: int
    back_ms: int


SPANS = {"hour": Span(10, 10, _HOUR_MS), "month": Span(300, 3_600, 30 * 24 * _HOUR_MS)}


class OverviewInputs(Inputs, frozen=True, kw_only=True):
    """The part of the server to look at, and the time."""

    site: Words | None = None
    node: Words | None = None
    span: Literal["hour", "month"] = "hour"


class OverviewSources(Struct, frozen=True):
    """Where the figures come from. Lives as long as the node."""

    #: `chart` of the journal: seconds, since, site, node.
    read_chart: Callable[[int, int, str | None, str | None], Awaitable[Chart]]
    #: `newest_samples` of the journal.
    read_newest: Callable[[int], Awaitable[Sequence[NewestSample]]]
    #: The delivered share of this node's canary and its 99th percentile in seconds; None: there was none.
    canary: Callable[[], tuple[float | None, float | None]]


class _Charts:
    """The charts that were just read. Lives as long as the node."""

    def __init__(self, sources: OverviewSources) -> None:
        self._sources = sources
        self._known: dict[tuple[str, str | None, str | None], tuple[int, dict[str, Any]]] = {}

    async def read(self, name: str, site: str | None, node: str | None) -> dict[str, Any]:
        """The points of a chart, as old as one interval of its samples at most."""
        span, now, key = SPANS[name], now_ms(), (name, site, node)
        at, known = self._known.get(key, (0, {}))
        if now - at < span.seconds * 1000:
            return known
        chart = await self._sources.read_chart(span.seconds, now - span.back_ms, site, node)
        points = [_point(group, span) for group in _groups(chart.points, span.point_seconds)]
        shown = {"points": points, "is_cut": chart.is_cut}
        if len(self._known) >= MAX_REMEMBERED:
            self._known.clear()
        self._known[key] = (now, shown)
        return shown


def overview_operations(sources: OverviewSources) -> list[Operation]:
    """The overview. An operator of some sites sees one of these."""
    charts = _Charts(sources)

    async def show(call: Call) -> dict[str, Any]:
        given: OverviewInputs = call.given
        site = _site_of(call.caller, given.site)
        chart = await charts.read(given.span, site, given.node)
        newest = await sources.read_newest(now_ms() - _NOW_MS)
        share, slowest = sources.canary()
        return {
            "site": site,
            "node": given.node,
            "span": given.span,
            **chart,
            "now": chart["points"][-1] if chart["points"] else None,
            "sites": _by_site(newest, call.caller),
            "nodes": _by_node(newest) if call.caller.sites is None else [],
            "canary": {"delivered_share": share, "p99_ms": None if slowest is None else round(slowest * 1000, 1)},
        }

    summary = "Show rates, connections, queues and times"
    return [Operation("overview.show", summary, "GET", "/overview", Role.VIEWER, show, OverviewInputs)]


def _site_of(actor: Actor, site: str | None) -> str | None:
    """The site to look at; None: everything. Raises RequestRefused for a site of others."""
    if site is None and actor.sites is not None:
        site = min(actor.sites, default="")
    if site is not None and not actor.knows(site):
        raise RequestRefused("There is no such site.", "unknown_site", 404)
    return site


def _groups(points: Iterable[ChartPoint], seconds: int) -> Iterable[list[ChartPoint]]:
    """The points by the interval of the chart that they are in."""
    groups: dict[int, list[ChartPoint]] = {}
    for point in points:
        groups.setdefault(point.at // (seconds * 1000), []).append(point)
    return groups.values()


def _point(group: Sequence[ChartPoint], span: Span) -> dict[str, Any]:
    """One point of several: rates on average, states and times at their greatest."""
    seconds = len(group) * span.seconds
    shown: dict[str, Any] = {"at": rfc3339(group[-1].at)}
    for name in RATES:
        shown[f"{name}_per_second"] = round(sum(point.figures.get(name, 0) for point in group) / seconds, 2)
    for name in STATES:
        shown[name] = int(max(point.figures.get(name, 0) for point in group))
    for name in ("p50_ms", "p99_ms"):
        shown[name] = max((value for point in group if (value := getattr(point, name)) is not None), default=None)
    return shown


def _by_site(newest: Iterable[NewestSample], actor: Actor) -> list[dict[str, Any]]:
    sums: dict[str, dict[str, float]] = {}
    for sample in newest:
        if sample.site is not None and actor.knows(sample.site):
            _add(sums.setdefault(sample.site, {}), sample.figures)
    rows = [{"site": site, **_row(figures)} for site, figures in sums.items()]
    return sorted(rows, key=lambda row: (-row["connections"], row["site"]))[:MAX_ROWS]


def _by_node(newest: Iterable[NewestSample]) -> list[dict[str, Any]]:
    rows = [
        {"node": sample.node, **_row(sample.figures), "lag_ms": sample.figures.get("lag_ms", 0)}
        for sample in newest
        if sample.site is None
    ]
    return sorted(rows, key=lambda row: (-row["connections"], row["node"]))[:MAX_ROWS]


def _add(sums: dict[str, float], figures: Mapping[str, Any]) -> None:
    for name in (*RATES, *STATES):
        value = figures.get(name, 0)
        # Every node knows all devices of a site.
        sums[name] = max(sums.get(name, 0), value) if name in ("devices", "queued") else sums.get(name, 0) + value


def _row(figures: Mapping[str, Any]) -> dict[str, Any]:
    seconds = SPANS["hour"].seconds
    rates = {f"{name}_per_second": round(figures.get(name, 0) / seconds, 2) for name in RATES}
    return {"connections": int(figures.get("connections", 0)), "queued": int(figures.get("queued", 0)), **rates}
