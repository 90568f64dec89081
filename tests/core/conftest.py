"""Nodes on the Valkey of the tests."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import AsyncExitStack

import pytest

from app.config.settings import Site
from tests.support.store import StoreNode
from tests.support.valkey import Valkey


class NodeStarter:
    """Starts nodes on the shared Valkey, and closes them at the end of the test. Lives for one test."""

    def __init__(self, server: Valkey, stack: AsyncExitStack) -> None:
        """`stack` closes the nodes."""
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
