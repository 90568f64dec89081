"""Everybody comes back at once."""

from __future__ import annotations

import random
from collections.abc import Callable

from tests.support.deployment import Deployment
from tests.support.receipts import percentile
from tests.support.swarm import Swarm
from tests.support.tenant import Tenant


def test_storm(
    cluster: Deployment, tenant: Tenant, chance: random.Random, is_long: bool, tell: Callable[[str], None]
) -> None:
    """Thousands of clients that reconnect at once, to the node that is left, all get in and miss nothing; authUrl sees
    no more than auth_concurrency of their calls at a time."""
    room = tenant.unique("room")
    with Swarm(cluster, "one", lambda: chance.choice([node for node in cluster.nodes if node.is_listed]).url) as swarm:
        clients = [swarm.add(tenant.user(room)) for _ in range(5000 if is_long else 2000)]
        swarm.board(timeout_seconds=120)
        swarm.send_all(room, 2, 1)
        swarm.check()
        cluster.nodes[0].kill()
        swarm.send_all(room, 2, 1)
        swarm.wait_ready(timeout_seconds=120)
        swarm.check()
        tell(swarm.story())
        ready = [client.ready_seconds[-1] for client in clients if client.connects == 2]
        tell(
            f"{len(ready)} came back: ready after p50 {percentile(ready, 50):.2f} s, p99 {percentile(ready, 99):.2f} s"
        )
        assert len(ready) > len(clients) / 3
