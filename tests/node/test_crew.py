"""The workers that a supervisor wants, and the wishes that change them."""

from __future__ import annotations

import pytest

from app.node.crew import MOST_WORKERS, Crew, CrewChange
from app.node.supervisor_door import Wish, WishRefused


def test_another_number() -> None:
    """More workers take the smallest free numbers, fewer give up the greatest ones."""
    crew = Crew(3)
    assert crew.take(Wish("resize", 5)) == CrewChange(starts=[3, 4])
    assert crew.take(Wish("stop", 1)) == CrewChange(stops=[1])
    assert crew.take(Wish("resize", 5)) == CrewChange(starts=[1])
    assert crew.take(Wish("resize", 2)) == CrewChange(stops=[2, 3, 4])
    assert crew.wanted == {0, 1}
    assert crew.take(Wish("resize", 2)) == CrewChange()


def test_one_worker() -> None:
    """One worker is restarted, stopped and started; a wish for one that does not run, or runs, is refused."""
    crew = Crew(2)
    assert crew.take(Wish("restart", 1)) == CrewChange(restarts=[1])
    assert crew.take(Wish("stop", 0)) == CrewChange(stops=[0])
    assert crew.take(Wish("start", 0)) == CrewChange(starts=[0])
    for wish in (Wish("restart", 7), Wish("stop", 7), Wish("start", 0), Wish("start", -1), Wish("start", MOST_WORKERS)):
        with pytest.raises(WishRefused):
            crew.take(wish)
    assert crew.wanted == {0, 1}


def test_the_last_worker_stays() -> None:
    """A server without a worker would serve nobody."""
    crew = Crew(2)
    crew.take(Wish("stop", 0))
    with pytest.raises(WishRefused, match="last worker"):
        crew.take(Wish("stop", 1))
    for count in (1, 0, -5, MOST_WORKERS + 1):
        with pytest.raises(WishRefused, match="expected 2 to 256"):
            crew.take(Wish("resize", count))
    assert crew.wanted == {1}


def test_one_rolling_restart_at_a_time() -> None:
    """It takes every worker, and no second one begins before its end."""
    crew = Crew(3)
    assert crew.take(Wish("roll")) == CrewChange(restarts=[0, 1, 2], is_roll=True)
    with pytest.raises(WishRefused, match="already"):
        crew.take(Wish("roll"))
    crew.is_rolling = False
    crew.take(Wish("roll"))
