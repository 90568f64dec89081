"""A node knows the newest traced messages, by id and by seq, and no more than its bound."""

from __future__ import annotations

from app.tracing.context import Announcement, TraceContext
from app.tracing.known import MOST_KNOWN, KnownTraces

_CONTEXT = TraceContext("1" * 32, "2" * 16)


def test_both_announcements_of_a_message() -> None:
    """The first makes it known by its id, the second by its seq as well; each site has ids of its own."""
    known = KnownTraces()
    known.add(Announcement("shop", "1", _CONTEXT))
    assert known.of_id("shop", "1") is not None
    assert known.of_id("news", "1") is None
    assert known.of_seq("shop", 0) is None
    known.add(Announcement("shop", "1", _CONTEXT, 50))
    assert known.of_seq("shop", 50) is known.of_id("shop", "1")
    assert len(known) == 1


def test_the_oldest_go() -> None:
    """Past the bound the oldest is forgotten, by both of its names."""
    known = KnownTraces()
    for number in range(1, MOST_KNOWN + 3):
        known.add(Announcement("shop", str(number), _CONTEXT, number))
    assert len(known) == MOST_KNOWN
    assert known.of_id("shop", "2") is known.of_seq("shop", 2) is None
    assert known.of_id("shop", "3") is known.of_seq("shop", 3) is not None
