"""Every metric is explained, every explanation has its metric, the dashboard uses existing metrics, labels are few."""

import json
import re
from collections import Counter
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from prometheus_client.parser import text_string_to_metric_families

from app.backends import figures as backend_figures
from app.backends.figures import BackendCounts
from app.canary import figures as canary_figures
from app.canary.record import CanaryRecord
from app.journal import figures as journal_figures
from app.journal.figures import JournalCounts
from app.node import tls_figures
from app.node.certificates import CertificateFacts
from app.node.tls_figures import TlsFigures
from app.observe import figures
from app.observe.counts import BOUNDS_SECONDS, Counts, QueueSample
from app.observe.health import Health
from app.observe.metrics import Metrics, NodeInfo
from app.protocols.channels.figures import ChannelsCounts
from app.protocols.listed import PROTOCOLS
from app.protocols.messenger.figures import MessengerCounts
from app.protocols.messenger.files.figures import FilesCounts
from app.protocols.receipts.figures import ReceiptsCounts
from app.protocols.redis_publish.figures import RedisPublishCounts
from app.protocols.sites.figures import SitesCounts
from app.protocols.topics.figures import TopicsCounts
from app.tracing import figures as tracing_figures
from app.transport import refusals
from app.webhooks.figures import WebhookCounts
from app.webhooks.protocol import WEBHOOKS

DOCS = Path(__file__).parents[2] / "docs"
#: Every metric of a node.
LISTED = [
    *figures.METRICS,
    *backend_figures.METRICS,
    *journal_figures.METRICS,
    *canary_figures.METRICS,
    *tls_figures.METRICS,
    *tracing_figures.METRICS,
    *(metric for spec in (*PROTOCOLS, WEBHOOKS) for metric in spec.metrics),
]
DASHBOARD = json.loads((DOCS / "grafana-dashboard.json").read_text())
_ROW = re.compile(r"\| `((?:recado|process)_\w+)` \| (\w+) \| ([^|]*)\| ([^|]+)\|")
_METRIC = re.compile(r"\b(?:recado|process)_\w+")
#: The endings that Prometheus gives the name of a histogram.
_PARTS = re.compile(r"_(bucket|sum|count)$")


def filled() -> Counts:
    """Counts in which every event has happened once, in two sites."""
    counts = Counts(["shop", "news"])
    counts.transport_closings["outbox full"] += 1
    counts.refused["head too large"] += 1
    counts.passed_requests["passed on"] += 1
    counts.sessions = lambda: 5
    counts.redis_answered("send", 0.002)
    counts.redis_errors["OOM"] += 1
    counts.faults["bus"] += 1
    counts.probe_seconds.observe(0.0001)
    counts.loop_lag_seconds.observe(0.03)
    counts.records.dropped["log"] += 1
    tls = counts.part(TlsFigures)
    tls.certificate = CertificateFacts("CN=a", "CN=b", (), datetime(2020, 1, 1, tzinfo=UTC), datetime.now(UTC))
    tls.handshakes = lambda: 3
    counts.part(JournalCounts).dropped["full"] += 1
    counts.part(CanaryRecord).note_delivered(0.004)
    for site in counts.sites.values():
        kinds = (BackendCounts, SitesCounts, ChannelsCounts, TopicsCounts, RedisPublishCounts, WebhookCounts)
        parts: list[Any] = [site, *(site.part(kind) for kind in (*kinds, ReceiptsCounts, MessengerCounts, FilesCounts))]
        for part in parts:
            for name in part.__slots__:
                if isinstance(numbers := getattr(part, name), Counter):
                    numbers["some"] += 1
        site.part(BackendCounts).auth_seconds.observe(9)
        site.queues = QueueSample(40, 20, 30, 7, 1.5)
    return counts


def test_reasons_of_refusals_are_documented() -> None:
    """The row of `recado_refused_total` names all reasons, and no others."""
    [row] = [line for line in (DOCS / "metrics.md").read_text().splitlines() if "`recado_refused_total`" in line]
    reasons = {value for name, value in vars(refusals).items() if name.isupper()}
    described = re.sub(r"\([^()]*\)", "", re.sub(r"\[[^]]*\]\([^)]*\)", "", row.split("|")[4]))
    assert set(re.findall(r"`([^`]+)`", described)) == reasons


def metrics(counts: Counts) -> Metrics:
    """The metrics of a node called n1."""
    return Metrics(LISTED, counts, Health({"redis": lambda: True}), NodeInfo("n1", "1.2"))


@pytest.fixture(scope="module")
def families() -> dict[str, Any]:
    """The families that Prometheus reads from a node on which every event has happened, by the name in the text."""
    text = metrics(filled()).render().decode()
    parsed = list(text_string_to_metric_families(text))
    return {f"{one.name}_total" if one.type == "counter" else one.name: one for one in parsed}


def documented() -> dict[str, tuple[str, str]]:
    """The type and the labels of every metric that docs/metrics.md explains."""
    rows = _ROW.findall((DOCS / "metrics.md").read_text())
    assert len(rows) == len({row[0] for row in rows}), "explained twice"
    return {name: (kind, labels.strip()) for name, kind, labels, _ in rows}


def test_every_metric_is_documented(families: dict[str, Any]) -> None:
    """docs/metrics.md explains each metric, and no other, with its type and its labels."""
    found = {}
    for name, family in families.items():
        labels = {label for sample in family.samples for label in sample.labels} - {"le"}
        order = [*(label for label in ("site", "script", "check", "node", "version") if label in labels)]
        order += sorted(labels - set(order))
        found[name] = (family.type, ", ".join(f"`{label}`" for label in order))
    assert documented() == found


def test_metrics_are_there_before_anything_happens() -> None:
    """A node that has just started has every metric: the absence of one does not mean that all is well."""
    assert metrics(Counts()).names() == set(documented())


def test_dashboard_asks_for_metrics_that_exist() -> None:
    """Every expression and variable of the Grafana dashboard names existing metrics; every metric has its panel."""
    targets = [target["expr"] for panel in DASHBOARD["panels"] for target in panel.get("targets", [])]
    variables = [one.get("definition", "") for one in DASHBOARD["templating"]["list"]]
    names = {_PARTS.sub("", name) for text in targets + variables for name in _METRIC.findall(text)}
    assert names <= set(documented())
    assert set(documented()) - names == {"process_virtual_memory_bytes"}


def test_dashboard_leaves_the_data_source_open() -> None:
    """The dashboard can be imported anywhere: each panel takes the data source from a variable."""
    assert DASHBOARD["templating"]["list"][0]["type"] == "datasource"
    panels = [panel for panel in DASHBOARD["panels"] if panel["type"] != "row"]
    sources = [one["datasource"]["uid"] for panel in panels for one in (panel, *panel["targets"])]
    assert set(sources) == {"${datasource}"}


def test_labels_are_bounded_by_the_configuration(families: dict[str, Any]) -> None:
    """The labels bound the number of a metric's series: no user can add one."""
    labels = {label for family in families.values() for sample in family.samples for label in sample.labels}
    assert labels == {
        "site",
        "reason",
        "result",
        "form",
        "limit",
        "kind",
        "script",
        "check",
        "direction",
        "place",
        "table",
    } | {
        "node",
        "version",
        "le",
    }


def test_histogram_adds_up(families: dict[str, Any]) -> None:
    """Prometheus's buckets are cumulative: the last one holds all durations."""
    samples = [sample for sample in families["recado_loop_lag_seconds"].samples if sample.name.endswith("_bucket")]
    assert [sample.value for sample in samples] == [0.0] * 6 + [1.0] * (len(BOUNDS_SECONDS) + 1 - 6)
    late = [one for one in families["recado_auth_seconds"].samples if one.labels == {"site": "shop", "le": "5.0"}]
    assert [sample.value for sample in late] == [0.0]


def test_values_are_those_counted(families: dict[str, Any]) -> None:
    """Gauges, counters and samples show the numbers of the counts."""

    def value(name: str, **labels: str) -> float:
        [sample] = [sample for sample in families[name].samples if sample.labels == labels]
        return float(sample.value)

    assert value("recado_sessions") == 5
    assert value("recado_resyncs_total", site="news", reason="some") == 1
    assert value("recado_queue_messages_mean", site="shop") == 1.5
    assert value("recado_queue_age_seconds_max", site="shop") == 1.5
    assert value("recado_ready", check="accepting") == 1
    assert value("recado_node_info", node="n1", version="1.2") == 1


def test_rendering_meets_new_labels() -> None:
    """A scrape in its thread succeeds while the loop adds a site or a reason."""
    counts = filled()
    shown = metrics(counts).collect()
    next(shown)
    counts.of("new").closes["other"] += 1
    counts.sites["shop"].connects["other"] += 1
    assert len(list(shown)) > 20
