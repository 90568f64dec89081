"""One timer for many deadlines."""

from __future__ import annotations

import asyncio

import pytest

from app.transport.deadline_wheel import NOT_WAITING, DeadlineWheel
from tests.support.waiting import until

TICK_SECONDS = 0.01


class Item:
    """Remembers when it was due."""

    def __init__(self) -> None:
        self.bucket = NOT_WAITING
        self.deadline = 0.0
        self.passed_at: list[float] = []

    def deadline_passed(self, now: float) -> None:
        """Remember."""
        self.passed_at.append(now)


def now() -> float:
    """The loop's time."""
    return asyncio.get_running_loop().time()


async def test_due_after_the_deadline_never_before() -> None:
    """An item is told once, after its deadline."""
    wheel, item = DeadlineWheel(TICK_SECONDS), Item()
    deadline = now() + 0.03
    wheel.schedule(item, deadline)
    await until(lambda: bool(item.passed_at), "the deadline")
    assert item.passed_at[0] >= deadline
    assert item.bucket == NOT_WAITING
    assert len(wheel) == 0


async def test_moved_later() -> None:
    """A deadline moved later does not come at its old time."""
    wheel, moved, other = DeadlineWheel(TICK_SECONDS), Item(), Item()
    wheel.schedule(moved, now() + 0.02)
    wheel.schedule(other, now() + 0.04)
    later = now() + 0.08
    wheel.schedule(moved, later)
    await until(lambda: bool(other.passed_at), "the other")
    assert moved.passed_at == []
    await until(lambda: bool(moved.passed_at), "the moved one")
    assert moved.passed_at[0] >= later


async def test_moved_earlier() -> None:
    """A deadline moved earlier comes at its new time."""
    wheel, item = DeadlineWheel(TICK_SECONDS), Item()
    wheel.schedule(item, now() + 3600)
    wheel.schedule(item, now() + 0.02)
    await until(lambda: bool(item.passed_at), "the deadline")
    assert len(wheel) == 0


async def test_cancelled() -> None:
    """A cancelled item is not told, and an empty wheel holds no timer that would keep a loop awake."""
    wheel, item, other = DeadlineWheel(TICK_SECONDS), Item(), Item()
    wheel.schedule(item, now() + 0.02)
    wheel.schedule(other, now() + 0.03)
    wheel.cancel(item)
    await until(lambda: bool(other.passed_at), "the other")
    assert item.passed_at == []
    wheel.cancel(item)
    assert len(wheel) == 0


async def test_waiting_anew_does_not_delay_others() -> None:
    """An item that waits long again when its time comes leaves the nearer deadlines of others as they were."""

    class Again(Item):
        def deadline_passed(self, now: float) -> None:
            super().deadline_passed(now)
            wheel.schedule(self, now + 3600)

    wheel, again, other = DeadlineWheel(TICK_SECONDS), Again(), Item()
    wheel.schedule(again, now() + 0.01)
    wheel.schedule(other, now() + 0.04)
    await until(lambda: bool(other.passed_at), "the other")
    wheel.cancel(again)


async def test_one_failure_does_not_stop_the_others(caplog: pytest.LogCaptureFixture) -> None:
    """An item that raises is logged; the others of the same tick are told."""

    class Failing(Item):
        def deadline_passed(self, now: float) -> None:
            raise ValueError

    wheel, others = DeadlineWheel(TICK_SECONDS), [Item() for _ in range(10)]
    deadline = now() + 0.01
    for item in (*others[:5], Failing(), *others[5:]):
        wheel.schedule(item, deadline)
    await until(lambda: all(item.passed_at for item in others), "the others")
    assert "a deadline could not be handled" in caplog.text


async def test_cancelled_within_the_same_tick() -> None:
    """An item due in one tick may end another that is due in it."""

    class Ending(Item):
        def deadline_passed(self, now: float) -> None:
            super().deadline_passed(now)
            for item in items:
                wheel.cancel(item)

    wheel = DeadlineWheel(TICK_SECONDS)
    items = [Ending(), Ending()]
    deadline = now() + 0.01
    for item in items:
        wheel.schedule(item, deadline)
    await until(lambda: any(item.passed_at for item in items), "one of them")
    assert len(wheel) == 0
