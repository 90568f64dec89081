"""A node is killed, paused or cut off from Redis: other nodes notice, report the ends of its connections once, and the
node itself finds out."""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime

import pytest

from app.store.keys import NODES
from tests.support.background import BackgroundLoop
from tests.support.clients import Client
from tests.support.connector import Connector, Drivers
from tests.support.deployment import Deployment, Node
from tests.support.sites import contract_sites
from tests.support.tcp_proxy import TcpProxy
from tests.support.tenant import Tenant, User
from tests.support.waiting import eventually

#: A node beats every 2 s, and counts as dead 7 s after its last beat.
BEAT_SECONDS = 2.0
REPORTED_WITHIN_SECONDS = 10.0
#: Slack for a busy machine.
GRACE_SECONDS = 20.0


@pytest.fixture
def deployment(tenant: Tenant) -> Iterator[Deployment]:
    """Three nodes; the last two survive."""
    deployment = Deployment(contract_sites(tenant), nodes=3)
    yield deployment
    deployment.end()


@pytest.fixture
def proxy(background: BackgroundLoop, deployment: Deployment) -> Iterator[TcpProxy]:
    """A proxy to the deployment's Redis that can be cut."""
    proxy = TcpProxy(background, deployment.redis.url)
    yield proxy
    proxy.end()


@dataclass
class Victim:
    """A node that is going to die, with connected users. Lives for one test."""

    node: Node
    connector: Connector
    users: list[User]
    clients: list[Client]
    #: A client of a site without queues.
    plain: Client

    @classmethod
    def of(cls, node: Node, drivers: Drivers, tenant: Tenant) -> Victim:
        """Connect two users, the second with two devices; all are reported as connected."""
        connector = Connector(node, drivers)
        users = [tenant.user() for _ in range(2)]
        clients = [
            connector("alpha", user, device=device) for user, device in zip((*users, users[1]), "abc", strict=True)
        ]
        tenant.wait_for_update(users[0].token, "last_connected")
        tenant.wait_for_update(users[1].token, "last_connected", nth=2)
        return cls(node, connector, users, clients, connector("plain", users[0]))

    def check_reports(self, tenant: Tenant, died_at: datetime) -> None:
        """Check that the end of each connection is reported once, with the time of the node's last beat."""
        for user, connections in zip(self.users, (1, 2), strict=True):
            updates = [request.body["user"] for request in tenant.requests_of(user.token, "PUT")]
            ends = [update["last_disconnected"] for update in updates if "last_disconnected" in update]
            assert (len(updates), len(ends)) == (2 * connections, connections)
            for moment in map(datetime.fromisoformat, ends):
                assert -0.5 < (died_at - moment).total_seconds() < BEAT_SECONDS + GRACE_SECONDS

    def wait_for_reports(self, tenant: Tenant) -> None:
        """Wait until both users' ends are reported, at most 10 s."""
        seconds = REPORTED_WITHIN_SECONDS + GRACE_SECONDS
        tenant.wait_for_update(self.users[0].token, "last_disconnected", timeout_seconds=seconds)
        tenant.wait_for_update(self.users[1].token, "last_disconnected", nth=2, timeout_seconds=seconds)

    def check_is_alive(self, tenant: Tenant) -> None:
        """Check that the node has noticed its burial, closed its connections, and serves and reports new ones."""
        for client in self.clients:
            client.wait_disconnected()
        user = tenant.user()
        client = self.connector("alpha", user)
        self.connector.fence("alpha", user.room, client)
        client.disconnect()
        # Every other report of the node was sent before this one.
        tenant.wait_for_update(user.token, "last_disconnected")
        eventually(self._is_plain_heard, "the rooms of the site without queues to be joined again")

    def _is_plain_heard(self) -> bool:
        self.node.send("plain", self.users[0].room, "again")
        return "again" in self.plain.names()


def test_dead_nodes(deployment: Deployment, proxy: TcpProxy, drivers: Drivers, tenant: Tenant) -> None:
    """When nodes are killed, stopped or cut off a survivor reports each end once, within 10 s. A node that wakes up
    closes its connections and reports nothing more.

    The time of an end is that of the last beat; so is that of a client that leaves while its node cannot reach Redis.
    """
    cut_off = deployment.add_node(REDIS_URL=proxy.redis_url)
    stopped = deployment.add_node()
    killed = deployment.nodes[0]
    victims = [Victim.of(node, drivers, tenant) for node in (killed, stopped, cut_off)]
    assert deployment.redis.client.zcard(NODES) == 5
    died_at, began = datetime.now(UTC), time.monotonic()
    killed.kill()
    stopped.suspend()
    proxy.refuse()
    victims[2].clients[0].disconnect()
    for victim in victims:
        victim.wait_for_reports(tenant)
    assert time.monotonic() - began < REPORTED_WITHIN_SECONDS + GRACE_SECONDS
    eventually(lambda: deployment.redis.client.zcard(NODES) == 2, "the burials")
    stopped.resume()
    proxy.refuse(False)
    for victim in victims[1:]:
        victim.check_is_alive(tenant)
    for victim in victims:
        victim.check_reports(tenant, died_at)
        victim.connector.close()
    eventually(lambda: deployment.redis.client.zcard(NODES) == 4, "both to count as living")


def test_messages_for_devices_of_a_dead_node(deployment: Deployment, drivers: Drivers, tenant: Tenant) -> None:
    """Messages sent while a node is dead wait for its devices, which get them at
    any node; a woken node repeats nothing."""
    stopped, other = deployment.nodes[:2]
    user = tenant.user()
    client = Connector(stopped, drivers)("alpha", user)
    stopped.suspend()
    other.send("alpha", user.room, "missed", 1)
    tenant.wait_for_update(user.token, "last_disconnected", timeout_seconds=REPORTED_WITHIN_SECONDS + GRACE_SECONDS)
    other.send("alpha", user.room, "missed", 2)
    elsewhere = Connector(other, drivers)
    moved = elsewhere("alpha", user)
    assert moved.wait_event("_batch").args == [[["missed", 1], ["missed", 2]]]
    stopped.resume()
    client.wait_disconnected()
    elsewhere.fence("alpha", user.room, moved)
    # The device is still connected, though the woken node has dropped its connection.
    other.send("alpha", user.room, "live")
    moved.wait_event("live")
    assert [name for name in client.names() if name != "missed"] == []
    elsewhere.close()
