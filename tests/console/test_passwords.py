"""Passwords: argon2id, the same time for nobody, bounds."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import pytest

from app.console.passwords import MAX_WAITING, THREADS, PasswordChecks
from app.errors import RequestRefused


@pytest.fixture
async def passwords() -> AsyncIterator[PasswordChecks]:
    """The threads."""
    passwords = PasswordChecks()
    yield passwords
    passwords.close()


async def test_a_password(passwords: PasswordChecks) -> None:
    """A hash is argon2id, has a salt, and knows its password alone."""
    kept = await passwords.hash("correct horse")
    assert kept.startswith("$argon2id$v=19$m=19456,t=2,p=1$")
    assert kept != await passwords.hash("correct horse")
    assert await passwords.is_right(kept, "correct horse")
    assert not await passwords.is_right(kept, "correct horse ")
    assert not await passwords.is_right("no hash", "correct horse")


async def test_nobody_costs_the_same(passwords: PasswordChecks) -> None:
    """For an unknown name a hash of the same cost is checked, which no password matches."""
    assert not await passwords.is_right(None, "")
    assert passwords._hasher.check_needs_rehash(await passwords.hash("x")) is False


async def test_bounds(passwords: PasswordChecks) -> None:
    """Past the bound a check is refused at once, and afterwards checks go on."""
    checks = [asyncio.ensure_future(passwords.is_right(None, "x")) for _ in range(THREADS + MAX_WAITING)]
    await asyncio.sleep(0)
    with pytest.raises(RequestRefused, match="try again"):
        await passwords.is_right(None, "x")
    assert await asyncio.gather(*checks) == [False] * len(checks)
    assert not await passwords.is_right(None, "x")
