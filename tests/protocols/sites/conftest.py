"""Fixtures of the sites' tests."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest

from tests.protocols.sites.door import SITES, Door
from tests.support.store import StoreNode
from tests.support.valkey import Valkey


@pytest.fixture
async def door(valkey: Valkey) -> AsyncIterator[Door]:
    """The application on a node."""
    node = await StoreNode.start(valkey, list(SITES.values()))
    yield Door(node, valkey)
    await node.close()
