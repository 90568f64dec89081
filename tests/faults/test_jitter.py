"""Clients on a bad network: each connection breaks every few seconds, and no message may be missed."""

from __future__ import annotations

import random
from collections.abc import Callable

import pytest

from tests.support.deployment import Deployment
from tests.support.receipts import percentile
from tests.support.swarm import Swarm
from tests.support.tenant import Tenant
from tests.support.waiting import eventually

pytestmark = pytest.mark.alone


def test_jitter(
    cluster: Deployment, tenant: Tenant, chance: random.Random, is_long: bool, tell: Callable[[str], None]
) -> None:
    """Each connection is cut without a close about every 5 s for 1 s, with 20 messages a second on 2 nodes: 100 % are
    delivered, from the queues, in order."""
    devices, messages = (500, 1200) if is_long else (100, 200)
    room = tenant.unique("room")
    with Swarm(cluster, "one", lambda: chance.choice(cluster.nodes).url) as swarm:
        clients = [swarm.add(tenant.user(room)) for _ in range(devices)]
        for client in clients[::4]:
            client.unacknowledged_share = 0.3
        swarm.board()
        with swarm.jitter(5, 1, chance), swarm.publishing(room, publishers=2, per_second=10):
            eventually(lambda: sum(sent.begun for sent in swarm.sent.values()) >= messages, "all to be sent", 100, 0.1)
        swarm.wait_ready()
        swarm.check()
        tell(f"{devices} devices: {swarm.story()}")
    replays = [seconds * 1000 for client in clients for seconds in client.complete_seconds[1:]]
    tell(f"reconnect to complete: p50 {percentile(replays, 50):.0f} ms, p99 {percentile(replays, 99):.0f} ms")
    assert len(replays) > devices
    assert [client.receipts.name for client in clients if client.receipts.resyncs] == []
    assert sum(client.receipts.batches for client in clients) > devices
    assert sum(client.receipts.repeated for client in clients) > 0
    assert [sent for sent in swarm.sent.values() if sent.refused or sent.unknown] == []
