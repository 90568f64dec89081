"""Wrong keys are counted for each network, fade with time, and cost a bounded memory."""

from __future__ import annotations

import pytest

from app.protocols.redis_publish import guesses
from app.protocols.redis_publish.guesses import WRONG_A_SECOND, WRONG_AT_ONCE, Guesses


class Clock:
    """A clock that the test moves."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.now = 1_000.0
        monkeypatch.setattr(guesses, "monotonic", lambda: self.now)


def test_network_that_guesses_is_braked(monkeypatch: pytest.MonkeyPatch) -> None:
    """All addresses of one customer count together, and no other network or site is concerned."""
    clock, seen = Clock(monkeypatch), Guesses()
    for number in range(WRONG_AT_ONCE):
        assert seen.may_guess("news", "2001:db8::1")
        seen.count_wrong("news", f"2001:db8::{number}")
    assert not seen.may_guess("news", "2001:db8::ffff")
    assert seen.may_guess("news", "2001:db8:1::1")
    assert seen.may_guess("shop", "2001:db8::1")
    clock.now += 1 / WRONG_A_SECOND + 0.1
    assert seen.may_guess("news", "2001:db8::1")
    seen.count_wrong("news", "2001:db8::1")
    assert not seen.may_guess("news", "2001:db8::1")


def test_unknown_address_is_not_braked() -> None:
    """Clients whose address is unknown would brake each other."""
    seen = Guesses()
    for _ in range(2 * WRONG_AT_ONCE):
        seen.count_wrong("news", "")
    assert seen.may_guess("news", "")


def test_networks_are_forgotten(monkeypatch: pytest.MonkeyPatch) -> None:
    """The networks that guessed longest ago go first."""
    monkeypatch.setattr(guesses, "MAX_REMEMBERED", 2)
    seen = Guesses()
    for address in (*("192.0.2.1",) * WRONG_AT_ONCE, "192.0.2.2", "192.0.2.3"):
        seen.count_wrong("news", address)
    assert seen.may_guess("news", "192.0.2.1")
