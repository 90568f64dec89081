"""A node is killed or frozen, or its Redis is killed, while messages are sent;
clients of the other nodes see it too."""

from __future__ import annotations

import dataclasses
import random
from collections.abc import Iterator
from typing import Any

import pytest

from tests.support.background import BackgroundLoop
from tests.support.clients import ACK_NONE, ONE_OF_EACH, ack_except
from tests.support.connector import Connector, Drivers, batch_names
from tests.support.deployment import Deployment, Node
from tests.support.landing import land
from tests.support.metrics import Figures
from tests.support.swarm import Swarm
from tests.support.tcp_proxy import TcpProxy
from tests.support.tenant import Tenant
from tests.support.waiting import eventually


@pytest.fixture
def connectors(cluster: Deployment, drivers: Drivers) -> Iterator[list[Connector]]:
    """Opens clients at each node."""
    opened = [Connector(node, drivers) for node in cluster.nodes]
    yield opened
    for connector in opened:
        connector.close()


def test_killed_with_unacknowledged_messages(cluster: Deployment, connectors: list[Connector], tenant: Tenant) -> None:
    """A node may be killed at any instant: nothing stored is lost, its devices count as disconnected within seconds,
    their clients reconnect anywhere. Acknowledged messages are not sent again."""
    here, there = connectors
    room = tenant.unique("room")
    users = {kind: tenant.user(room) for kind in ONE_OF_EACH}
    clients = [here("one", user, kind, ack=ack_except("open")) for kind, user in users.items()]
    for event in ("open", "acked", "open"):
        cluster.nodes[1].send("one", room, event)
    for client in clients:
        client.wait_event("open", nth=2)
    eventually(lambda: _waiting(cluster) == 2 * len(users), "the acks to be applied")
    cluster.nodes[0].kill()
    cluster.nodes[1].send("one", room, "after")
    for client in clients:
        client.wait_disconnected()
    for kind, user in users.items():
        assert batch_names(there("one", user, kind).wait_event("_batch")) == ["open", "open", "after"]


def test_clients_go_elsewhere_by_themselves(cluster: Deployment, drivers: Drivers, tenant: Tenant) -> None:
    """Behind a balancer every library reconnects by itself, to a remaining node, and gets the messages that wait."""
    connector = Connector(cluster, drivers)
    users = {kind: tenant.user() for kind in ONE_OF_EACH if kind.library != "python"}
    # Three clients of each kind, so that both nodes have some.
    calls = [connector.call("one", user, kind, ack=ACK_NONE) for kind, user in users.items()] * 3
    calls = [
        dataclasses.replace(call, query={**call.query, "deviceId": f"d{number}"}, reconnects=True)
        for number, call in enumerate(calls)
    ]
    clients = [connector.begin(call) for call in calls]
    for client in clients:
        client.wait_event("_settings")
    for user in users.values():
        cluster.send("one", user.room, "kept")
    for client in clients:
        client.wait_event("kept")
    there = Figures(cluster.nodes[1])("recado_connections", site="one")
    assert there < len(clients)
    cluster.nodes[0].kill()
    eventually(
        lambda: sum("_batch" in client.names() for client in clients) == len(clients) - there,
        "the clients of the killed node to get their batch",
        30,
    )
    assert Figures(cluster.nodes[1])("recado_connections", site="one") == len(clients)
    connector.close()


def test_frozen_and_back(cluster: Deployment, tenant: Tenant) -> None:
    """A node is frozen for less than the time after which it counts as dead: other nodes answer sends as before, and
    when it resumes its clients get everything, in order, on the connections that they had."""
    frozen, other = cluster.nodes
    room = tenant.unique("room")
    with Swarm(cluster, "one", lambda: other.url) as swarm:
        stopped = [swarm.add(tenant.user(room), node_url=lambda: frozen.url) for _ in range(20)]
        moving = [swarm.add(tenant.user(room)) for _ in range(20)]
        swarm.board()
        swarm.send_all(room, 20, 2)
        swarm.check()
        frozen.suspend()
        swarm.send_all(room, 1000, 4, "x" * 500)
        swarm.check(clients=moving)
        assert [client.receipts.live for client in stopped] == [20] * len(stopped)
        frozen.resume()
        swarm.check()
        assert [client.connects for client in swarm.clients] == [1] * len(swarm.clients)


def test_cut_off_from_redis(cluster: Deployment, background: BackgroundLoop, tenant: Tenant) -> None:
    """A node loses Redis while others send: its clients keep their connections, and get the missed messages when Redis
    is back, each once and in order, without a `_batch`."""
    proxy = TcpProxy(background, cluster.redis.url)
    far = cluster.add_node(REDIS_URL=proxy.redis_url)
    room = tenant.unique("room")
    with Swarm(cluster, "one", lambda: cluster.nodes[0].url) as swarm:
        cut_off = [swarm.add(tenant.user(room), node_url=lambda: far.url) for _ in range(20)]
        swarm.board()
        for _ in range(3):
            swarm.send_all(room, 40, 4)
            swarm.check()
            proxy.refuse()
            eventually(lambda: not _is_ready(far), "the node to notice")
            swarm.send_all(room, 40, 4)
            assert [client for client in cut_off if client.receipts.has_everything()] == []
            proxy.refuse(False)
            swarm.check()
        assert [(client.connects, client.receipts.batches, client.receipts.repeated) for client in cut_off] == [
            (1, 0, 0)
        ] * len(cut_off)
    far.end()
    proxy.end()


def test_redis_killed_while_sending(cluster: Deployment, tenant: Tenant, chance: random.Random) -> None:
    """Redis may restart or fail over: /send answers 503 meanwhile, no node stays deaf, gaps are found and filled from
    the queues (or `_resync`). Live connections stay open."""
    room = tenant.unique("room")
    with Swarm(cluster, "one", lambda: chance.choice(cluster.nodes).url) as swarm:
        clients = [swarm.add(tenant.user(room)) for _ in range(40)]
        swarm.board()
        with swarm.publishing(room, publishers=4, per_second=25):
            for turn in range(1, 4):
                eventually(lambda turn=turn: swarm.answered > 40 * turn, "some messages to be taken")  # type: ignore[misc]
                refused = swarm.refused
                cluster.redis.kill()
                eventually(lambda refused=refused: swarm.refused > refused + 10, "some to be refused")  # type: ignore[misc]
                cluster.redis.start()
                eventually(lambda: all(map(_is_ready, cluster.nodes)), "the nodes to find Redis again", 60)
            eventually(lambda: swarm.answered > 160, "some more to be taken")
        swarm.check()
        assert [client.connects for client in clients] == [1] * len(clients)


def _waiting(cluster: Deployment) -> int:
    """How many messages wait in the queues of the site, read from Redis."""
    client: Any = cluster.redis.client
    land(client, "one")
    return sum(client.llen(key) for key in client.scan_iter("recado:{one}:queue:*"))


def _is_ready(node: Node) -> bool:
    return node.get("/readyz").status_code == 200
