"""The times of written messages, and the places of devices that acknowledge them."""

from __future__ import annotations

from app.clock import now_ms
from app.core.ports import AckGroup
from app.core.written_times import MOST_REMEMBERED, PLACES_MS, WrittenTimes

HANDLES = [str(number).encode() for number in range(20)]


def places_of(group: AckGroup) -> list[int]:
    """The places in a group."""
    return [place for place in range(len(group.places) * 8) if group.places[place >> 3] >> (place & 7) & 1]


def test_places_of_a_group() -> None:
    """A group knows the places of its handles among the recipients, and when the message was written."""
    times = WrittenTimes()
    times.note(5, HANDLES)
    group = AckGroup(False, 5, [b"17", b"3", b"4"])
    assert times.mark(group) == []
    assert places_of(group) == [3, 4, 17]
    assert group.written_ms


def test_handles_without_a_place_of_their_own() -> None:
    """A handle that was no recipient, and the second ack of one, go into another group."""
    times = WrittenTimes()
    times.note(5, HANDLES)
    group = AckGroup(False, 5, [b"3", b"99", b"3", b"1"])
    assert times.mark(group) == [b"99", b"3"]
    assert (group.handles, places_of(group)) == ([b"3", b"1"], [1, 3])
    strangers = AckGroup(False, 5, [b"99", b"98"])
    assert times.mark(strangers) == []
    assert (strangers.handles, strangers.places) == ([b"99", b"98"], b"")


def test_a_single_recipient_needs_no_place() -> None:
    """The ack of a message to one device names its handle alone; one of an unknown message knows no time."""
    times = WrittenTimes()
    times.note(5, [b"1"])
    group, unknown = AckGroup(False, 5, [b"1"]), AckGroup(False, 6, [b"1"])
    assert times.mark(group) == times.mark(unknown) == []
    assert (group.places, unknown.places, unknown.written_ms) == (b"", b"", 0)
    assert times.is_empty


def test_late_acks_know_their_places() -> None:
    """A message that was reported as written keeps its places until it has landed, and its time for longer."""
    times, now = WrittenTimes(), now_ms()
    times.note(5, HANDLES)
    assert [one.seq for one in times.due(now + 1_000)] == [5]
    late, too_late = AckGroup(False, 5, [b"3", b"4"]), AckGroup(False, 5, [b"5", b"6"])
    assert times.mark(late) == []
    assert places_of(late) == [3, 4]
    assert not times.is_empty
    assert times.due(now + PLACES_MS + 1_000) == []
    assert times.is_empty
    assert times.mark(too_late) == []
    assert (too_late.places, too_late.written_ms) == (b"", late.written_ms)


def test_a_bounded_number_is_remembered() -> None:
    """Of many messages without acks the oldest are forgotten."""
    times, now = WrittenTimes(), now_ms()
    for seq in range(1, MOST_REMEMBERED + 3):
        times.note(seq, HANDLES[:2])
    while times.due(now + 1_000):
        pass
    first, last = AckGroup(False, 2, HANDLES[:2]), AckGroup(False, MOST_REMEMBERED + 2, HANDLES[:2])
    times.mark(first)
    times.mark(last)
    assert (first.places, first.written_ms) == (b"", 0)
    assert places_of(last) == [0, 1]
