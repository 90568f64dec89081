"""Fixtures of the operations on directories: both databases, each test with a site of its own."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest

from tests.protocols.messenger.directory.conftest import database
from tests.protocols.messenger.operations.office import Office, next_site

__all__ = ["database"]


@pytest.fixture
async def office(database: str) -> AsyncIterator[Office]:
    """A site with a messenger, and an operator."""
    office = await Office.start(database, next_site())
    yield office
    await office.close()
