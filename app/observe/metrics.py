"""The figures of a node as Prometheus reads them: metrics, read from `counts` at the moment of a scrape.

The only module that knows prometheus-client. docs/metrics.md explains every metric; a test compares both.
"""

from collections.abc import Iterable, Iterator
from itertools import accumulate
from typing import Any

from msgspec import Struct
from prometheus_client import CollectorRegistry, ProcessCollector, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily
from prometheus_client.metrics_core import Metric as Family
from prometheus_client.registry import Collector
from prometheus_client.utils import floatToGoString

from app.observe.counts import BOUNDS_SECONDS, Counts, Durations
from app.observe.health import Health
from app.observe.metric import Kind, Metric

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"

_BOUNDS = [*map(floatToGoString, BOUNDS_SECONDS), "+Inf"]


class _Counter(CounterMetricFamily):
    """A counter of Prometheus. It holds the numbers of one scrape."""


class _Gauge(GaugeMetricFamily):
    """A gauge of Prometheus."""


class _Histogram(HistogramMetricFamily):
    """A histogram of Prometheus, filled from `Durations`."""

    def add_metric(self, labels: Iterable[str], value: Durations) -> None:  # type: ignore[override]
        """Takes our durations. Prometheus's buckets are cumulative, ours are not."""
        buckets = list(zip(_BOUNDS, accumulate(value.buckets), strict=True))
        super().add_metric(list(labels), buckets, value.total_seconds)


_FAMILIES: dict[Kind, type[_Counter] | type[_Gauge] | type[_Histogram]] = {
    Kind.COUNTER: _Counter,
    Kind.GAUGE: _Gauge,
    Kind.HISTOGRAM: _Histogram,
}


class NodeInfo(Struct, frozen=True):
    """The node that the figures belong to."""

    name: str
    version: str


class Metrics(Collector):
    """The metrics of one node. Lives as long as the node."""

    def __init__(
        self, metrics: Iterable[Metric], counts: Counts, health: Health, node: NodeInfo, worker: str | None = None
    ) -> None:
        """With a `worker`, every sample has its number as a label."""
        self._metrics = tuple(metrics)
        self._counts = counts
        self._health = health
        self._info = (node.name, node.version)
        self._registry = CollectorRegistry()
        self._worker = worker
        self._registry.register(self)
        ProcessCollector(registry=self._registry)

    def render(self) -> bytes:
        """All metrics in Prometheus's text format; may be called from any thread."""
        return generate_latest(self._registry if self._worker is None else _Labelled(self._registry, self._worker))

    def names(self) -> set[str]:
        """The name of every metric in the text, process metrics included."""
        return {_name_in_text(family) for family in self._registry.collect()}

    def collect(self) -> Iterator[Family]:
        """For prometheus-client: every family, those without samples too."""
        for metric in self._metrics:
            family: Any = _FAMILIES[metric.kind](metric.name, metric.help, labels=metric.labels)
            for labels, value in metric.read(self._counts):
                family.add_metric(labels, value)
            yield family
        info = GaugeMetricFamily(
            "recado_node_info", "1, with the name and version of the node.", labels=("node", "version")
        )
        info.add_metric(self._info, 1)
        yield info
        ready = GaugeMetricFamily("recado_ready", "Whether a check of /readyz holds.", labels=("check",))
        for name, holds in self._health.check().items():
            ready.add_metric((name,), holds)
        yield ready
        up = GaugeMetricFamily("recado_worker_up", "Whether a process answers the others behind its port.")
        up.add_metric((), 1)
        yield up


class _Labelled(Collector):
    """The families of a registry, each sample with the worker's number; lives while they are written."""

    def __init__(self, registry: CollectorRegistry, worker: str) -> None:
        self._registry = registry
        self._worker = {"worker": worker}

    def collect(self) -> Iterator[Family]:
        """From prometheus-client."""
        for family in self._registry.collect():
            family.samples = [one._replace(labels=self._worker | dict(one.labels)) for one in family.samples]
            yield family


def _name_in_text(family: Family) -> str:
    return f"{family.name}_total" if family.type == "counter" else family.name
