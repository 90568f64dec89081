"""Passwords of registered topics: checked in threads of their own, one of a site at a time, and remembered."""

from __future__ import annotations

import asyncio
import threading
from collections import Counter
from collections.abc import Iterator

import pytest

from app.errors import LimitReached
from app.protocols.topics import passwords as module
from app.protocols.topics.passwords import MOST_WAITING, Passwords
from app.transport.refusals import TOO_MANY_PASSWORDS, refused
from tests.protocols.topics.conftest import topics_site
from tests.support.waiting import until

SITE, OTHER = topics_site("shop"), topics_site("other")
HASH = "the hash of right"


class Checks:
    """Stands in for the slow check. Lives for one test."""

    def __init__(self) -> None:
        self.asked: Counter[str] = Counter()
        self.may_end = threading.Event()
        self.may_end.set()

    def is_password(self, password: str, password_hash: str) -> bool:
        """Check as slowly as the test wants."""
        self.asked[password] += 1
        self.may_end.wait(30)
        return password_hash == f"the hash of {password}"


@pytest.fixture
def checks(monkeypatch: pytest.MonkeyPatch) -> Iterator[Checks]:
    """The checks that are made."""
    checks = Checks()
    monkeypatch.setattr(module, "is_password", checks.is_password)
    yield checks
    checks.may_end.set()


@pytest.fixture
def passwords() -> Iterator[Passwords]:
    """The passwords of all sites."""
    passwords = Passwords()
    yield passwords
    passwords.close()


async def test_right_and_wrong(passwords: Passwords) -> None:
    """A topic without a password takes any; otherwise only the password that was hashed is right."""
    kept = await passwords.hash(SITE, "right")
    for password, password_hash, expected in (
        (None, None, True),
        ("any", None, True),
        (None, kept, False),
        ("wrong", kept, False),
        ("right", kept, True),
    ):
        assert await passwords.is_right(SITE, password_hash, password) is expected


async def test_results_are_remembered(passwords: Passwords, checks: Checks, monkeypatch: pytest.MonkeyPatch) -> None:
    """The same password is checked once: a right one for good, a wrong one for some seconds. Both are bounded."""
    monkeypatch.setattr(module, "_MAX_KNOWN_PASSWORDS", 2)
    monkeypatch.setattr(module, "_MAX_WRONG_PASSWORDS", 2)
    for _ in range(3):
        assert await passwords.is_right(SITE, HASH, "right")
        assert not await passwords.is_right(SITE, HASH, "wrong")
    assert checks.asked == {"right": 1, "wrong": 1}
    assert not await passwords.is_right(SITE, "another hash", "wrong")
    monkeypatch.setattr(module, "WRONG_SECONDS", 0.0)
    for _ in range(2):
        assert not await passwords.is_right(SITE, HASH, "soon forgotten")
    assert checks.asked == {"right": 1, "wrong": 2, "soon forgotten": 2}
    for number in range(5):
        assert await passwords.is_right(SITE, f"the hash of {number}", str(number))
        assert not await passwords.is_right(SITE, HASH, str(number))
    assert (len(passwords._known), len(passwords._wrong)) == (2, 2)


async def test_a_site_that_guesses(passwords: Passwords, checks: Checks) -> None:
    """A site with very many wrong passwords is refused past its line; another site's password is checked meanwhile, and
    the threads of the loop itself stay free."""
    checks.may_end.clear()
    guesses = [asyncio.create_task(passwords.is_right(SITE, HASH, f"guess {number}")) for number in range(40)]
    await until(lambda: sum(guess.done() for guess in guesses) == 40 - MOST_WAITING - 1, "the refusals")
    assert checks.asked == {"guess 0": 1}
    refusals = [guess.exception() for guess in guesses if guess.done()]
    assert all(isinstance(refusal, LimitReached) and refusal.status == 429 for refusal in refusals)
    assert refused[TOO_MANY_PASSWORDS] >= 40 - MOST_WAITING - 1
    other = asyncio.create_task(passwords.is_right(OTHER, HASH, "right"))
    await until(lambda: checks.asked["right"] == 1, "the other site's check")
    assert await asyncio.to_thread(lambda: 7) == 7
    checks.may_end.set()
    assert await other
    await asyncio.gather(*guesses, return_exceptions=True)
    assert [guess.result() for guess in guesses if guess.exception() is None] == [False] * (MOST_WAITING + 1)
