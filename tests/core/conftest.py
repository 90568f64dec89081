"""A Valkey for all tests of the core, empty at the start of each, and nodes on it."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from contextlib import AsyncExitStack

import pytest

from app.settings import Site
from tests.support.store import StoreNode, running_valkey
from tests.support.valkey import Valkey


@pytest.fixture(scope="session")
def shared_valkey() -> Iterator[Valkey]:
    """The process, for the whole session."""
    with running_valkey() as server:
        yield server


@pytest.fixture
def valkey(shared_valkey: Valkey) -> Valkey:
    """The same, with nothing in it."""
    shared_valkey.client.flushall()
    return shared_valkey


class NodeStarter:
    """Starts nodes on the shared Valkey; lives for one test, at whose end they are closed."""

    def __init__(self, server: Valkey, stack: AsyncExitStack) -> None:
        """`stack` closes what was started."""
        self._server = server
        self._stack = stack

    async def __call__(self, *sites: Site) -> StoreNode:
        """One node for these sites."""
        node = await StoreNode.start(self._server, sites)
        self._stack.push_async_callback(node.close)
        return node


@pytest.fixture
async def start_node(valkey: Valkey) -> AsyncIterator[NodeStarter]:
    """Starts nodes."""
    async with AsyncExitStack() as stack:
        yield NodeStarter(valkey, stack)
