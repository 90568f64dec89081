"""Messages are traced as their caller says, or by chance, and no more than the rate admits."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from app.tracing.counts import OVER_RATE, TracingCounts
from app.tracing.send_request import SendRequest, current_request
from app.tracing.sends import MOST_TRACED, MOST_TRACED_OF_SITE, SendTraces, TraceRate
from tests.support.spans import KeptSpans

_PARENT = b"00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-"


@pytest.fixture
def spans() -> KeptSpans:
    """The spans of the test."""
    return KeptSpans()


@pytest.fixture
def request_of(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """No request is current behind the test."""
    token = current_request.set(None)
    yield
    current_request.reset(token)


def begun(parent: bytes = b"") -> SendRequest:
    """A request that is under way."""
    request = SendRequest("/send", [(b"traceparent", parent)] if parent else [])
    current_request.set(request)
    return request


def test_a_message_of_no_request_is_not_traced(spans: KeptSpans, request_of: None) -> None:
    """A message that came by another door leaves no span."""
    assert SendTraces(1.0, spans, TracingCounts()).begin("shop", "1", {}) is None
    assert spans.all == []


@pytest.mark.parametrize(
    ("parent", "share", "is_traced"),
    [
        (b"", 1.0, True),
        (b"", 0.0, False),
        (_PARENT + b"01", 0.0, True),
        (_PARENT + b"00", 1.0, False),
        (b"nonsense", 1.0, True),
        (b"nonsense", 0.0, False),
    ],
)
def test_the_caller_decides(spans: KeptSpans, request_of: None, parent: bytes, share: float, is_traced: bool) -> None:
    """A caller's flag wins over the share; a broken header is as none."""
    request = begun(parent)
    trace = SendTraces(share, spans, TracingCounts()).begin("shop", "1", {})
    assert (trace is not None) is is_traced
    request.end(200)
    assert spans.counted() == ({"POST /send": 1, "send shop": 1} if is_traced else {})


def test_the_messages_of_a_batch_share_a_span(spans: KeptSpans, request_of: None) -> None:
    """Each message of a request has a span of its own below that of the request, which ends with the answer."""
    request = begun()
    traces = SendTraces(1.0, spans, TracingCounts())
    for id in ("1", "2"):
        trace = traces.begin("shop", id, {"recado.rooms": 1})
        assert trace is not None
        trace.end({"recado.recipients": 3})
    request.end(503)
    assert spans.counted() == {"POST /send": 1, "send shop": 2}
    [own] = spans.named("POST /send")
    assert {one.begun.parent for one in spans.named("send shop")} == {own.context}
    assert (own.attributes["http.response.status_code"], own.error) == (503, "503")
    assert spans.open == []


def test_the_rate_of_a_site(spans: KeptSpans, request_of: None) -> None:
    """Past the rate messages are not traced, and counted; another site's are."""
    rate = TraceRate()
    assert [rate.admits("shop", 1.5) for _ in range(MOST_TRACED_OF_SITE + 1)].count(True) == MOST_TRACED_OF_SITE
    assert rate.admits("news", 1.6)
    assert rate.admits("shop", 2.0)


def test_the_rate_of_a_node() -> None:
    """All sites together have a bound, too."""
    rate = TraceRate()
    assert sum(rate.admits(f"site{number}", 1.5) for number in range(2 * MOST_TRACED)) == MOST_TRACED


def test_messages_over_the_rate_are_counted(
    spans: KeptSpans, request_of: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A message over the rate is counted, and goes on without a span."""
    monkeypatch.setattr("app.tracing.sends.monotonic", lambda: 7.0)
    counts = TracingCounts()
    traces = SendTraces(1.0, spans, counts)
    begun()
    found = [traces.begin("shop", str(number), {}) for number in range(MOST_TRACED_OF_SITE + 3)]
    assert found.count(None) == counts.spans[OVER_RATE] == 3
