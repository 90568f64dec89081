"""Three nodes on one Valkey, addressed one by one: no balancer hides which node a client or a send reaches."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest

from tests.support.connector import Connector, Drivers
from tests.support.deployment import Deployment
from tests.support.sites import contract_sites
from tests.support.tenant import Tenant

#: Opens clients at the node with this number.
At = Callable[[int], Connector]


@pytest.fixture(scope="session")
def cluster(tenant: Tenant) -> Iterator[Deployment]:
    """The nodes; tests share them, so each test uses users and rooms of its own."""
    deployment = Deployment(contract_sites(tenant), nodes=3)
    yield deployment
    deployment.end()


@pytest.fixture
def at(cluster: Deployment, drivers: Drivers) -> Iterator[At]:
    """Opens clients at a node, which are closed when the test ends."""
    connectors = [Connector(node, drivers) for node in cluster.nodes]
    yield lambda number: connectors[number]
    for connector in connectors:
        connector.close()
