"""Spans reach a collector; one that is away or slow costs a bounded queue, one line, and no time of the node."""

from __future__ import annotations

import socket
import time
from collections.abc import Iterator
from functools import partial

import pytest
from structlog.testing import capture_logs

from app.config.settings import Config
from app.tracing.context import TraceContext
from app.tracing.counts import EXPORTED, NOT_EXPORTED, QUEUE_FULL, TracingCounts
from app.tracing.export import MAX_ATTRIBUTE, SdkSpans
from app.tracing.spans import Begin
from tests.support.otlp import Collector, running_collector
from tests.support.waiting import eventually

_PARENT = TraceContext("4bf92f3577b34da6a3ce929d0e0e4736", "00f067aa0ba902b7", True, "a=1")
_SECRET = "a-secret-of-the-test"


@pytest.fixture(scope="module")
def shared_collector() -> Iterator[Collector]:
    """A collector."""
    with running_collector() as collector:
        yield collector


@pytest.fixture
def collector(shared_collector: Collector) -> Collector:
    """The collector, emptied."""
    shared_collector.status = 200
    shared_collector.spans.clear()
    shared_collector.requests.clear()
    return shared_collector


@pytest.fixture
def silent_url() -> Iterator[str]:
    """The URL of a collector that takes connections and never answers."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        yield f"http://127.0.0.1:{listener.getsockname()[1]}/v1/traces?key={_SECRET}"


def settings(url: str, queue: int = 10_000, timeout: float = 10.0) -> Config:
    """Settings with this collector."""
    headers = {"Authorization": f"Bearer {_SECRET}"}
    return Config(trace_endpoint=url, trace_headers=headers, trace_queue=queue, trace_timeout_seconds=timeout)


def _has(counts: TracingCounts, result: str, number: int) -> bool:
    return counts.spans[result] == number


def end_one(spans: SdkSpans, name: str = "one", parent: TraceContext | None = None) -> TraceContext:
    """Begin and end a span."""
    span = spans.begin(Begin(name, "producer", 2_000_000_000, parent, {"text": "x" * 1_000}))
    span.end(1_000_000_000, {"recado.acked": True}, "timed out")
    return span.context


async def test_a_span_reaches_the_collector(collector: Collector) -> None:
    """A span has its parent and its state, an end that is not before its begin, cut texts, and its error."""
    counts = TracingCounts()
    spans = SdkSpans(settings(collector.url), "node-1", counts)
    context = end_one(spans, parent=_PARENT)
    assert (context.trace_id, context.state) == (_PARENT.trace_id, "a=1")
    await spans.close()
    [span] = collector.spans
    assert (span.trace_id, span.parent_id, span.state) == (_PARENT.trace_id, _PARENT.span_id, "a=1")
    assert (span.span_id, span.name, span.is_failed) == (context.span_id, "one", True)
    assert span.began_ns == span.ended_ns == 2_000_000_000
    assert len(span.attributes["text"]) == MAX_ATTRIBUTE
    assert span.attributes["error.type"] == "timed out"
    assert (span.resource["service.name"], span.resource["service.instance.id"]) == ("recado", "node-1")
    assert counts.spans[EXPORTED] == 1
    assert collector.requests[0]["authorization"] == f"Bearer {_SECRET}"


async def test_half_a_surrogate_pair(collector: Collector) -> None:
    """A name that no UTF-8 can hold is replaced; the spans beside it arrive."""
    spans = SdkSpans(settings(collector.url), "node-1", TracingCounts())
    spans.begin(Begin("send \ud83d", "producer", 1, None, {"recado.event": "a\udc00b"})).end(2, {"more": "\ud800"})
    end_one(spans)
    await spans.close()
    assert {one.name for one in collector.spans} == {"send ?", "one"}
    [span] = [one for one in collector.spans if one.name == "send ?"]
    assert (span.attributes["recado.event"], span.attributes["more"]) == ("a?b", "?")


async def test_spans_go_while_the_node_serves(collector: Collector) -> None:
    """A batch goes by itself within a second or so."""
    spans = SdkSpans(settings(collector.url), "node-1", TracingCounts())
    end_one(spans)
    eventually(lambda: collector.spans, "the span", 30, 0.05)
    await spans.close()


async def test_a_collector_that_does_not_answer(silent_url: str) -> None:
    """The queue has a bound, whose drops are counted; the end of the node takes a few seconds; no line has a secret."""
    counts = TracingCounts()
    with capture_logs() as lines:
        spans = SdkSpans(settings(silent_url, queue=100, timeout=60.0), "node-1", counts)
        end_one(spans)
        eventually(lambda: not spans._queue._waiting, "the first batch to be on its way", 30, 0.01)
        for _ in range(150):
            end_one(spans)
        assert counts.spans[QUEUE_FULL] == 50
        assert len(spans._queue._waiting) == 100
        began = time.monotonic()
        await spans.close()
        assert time.monotonic() - began < 20
    assert [line["event"] for line in lines if line["event"] != "spans not exported"] == ["spans lost at the end"]
    assert _SECRET not in str(lines)


async def test_a_collector_that_is_away_and_comes_back(collector: Collector) -> None:
    """A failure is one line, whatever the number of batches, and so is its end. Spans that were not sent count."""
    counts = TracingCounts()
    with capture_logs() as lines:
        spans = SdkSpans(settings(collector.url), "node-1", counts)
        collector.status = 400
        for failures in range(1, 4):
            end_one(spans)
            eventually(partial(_has, counts, NOT_EXPORTED, failures), "a failure", 30, 0.01)
        collector.status = 200
        end_one(spans, "two")
        eventually(lambda: counts.spans[EXPORTED] == 1, "the success", 30, 0.01)
        await spans.close()
    assert [one.name for one in collector.spans] == ["two"]
    assert [(line["event"], line.get("reason")) for line in lines] == [
        ("spans not exported", "status 400"),
        ("spans exported again", None),
    ]


async def test_a_redirect_is_no_success(collector: Collector) -> None:
    """A collector that answers with a redirect has not taken the spans, and nothing goes elsewhere."""
    counts = TracingCounts()
    spans = SdkSpans(settings(collector.url), "node-1", counts)
    collector.status = 302
    end_one(spans)
    eventually(partial(_has, counts, NOT_EXPORTED, 1), "the failure", 30, 0.01)
    await spans.close()
    assert len(collector.requests) == 1


async def test_nothing_listens() -> None:
    """A port on which nobody listens is a failure by its class, without the URL, which may hold a secret."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        url = f"http://127.0.0.1:{listener.getsockname()[1]}/v1/traces?key={_SECRET}"
    counts = TracingCounts()
    with capture_logs() as lines:
        spans = SdkSpans(settings(url, timeout=0.2), "node-1", counts)
        end_one(spans)
        eventually(lambda: counts.spans[NOT_EXPORTED] == 1, "the failure", 30, 0.01)
        await spans.close()
    assert [(line["event"], line.get("reason")) for line in lines][:1] == [("spans not exported", "ConnectionError")]
    assert _SECRET not in str(lines)


async def test_the_thread_ends(collector: Collector) -> None:
    """Behind the end the thread is gone, and a second end does nothing."""
    spans = SdkSpans(settings(collector.url), "node-1", TracingCounts())
    await spans.close()
    await spans.close()
    assert not spans._queue._thread.is_alive()
