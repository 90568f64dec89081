"""Fixtures of the directory: both databases, with the tables; each test has a site of its own."""

from __future__ import annotations

import itertools
from collections.abc import AsyncIterator

import pytest

from tests.journal.conftest import shared_postgres
from tests.protocols.messenger.directory.directory_ground import Company
from tests.support.postgres import Postgres

__all__ = ["shared_postgres"]

_numbers = itertools.count(1)


@pytest.fixture(scope="module", params=["sqlite", "postgres"])
def database(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> str:
    """The URL of a database, one of each kind for the tests of a module."""
    if request.param == "sqlite":
        return f"sqlite:///{tmp_path_factory.mktemp('directory') / 'directory.sqlite'}"
    postgres: Postgres = request.getfixturevalue("shared_postgres")
    return postgres.new_database()


@pytest.fixture
async def company(database: str) -> AsyncIterator[Company]:
    """A site with users."""
    company = await Company.open(database, f"company{next(_numbers)}")
    yield company
    await company.close()
