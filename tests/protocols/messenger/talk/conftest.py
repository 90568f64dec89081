"""Fixtures of conversations: both databases, with the tables; each test has a site of its own."""

from __future__ import annotations

import itertools
from collections.abc import AsyncIterator

import pytest

from tests.protocols.messenger.talk.talk_ground import Ground
from tests.support.postgres import Postgres
from tests.support.tables import sqlite_with_tables

_numbers = itertools.count(1)


@pytest.fixture(scope="module", params=["sqlite", "postgres"])
def database(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> str:
    """The URL of a database, one of each kind for the tests of a module."""
    if request.param == "sqlite":
        return sqlite_with_tables(tmp_path_factory.mktemp("talk"))
    postgres: Postgres = request.getfixturevalue("shared_postgres")
    return postgres.database_with_tables()


@pytest.fixture
async def ground(database: str) -> AsyncIterator[Ground]:
    """A site with users and rooms."""
    ground = await Ground.open(database, f"talk{next(_numbers)}")
    yield ground
    await ground.close()
