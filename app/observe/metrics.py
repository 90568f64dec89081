"""The figures of a node as Prometheus reads them: one table of metrics, read from `counts` at the moment of asking.

The only module that knows prometheus-client. Every metric is explained in docs/metrics.md, which a test holds us to.
"""

from collections.abc import Callable, Iterable, Iterator
from itertools import accumulate
from typing import Any, TypeAlias

from msgspec import Struct
from prometheus_client import CollectorRegistry, ProcessCollector, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily
from prometheus_client.metrics_core import Metric as Family
from prometheus_client.registry import Collector
from prometheus_client.utils import floatToGoString

from app.observe.counts import BOUNDS_SECONDS, Counts, Durations, QueueSample, RedisPublishCounts, SiteCounts
from app.observe.health import Health

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"

_BOUNDS = [*map(floatToGoString, BOUNDS_SECONDS), "+Inf"]

#: The values of the labels, and what was counted.
_Samples: TypeAlias = Iterator[tuple[tuple[str, ...], Any]]


class _Counter(CounterMetricFamily):
    """Grows."""


class _Gauge(GaugeMetricFamily):
    """Is now."""


class _Histogram(HistogramMetricFamily):
    """How often how long."""

    def add_metric(self, labels: Iterable[str], value: Durations) -> None:  # type: ignore[override]
        """Takes our durations; Prometheus's buckets hold the shorter ones too."""
        buckets = list(zip(_BOUNDS, accumulate(value.buckets), strict=True))
        super().add_metric(list(labels), buckets, value.total_seconds)


class Metric(Struct, frozen=True):
    """One metric: how it is called, what it means, and where its samples come from."""

    family: type[_Counter] | type[_Gauge] | type[_Histogram]
    name: str
    help: str
    labels: tuple[str, ...]
    read: Callable[[Counts], _Samples]


def _of_node(read: Callable[[Counts], float | Durations]) -> Callable[[Counts], _Samples]:
    return lambda counts: iter([((), read(counts))])


def _of_each(read: Callable[[Counts], dict[str, Any]]) -> Callable[[Counts], _Samples]:
    # Copied at once, here and below: this is not the thread that adds.
    return lambda counts: (((value,), count) for value, count in list(read(counts).items()))


def _of_site(read: Callable[[SiteCounts], float | Durations]) -> Callable[[Counts], _Samples]:
    return lambda counts: (((name,), read(site)) for name, site in list(counts.sites.items()))


def _of_site_and(read: Callable[[SiteCounts], dict[str, int]]) -> Callable[[Counts], _Samples]:
    return lambda counts: (
        ((name, value), count) for name, site in list(counts.sites.items()) for value, count in list(read(site).items())
    )


def _of_publish(read: Callable[[RedisPublishCounts], float]) -> Callable[[Counts], _Samples]:
    return _of_site(lambda site: read(site.redis_publish))


def _of_publish_and(read: Callable[[RedisPublishCounts], dict[str, int]]) -> Callable[[Counts], _Samples]:
    return _of_site_and(lambda site: read(site.redis_publish))


def _of_sample(read: Callable[[QueueSample], float]) -> Callable[[Counts], _Samples]:
    return lambda counts: (
        ((name,), read(site.queues)) for name, site in list(counts.sites.items()) if site.queues is not None
    )


_SITE = ("site",)
_BY_RESULT = ("site", "result")
_BY_REASON = ("site", "reason")

METRICS = (
    # Who is here
    Metric(_Gauge, "recado_sessions", "Engine.IO sessions on this node.", (), _of_node(lambda c: c.sessions())),
    Metric(_Gauge, "recado_connections", "Connections in a site.", _SITE, _of_site(lambda s: s.connections)),
    Metric(_Counter, "recado_connects", "Attempts to join a site.", _BY_RESULT, _of_site_and(lambda s: s.connects)),
    Metric(_Counter, "recado_closes", "Connections that ended.", _BY_REASON, _of_site_and(lambda s: s.closes)),
    Metric(
        _Counter,
        "recado_transport_closings",
        "Sockets that the transport gave up.",
        ("reason",),
        _of_each(lambda c: c.transport_closings),
    ),
    Metric(
        _Counter,
        "recado_passed_requests",
        "Requests for sessions of other nodes.",
        ("result",),
        _of_each(lambda c: c.passed_requests),
    ),
    # Sending
    Metric(
        _Counter, "recado_sends", "Requests to /send with a site's key.", _BY_RESULT, _of_site_and(lambda s: s.sends)
    ),
    Metric(
        _Counter,
        "recado_sends_unauthorized",
        "Requests to /send without a known site and its key.",
        (),
        _of_node(lambda c: c.sends_unauthorized),
    ),
    Metric(_Counter, "recado_stored", "Entries put in devices' queues.", _SITE, _of_site(lambda s: s.stored)),
    Metric(_Counter, "recado_queue_overflows", "Queues dropped for length.", _SITE, _of_site(lambda s: s.overflows)),
    Metric(
        _Counter,
        "recado_limited",
        "Refused because of a limit of the site.",
        ("site", "limit"),
        _of_site_and(lambda s: s.limited),
    ),
    Metric(_Counter, "recado_nodes_told", "Nodes handed a message.", _SITE, _of_site(lambda s: s.nodes_told)),
    # Delivering
    Metric(_Counter, "recado_bus_messages", "Messages heard on the bus.", _SITE, _of_site(lambda s: s.bus_messages)),
    Metric(_Counter, "recado_deliveries", "Live messages by device.", _SITE, _of_site(lambda s: s.deliveries)),
    Metric(_Counter, "recado_acks", "Acks applied.", _SITE, _of_site(lambda s: s.acks)),
    Metric(_Counter, "recado_acks_dropped", "Acks given up.", _SITE, _of_site(lambda s: s.acks_dropped)),
    Metric(_Counter, "recado_batches", "Batches written.", _SITE, _of_site(lambda s: s.batches)),
    Metric(_Counter, "recado_replayed", "Messages in batches.", _SITE, _of_site(lambda s: s.batched)),
    Metric(_Counter, "recado_refilled", "Messages written to fill a gap.", _SITE, _of_site(lambda s: s.refilled)),
    Metric(_Counter, "recado_resyncs", "Resyncs sent.", _BY_REASON, _of_site_and(lambda s: s.resyncs)),
    # What waits
    Metric(_Gauge, "recado_devices", "Devices in Redis.", _SITE, _of_sample(lambda q: q.devices)),
    Metric(
        _Gauge,
        "recado_queue_messages_mean",
        "Messages waiting for a device, of a sample.",
        _SITE,
        _of_sample(lambda q: q.messages / q.sampled if q.sampled else 0),
    ),
    Metric(
        _Gauge, "recado_queue_messages_max", "The longest queue of a sample.", _SITE, _of_sample(lambda q: q.longest)
    ),
    Metric(
        _Gauge,
        "recado_queue_age_seconds_max",
        "The oldest message waiting in a sample.",
        _SITE,
        _of_sample(lambda q: q.oldest_seconds),
    ),
    # Sites' backends
    Metric(_Counter, "recado_auths", "Answers of authUrl.", _BY_RESULT, _of_site_and(lambda s: s.auths)),
    Metric(_Histogram, "recado_auth_seconds", "Time of authUrl.", _SITE, _of_site(lambda s: s.auth_seconds)),
    Metric(_Gauge, "recado_auths_waiting", "Waiting to be asked about.", _SITE, _of_site(lambda s: s.auths_waiting)),
    Metric(
        _Histogram,
        "recado_auth_wait_seconds",
        "Time until authUrl was asked, of those who had to wait.",
        _SITE,
        _of_site(lambda s: s.auth_wait_seconds),
    ),
    Metric(
        _Gauge,
        "recado_auth_breaker",
        "Whether authUrl is asked: 0 yes, 1 to see whether it answers again, 2 no.",
        _SITE,
        _of_site(lambda s: s.auth_breaker),
    ),
    Metric(_Counter, "recado_tickets", "Resume tickets.", _BY_RESULT, _of_site_and(lambda s: s.tickets)),
    Metric(
        _Counter,
        "recado_user_updates",
        "Requests to updateUserUrl.",
        _BY_RESULT,
        _of_site_and(lambda s: s.user_updates),
    ),
    # Redis PUBLISH
    Metric(
        _Gauge,
        "recado_publish_lease",
        "1 while this node owns the subscription.",
        _SITE,
        _of_publish(lambda p: p.holds_lease),
    ),
    Metric(
        _Counter, "recado_publish_lease_gaps", "Leases that nobody held.", _SITE, _of_publish(lambda p: p.lease_gaps)
    ),
    Metric(
        _Counter,
        "recado_publish_lease_gap_seconds",
        "For how long nobody held them.",
        _SITE,
        _of_publish(lambda p: p.lease_gap_seconds),
    ),
    Metric(
        _Counter,
        "recado_publish_received",
        "Messages from applications.",
        ("site", "form"),
        _of_publish_and(lambda p: p.received),
    ),
    Metric(
        _Counter,
        "recado_publish_claimed",
        "Entries taken over from another node.",
        _SITE,
        _of_publish(lambda p: p.claimed),
    ),
    Metric(
        _Counter,
        "recado_publish_outcomes",
        "What became of messages, by user.",
        _BY_RESULT,
        _of_publish_and(lambda p: p.outcomes),
    ),
    Metric(
        _Counter,
        "recado_publish_identifications",
        "What clients said they were.",
        _BY_RESULT,
        _of_publish_and(lambda p: p.identifications),
    ),
    Metric(_Counter, "recado_publish_gaps", "Mailboxes read anew.", _SITE, _of_publish(lambda p: p.gaps)),
    # Channels
    Metric(
        _Counter,
        "recado_channel_requests",
        "Requests of channels' publishers.",
        _BY_RESULT,
        _of_site_and(lambda s: s.channel_requests),
    ),
    Metric(
        _Counter,
        "recado_channel_resumes",
        "Subscribers that came back.",
        _BY_RESULT,
        _of_site_and(lambda s: s.channel_resumes),
    ),
    Metric(_Counter, "recado_channel_replayed", "Pushes replayed.", _SITE, _of_site(lambda s: s.channel_replayed)),
    # Topics
    Metric(_Gauge, "recado_streams", "Streams of topics.", _SITE, _of_site(lambda s: s.streams)),
    Metric(_Counter, "recado_stream_ends", "Streams that ended.", _BY_REASON, _of_site_and(lambda s: s.stream_ends)),
    Metric(_Counter, "recado_topic_events", "Events emitted.", _BY_RESULT, _of_site_and(lambda s: s.topic_events)),
    Metric(_Counter, "recado_topic_deliveries", "Events written.", _SITE, _of_site(lambda s: s.topic_deliveries)),
    Metric(_Counter, "recado_bind_keys", "Bind keys.", _BY_RESULT, _of_site_and(lambda s: s.bind_keys)),
    # Redis and the bus
    Metric(_Histogram, "recado_redis_seconds", "Time of a script.", ("script",), _of_each(lambda c: c.redis_seconds)),
    Metric(
        _Counter, "recado_redis_errors", "Errors that Redis answered.", ("kind",), _of_each(lambda c: c.redis_errors)
    ),
    Metric(_Counter, "recado_redis_losses", "Links to Redis that broke.", (), _of_node(lambda c: c.redis_losses)),
    Metric(_Counter, "recado_bus_gaps", "Gaps found on the bus.", _SITE, _of_site(lambda s: s.bus_gaps)),
    Metric(
        _Counter,
        "recado_bus_interruptions",
        "Subscriptions made anew.",
        (),
        _of_node(lambda c: c.bus_interruptions),
    ),
    Metric(_Histogram, "recado_bus_probe_seconds", "Time of the bus probe.", (), _of_node(lambda c: c.probe_seconds)),
    # This process
    Metric(
        _Histogram,
        "recado_loop_lag_seconds",
        "How late a timer of the event loop was.",
        (),
        _of_node(lambda c: c.loop_lag_seconds),
    ),
)


class Metrics(Collector):
    """The metrics of one node. Lives as long as the node."""

    def __init__(self, counts: Counts, health: Health, node: str, version: str, worker: str | None = None) -> None:
        """`node` and `version` say whose figures these are; with a `worker` every sample has it for a label."""
        self._counts = counts
        self._health = health
        self._info = (node, version)
        self._registry = CollectorRegistry()
        self._worker = worker
        self._registry.register(self)
        ProcessCollector(registry=self._registry)

    def render(self) -> bytes:
        """Everything in Prometheus's text format; may be called from any thread."""
        return generate_latest(self._registry if self._worker is None else _Labelled(self._registry, self._worker))

    def names(self) -> set[str]:
        """What every metric is called in the text, process metrics among them."""
        return {_name_in_text(family) for family in self._registry.collect()}

    def collect(self) -> Iterator[Family]:
        """From prometheus-client: every family, those without samples too."""
        for metric in METRICS:
            family: Any = metric.family(metric.name, metric.help, labels=metric.labels)
            for labels, value in metric.read(self._counts):
                family.add_metric(labels, value)
            yield family
        info = GaugeMetricFamily("recado_node_info", "1, with who this is.", labels=("node", "version"))
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
