"""The samples of nodes and sites as operations, for charts: of the last hour every 10 s, of 30 days every 5 min."""

from collections.abc import Awaitable, Callable
from typing import Annotated, Any, Literal, TypeAlias

import msgspec
from msgspec import Meta

from app.clock import now_ms, rfc3339
from app.journal.charts import Chart
from app.protocols.operations import Call, Inputs, NodeName, Operation, Role

_HOUR_MS = 3_600_000

#: `chart` of a database.
ReadChart: TypeAlias = Callable[..., Awaitable[Chart]]


class SampleInputs(Inputs, frozen=True, kw_only=True):
    """Which samples."""

    #: The seconds between two samples.
    every: Literal[10, 300] = 10
    #: The hours until now.
    hours: Annotated[int, Meta(ge=1, le=720)] = 1


class NodeSampleInputs(SampleInputs, frozen=True, kw_only=True):
    """Which samples, of all nodes or of one."""

    node: NodeName | None = None


def sample_operations(read_chart: ReadChart) -> list[Operation]:
    """The samples of everything, for administrators, and those of one site."""

    async def of_all(call: Call) -> dict[str, Any]:
        given: NodeSampleInputs = call.given
        return _shown(await read_chart(given.every, _since(given), node=given.node))

    async def of_site(call: Call) -> dict[str, Any]:
        given: SampleInputs = call.given
        return _shown(await read_chart(given.every, _since(given), site=call.known_site.name))

    summary = "List the samples of {} over a time, oldest first, all nodes together"
    return [
        Operation("samples.all", summary.format("everything"), "GET", "/samples", Role.ADMIN, of_all, NodeSampleInputs),
        Operation(
            "samples.site", summary.format("a site"), "GET", "/sites/{site}/samples", Role.VIEWER, of_site, SampleInputs
        ),
    ]


def _since(given: SampleInputs) -> int:
    return now_ms() - given.hours * _HOUR_MS


def _shown(chart: Chart) -> dict[str, Any]:
    items = [msgspec.to_builtins(point) | {"at": rfc3339(point.at)} for point in chart.points]
    return {"items": items, "cursor": None, "is_cut": chart.is_cut}
