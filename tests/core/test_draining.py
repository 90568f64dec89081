"""How connections are told to leave: evenly, all of them, no slower than they are few."""

from __future__ import annotations

from types import SimpleNamespace

import pytest

from app.core import draining
from app.core.draining import STEP_SECONDS, close_in_steps


class Crowd:
    """Connections, numbered, how many each step closed, and a clock that only the steps move. Lives for one test."""

    def __init__(self, count: int, monkeypatch: pytest.MonkeyPatch) -> None:
        """All are open."""
        self.now = 100.0
        clock = SimpleNamespace(get_running_loop=lambda: SimpleNamespace(time=lambda: self.now), sleep=self._sleep)
        monkeypatch.setattr(draining, "asyncio", clock)
        self.open = dict.fromkeys(range(count))
        self.closed: list[int] = []
        self.shares = [0]

    def living(self) -> list[int]:
        """Those that are open."""
        return list(self.open)

    def close(self, number: int) -> None:
        """Close one; it takes a while."""
        del self.open[number]
        self.closed.append(number)
        self.shares[-1] += 1
        self.now += STEP_SECONDS / 100

    async def _sleep(self, seconds: float) -> None:
        self.now += seconds
        self.shares.append(0)


@pytest.mark.parametrize(
    ("count", "shares"), [(100, [20] * 5), (7, [2, 2, 1, 1, 1]), (3, [1, 1, 1]), (1, [1]), (0, [0])]
)
async def test_even_shares(count: int, shares: list[int], monkeypatch: pytest.MonkeyPatch) -> None:
    """Each step closes its even share, at least one, on time whatever closing takes; nobody waits for steps that have
    nothing to close."""
    crowd = Crowd(count, monkeypatch)
    begun = crowd.now
    await close_in_steps(crowd.living, crowd.close, 5 * STEP_SECONDS)
    assert crowd.shares == shares
    in_last_step = shares[-1] * STEP_SECONDS / 100
    assert crowd.now - begun == pytest.approx((len(shares) - 1) * STEP_SECONDS + in_last_step)


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
    assert set(crowd.closed) == {*range(20), 40}
