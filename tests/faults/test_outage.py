"""Redis is away for long while clients connect again and again: nothing piles up, and its return is no storm."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from tests.support.clients import NODE_KINDS
from tests.support.connector import Connector, Drivers
from tests.support.deployment import Deployment
from tests.support.metrics import Figures
from tests.support.processes import resident_bytes
from tests.support.swarm import Swarm
from tests.support.swarm_client import SwarmClient
from tests.support.tenant import Answer, Tenant
from tests.support.waiting import eventually

#: The setting's default.
AUTH_CONCURRENCY = 64
_TICKS_PER_SECOND = 100


class Load:
    """The work of a node's process so far. Lives for one test."""

    def __init__(self, deployment: Deployment) -> None:
        self._deployment = deployment
        self._pid = deployment.nodes[0].server.pid

    @property
    def refused(self) -> int:
        """Connects that were refused because Redis is away."""
        return int(Figures(self._deployment)("recado_connects_total", site="one", result="unavailable"))

    @property
    def cpu_seconds(self) -> float:
        """Time on a core, in user and system mode."""
        fields = Path(f"/proc/{self._pid}/stat").read_text().rsplit(")", 1)[1].split()
        return (int(fields[11]) + int(fields[12])) / _TICKS_PER_SECOND

    def refuse(self, count: int) -> tuple[float, int]:
        """Waits until so many more are refused; the time on a core of each in seconds, and the memory in bytes."""
        refused, cpu_seconds = self.refused, self.cpu_seconds
        eventually(lambda: self.refused >= refused + count, f"{count} refusals", 300, 0.25)
        return (self.cpu_seconds - cpu_seconds) / (self.refused - refused), resident_bytes(self._pid)

    def idle_share(self) -> float:
        """The share of a core that the process uses in the next second."""
        begun, cpu_seconds = time.monotonic(), self.cpu_seconds
        eventually(lambda: time.monotonic() > begun + 1, "a second", 60)
        return (self.cpu_seconds - cpu_seconds) / (time.monotonic() - begun)


@pytest.mark.alone
@pytest.mark.parametrize("is_killed", [True, False], ids=["killed", "stopped"])
@pytest.mark.parametrize("cluster", [1], indirect=True)
def test_clients_that_reconnect_for_long(
    cluster: Deployment, tenant: Tenant, is_long: bool, is_killed: bool, tell: Callable[[str], None]
) -> None:
    """Memory and work stay flat over thousands of refused connects, authUrl is not asked; afterwards everybody is back
    within 30 s, and authUrl gets no more calls at a time than auth_concurrency."""
    room = tenant.unique("room")
    with Swarm(cluster, "one", lambda: cluster.nodes[0].url) as swarm:
        for _ in range(2_000 if is_long else 500):
            user = tenant.user(room)
            tenant.answer(user.token, Answer(body=json.dumps(user.rooms).encode(), delay_seconds=0.02))
            swarm.add(user)
        swarm.board(timeout_seconds=120)
        cluster.redis.kill() if is_killed else cluster.redis.suspend()
        eventually(lambda: cluster.get("/readyz").status_code == 503, "the node to know", 60)
        asked = len(tenant.requests)
        swarm.each(_cut)
        load = Load(cluster)
        count = 60_000 if is_long else 1_500
        first_seconds, first_bytes = load.refuse(count)
        last_seconds, last_bytes = load.refuse(2 * count)
        tell(f"{1e6 * first_seconds:.0f}, then {1e6 * last_seconds:.0f} µs a connect")
        tell(f"{first_bytes / 1e6:.0f}, then {last_bytes / 1e6:.0f} MB")
        assert len(tenant.requests) == asked
        # A task for each failed connect was some 10 KB: 30 MB.
        assert last_bytes - first_bytes < 10_000_000
        assert last_seconds < 1.5 * first_seconds
        tenant.most_at_once = 0
        cluster.redis.start() if is_killed else cluster.redis.resume()
        began = time.monotonic()
        swarm.wait_ready(timeout_seconds=60)
        tell(f"all back after {time.monotonic() - began:.1f} s")
        assert tenant.most_at_once <= AUTH_CONCURRENCY
        swarm.send_all(room, 2, 1)
        swarm.check()
    assert load.idle_share() < 0.3
    log = cluster.nodes[0].server.log()
    assert [line for line in log if "exception" in line] == []


@pytest.mark.parametrize("cluster", [1], indirect=True)
def test_every_library_comes_back(cluster: Deployment, drivers: Drivers, tenant: Tenant) -> None:
    """A browser that connects while Redis is away has its transport closed, with every library and transport, and comes
    back by itself when Redis is there again; authUrl is not asked before."""
    connector = Connector(cluster, drivers)
    cluster.redis.kill()
    eventually(lambda: cluster.get("/readyz").status_code == 503, "the node to know", 60)
    asked = len(tenant.requests)
    calls = [connector.call("one", tenant.user(), kind) for kind in NODE_KINDS]
    clients = [connector.begin(replace(call, reconnects=True)) for call in calls]
    try:
        refused = Load(cluster)
        eventually(lambda: refused.refused >= 3 * len(clients), "every client to have tried", 60)
        assert len(tenant.requests) == asked
        cluster.redis.start()
        for client in clients:
            client.wait_event("_settings", timeout_seconds=60)
    finally:
        connector.close()


def _cut(client: SwarmClient) -> None:
    client.cut(0.05)
