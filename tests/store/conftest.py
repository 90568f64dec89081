"""A Valkey for all tests of the store, empty at the start of each."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator

import pytest

from app.store.redis import Redis
from tests.support.store import linked, running_valkey
from tests.support.valkey import Valkey


@pytest.fixture(scope="session")
def shared_valkey() -> Iterator[Valkey]:
    """The process, for the whole session."""
    with running_valkey() as server:
        yield server


@pytest.fixture
def valkey(shared_valkey: Valkey) -> Valkey:
    """The same, with nothing in it."""
    shared_valkey.client.flushall()
    return shared_valkey


@pytest.fixture
async def redis(valkey: Valkey) -> AsyncIterator[Redis]:
    """A link to it."""
    async with linked(valkey) as redis:
        yield redis
