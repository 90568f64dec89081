"""Many clients leave nothing behind when they have gone: no memory, no gauge, no key."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator

import pytest

from tests.support.deployment import Deployment
from tests.support.metrics import Figures
from tests.support.processes import resident_bytes
from tests.support.sites import load_sites
from tests.support.swarm import Swarm
from tests.support.swarm_client import SwarmClient
from tests.support.tenant import Tenant
from tests.support.waiting import eventually

pytestmark = pytest.mark.alone

#: Metrics that count what is there now.
PRESENT = ("recado_sessions", "recado_connections")
#: The keys that Redis keeps for a site that has had a device: numbers and facts of nodes, never names of users (see
#: store/keys.py and catalog/redis_keys.py).
KEPT = {"seq", "handle", "run", "bus", "key_uses", "on_nodes"}
ROUNDS = 3


@pytest.fixture
def cluster(tenant: Tenant) -> Iterator[Deployment]:
    """Two nodes with a short device_ttl."""
    sites = {name: site | {"device_ttl": 2} for name, site in load_sites(tenant).items()}
    deployment = Deployment(sites, nodes=2)
    yield deployment
    deployment.end()


def test_leak(
    cluster: Deployment, tenant: Tenant, chance: random.Random, is_long: bool, tell: Callable[[str], None]
) -> None:
    """After each round of 1,000 clients the gauges are zero; after device_ttl Redis holds nothing of them; and the
    nodes' memory after the third round is within 5 % of that after the second."""
    held = [_round(cluster, tenant, chance, 1000) for _ in range(ROUNDS + 2 * is_long)]
    tell("MB held by the nodes after each round: " + ", ".join(f"{size / 1e6:.1f}" for size in held))
    assert held[-1] < held[1] * 1.05


def _round(cluster: Deployment, tenant: Tenant, chance: random.Random, count: int) -> int:
    """Connect, send, cut most clients without a close; return the nodes' memory in bytes afterwards."""
    room = tenant.unique("room")
    with Swarm(cluster, "one", lambda: chance.choice(cluster.nodes).url) as swarm:
        clients = [swarm.add(tenant.user(room)) for _ in range(count)]
        for client in clients[::3]:
            client.unacknowledged_share = 0.5
        swarm.board()
        present = [Figures(node)("recado_connections", site="one") for node in cluster.nodes]
        assert sum(present) == count
        swarm.send_all(room, 8, 2, "x" * 1000)
        swarm.check()
        assert _keys(cluster) != set()
        swarm.each(SwarmClient.leave)
        eventually(lambda: _present(cluster) == {}, "the gauges to return to zero", 60)
    eventually(lambda: _keys(cluster) <= KEPT, "Redis to forget the devices", 60, 0.1)
    return sum(resident_bytes(node.server.pid) for node in cluster.nodes)


def _present(cluster: Deployment) -> dict[str, float]:
    return {name: value for node in cluster.nodes for name, value in Figures(node).of(*PRESENT).items()}


def _keys(cluster: Deployment) -> set[str]:
    """The names behind the site's prefix in the keys that exist."""
    prefix = "recado:{one}:"
    return {key.decode().removeprefix(prefix) for key in cluster.redis.client.scan_iter(f"{prefix}*", count=10_000)}
