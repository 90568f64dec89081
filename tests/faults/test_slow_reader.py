"""A client that stops reading costs a bounded number of bytes, and never another client's time."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from tests.support.deployment import Deployment
from tests.support.metrics import Figures
from tests.support.processes import resident_bytes
from tests.support.receipts import percentile
from tests.support.swarm import Swarm
from tests.support.swarm_client import SwarmClient
from tests.support.tenant import Tenant

pytestmark = pytest.mark.alone

MESSAGES = 2_500
PAYLOAD = "x" * 4000
SLOW = 8
#: The messages for eight readers are 80 MB, their outboxes 8 MB.
MOST_BYTES = 25_000_000


def test_slow_reader(cluster: Deployment, tenant: Tenant, tell: Callable[[str], None]) -> None:
    """Some readers stop reading for the whole test while 10 MB of messages go to each of them and to others.
    The others get each message without delay, the node holds no more than the readers' outboxes, and
    the readers find all in their queues."""
    node = cluster.nodes[0]
    room = tenant.unique("room")
    with Swarm(cluster, "one", lambda: node.url) as swarm:
        others = [swarm.add(tenant.user(room)) for _ in range(4)]
        slow = [swarm.add(tenant.user(room)) for _ in range(SLOW)]
        swarm.board()
        swarm.send_all(room, 100, 4, PAYLOAD)
        swarm.check()
        swarm.each(SwarmClient.pause_reading, slow)
        before = resident_bytes(node.server.pid)
        swarm.send_all(room, MESSAGES - 100, 4, PAYLOAD)
        grown = resident_bytes(node.server.pid) - before
        swarm.check(clients=others)
        delays = [seconds * 1000 for client in others for seconds in client.receipts.delays_seconds]
        tell(f"the node grew by {grown / 1e6:.1f} MB; p99 of the others {percentile(delays, 99):.0f} ms")
        assert [client.connects for client in others] == [1] * len(others)
        assert grown < MOST_BYTES
        closings = Figures(node)("recado_transport_closings_total", reason="outbox full")
        assert closings == SLOW
        swarm.each(SwarmClient.resume_reading, slow)
        swarm.check(60)
        assert all(client.connects == 2 for client in slow)
