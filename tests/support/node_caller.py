"""A caller of nodes, as an operator's page is one: a bus of its own, and calls over it."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from app.core.message import LiveMessage
from app.redis.address import read_redis_url
from app.redis.client import Commands
from app.redis.topology import new_redis
from app.store import node_calls
from app.store.bus import Bus
from app.store.node_calls import NodeCalls
from app.store.nodes import new_node_id


class NodeCaller:
    """A node without sites. Lives for one test."""

    def __init__(self, redis: Commands) -> None:
        """Called by `calling`."""
        self.redis = redis
        self.name = new_node_id()
        self.bus = Bus(redis, self.name, self)
        self.calls = NodeCalls(redis, self.name)
        self.bus.on_call = self.calls.receive

    def message_published(self, site: str, counter: int, message: LiveMessage) -> None:
        """No site sends anything here."""

    def bus_interrupted(self) -> None:
        """Calls that are lost are lost."""


@asynccontextmanager
async def calling(url: str, answer_seconds: float = 20.0) -> AsyncIterator[NodeCaller]:
    """A caller that hears answers, on the Redis with this URL. It waits longer than a node does, as the machine may be
    busy; a test of silence says how long."""
    before, node_calls.ANSWER_SECONDS = node_calls.ANSWER_SECONDS, answer_seconds
    redis = new_redis(read_redis_url(url), 2.0)
    await redis.start()
    caller = NodeCaller(redis)
    await caller.bus.start()
    try:
        yield caller
    finally:
        node_calls.ANSWER_SECONDS = before
        await caller.bus.close()
        await caller.calls.close()
        await redis.close()
