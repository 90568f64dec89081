"""Several nodes of a test's own, with sites for many clients."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.support.deployment import Deployment
from tests.support.sites import load_sites
from tests.support.tenant import Tenant


@pytest.fixture
def cluster(request: pytest.FixtureRequest, tenant: Tenant) -> Iterator[Deployment]:
    """Two nodes, or as many as the test's parameter sets."""
    deployment = Deployment(load_sites(tenant), nodes=getattr(request, "param", 2))
    yield deployment
    deployment.end()
