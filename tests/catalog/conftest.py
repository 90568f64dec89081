"""Fixtures of the catalog's tests: both databases, each test with one that has no row."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from app.catalog.redis_copy import RedisCopy
from app.catalog.sql_sites import SqlSites
from app.redis.client import Redis
from tests.support.postgres import Postgres
from tests.support.tables import sqlite_with_tables


@pytest.fixture(params=["sqlite", "postgres"])
def database(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """The URL of a database with the tables and no row, of each kind."""
    if request.param == "sqlite":
        return sqlite_with_tables(tmp_path)
    postgres: Postgres = request.getfixturevalue("shared_postgres")
    return postgres.database_with_tables()


@pytest.fixture
async def rows(database: str) -> AsyncIterator[SqlSites]:
    """The table of stored sites, empty."""
    rows = SqlSites.open(database)
    yield rows
    await rows.close()


@pytest.fixture
def copy(redis: Redis) -> RedisCopy:
    """The copy in Redis, empty."""
    return RedisCopy(redis)
