"""Fixtures of the console's tests: one node with a console on an empty database, and operators who use it."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from app.journal.database import open_database
from app.journal.schema import upgrade_schema
from tests.console.visitor import ConsoleNode
from tests.journal.conftest import database_url, engine, shared_postgres
from tests.support.valkey import Valkey

__all__ = ["database_url", "engine", "shared_postgres"]


@pytest.fixture
async def database(tmp_path: Path) -> str:
    """The URL of a database of the test's own, with the tables."""
    url = f"sqlite:///{tmp_path / 'journal.sqlite'}"
    writing = open_database(url, is_writer=True)
    await upgrade_schema(writing)
    await writing.dispose()
    return url


@pytest.fixture
async def node(valkey: Valkey, database: str) -> AsyncIterator[ConsoleNode]:
    """A node with a console, on SQLite."""
    node = await ConsoleNode.start(valkey, database)
    yield node
    await node.close()
