"""Presence over several nodes: the nodes that hear of a message, and the connections that keep a device connected."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from tests.support.clients import ACK_NONE
from tests.support.connector import Connector, without_fences
from tests.support.deployment import Deployment
from tests.support.metrics import Figures
from tests.support.tenant import Tenant, User
from tests.support.waiting import eventually

At = Callable[[int], Connector]


@pytest.mark.parametrize("site", ["alpha", "plain"])
def test_only_nodes_with_an_addressed_device_hear(at: At, cluster: Deployment, tenant: Tenant, site: str) -> None:
    """A message reaches exactly the nodes that hold a connected device addressed by it, whichever node accepts it."""
    user, stranger, gone = tenant.user(), tenant.user(), tenant.user()
    client, bystander = at(0)(site, user), at(1)(site, stranger)
    at(2)(site, gone).disconnect()
    eventually(lambda: _is_away(cluster, site, gone), "who left to be away")
    before = _heard(cluster, site)
    for number in range(12):
        cluster.nodes[number % 3].send(site, [user.room, gone.room], "n", number)
    at(2).fence(site, user.room, client)
    at(2).fence(site, stranger.room, bystander)

    def heard() -> list[float]:
        return [now - then for now, then in zip(_heard(cluster, site), before, strict=True)]

    eventually(lambda: heard() == [13, 1, 0], "only the first node to hear of the messages")


def test_connected_until_the_last_connection_ends(at: At, cluster: Deployment, tenant: Tenant) -> None:
    """A device counts as connected while any node holds a connection of it, and as away afterwards."""
    user = tenant.user()
    first, second = at(0)("alpha", user), at(1)("alpha", user)
    assert len(_state(cluster, user).split(",")) == 2
    first.disconnect()
    eventually(lambda: "," not in _state(cluster, user), "the first connection to be taken out")
    assert not _state(cluster, user).startswith("@")
    second.disconnect()
    eventually(lambda: _state(cluster, user).startswith("@"), "the device to count as away")
    third = at(2)("alpha", user)
    assert not _state(cluster, user).startswith("@")
    third.disconnect()


def test_rooms_follow_the_newest_connection(at: At, cluster: Deployment, tenant: Tenant) -> None:
    """A user who gained and lost a room is in the current rooms only, also with devices on other nodes."""
    old, new = tenant.unique("old"), tenant.unique("new")
    user = tenant.user(old)
    first = at(0)("alpha", user, device="first")
    tenant.set_rooms(user.token, user.room, new)
    second = at(1)("alpha", user, device="second")
    cluster.nodes[2].send("alpha", old, "to the old room")
    cluster.nodes[2].send("alpha", new, "to the new room")
    at(2).fence("alpha", user.room, first, second)
    assert without_fences(first) == without_fences(second) == ["to the new room"]


def test_each_connection_is_reported_once(at: At, tenant: Tenant) -> None:
    """A user who moves between nodes is reported connected and disconnected once for each connection."""
    user = tenant.user()
    for number in (0, 1, 2):
        client = at(number)("alpha", user)
        tenant.wait_for_update(user.token, "last_connected", number + 1)
        client.disconnect()
        tenant.wait_for_update(user.token, "last_disconnected", number + 1)
    assert len(tenant.requests_of(user.token, "PUT")) == 6


def test_rooms_without_queues_over_nodes(at: At, cluster: Deployment, tenant: Tenant) -> None:
    """In a site without queues a room has its members on all nodes; a client that left is no longer a member."""
    room = tenant.unique("room")
    clients = [at(number % 3)("plain", tenant.user(room), ack=ACK_NONE) for number in range(6)]
    cluster.nodes[0].send("plain", room, "to all")
    for client in clients:
        client.wait_event("to all")
    for client in clients[:3]:
        client.disconnect()
    cluster.nodes[1].send("plain", room, "to half")
    for client in clients[3:]:
        client.wait_event("to half")
    assert [without_fences(client) for client in clients[:3]] == [["to all"]] * 3


def _is_away(cluster: Deployment, site: str, user: User) -> bool:
    """Whether Redis knows of no connection of the user."""
    client: Any = cluster.redis.client
    prefix = f"recado:{{{site}}}:"
    if site == "plain":
        return not client.exists(f"{prefix}members:{user.room}")
    return all(state.startswith(b"@") for state in client.hvals(f"{prefix}user:{user.room}"))


def _heard(cluster: Deployment, site: str) -> list[float]:
    return [Figures(node)("recado_bus_messages_total", site=site) for node in cluster.nodes]


def _state(cluster: Deployment, user: User) -> str:
    """The state of the user's only device as Redis has it: `node,node` while connected, `@<deadline>` while away."""
    client: Any = cluster.redis.client
    (state,) = client.hvals(f"recado:{{alpha}}:user:{user.room}")
    return str(state.decode())
