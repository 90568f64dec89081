"""Fixtures of the journal's tests: both databases, each test with an empty one."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest
from sqlalchemy.ext.asyncio import AsyncEngine

from app.journal.database import open_database
from app.journal.schema import upgrade_schema
from tests.support.fates import FateStream
from tests.support.postgres import Postgres, running_postgres
from tests.support.valkey import Valkey


@pytest.fixture(scope="session")
def shared_postgres() -> Iterator[Postgres]:
    """A PostgreSQL for all tests of this process."""
    with running_postgres() as server:
        yield server


@pytest.fixture(params=["sqlite", "postgres"])
async def database_url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """The URL of an empty database, of each kind."""
    if request.param == "sqlite":
        return f"sqlite:///{tmp_path / 'journal.sqlite'}"
    postgres: Postgres = request.getfixturevalue("shared_postgres")
    return await asyncio.to_thread(postgres.new_database)


@pytest.fixture
async def engine(database_url: str) -> AsyncIterator[AsyncEngine]:
    """The journal's tables, empty, for a writer."""
    engine = open_database(database_url, is_writer=True)
    await upgrade_schema(engine)
    yield engine
    await engine.dispose()


@pytest.fixture
def stream(valkey: Valkey) -> FateStream:
    """The stream of the site `shop`."""
    return FateStream(valkey)
