"""Attempts that lead to nothing: the ones that are free, the ones whose answer is late, and the bounds."""

from __future__ import annotations

import asyncio

import pytest

from app.socketio import repeats
from app.socketio.repeats import Repeats
from tests.support.waiting import until

ADDRESS, OTHER = "192.0.2.1", "192.0.2.2"
NEVER = 1e-6


def test_attempts_past_the_free_ones() -> None:
    """Answers are late past the free attempts of one address; attempts that led to something count no more."""
    counts = Repeats(free=3, a_second=NEVER)
    for _ in range(3):
        counts.count(ADDRESS)
    assert not counts.are_too_many(ADDRESS)
    counts.count(ADDRESS)
    assert (counts.are_too_many(ADDRESS), counts.are_too_many(OTHER)) == (True, False)
    counts.count(ADDRESS, -1)
    assert not counts.are_too_many(ADDRESS)


def test_attempts_are_forgiven_with_time() -> None:
    """Some attempts a second are free for ever, and nothing is left of an address that has made none for a while."""
    counts = Repeats(free=0, a_second=1e6)
    counts.count(ADDRESS)
    assert not counts.are_too_many(ADDRESS)
    counts.count(ADDRESS, -1)
    assert counts._until == {}


def test_an_ipv6_network_is_one_address() -> None:
    """A customer's network counts as a whole; an unknown address counts nowhere."""
    counts = Repeats(free=1, a_second=NEVER)
    for address in ("2001:db8::1", "2001:db8::2", "", ""):
        counts.count(address)
    assert (counts.are_too_many("2001:db8::3"), counts.are_too_many("")) == (True, False)


def test_number_of_addresses(monkeypatch: pytest.MonkeyPatch) -> None:
    """Past the bound of addresses all are forgotten."""
    monkeypatch.setattr(repeats, "_MAX_ADDRESSES", 2)
    counts = Repeats(free=0, a_second=NEVER)
    for number in range(3):
        counts.count(f"192.0.2.{number}")
    assert [counts.are_too_many(f"192.0.2.{number}") for number in range(3)] == [False, False, True]


async def test_held_answers(monkeypatch: pytest.MonkeyPatch) -> None:
    """An answer is held for the pause, not past the leaving of its client, and not past the bound of an address."""
    monkeypatch.setattr(repeats, "MAX_HELD", 1)
    counts = Repeats(pause_seconds=0.05)
    left = asyncio.Event()

    async def gone() -> None:
        await left.wait()

    first = asyncio.create_task(counts.hold(ADDRESS, gone))
    await until(lambda: counts.held == 1, "the first answer")
    assert await counts.hold(ADDRESS, gone) is False
    assert await first is True
    left.set()
    assert await counts.hold(ADDRESS, gone) is None
    assert counts.held == 0


async def test_refusals() -> None:
    """Refusals are counted; the ones past the free ones are late."""
    counts = Repeats(free=1, a_second=NEVER, pause_seconds=0.05)
    given: list[int] = []
    counts.refuse(ADDRESS, lambda: given.append(1))
    counts.refuse(ADDRESS, lambda: given.append(2))
    assert given == [1]
    await until(lambda: given == [1, 2], "the late refusal")
    assert counts.held == 0


async def test_late_refusals_are_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each keeps its session alive, so an address has only so many: further ones are given at once."""
    monkeypatch.setattr(repeats, "MAX_HELD", 1)
    counts = Repeats(free=0, a_second=NEVER, pause_seconds=0.05)
    given: list[int] = []
    counts.refuse(ADDRESS, lambda: given.append(1))
    counts.refuse(ADDRESS, lambda: given.append(2))
    assert given == [2]
    await until(lambda: given == [2, 1], "the late refusal")


def test_debt_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    """However long an address has gone on, it is forgiven within the time of so many attempts."""
    now = 1_000.0
    monkeypatch.setattr(repeats, "monotonic", lambda: now)
    counts = Repeats(free=10, a_second=10)
    for _ in range(100_000):
        counts.count(ADDRESS)
    now += 30.5
    assert not counts.are_too_many(ADDRESS)
