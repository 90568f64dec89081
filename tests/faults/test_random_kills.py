"""Nodes and Redis killed and frozen by chance while numbered messages go to hundreds of devices."""

from __future__ import annotations

import random
import time
from collections.abc import Iterator

import pytest

from tests.support.deployment import Deployment, Node
from tests.support.sites import load_sites
from tests.support.swarm import Swarm
from tests.support.tenant import Tenant
from tests.support.waiting import eventually


@pytest.fixture
def cluster(tenant: Tenant) -> Iterator[Deployment]:
    """Three nodes of the test's own."""
    deployment = Deployment(load_sites(tenant), nodes=3)
    yield deployment
    deployment.end()


def test_random_kills(cluster: Deployment, tenant: Tenant, chance: random.Random, is_long: bool) -> None:
    """Whatever is killed and when: each device gets every number that was answered 200 at least once and in order, or
    a `_resync` after which it is complete again; what was refused comes once at most."""
    swarm = Swarm(cluster, "one", lambda: _some_url(cluster, chance))
    room = tenant.unique("room")
    clients = [swarm.add(tenant.user(room)) for _ in range(300 if is_long else 120)]
    swarm.board()
    with swarm.publishing(room, publishers=4, per_second=5):
        ends_at = time.monotonic() + (60 if is_long else 12)
        while time.monotonic() < ends_at:
            _break_something(cluster, chance)
    swarm.wait_ready()
    swarm.check()
    print(swarm.story())
    assert sum(len(sent.answered) for sent in swarm.sent.values()) > 50
    assert sum(client.connects for client in clients) > len(clients)
    swarm.end()


def _some_url(cluster: Deployment, chance: random.Random) -> str:
    """As a name server with several addresses: of any node, also of one that hangs."""
    return chance.choice([node.url for node in cluster.nodes])


def _break_something(cluster: Deployment, chance: random.Random) -> None:
    node = chance.choice(cluster.nodes)
    what = chance.choice(["kill", "kill", "freeze", "redis", "nothing"])
    print(what, cluster.nodes.index(node))
    if what == "kill":
        node.kill()
        _pause(chance)
        node.start()
    elif what == "freeze":
        node.suspend()
        _pause(chance)
        node.resume()
    elif what == "redis":
        cluster.redis.kill()
        _pause(chance)
        cluster.redis.start()
        eventually(lambda: _is_ready(node), "the node to find Redis again", 15)
    _pause(chance)


def _is_ready(node: Node) -> bool:
    return node.get("/readyz").status_code == 200


def _pause(chance: random.Random) -> None:
    """Let what was broken be broken, or whole, for a while: this is the fault, not waiting for something."""
    time.sleep(chance.uniform(0.05, 0.6))
