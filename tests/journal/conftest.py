"""Fixtures of the journal's tests: both databases, each test with one that has no row."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from sqlalchemy.ext.asyncio import AsyncEngine

from app.journal.database import open_database
from tests.support.fates import FateStream
from tests.support.postgres import Postgres
from tests.support.tables import sqlite_with_tables
from tests.support.valkey import Valkey


@pytest.fixture(params=["sqlite", "postgres"])
def database_url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """The URL of a database with the tables and no row, of each kind."""
    if request.param == "sqlite":
        return sqlite_with_tables(tmp_path)
    postgres: Postgres = request.getfixturevalue("shared_postgres")
    return postgres.database_with_tables()


@pytest.fixture
async def engine(database_url: str) -> AsyncIterator[AsyncEngine]:
    """The journal's tables, empty, for a writer."""
    engine = open_database(database_url, is_writer=True)
    yield engine
    await engine.dispose()


@pytest.fixture
def stream(valkey: Valkey) -> FateStream:
    """The stream of the site `shop`."""
    return FateStream(valkey)
