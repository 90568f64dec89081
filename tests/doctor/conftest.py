"""Two nodes with short pings for the doctor, and proxies in front of them."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager
from pathlib import Path

import pytest

from tests.support.deployment import Deployment
from tests.support.ports import HOST, free_port
from tests.support.proxies import Proxy, running_proxy
from tests.support.sites import ORIGIN, load_sites
from tests.support.tenant import Tenant

#: A healthy proxy waits much longer, the one with a fault a second.
PING_SECONDS = 4
Front = Callable[..., AbstractContextManager[Proxy]]


@pytest.fixture(scope="module")
def nodes(tenant: Tenant) -> Iterator[Deployment]:
    """Two nodes, with a site of topics and one that lists its pages."""
    sites = {
        "news": {"apiKey": "news-key", "topics": {}},
        "narrow": {**load_sites(tenant)["one"], "origins": [ORIGIN]},
    }
    config = {"io": {"pingInterval": PING_SECONDS * 1000}, "trusted_proxies": [HOST]}
    deployment = Deployment(sites, config, nodes=2)
    yield deployment
    deployment.end()


@pytest.fixture
def front(nodes: Deployment, tmp_path: Path) -> Front:
    """Starts a proxy, of this name and with these changes of its file, in front of the nodes or of nothing."""

    def start(
        name: str = "nginx", changes: Mapping[str, str] | None = None, *, has_nodes: bool = True
    ) -> AbstractContextManager[Proxy]:
        gone = f"http://{HOST}:{free_port()}"
        urls = [node.url for node in nodes.nodes] if has_nodes else [gone, gone]
        return running_proxy(name, urls, tmp_path / name, changes)

    return start
