"""Limits of connections while nodes die or freeze and Redis restarts: exact again soon, and never too strict."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from time import monotonic

import pytest

from tests.support.clients import POLLING, UPGRADE, WEBSOCKET, Client, ClientKind
from tests.support.connector import Connector, Drivers
from tests.support.deployment import Deployment, Node
from tests.support.sites import contract_sites
from tests.support.tenant import Tenant
from tests.support.waiting import eventually

CONNECTIONS = 4
#: A dead node is found within 10 s; the rest is slack for a busy machine.
WITHIN_SECONDS = 30.0
KINDS = [ClientKind(library, way) for library in ("2", "4") for way in (WEBSOCKET, POLLING, UPGRADE)]


@pytest.fixture
def deployment(tenant: Tenant) -> Iterator[Deployment]:
    """Two nodes with a site with a low limit of connections."""
    site = {**contract_sites(tenant)["alpha"], "limits": {"connections": CONNECTIONS, "connections_per_user": 1}}
    server = Deployment({"few": site}, nodes=2)
    yield server
    server.end()


def counted(deployment: Deployment) -> int:
    """How many connections Redis counts."""
    seats = [held for key, held in deployment.redis.dump().items() if key.startswith("recado:{few}:seats:") and held]
    return sum(int(held.get("all", 0)) for held in seats)


class Door:
    """Connects new users to one node. Lives for one test."""

    def __init__(self, node: Node, drivers: Drivers, tenant: Tenant) -> None:
        self._connector = Connector(node, drivers)
        self._tenant = tenant

    def enter(self) -> Client:
        """Connect a new user."""
        return self._connector("few", self._tenant.user())

    def knock(self) -> bool:
        """Connect a new user, which stays; return whether it was admitted in the end."""
        client = self._connector.begin(self._connector.call("few", self._tenant.user()))
        client.records.wait_for(lambda record: record.kind in ("connect", "refused", "closed"), "an answer", 14)
        return not client.refusals() and "connect" in [record.kind for record in client.records.snapshot()]

    def close(self) -> None:
        """End all clients."""
        self._connector.close()


def test_a_node_that_dies(deployment: Deployment, drivers: Drivers, tenant: Tenant) -> None:
    """Connections of a dead node count until it is found dead, within 10 s. A client that connects before then waits,
    and the limit still holds."""
    dying, living = (Door(node, drivers, tenant) for node in deployment.nodes)
    for door in (dying, dying, dying, living):
        door.enter()
    assert counted(deployment) == CONNECTIONS
    deployment.nodes[0].kill()
    began = monotonic()
    assert living.knock()
    assert monotonic() - began < WITHIN_SECONDS
    assert counted(deployment) == 2
    for _ in range(2):
        living.enter()
    assert not living.knock()
    living.close()
    eventually(lambda: counted(deployment) == 0, "nothing to be counted")


def test_the_users_of_a_node_that_dies(tenant: Tenant, drivers: Drivers) -> None:
    """Each user has as many connections as the limit allows, and they are counted until the node is buried: pages of
    2.x and 4.x reconnect by themselves to another node within 12 s, and get new messages."""
    site = {**contract_sites(tenant)["alpha"], "limits": {"connections_per_user": 1}}
    deployment = Deployment({"few": site}, nodes=2)
    connector = Connector(deployment, drivers)
    try:
        dying, living = deployment.nodes
        living.is_listed = False
        users = [(tenant.user(), kind) for kind in KINDS]
        calls = [replace(connector.call("few", user, kind), reconnects=True) for user, kind in users]
        clients = [connector.begin(call) for call in calls]
        for client in clients:
            client.wait_event("_settings")
        living.is_listed = True
        dying.kill()
        deadline = monotonic() + WITHIN_SECONDS
        for client in clients:
            client.wait_event("_settings", nth=2, timeout_seconds=max(0.1, deadline - monotonic()))
            # (For a 2.x page an error of the transport is an "error" too.)
            assert not [text for text in client.refusals() if "Too many" in str(text)]
        for user, client in zip((user for user, _ in users), clients, strict=True):
            deployment.send("few", user.room, "news")
            client.wait_event("news")
        # Another connection of a user at the limit, with no node dead, is still refused.
        assert connector.begin(connector.call("few", users[0][0], device="d2")).wait_refused()
    finally:
        connector.close()
        deployment.end()


def test_a_redis_that_restarts_empty(deployment: Deployment, drivers: Drivers, tenant: Tenant) -> None:
    """The nodes report their connections to the empty Redis: the limit holds, and
    all places are free again afterwards."""
    doors = [Door(node, drivers, tenant) for node in deployment.nodes]
    # (Redis knows no device, so it tells the clients to reconnect: the counts must be right whatever they do.)
    for door in doors:
        door.enter()
    deployment.redis.client.flushall()
    deployment.redis.kill()
    deployment.redis.start()
    for door in doors:
        door.close()
    eventually(lambda: counted(deployment) == 0, "nothing to be counted", 60)
    eventually(doors[0].knock, "a user to get in", 60)
    for door in doors:
        door.close()
    eventually(lambda: counted(deployment) == 0, "nothing to be counted")
