"""Draining: connections are closed evenly, all of them, and faster when there are few."""

from __future__ import annotations

from types import SimpleNamespace

import pytest

from app.core import draining
from app.core.draining import STEP_SECONDS, close_in_steps

BEGUN = 100.0
CLOSING_SECONDS = 0.0001


class Crowd:
    """Connections by number with the times of their ends, and a clock that `close` and sleeps move. For one test."""

    def __init__(self, count: int, monkeypatch: pytest.MonkeyPatch) -> None:
        """All are open."""
        self.now = BEGUN
        clock = SimpleNamespace(get_running_loop=lambda: SimpleNamespace(time=lambda: self.now), sleep=self._sleep)
        monkeypatch.setattr(draining, "asyncio", clock)
        self.open = dict.fromkeys(range(count))
        #: Connections that leave by themselves, and when.
        self.left_at: dict[int, float] = {}
        self.closed: list[int] = []
        self.moments: list[float] = []

    def living(self) -> list[int]:
        """The open connections."""
        return [number for number in self.open if self.left_at.get(number, 1e9) > self.now - BEGUN]

    def close(self, number: int) -> None:
        """Close one; it takes a while."""
        del self.open[number]
        self.closed.append(number)
        self.moments.append(self.now - BEGUN)
        self.now += CLOSING_SECONDS

    async def _sleep(self, seconds: float) -> None:
        self.now += seconds


@pytest.mark.parametrize(
    ("count", "seconds", "moments"),
    [
        (0, 20, []),
        (1, 20, [0]),
        (2, 20, [0, 10]),
        (10, 2, [0.2 * k for k in range(10)]),
        (20, 2, [0.1 * k for k in range(20)]),
        (100, 0.5, [0.1 * (k // 20) for k in range(100)]),
        # More than one in 0.1 s, less than two.
        (7, 0.5, [0, 0, 1 / 7, 1 / 7, 2 / 7, 2 / 7, 3 / 7]),
    ],
)
async def test_even_shares(count: int, seconds: float, moments: list[float], monkeypatch: pytest.MonkeyPatch) -> None:
    """The k-th of n connections is closed after k/n of the time, together with the others of its step, however long
    closing takes; it returns at the last one."""
    crowd = Crowd(count, monkeypatch)
    await close_in_steps(crowd.living, crowd.close, seconds)
    # Within one step the first connection is closed before the second.
    closing = 0.02 + 20 * CLOSING_SECONDS
    assert len(crowd.moments) == count
    for closed, expected in zip(crowd.moments, moments, strict=True):
        assert expected - 1e-6 <= closed <= expected + closing
    assert crowd.now - BEGUN <= (moments or [0])[-1] + closing


@pytest.mark.parametrize("count", [21, 200, 201, 333, 10_000])
async def test_whole_time(count: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """All of the time is used, whatever the number, and no two seconds have more than twice their share of ends."""
    crowd = Crowd(count, monkeypatch)
    await close_in_steps(crowd.living, crowd.close, 20)
    assert crowd.moments[-1] >= 20 - max(0.2, 20 / count) - 1e-6
    assert crowd.moments[-1] < 20 + count * CLOSING_SECONDS
    for start in range(20):
        assert sum(start <= moment < start + 2 for moment in crowd.moments) <= count / 10 * 1.2 + 1


@pytest.mark.parametrize("seconds", [0.0, STEP_SECONDS / 10])
async def test_no_time_closes_all_at_once(seconds: float, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without a time to spread over, all connections are closed before anything else happens."""
    crowd = Crowd(50, monkeypatch)
    closing = close_in_steps(crowd.living, crowd.close, seconds)
    with pytest.raises(StopIteration):
        closing.send(None)
    assert not crowd.open


async def test_who_leaves_or_comes_meanwhile(monkeypatch: pytest.MonkeyPatch) -> None:
    """When connections leave by themselves, the others share the time that is left; new connections are closed, too."""
    crowd = Crowd(40, monkeypatch)

    def close(number: int) -> None:
        crowd.close(number)
        if number == 3:
            for other in range(20, 40):
                del crowd.open[other]
        if number == 9:
            crowd.open[40] = None

    await close_in_steps(crowd.living, close, 4)
    assert not crowd.open
    assert set(crowd.closed) == {*range(20), 40}
    assert 3.5 < crowd.moments[-1] < 4


async def test_nobody_is_left(monkeypatch: pytest.MonkeyPatch) -> None:
    """It returns as soon as the last connections have left by themselves, however much time is left."""
    crowd = Crowd(2, monkeypatch)
    crowd.left_at[1] = 1.05
    await close_in_steps(crowd.living, crowd.close, 60)
    assert crowd.closed == [0]
    assert 1 < crowd.now - BEGUN < 1.2
