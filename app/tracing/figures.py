"""The metrics of tracing."""

from app.observe.counts import Counts
from app.observe.metric import Kind, Metric, of_each
from app.tracing.counts import TracingCounts


def _spans(counts: Counts) -> dict[str, int]:
    return counts.part(TracingCounts).spans


METRICS = (Metric(Kind.COUNTER, "recado_spans", "Spans of tracing, by result.", ("result",), of_each(_spans)),)
