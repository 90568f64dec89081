"""The spans of one node: one a message, a bounded number of devices, and an end whatever the devices do."""

from __future__ import annotations

import pytest

from app.core.ports import AckGroup
from app.tracing.arrivals import MOST_ARRIVALS, MOST_DEVICE_SPANS, MOST_OPEN, PATIENCE_SECONDS, Arrivals, HandedOn
from app.tracing.context import Announcement, TraceContext
from app.tracing.known import KnownTrace, KnownTraces
from tests.support.spans import KeptSpans

_CONTEXT = TraceContext("1" * 32, "2" * 16)
_NS = 1_000_000


class Ground:
    """Arrivals with their spans. Lives for the test."""

    def __init__(self) -> None:
        """Without any message."""
        self.spans = KeptSpans()
        self.known = KnownTraces()
        self.arrivals = Arrivals(self.spans, self.known)

    def message(self, id: str = "1") -> KnownTrace:
        """A message that was announced."""
        self.known.add(Announcement("shop", id, _CONTEXT))
        found = self.known.of_id("shop", id)
        assert found is not None
        return found

    def hear(self, known: KnownTrace, seq: int, devices: int | None, now: float = 0.0) -> None:
        """The node hears it for so many devices, of which the first is not written to."""
        handles = [b"%d" % number for number in range(devices or 0)]
        sample = [(handle, number > 0) for number, handle in enumerate(handles[:MOST_DEVICE_SPANS])]
        self.arrivals.heard(known, HandedOn(seq, devices, sample, 1 * _NS, 2 * _NS), now)

    def ack(self, seq: int, *handles: int, is_batch: bool = False, written_ms: int = 0) -> None:
        """Devices acknowledge."""
        group = AckGroup(is_batch, seq, [b"%d" % handle for handle in handles], written_ms, 5)
        self.arrivals.acked("shop", [group], 6 * _NS)


@pytest.fixture
def ground() -> Ground:
    """Arrivals."""
    return Ground()


def test_a_message_ends_with_its_last_ack(ground: Ground) -> None:
    """Each device of the sample has a span from the write to the ack; that of the message ends with the last one."""
    ground.hear(ground.message(), 7, 2)
    assert ground.spans.open == ["deliver shop", "device", "device"]
    ground.ack(7, 1)
    assert ground.spans.open == ["deliver shop", "device"]
    ground.ack(7, 0)
    assert ground.spans.open == []
    [message] = ground.spans.named("deliver shop")
    assert message.begun.parent == _CONTEXT
    assert (message.attributes["recado.devices"], message.attributes["recado.acks"]) == (2, 2)
    devices = ground.spans.named("device")
    assert [one.attributes["recado.written"] for one in devices] == [False, True]
    assert {one.begun.parent for one in devices} == {message.context}
    assert {(one.begun.at_ns, one.ended_ns) for one in devices} == {(2 * _NS, 5 * _NS)}
    assert ground.arrivals.is_empty


def test_spans_do_not_grow_with_the_devices(ground: Ground) -> None:
    """A message to 50,000 devices, told in parts, has as many spans as one to a few."""
    known = ground.message()
    for _ in range(50):
        ground.hear(known, 7, 1_000)
    assert ground.spans.counted() == {"deliver shop": 1, "device": MOST_DEVICE_SPANS}
    for _ in range(50):
        ground.ack(7, *range(1_000))
    assert ground.spans.open == []
    assert ground.spans.named("deliver shop")[0].attributes["recado.devices"] == 50_000


def test_parts_that_end_by_themselves_are_few(ground: Ground) -> None:
    """A part whose acks are all here before the next part has a span of its own, and so have some more."""
    known = ground.message()
    for _ in range(50):
        ground.hear(known, 7, 2)
        ground.ack(7, 0, 1)
    assert ground.spans.counted() == {"deliver shop": MOST_ARRIVALS, "device": 2 * MOST_ARRIVALS, "replay shop": 10}
    assert ground.spans.open == []


def test_a_message_that_no_queue_holds(ground: Ground) -> None:
    """A message that has only dropped queues waits for no ack."""
    ground.hear(ground.message(), 7, 0)
    assert (ground.spans.counted(), ground.spans.open) == ({"deliver shop": 1}, [])


def test_a_message_without_queues_ends_at_once(ground: Ground) -> None:
    """Listeners without a queue send no acks: nothing waits."""
    ground.hear(ground.message(), 7, None)
    assert ground.spans.counted() == {"deliver shop": 1}
    assert (ground.spans.open, ground.arrivals.is_empty) == ([], True)


def test_a_device_that_is_silent(ground: Ground) -> None:
    """After its time a span ends without the acks, which its attributes say; nothing waits for ever."""
    ground.hear(ground.message(), 7, 2, now=100.0)
    ground.ack(7, 1)
    assert ground.arrivals.end_due(100.0, 9 * _NS) == 100.0 + PATIENCE_SECONDS
    assert ground.arrivals.end_due(100.0 + PATIENCE_SECONDS, 9 * _NS) is None
    assert ground.spans.open == []
    assert ground.spans.named("deliver shop")[0].attributes["recado.acks"] == 1
    assert [one.attributes["recado.acked"] for one in ground.spans.named("device")] == [False, True]


def test_late_acks_are_few(ground: Ground) -> None:
    """An ack of a later connection is a span of the message's trace; a bounded number of them."""
    known = ground.message()
    ground.known.note_seq(known, 7)
    for device in range(3 * MOST_DEVICE_SPANS):
        ground.ack(7, device, is_batch=True, written_ms=3)
    replays = ground.spans.named("replay shop")
    assert len(replays) == MOST_DEVICE_SPANS
    assert replays[0].begun.parent == _CONTEXT
    assert (replays[0].begun.at_ns, replays[0].ended_ns) == (3 * _NS, 5 * _NS)
    assert replays[0].attributes["recado.batch"] is True


def test_acks_of_other_messages(ground: Ground) -> None:
    """Messages that are not traced leave nothing."""
    ground.ack(8, 1)
    assert ground.spans.all == []


def test_open_messages_are_bounded(ground: Ground) -> None:
    """Past the bound the oldest ends; at the end of the node all do."""
    for number in range(1, MOST_OPEN + 3):
        ground.hear(ground.message(str(number)), number, 1)
    assert ground.spans.open.count("deliver shop") == MOST_OPEN
    ground.arrivals.end_all(9 * _NS)
    assert ground.spans.open == []
