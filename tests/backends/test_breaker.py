"""The breaker: when a backend is left alone, and when it is tried again."""

import pytest

from app.backends.breaker import FIRST_PAUSE_SECONDS, LONGEST_PAUSE_SECONDS, Breaker, BreakerState, Passage


def open_breaker(now: float = 0.0) -> Breaker:
    """A breaker that has just opened."""
    breaker = Breaker(failures=3)
    for _ in range(3):
        breaker.failed(breaker.admit(now), now)
    assert breaker.state is BreakerState.OPEN
    return breaker


def test_opens_after_failures_in_a_row() -> None:
    """An answer in between resets the count of failures."""
    breaker = Breaker(failures=3)
    for _ in range(10):
        breaker.failed(breaker.admit(0), 0)
        breaker.failed(breaker.admit(0), 0)
        breaker.answered()
    assert breaker.admit(0) is Passage.ORDINARY
    for _ in range(3):
        breaker.failed(Passage.ORDINARY, 0)
    assert breaker.admit(0) is Passage.REFUSED


def test_one_probe_after_the_pause() -> None:
    """No request passes during the pause. After it one passes, and no other before the outcome of that one."""
    breaker = open_breaker(now=100)
    assert breaker.admit(100 + FIRST_PAUSE_SECONDS - 0.01) is Passage.REFUSED
    assert breaker.refuses(100 + FIRST_PAUSE_SECONDS) is False
    assert breaker.admit(100 + FIRST_PAUSE_SECONDS) is Passage.PROBE
    assert breaker.refuses(1000) is True
    assert breaker.admit(1000) is Passage.REFUSED


def test_a_probe_that_is_answered_closes() -> None:
    """After an answered probe all requests pass again, and the count of failures starts at zero."""
    breaker = open_breaker()
    breaker.admit(10)
    breaker.answered()
    breaker.failed(breaker.admit(10), 10)
    assert breaker.admit(10) is Passage.ORDINARY


def test_pauses_grow() -> None:
    """Each failed probe doubles the pause, up to the longest. The next opening begins with the first pause again."""
    breaker = open_breaker()
    now = 0.0
    pauses = []
    for _ in range(7):
        now += breaker.pause_seconds
        breaker.failed(breaker.admit(now), now)
        pauses.append(breaker.pause_seconds)
    assert pauses[:3] == [2 * FIRST_PAUSE_SECONDS, 4 * FIRST_PAUSE_SECONDS, 8 * FIRST_PAUSE_SECONDS]
    assert pauses[-1] == LONGEST_PAUSE_SECONDS
    breaker.answered()
    for _ in range(3):
        breaker.failed(Passage.ORDINARY, now)
    assert breaker.pause_seconds == FIRST_PAUSE_SECONDS


def test_stragglers_change_nothing() -> None:
    """A request sent before the opening that fails later neither prolongs the pause nor ends the probe."""
    breaker = open_breaker()
    breaker.failed(Passage.ORDINARY, 0.5)
    assert breaker.admit(FIRST_PAUSE_SECONDS) is Passage.PROBE
    breaker.failed(Passage.ORDINARY, FIRST_PAUSE_SECONDS)
    assert breaker.state is BreakerState.HALF_OPEN


def test_a_straggler_that_is_answered_closes() -> None:
    """A late answer closes the breaker: the backend is up."""
    breaker = open_breaker()
    breaker.answered()
    assert breaker.admit(0) is Passage.ORDINARY


@pytest.mark.parametrize("passage", [Passage.PROBE, Passage.ORDINARY])
def test_a_request_that_is_given_up_says_nothing(passage: Passage) -> None:
    """The next request takes the place of an abandoned probe. An abandoned ordinary request leaves no trace."""
    breaker = open_breaker()
    assert breaker.admit(5) is Passage.PROBE
    breaker.abandoned(passage)
    assert breaker.admit(5) is (Passage.PROBE if passage is Passage.PROBE else Passage.REFUSED)
