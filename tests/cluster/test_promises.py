"""The promises of the design over several nodes, word for word; tests/faults holds the promises about faults."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from tests.support.clients import (
    ACK_NONE,
    NODE_KINDS,
    PYTHON_KINDS,
    ClientKind,
    each_library,
)
from tests.support.connector import Connector, batch_names, numbers, without_fences
from tests.support.deployment import Deployment
from tests.support.landing import land
from tests.support.tenant import Tenant, User
from tests.support.waiting import eventually

At = Callable[[int], Connector]
NODES = 3


def test_order_whichever_node(at: At, cluster: Deployment, tenant: Tenant) -> None:
    """A device receives every message addressed to it at least once, in the order in which /send accepted them, live
    and in `_batch`, whichever node it is on; or it receives `_resync`. Never silence."""
    room = tenant.unique("room")
    kinds = [*NODE_KINDS, *PYTHON_KINDS]
    clients = [at(n % NODES)("alpha", tenant.user(room), kind) for n, kind in enumerate(kinds)]
    away = tenant.user(room)
    at(0)("alpha", away).disconnect()
    tenant.wait_for_update(away.token, "last_disconnected")
    _send_from_everywhere(cluster, room, 150)
    at(0).fence("alpha", room, *clients)
    back = at(2)("alpha", away)
    back.wait_event("_batch")
    orders = [numbers(client) for client in (*clients, back)]
    assert sorted(map(str, orders[0])) == sorted(map(str, range(150)))
    assert [order for order in orders if order != orders[0]] == []


@each_library
def test_a_device_that_moves_in_a_burst(at: At, cluster: Deployment, tenant: Tenant, kind: ClientKind) -> None:
    """A device that moves from node to node during a burst gets every message, in order, live or in a `_batch`, and
    nothing twice on one connection."""
    user = tenant.user()
    clients = [at(0)("alpha", user, kind)]
    with ThreadPoolExecutor(1) as pool:
        sending = pool.submit(_send_in_order, cluster, user.room, 200)
        for number in itertools.count(1):
            if sending.done():
                break
            clients[-1].disconnect()
            clients.append(at(number % NODES)("alpha", user, kind))
        sending.result()
    at(1).fence("alpha", user.room, clients[-1])
    seen: list[object] = []
    for client in clients:
        received = numbers(client)
        assert received == sorted(set(map(int, map(str, received)))), "out of order or twice on one connection"
        # A message that was received, but whose ack came too late, is sent again first.
        seen += [number for number in received if number not in set(seen)]
    assert seen == list(range(200))
    assert len(clients) > 2


def test_stored_for_all_or_none(at: At, cluster: Deployment, tenant: Tenant) -> None:
    """/send answers 200 only when the message is stored for every addressed device, all or none."""
    room = tenant.unique("room")
    users = [tenant.user(room) for _ in range(6)]
    clients = [at(n % NODES)("alpha", user, ack=ACK_NONE) for n, user in enumerate(users)]
    for number in range(9):
        cluster.nodes[number % NODES].send("alpha", room, "n", number)
        assert [_waiting(cluster, user) for user in users] == [number + 1] * len(users)
    at(2).fence("alpha", room, *clients)
    assert [client for client in clients if numbers(client) != list(range(9))] == []


def test_refused_is_stored_for_none(at: At, cluster: Deployment, tenant: Tenant) -> None:
    """A 503 means "not stored": a Redis that freezes and wakes when a node gives it up does not run the script."""
    room = tenant.unique("room")
    users = [tenant.user(room) for _ in range(6)]
    clients = [at(n % NODES)("alpha", user, ack=ACK_NONE) for n, user in enumerate(users)]
    cluster.redis.suspend()
    refused = cluster.nodes[1].try_send("alpha", {"rooms": [room], "event": "refused", "args": []})
    cluster.redis.resume()
    assert refused.status_code == 503
    eventually(lambda: all(node.get("/readyz").status_code == 200 for node in cluster.nodes), "all nodes", 60)
    at(2).fence("alpha", room, *clients)
    assert [_waiting(cluster, user) for user in users] == [1] * len(users)
    assert [without_fences(client) for client in clients] == [[]] * len(users)


def test_acks_from_several_nodes(at: At, cluster: Deployment, tenant: Tenant) -> None:
    """An acknowledged message is never replayed; an ack removes exactly what it acknowledges."""
    user = tenant.user()
    first, second = at(0)("alpha", user, ack=ACK_NONE), at(1)("alpha", user, ack=ACK_NONE)
    for number in range(8):
        cluster.nodes[2].send("alpha", user.room, f"n{number}")
    for client, acked in ((first, (0, 5)), (second, (2, 5, 7))):
        client.wait_event("n7")
        for number in acked:
            client.ack(client.wait_event(f"n{number}"))
    eventually(lambda: _waiting(cluster, user) == 4, "the acks to be applied")
    first.disconnect()
    second.disconnect()
    batch = at(2)("alpha", user).wait_event("_batch")
    assert batch_names(batch) == ["n1", "n3", "n4", "n6"]
    eventually(lambda: _waiting(cluster, user) == 0, "the batch's ack to be applied")


def test_sites_over_nodes(at: At, cluster: Deployment, tenant: Tenant) -> None:
    """No site sees, slows beyond its quota, or guesses at another: the same user, device and room in two sites on two
    nodes are separate, live, in `_batch`, and in what an ack removes."""
    room = tenant.unique("room")
    user = tenant.user(room)
    clients = {
        (site, number): at(number)(site, user, device=f"d{number}", ack=ACK_NONE)
        for site in ("alpha", "beta")
        for number in range(2)
    }
    for site in ("alpha", "beta"):
        for number in range(NODES):
            cluster.nodes[number].send(site, room, f"{site}-{number}")
            cluster.nodes[number].send(site, user.room, f"{site}-{number}-own")
    for (site, _), client in clients.items():
        client.wait_event(f"{site}-2-own")
        assert all(name.startswith(site) for name in client.names())
        assert len(client.names()) == 6
    alpha = clients["alpha", 0]
    for event in alpha.events():
        if event.wants_ack:
            alpha.ack(event)
    for client in clients.values():
        client.disconnect()
    eventually(lambda: _waiting(cluster, user, "alpha") == 6, "the acks to be applied")
    for site, is_left in (("alpha", False), ("beta", True)):
        again = at(2)(site, user, device="d0")
        at(1).fence(site, user.room, again)
        assert ("_batch" in again.names()) is is_left


def test_wrong_key_of_another_site_on_any_node(cluster: Deployment, tenant: Tenant) -> None:
    """No node takes one site's key for another's."""
    for node in cluster.nodes:
        query = {"site": "alpha", "apiKey": cluster.key("beta")}
        answer = node.post(params=query, json={"rooms": ["x"], "event": "n", "args": []})
        assert (answer.status_code, answer.text) == (401, "ApiKey invalid.")


@each_library
def test_one_device_on_two_nodes(at: At, cluster: Deployment, tenant: Tenant, kind: ClientKind) -> None:
    """Two connections of one device on two nodes: both get live messages, the newest gets the `_batch`, the first ack
    counts; the device is away when its last connection has ended."""
    user = tenant.user()
    older = at(0)("alpha", user, kind, ack=ACK_NONE)
    cluster.nodes[2].send("alpha", user.room, "before")
    older.wait_event("before")
    newer = at(1)("alpha", user, kind, ack=ACK_NONE)
    assert newer.wait_event("_batch").args == [[["before"]]]
    for event in ("acked", "open"):
        cluster.nodes[2].send("alpha", user.room, event)
    for client in (older, newer):
        client.wait_event("open")
    assert without_fences(older) == ["before", "acked", "open"]
    assert without_fences(newer) == ["_batch", "acked", "open"]
    newer.ack(newer.wait_event("acked"))
    eventually(lambda: _waiting(cluster, user) == 2, "the first ack to count")
    newer.disconnect()
    tenant.wait_for_update(user.token, "last_disconnected")
    cluster.nodes[1].send("alpha", user.room, "to the older")
    older.wait_event("to the older")
    older.disconnect()
    again = at(2)("alpha", user, kind)
    assert batch_names(again.wait_event("_batch")) == ["before", "open", "to the older"]


def test_full_queue_of_a_device_on_two_nodes(at: At, cluster: Deployment, tenant: Tenant) -> None:
    """Past its limit a device's queue is dropped, and the device gets `_resync` on each node that holds it."""
    user = tenant.user()
    clients = [at(number)("small_queue", user, ack=ACK_NONE) for number in (0, 1)]
    for number in range(6):
        cluster.nodes[2].send("small_queue", user.room, "n", number)
    for client in clients:
        client.wait_event("_resync")


def _send_from_everywhere(cluster: Deployment, room: str, count: int) -> None:
    """Send numbers, eight at a time, each over another node than the one before."""
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda n: cluster.nodes[n % NODES].send("alpha", room, "n", n), range(count)))


def _send_in_order(cluster: Deployment, room: str, count: int) -> None:
    for number in range(count):
        cluster.nodes[number % NODES].send("alpha", room, "n", number)


def _waiting(cluster: Deployment, user: User, site: str = "alpha") -> int:
    """How many messages wait in the queues of all the user's devices, read from Redis."""
    client: Any = cluster.redis.client
    land(client, site)
    handles = client.hkeys(f"recado:{{{site}}}:user:{user.room}")
    return sum(client.llen(f"recado:{{{site}}}:queue:{handle.decode()}") for handle in handles)
