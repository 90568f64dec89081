"""The list of due times."""

from __future__ import annotations

from app.core.due_sites import DueSites


def test_earliest_time_counts() -> None:
    """A site is taken once, at the earliest time that was noted for it; due sites come in order and in parts."""
    due = DueSites()
    for site, at in (("a", 5.0), ("b", 3.0), ("a", 2.0), ("a", 9.0), ("c", 4.0)):
        due.note(site, at)
    assert due.take(1.0, 10) == []
    assert "a" in due
    assert due.take(4.0, 2) == ["a", "b"]
    assert "a" not in due
    assert due.take(9.0, 10) == ["c"]
    due.note("a", 12.0)
    assert due.take(11.0, 10) == []
    assert due.take(12.0, 10) == ["a"]
