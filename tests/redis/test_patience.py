"""The patience with a link, and the server's clock: a process or a machine that stood still refuses no command."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from app.redis.patience import CLOCK_DOUBT_SECONDS, MOST_MEASURES, Patience, ServerClock


def new_patience() -> Patience:
    """With the default of the configuration."""
    return Patience(lambda: 1.5)


def test_silent_link_is_given_up_in_time() -> None:
    """A link that waits without an answer is given up before the time-out has passed."""
    patience = new_patience()
    patience.begin(100.0, 0)
    looks = [100 + number / 10 for number in range(1, 17)]
    over = [look for look in looks if patience.is_over(look, 0, is_waiting=True)]
    assert 101.3 < over[0] <= 101.55


def test_answers_and_idle_time_begin_it_again() -> None:
    """Each answer, and each look at which none is due, gives the link its whole time again."""
    patience = new_patience()
    patience.begin(100.0, 0)
    for number in range(1, 40):
        assert not patience.is_over(100 + number / 10, number // 10, is_waiting=True)
    for number in range(40, 80):
        assert not patience.is_over(100 + number / 10, 3, is_waiting=number % 10 > 0)


def test_own_pause_is_not_the_servers_silence() -> None:
    """A process that stood still for long while a command was under way reads the answer before it gives up."""
    patience = new_patience()
    patience.begin(100.0, 0)
    assert not patience.is_over(100.1, 0, is_waiting=True)
    assert patience.ends_at(110.0, 0, is_waiting=True) > 111.0
    assert not patience.is_over(110.0, 0, is_waiting=True)
    assert patience.ends_at(110.0, 0, is_waiting=True) > 111.0
    assert patience.ends_at(110.05, 1, is_waiting=True) > 111.0


def test_dead_link_ends_on_a_busy_loop_too() -> None:
    """A loop whose every turn is long gives up a dead link later, but it does."""
    patience = new_patience()
    patience.begin(100.0, 0)
    looks = [100.0 + number for number in range(1, 10)]
    assert next(look for look in looks if patience.is_over(look, 0, is_waiting=True)) <= 108


@given(st.lists(st.tuples(st.floats(0.01, 3), st.booleans(), st.booleans()), max_size=40), st.floats(0, 3))
def test_no_command_outlives_its_link(steps: list[tuple[float, bool, bool]], late: float) -> None:
    """A link is never given up before the deadline of a command that was given on it, whatever the pauses."""
    patience = new_patience()
    now, answered, promised = 100.0, 0, 0.0
    patience.begin(now, answered)
    for pause, is_answered, is_waiting in steps:
        now += pause
        answered += is_answered
        if patience.is_over(now, answered, is_waiting):
            assert now >= promised
            return
        promised = max(promised, patience.ends_at(now + late * 0.03, answered, is_waiting))


def test_shortest_wait_counts() -> None:
    """An offset that was measured while the process stood still is corrected by the next answer; a slow answer does not
    replace an exact one."""
    clock = ServerClock()
    clock.note(5_000_000.0, 10.0, 12.0)
    assert clock.is_doubtful
    assert clock.ms_at(12.0) == 5_000_000
    clock.note(5_002_000.0, 12.0, 12.01)
    assert clock.ms_at(12.01) == 5_002_000
    assert not clock.is_doubtful
    clock.note(5_003_000.0, 13.0, 14.5)
    assert clock.ms_at(12.01) == 5_002_000
    clock.begin()
    clock.note(9_000_000.0, 20.0, 21.0)
    assert clock.ms_at(21.0) == 9_000_000


def test_slow_network_is_not_asked_for_ever() -> None:
    """A server that never answers fast is measured a bounded number of times."""
    clock = ServerClock()
    asked = 0
    while clock.is_doubtful:
        clock.note(1.0, 0.0, 2 * CLOCK_DOUBT_SECONDS)
        asked += 1
    assert asked == MOST_MEASURES
