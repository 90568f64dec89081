"""How connections are told to leave: evenly, all of them, no slower than they are few."""

from __future__ import annotations

import asyncio
import itertools

import pytest

from app.core import draining
from app.core.draining import close_in_steps

STEP_SECONDS = 0.02


class Crowd:
    """Connections, numbered, and when each was closed. Lives for one test."""

    def __init__(self, count: int, monkeypatch: pytest.MonkeyPatch) -> None:
        """All are open; steps are short."""
        monkeypatch.setattr(draining, "STEP_SECONDS", STEP_SECONDS)
        self.open = dict.fromkeys(range(count))
        #: How many had been closed at each look at the open ones.
        self.closed_at: dict[int, float] = {}

    def living(self) -> list[int]:
        """Those that are open."""
        return list(self.open)

    def close(self, number: int) -> None:
        """Close one."""
        del self.open[number]
        self.closed_at[number] = asyncio.get_running_loop().time()

    def shares(self) -> list[int]:
        """How many were closed at one moment, moment by moment."""
        moments = sorted(self.closed_at.values())
        starts = [0, *(n + 1 for n, (a, b) in enumerate(itertools.pairwise(moments)) if b - a > STEP_SECONDS / 4)]
        return [end - start for start, end in itertools.pairwise([*starts, len(moments)])]


@pytest.mark.parametrize(
    ("count", "shares"), [(100, [20] * 5), (7, [2, 2, 1, 1, 1]), (3, [1, 1, 1]), (1, [1]), (0, [0])]
)
async def test_even_shares(count: int, shares: list[int], monkeypatch: pytest.MonkeyPatch) -> None:
    """Each step closes its even share, at least one; nobody waits for steps that have nothing to close."""
    crowd = Crowd(count, monkeypatch)
    begun = asyncio.get_running_loop().time()
    await close_in_steps(crowd.living, crowd.close, 5 * STEP_SECONDS)
    assert crowd.shares() == shares
    took = asyncio.get_running_loop().time() - begun
    assert (len(shares) - 1) * STEP_SECONDS * 0.9 <= took < (len(shares) - 1) * STEP_SECONDS + 0.2


@pytest.mark.parametrize("seconds", [0.0, STEP_SECONDS / 10])
async def test_no_time_closes_all_at_once(seconds: float, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without a time to spread over, all are closed before anything else happens."""
    crowd = Crowd(50, monkeypatch)
    closing = close_in_steps(crowd.living, crowd.close, seconds)
    with pytest.raises(StopIteration):
        closing.send(None)
    assert not crowd.open


async def test_those_who_leave_by_themselves_are_not_counted(monkeypatch: pytest.MonkeyPatch) -> None:
    """The share of each step is one of those that are left, and who comes meanwhile is closed, too."""
    crowd = Crowd(40, monkeypatch)

    def close(number: int) -> None:
        crowd.close(number)
        if number == 0:
            for other in range(20, 40):
                del crowd.open[other]
        if number == 9:
            crowd.open[40] = None

    await close_in_steps(crowd.living, close, 4 * STEP_SECONDS)
    assert not crowd.open
    assert set(crowd.closed_at) == {*range(20), 40}
