"""Random faults while numbered messages go to hundreds of devices: nodes and Redis are killed, frozen and cut off."""

from __future__ import annotations

import random
import time
from collections.abc import Callable, Iterator

import pytest

from tests.support.background import BackgroundLoop
from tests.support.deployment import Deployment, Node
from tests.support.swarm import Swarm
from tests.support.tcp_proxy import TcpProxy
from tests.support.tenant import Tenant
from tests.support.waiting import eventually

#: Every fault happens in each round, in random order.
FAULTS = ("kill", "kill", "freeze", "kill Redis", "cut off from Redis", "cut from Redis")


@pytest.fixture
def proxy(cluster: Deployment, background: BackgroundLoop) -> Iterator[TcpProxy]:
    """A proxy between a third node and Redis."""
    proxy = TcpProxy(background, cluster.redis.url)
    cluster.add_node(REDIS_URL=proxy.redis_url)
    yield proxy
    proxy.end()


def test_random_kills(
    cluster: Deployment,
    proxy: TcpProxy,
    tenant: Tenant,
    chance: random.Random,
    is_long: bool,
    tell: Callable[[str], None],
) -> None:
    """For any fault at any time: each device gets every number that was answered 200 at least once and in order, or a
    `_resync` after which it is complete again; a refused number arrives at most once."""
    room = tenant.unique("room")
    with Swarm(cluster, "one", lambda: chance.choice(cluster.nodes).url) as swarm:
        clients = [swarm.add(tenant.user(room)) for _ in range(300 if is_long else 120)]
        for client in clients[::4]:
            client.unacknowledged_share = 0.3
        swarm.board()
        with swarm.publishing(room, publishers=4, per_second=5):
            ends_at = time.monotonic() + (60 if is_long else 12)
            while time.monotonic() < ends_at:
                for fault in chance.sample(FAULTS, len(FAULTS)):
                    _break(cluster, proxy, swarm, chance, fault)
        swarm.wait_ready()
        swarm.check()
        tell(swarm.story())
    assert swarm.answered > 50
    assert sum(client.connects for client in clients) > len(clients)
    assert sum(client.receipts.repeated for client in clients) > 0


def _break(cluster: Deployment, proxy: TcpProxy, swarm: Swarm, chance: random.Random, fault: str) -> None:
    node = chance.choice(cluster.nodes)
    print(fault, cluster.nodes.index(node))
    if fault == "kill":
        node.kill()
        _pause(swarm, chance)
        node.start()
    elif fault == "freeze":
        node.suspend()
        _pause(swarm, chance)
        node.resume()
    elif fault == "kill Redis":
        cluster.redis.kill()
        _pause(swarm, chance)
        cluster.redis.start()
        eventually(lambda: _is_ready(node), "the node to find Redis again", 60)
    elif fault == "cut off from Redis":
        proxy.refuse()
        _pause(swarm, chance)
        proxy.refuse(False)
    else:
        proxy.cut()
    _pause(swarm, chance)


def _is_ready(node: Node) -> bool:
    return node.get("/readyz").status_code == 200


def _pause(swarm: Swarm, chance: random.Random) -> None:
    """Keep the fault, or the healthy state, for a while: this is the fault itself, not a wait for an event."""
    expected = swarm.begun + chance.randrange(1, 13)
    eventually(lambda: swarm.begun >= expected or swarm.is_stuck, "messages to be sent", 60)
