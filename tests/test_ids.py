"""Message ids: their layout, their order, and that no two are equal."""

from __future__ import annotations

import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.ids import FlakeIds


class Clock:
    """A clock that the test moves."""

    def __init__(self, now_ms: int = 1_700_000_000_000) -> None:
        """The clock stands still."""
        self.now_ms = now_ms

    def __call__(self) -> int:
        """Returns the time."""
        return self.now_ms


@pytest.mark.parametrize(("datacenter", "worker"), [(0, 0), (31, 31), (5, 17)])
def test_layout(datacenter: int, worker: int) -> None:
    """From the high end: 42 bits milliseconds, 5 bits datacenter, 5 bits worker, 12 bits counter."""
    clock = Clock()
    ids = FlakeIds(datacenter, worker, clock)
    for counter in range(3):
        id_ = ids.next_id()
        assert id_ >> 22 == clock.now_ms
        assert (id_ >> 17 & 31, id_ >> 12 & 31, id_ & 4095) == (datacenter, worker, counter)


def test_counter_begins_anew_each_millisecond() -> None:
    """The first id of each millisecond has counter 0."""
    clock = Clock()
    ids = FlakeIds(1, 1, clock)
    ids.next_id()
    clock.now_ms += 1
    assert ids.next_id() & 4095 == 0


def test_more_than_4096_in_a_millisecond_borrow_from_the_next() -> None:
    """In a burst ids run ahead of the clock. They still differ once the clock has caught up."""
    clock = Clock()
    ids = FlakeIds(0, 0, clock)
    burst = [ids.next_id() for _ in range(10_000)]
    assert burst[4095] >> 22 == clock.now_ms
    assert burst[4096] >> 22 == clock.now_ms + 1
    clock.now_ms += 2
    later = [ids.next_id() for _ in range(10_000)]
    assert len({*burst, *later}) == 20_000


@given(st.lists(st.integers(-5_000, 5_000), min_size=1, max_size=300))
def test_ids_grow_whatever_the_clock_does(steps: list[int]) -> None:
    """Ids grow even when the clock steps back."""
    clock = Clock()
    ids = FlakeIds(3, 4, clock)
    made = []
    for step in steps:
        clock.now_ms += step
        made.append(ids.next_id())
    assert made == sorted(set(made))


def test_ids_of_two_workers_differ() -> None:
    """Two workers, or two datacenters, make different ids in the same millisecond."""
    clock = Clock()
    makers = [FlakeIds(d, w, clock) for d in (0, 1) for w in (0, 1)]
    assert len({maker.next_id() for maker in makers for _ in range(100)}) == 400


def test_ids_fit_64_bits_and_hold_the_time() -> None:
    """With the real clock an id holds the time of day, as a number of at most 64 bits."""
    before = time.time_ns() // 1_000_000
    id_ = FlakeIds(31, 31).next_id()
    assert before <= id_ >> 22 <= time.time_ns() // 1_000_000
    assert id_ < 2**63


@pytest.mark.parametrize(("datacenter", "worker"), [(-1, 0), (0, -1), (32, 0), (0, 32)])
def test_places_out_of_range(datacenter: int, worker: int) -> None:
    """A datacenter or worker that does not fit its bits is refused with the expected range."""
    with pytest.raises(ValueError, match=f"0-31, got {datacenter} and {worker}"):
        FlakeIds(datacenter, worker)


def test_moved_ids_grow() -> None:
    """Ids of another place are greater than all before, even within a millisecond and with a lower place."""
    clock = Clock()
    ids = FlakeIds(31, 31, clock)
    before = [ids.next_id() for _ in range(3)]
    ids.move(0, 1)
    after = [ids.next_id() for _ in range(3)]
    assert before[-1] < after[0] < after[1] < after[2]
    assert {id_ >> 12 & 1023 for id_ in after} == {1}
    with pytest.raises(ValueError, match="must be 0-31"):
        ids.move(0, 32)
