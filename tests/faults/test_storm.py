"""All clients reconnect at once."""

from __future__ import annotations

import json
import random
from collections.abc import Callable

import pytest

from tests.support.deployment import Deployment
from tests.support.receipts import percentile
from tests.support.swarm import Swarm
from tests.support.swarm_client import SwarmClient
from tests.support.tenant import Answer, Tenant

pytestmark = pytest.mark.alone

#: The setting's default.
AUTH_CONCURRENCY = 64


def test_storm(
    cluster: Deployment, tenant: Tenant, chance: random.Random, is_long: bool, tell: Callable[[str], None]
) -> None:
    """Thousands of clients that reconnect at once to the remaining node are all admitted and miss nothing; authUrl gets
    no more than auth_concurrency of their calls at a time."""
    room = tenant.unique("room")
    with Swarm(cluster, "one", lambda: chance.choice([node for node in cluster.nodes if node.is_listed]).url) as swarm:
        users = [tenant.user(room) for _ in range(5000 if is_long else 2000)]
        for user in users:
            tenant.answer(user.token, Answer(body=json.dumps(user.rooms).encode(), delay_seconds=0.02))
        clients = [swarm.add(user) for user in users]
        swarm.board(timeout_seconds=120)
        swarm.send_all(room, 2, 1)
        swarm.check()
        tenant.most_at_once = 0
        cluster.nodes[0].kill()
        # Do not cut a client that is reconnecting already: the node would give up its authUrl call, which would then be
        # under way at the backend beside the call that takes its place.
        swarm.each(_cut)
        with swarm.publishing(room, publishers=1, per_second=2):
            swarm.wait_ready(timeout_seconds=120)
        swarm.check()
        tell(swarm.story())
        ready = [client.ready_seconds[-1] for client in clients]
        tell(f"{len(ready)} came back: p50 {percentile(ready, 50):.2f} s, p99 {percentile(ready, 99):.2f} s")
        assert min(client.connects for client in clients) == 2
        # One node is left, and its many clients keep the backend as busy as the limit allows.
        assert tenant.most_at_once == AUTH_CONCURRENCY


def _cut(client: SwarmClient) -> None:
    if client.is_ready:
        client.cut(0.05)
