"""The decisions about the parts of a file."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from app.errors import RequestRefused
from app.protocols.messenger.files.records import (
    MAX_UNFINISHED,
    PartPlan,
    Piece,
    check_quota,
    pieces_of,
    plan_part,
)


def test_a_short_last_part_is_repeated() -> None:
    """The next part begins with the bytes of a short one before it."""
    assert plan_part((), 10) == PartPlan((), None)
    assert plan_part((("a", 10),), 10) == PartPlan((("a", 10),), None)
    assert plan_part((("a", 10), ("b", 9)), 10) == PartPlan((("a", 10),), ("b", 9))


@settings(deadline=None)
@given(st.lists(st.integers(1, 10), min_size=1, max_size=60))
def test_parts_are_few(requests: list[int]) -> None:
    """However short the requests are, every part but the last has the least size, and none has twice of it."""
    parts: tuple[tuple[str, int], ...] = ()
    for number, count in enumerate(requests):
        plan = plan_part(parts, 10)
        parts = (*plan.kept, (str(number), count + (plan.repeated[1] if plan.repeated else 0)))
    assert sum(size for _, size in parts) == sum(requests)
    assert all(10 <= size < 20 for _, size in parts[:-1])
    assert parts[-1][1] < 20


@settings(deadline=None)
@given(st.lists(st.integers(1, 9), max_size=8), st.integers(0, 80), st.integers(0, 80), st.integers(1, 5))
def test_pieces(sizes: list[int], start: int, end: int, most: int) -> None:
    """The pieces of a span are its bytes, each once and in order, none too long."""
    parts = tuple((str(number), size) for number, size in enumerate(sizes))
    every = [(name, at) for name, size in parts for at in range(size)]
    pieces = pieces_of(parts, start, end, most)
    assert [(piece.part, at) for piece in pieces for at in range(piece.start, piece.start + piece.count)] == every[
        start:end
    ]
    assert all(1 <= piece.count <= most for piece in pieces)


def test_one_piece() -> None:
    """A span within one part is one piece."""
    assert pieces_of((("a", 10), ("b", 10)), 12, 15, 100) == [Piece("b", 2, 3)]


@pytest.mark.parametrize(
    ("unfinished", "stored", "size", "code"),
    [(MAX_UNFINISHED, 0, 1, "too_many"), (0, 100_000, 1, "quota"), (0, 0, 100_001, "quota"), (0, 95_905, 1, "quota")],
)
def test_quota(unfinished: int, stored: int, size: int, code: str) -> None:
    """A file past the bounds is refused; a small one counts as the least."""
    with pytest.raises(RequestRefused) as refused:
        check_quota(unfinished, stored, size, 100_000)
    assert refused.value.code == code
    check_quota(MAX_UNFINISHED - 1, 95_904, 1, 100_000)
    check_quota(0, 1 << 50, 1 << 50, 0)
