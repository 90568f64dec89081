"""A link to the Valkey of the tests."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest

from app.store.redis import Redis
from tests.support.store import linked
from tests.support.valkey import Valkey


@pytest.fixture
async def redis(valkey: Valkey) -> AsyncIterator[Redis]:
    """A link to it."""
    async with linked(valkey) as redis:
        yield redis
