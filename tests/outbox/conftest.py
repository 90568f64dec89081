"""A database with an outbox for the tests of a module, and connections to it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack

import asyncpg
import pytest

from app.outbox.tables import OutboxTables, connected
from tests.support.outbox import Connection, new_outbox
from tests.support.postgres import Postgres

Connect = Callable[[], Awaitable[Connection]]
Read = Callable[[], Awaitable[OutboxTables]]


@pytest.fixture(scope="module")
def dsn(shared_postgres: Postgres) -> str:
    """A database with an outbox."""
    return asyncio.run(new_outbox(shared_postgres))


@pytest.fixture
async def tenant(dsn: str) -> AsyncIterator[Connect]:
    """Connects as the tenant does; the outbox is empty at the begin."""
    async with AsyncExitStack() as stack:

        async def connect() -> Connection:
            connection = await asyncpg.connect(dsn)
            stack.push_async_callback(connection.close)
            return connection

        await (await connect()).execute("TRUNCATE recado_outbox, recado_outbox_place")
        yield connect


@pytest.fixture
async def read(dsn: str) -> AsyncIterator[Read]:
    """Connects as a reader does."""
    async with AsyncExitStack() as stack:

        async def connect() -> OutboxTables:
            return await stack.enter_async_context(connected(dsn, "public"))

        yield connect
