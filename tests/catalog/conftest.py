"""Fixtures of the catalog's tests: both databases, each test with an empty one."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest

from app.catalog.redis_copy import RedisCopy
from app.catalog.sql_sites import SqlSites
from app.redis.client import Redis
from tests.support.postgres import Postgres, running_postgres


@pytest.fixture(scope="session")
def shared_postgres() -> Iterator[Postgres]:
    """A PostgreSQL for all tests of this process."""
    with running_postgres() as server:
        yield server


@pytest.fixture(params=["sqlite", "postgres"])
async def empty_database(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """The URL of an empty database, of each kind."""
    if request.param == "sqlite":
        return f"sqlite:///{tmp_path / 'journal.sqlite'}"
    postgres: Postgres = request.getfixturevalue("shared_postgres")
    return await asyncio.to_thread(postgres.new_database)


@pytest.fixture
async def rows(empty_database: str) -> AsyncIterator[SqlSites]:
    """The table of stored sites, empty."""
    rows = SqlSites.open(empty_database)
    await rows.make_table()
    yield rows
    await rows.close()


@pytest.fixture
def copy(redis: Redis) -> RedisCopy:
    """The copy in Redis, empty."""
    return RedisCopy(redis)
