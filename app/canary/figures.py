"""The metrics of the canary."""

from collections.abc import Callable

from app.canary.record import CanaryRecord, Stuck
from app.observe.counts import Counts
from app.observe.metric import Kind, Metric, Reader, of_each, of_node


def _record(counts: Counts) -> CanaryRecord:
    return counts.part(CanaryRecord)


def _where_known(read: Callable[[CanaryRecord], float | None]) -> Reader:
    return lambda counts: (((), value) for value in [read(_record(counts))] if value is not None)


METRICS = (
    Metric(
        Kind.GAUGE,
        "recado_canary_delivered_share",
        "Share of the canary's messages of the last hour that were acknowledged.",
        (),
        _where_known(CanaryRecord.share),
    ),
    Metric(
        Kind.GAUGE,
        "recado_canary_p99_seconds",
        "99th percentile of the canary's time from the request to the ack, of the last hour.",
        (),
        _where_known(CanaryRecord.slowest_percent),
    ),
    Metric(Kind.COUNTER, "recado_canary_sent", "The canary's messages.", (), of_node(lambda c: _record(c).sent)),
    Metric(
        Kind.COUNTER,
        "recado_canary_missed",
        "The canary's messages that got stuck.",
        ("place",),
        of_each(lambda counts: {place.value: _record(counts).missed[place.value] for place in Stuck}),
    ),
)
