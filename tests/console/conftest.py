"""Fixtures of the console's tests: one node with a console on an empty database, and operators who use it."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from tests.console.visitor import ConsoleNode
from tests.journal.conftest import database_url, engine
from tests.support.tables import sqlite_with_tables
from tests.support.valkey import Valkey

__all__ = ["database_url", "engine"]


@pytest.fixture
def database(tmp_path: Path) -> str:
    """The URL of a database of the test's own, with the tables."""
    return sqlite_with_tables(tmp_path)


@pytest.fixture
async def node(valkey: Valkey, database: str) -> AsyncIterator[ConsoleNode]:
    """A node with a console, on SQLite."""
    node = await ConsoleNode.start(valkey, database)
    yield node
    await node.close()
