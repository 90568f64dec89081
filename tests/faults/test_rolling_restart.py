"""A new version is rolled out: each of three nodes is ended and started again, one after the other, under load."""

from __future__ import annotations

import dataclasses
import signal
from collections.abc import Callable, Iterator

import pytest

from tests.support.clients import NODE_KINDS, Client
from tests.support.connector import Connector, Drivers
from tests.support.deployment import Deployment, Node
from tests.support.receipts import percentile
from tests.support.sites import load_sites
from tests.support.swarm import Swarm
from tests.support.tenant import Tenant
from tests.support.waiting import eventually


@pytest.fixture
def cluster(tenant: Tenant, is_long: bool) -> Iterator[Deployment]:
    """Three nodes behind a balancer."""
    deployment = Deployment(load_sites(tenant), {"drain_timeout": 20 if is_long else 2}, nodes=3)
    yield deployment
    deployment.end()


def test_rolling_restart(
    cluster: Deployment, drivers: Drivers, tenant: Tenant, is_long: bool, tell: Callable[[str], None]
) -> None:
    """Nodes end by SIGTERM one after the other, behind a balancer that checks their readiness: no send is refused or
    left without an answer, every device gets every message, in order, and every node ends with 0."""
    room = tenant.unique("room")
    connector = Connector(cluster, drivers)
    with Swarm(cluster, "one") as swarm:
        for _ in range(150 if is_long else 60):
            swarm.add(tenant.user(room))
        swarm.board()
        calls = [connector.call("one", tenant.user(room), kind) for kind in NODE_KINDS]
        browsers = [connector.begin(dataclasses.replace(call, reconnects=True)) for call in calls]
        for browser in browsers:
            browser.wait_event("_settings")
        with swarm.publishing(room, publishers=2, per_second=10):
            for node in cluster.nodes:
                answered = swarm.answered
                assert _restart(node) == 0
                eventually(lambda answered=answered: swarm.answered > answered + 20, "the load to go on")  # type: ignore[misc]
        swarm.wait_ready()
        swarm.check()
        tell(swarm.story())
        delays = [seconds * 1000 for client in swarm.clients for seconds in client.receipts.delays_seconds]
        tell(f"live delivery: p50 {percentile(delays, 50):.0f} ms, p99 {percentile(delays, 99):.0f} ms")
        assert [sent for sent in swarm.sent.values() if sent.refused or sent.unknown] == []
        assert sum(client.connects for client in swarm.clients) > len(swarm.clients)
        assert [client.receipts.name for client in swarm.clients if client.receipts.resyncs] == []
        for browser in browsers:
            _check(browser, {name: sent.answered for name, sent in swarm.sent.items()})
    connector.close()


def _restart(node: Node) -> int:
    """End a node as an orchestrator does and start it again; return its exit status."""
    node.server.signal(signal.SIGTERM)
    eventually(lambda: node.get("/readyz").status_code == 503, "the node to say that it drains")
    node.is_listed = False
    status = node.server.wait(60)
    node.start()
    return status


def _check(client: Client, answered: dict[str, list[int]]) -> None:
    """Check that the client has everything, in order; a message whose ack came too late may have arrived twice."""

    def received() -> dict[str, list[int]]:
        found: dict[str, dict[int, None]] = {name: {} for name in answered}
        for event in client.events():
            for entry in event.args[0] if event.name == "_batch" else [[event.name, *event.args]]:
                if entry[0] == "n":
                    found[entry[1]][entry[2]] = None
        return {name: list(numbers) for name, numbers in found.items()}

    eventually(lambda: received() == answered, f"{client!r} to have everything", 60, 0.2)
