"""Fixtures of the tests of receipts."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager

import pytest
from sqlalchemy.ext.asyncio import AsyncEngine

from app.config.settings import Config
from app.ids import FlakeIds
from app.protocols.protocol import NodeServices
from app.protocols.reading import new_reading_pool
from app.protocols.receipts.protocol import RECEIPTS
from app.protocols.receipts.redis_queues import RedisQueueReader
from app.redis.client import Redis
from app.store.node_calls import NodeCalls
from tests.journal.conftest import database_url, engine, stream
from tests.protocols.receipts.asking import SITES, Backend
from tests.support.fates import new_writer, write_all
from tests.support.store import StoreNode
from tests.support.valkey import Valkey

__all__ = ["database_url", "engine", "stream"]


@pytest.fixture
async def node(valkey: Valkey) -> AsyncIterator[StoreNode]:
    """One node, whose store is empty."""
    node = await StoreNode.start(valkey, list(SITES.values()))
    yield node
    await node.close()


@pytest.fixture
def reader(node: StoreNode) -> RedisQueueReader:
    """The queues, as receipts read them."""
    return RedisQueueReader(node.redis)


@asynccontextmanager
async def asking(node: StoreNode, url: str) -> AsyncIterator[Backend]:
    """A tenant's backend that asks a node with this database."""
    config = Config(sites=dict(SITES), redis_url="redis://localhost", database_url=url)
    reading = new_reading_pool()
    parts = (node.redis, node.delivery, node.limits, FlakeIds(0, 0), node.counts)
    protocol = RECEIPTS.open(NodeServices(config, node.name, *parts, [], reading, NodeCalls(node.redis, node.name)))
    await protocol.start()
    backend = Backend(protocol.routes)
    try:
        yield backend
    finally:
        await backend.close()
        await protocol.close()
        reading.close()


@pytest.fixture
async def backend(node: StoreNode) -> AsyncIterator[Backend]:
    """A tenant's backend that asks a node without a journal."""
    async with asking(node, "none") as backend:
        yield backend


@pytest.fixture
async def historian(node: StoreNode, database_url: str, engine: AsyncEngine) -> AsyncIterator[Backend]:
    """A tenant's backend that asks a node with a journal, on each kind of database."""
    async with asking(node, database_url) as backend:
        yield backend


@pytest.fixture
def write(node: StoreNode, engine: AsyncEngine) -> Callable[[], Awaitable[None]]:
    """Has a writer write what is in the streams."""
    assert isinstance(node.redis, Redis)
    redis = node.redis
    return lambda: write_all(new_writer(redis, engine, *SITES))
