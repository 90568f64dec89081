"""The figures of several workers in one text."""

from __future__ import annotations

from collections.abc import Mapping

from prometheus_client.parser import text_string_to_metric_families

from app.observe.counts import Counts
from app.observe.fleet import Fleet, merge
from app.observe.health import Health
from app.observe.metrics import Metrics, NodeInfo
from app.protocols.sites.figures import METRICS, SitesCounts


def metrics(worker: int, sends: int) -> Metrics:
    """The figures of a worker that has accepted this many messages."""
    counts = Counts(["shop"])
    counts.of("shop").part(SitesCounts).sends["stored"] = sends
    return Metrics(METRICS, counts, Health({"redis": lambda: True}), NodeInfo(f"node{worker}", "1.2"), str(worker))


def values(text: bytes, name: str) -> Mapping[str, float]:
    """The samples of a metric, by worker."""
    families = list(text_string_to_metric_families(text.decode()))
    assert len(families) == len({family.name for family in families}), "a metric stands in two places"
    return {one.labels["worker"]: one.value for family in families for one in family.samples if one.name == name}


def lines(text: bytes) -> set[bytes]:
    """All lines except the figures of the process, which change at any moment."""
    return {line for line in text.splitlines() if not line.startswith(b"process_")}


async def test_all_answer() -> None:
    """Every worker answers with all samples of all workers, each with its worker's number, in their order."""
    workers = [metrics(number, 10 * number) for number in range(3)]

    async def fetch(number: int) -> bytes | None:
        assert number != 1
        return workers[number].render()

    text = await Fleet(workers[1], 1, lambda: range(3), fetch).render()
    assert values(text, "recado_sends_total") == {"0": 0.0, "1": 10.0, "2": 20.0}
    assert list(values(text, "recado_worker_up")) == ["0", "1", "2"]
    assert set(values(text, "process_open_fds")) == {"0", "1", "2"}
    assert lines(text) == set.union(*(lines(one.render()) for one in workers))


async def test_one_is_silent() -> None:
    """A worker that does not answer is shown as not up, and has no other sample."""

    async def fetch(number: int) -> bytes | None:
        return None

    text = await Fleet(metrics(1, 5), 1, lambda: range(3), fetch).render()
    assert values(text, "recado_worker_up") == {"0": 0.0, "1": 1.0, "2": 0.0}
    assert values(text, "recado_sends_total") == {"1": 5.0}


def test_a_metric_of_one_worker_alone() -> None:
    """A metric that one worker alone has is kept, as with two versions side by side."""
    up = b'# HELP recado_worker_up u\n# TYPE recado_worker_up gauge\nrecado_worker_up{worker="%d"} 1.0\n'
    new = b"# HELP new n\n# TYPE new gauge\nnew 1.0\n"
    assert merge([up % 0, up % 1 + new]) == up % 0 + b'recado_worker_up{worker="1"} 1.0\n' + new
