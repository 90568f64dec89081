"""Queues that are lost: `resync=true` on /send, and the bounds of queue and batch."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from tests.support.clients import ACK_NONE, Client, ClientKind, each_library, every_client
from tests.support.connector import Connector, batch_names, numbers, without_fences
from tests.support.deployment import Deployment
from tests.support.tenant import Tenant
from tests.support.waiting import eventually


@every_client
def test_resync_in_order(connect: Connector, tenant: Tenant, deployment: Deployment, kind: ClientKind) -> None:
    """Acks in the order of the event's messages cause no `_resync`; older messages of other events do not count."""
    user = tenant.user()
    client = connect("alpha", user, kind, ack=ACK_NONE)
    deployment.send("alpha", user.room, "other")
    for number in range(3):
        deployment.send("alpha", user.room, "delta", number, resync=True)
    for nth in range(3):
        client.ack(client.wait_event("delta", nth=nth + 1))
    # The next connection may be to another node than the acks.
    redis: Any = deployment.redis.client
    (handle,) = redis.hkeys(f"recado:{{alpha}}:user:{user.room}")
    eventually(lambda: redis.llen(b"recado:{alpha}:queue:" + handle) == 1, "the acks")
    client.disconnect()
    again = connect("alpha", user, kind)
    assert batch_names(again.wait_event("_batch")) == ["other"]
    connect.fence("alpha", user.room, again)
    assert "_resync" not in client.names() + again.names()


@every_client
def test_resync_out_of_order(connect: Connector, tenant: Tenant, deployment: Deployment, kind: ClientKind) -> None:
    """An ack of a message that is not the oldest of its event drops that event's messages only, and sends `_resync`."""
    user = tenant.user()
    client = connect("alpha", user, kind, ack=ACK_NONE)
    for number in range(3):
        deployment.send("alpha", user.room, "delta", number, resync=True)
        deployment.send("alpha", user.room, "other", number, resync=True)
    client.wait_event("other", nth=3)
    client.ack(client.wait_event("delta", nth=2))
    assert client.wait_event("_resync").args == []
    deployment.send("alpha", user.room, "delta", "after", resync=True)
    client.wait_event("delta", nth=4)
    client.disconnect()
    again = connect("alpha", user, kind, ack=ACK_NONE)
    assert again.wait_event("_batch").args == [[["other", 0], ["other", 1], ["other", 2], ["delta", "after"]]]


@each_library
def test_resync_of_a_device_that_left(
    connect: Connector, tenant: Tenant, deployment: Deployment, kind: ClientKind
) -> None:
    """A device that leaves right after an ack out of order gets its `_resync`
    before it leaves or at its next connect."""
    user = tenant.user()
    client = connect("alpha", user, kind, ack=ACK_NONE)
    for number in range(2):
        deployment.send("alpha", user.room, "delta", number, resync=True)
    client.ack(client.wait_event("delta", nth=2))
    client.disconnect()
    again = connect("alpha", user, kind)
    connect.fence("alpha", user.room, again)
    assert "_resync" in client.names() + again.names()
    assert "_batch" not in again.names()


@each_library
def test_resync_counts_within_one_device(
    connect: Connector, tenant: Tenant, deployment: Deployment, kind: ClientKind
) -> None:
    """A `_resync` goes to the device whose ack was out of order; the user's other device keeps its queue."""
    user = tenant.user()
    wild = connect("alpha", user, kind, device="wild", ack=ACK_NONE)
    calm = connect("alpha", user, kind, device="calm", ack=ACK_NONE)
    for number in range(2):
        deployment.send("alpha", user.room, "delta", number, resync=True)
    calm.wait_event("delta", nth=2)
    wild.ack(wild.wait_event("delta", nth=2))
    wild.wait_event("_resync")
    connect.fence("alpha", user.room, calm)
    assert "_resync" not in calm.names()
    calm.disconnect()
    assert batch_names(connect("alpha", user, kind, device="calm").wait_event("_batch")) == ["delta", "delta"]


def test_mixed_resync(connect: Connector, tenant: Tenant, deployment: Deployment) -> None:
    """The acknowledged message's own flag decides: a resync=false message may be acknowledged before older ones."""
    user = tenant.user()
    client = connect("alpha", user, ack=ACK_NONE)
    deployment.send("alpha", user.room, "delta", 0, resync=True)
    deployment.send("alpha", user.room, "delta", 1, resync=False)
    client.ack(client.wait_event("delta", nth=2))
    client.ack(client.wait_event("delta", nth=1))
    connect.fence("alpha", user.room, client)
    assert "_resync" not in client.names()


def test_batch_is_no_resync(connect: Connector, tenant: Tenant, deployment: Deployment) -> None:
    """The ack of a `_batch`, which acknowledges all of its resync messages at once, causes no `_resync`."""
    user = tenant.user()
    connect("alpha", user).disconnect()
    for number in range(3):
        deployment.send("alpha", user.room, "delta", number, resync=True)
    client = connect("alpha", user)
    client.wait_event("_batch")
    connect.fence("alpha", user.room, client)
    assert without_fences(client) == ["_batch"]


@pytest.mark.parametrize("query", [{"resync": "false"}, {}], ids=["false", "left out"])
def test_resync_is_asked_for(connect: Connector, tenant: Tenant, deployment: Deployment, query: dict[str, str]) -> None:
    """With resync false or absent an ack out of order causes no `_resync`."""
    user = tenant.user()
    client = connect("alpha", user, ack=ACK_NONE)
    for number in range(2):
        params = {"site": "alpha", "apiKey": deployment.key("alpha"), **query}
        body = {"rooms": user.room, "event": "delta", "args": [number]}
        assert deployment.post(params=params, json=body).status_code == 200
    client.ack(client.wait_event("delta", nth=2))
    connect.fence("alpha", user.room, client)
    assert "_resync" not in client.names()


@every_client
def test_batch_in_parts(connect: Connector, tenant: Tenant, deployment: Deployment, kind: ClientKind) -> None:
    """A long queue is sent in parts of `batch_limit`, each after the ack of the previous part."""
    user = tenant.user()
    connect("small_batch", user, kind).disconnect()
    for number in range(7):
        deployment.send("small_batch", user.room, "n", number)
    client = connect("small_batch", user, kind, ack=ACK_NONE)
    parts = [[0, 1, 2], [3, 4, 5], [6]]
    for nth, part in enumerate(parts, 1):
        batch = client.wait_event("_batch", nth=nth)
        assert batch.args == [[["n", number] for number in part]]
        client.ack(batch)
    connect.fence("small_batch", user.room, client)
    assert client.names().count("_batch") == len(parts)


@each_library
def test_live_message_between_the_parts(
    connect: Connector, tenant: Tenant, deployment: Deployment, kind: ClientKind
) -> None:
    """A message sent between the parts of a batch arrives once, after all older ones, live or in a part."""
    user = tenant.user()
    connect("small_batch", user, kind).disconnect()
    for number in range(5):
        deployment.send("small_batch", user.room, "n", number)
    client = connect("small_batch", user, kind, ack=ACK_NONE)
    first = client.wait_event("_batch")
    deployment.send("small_batch", user.room, "n", 5)
    client.ack(first)
    client.ack(client.wait_event("_batch", nth=2))
    client.records.wait_until(lambda _: 5 in numbers(client), "the last message")
    connect.fence("small_batch", user.room, client)
    assert numbers(client) == list(range(6))


def test_part_not_acknowledged(connect: Connector, tenant: Tenant, deployment: Deployment) -> None:
    """When one part was acknowledged and the next was not, the next connect begins with the unacknowledged part."""
    user = tenant.user()
    connect("small_batch", user).disconnect()
    for number in range(5):
        deployment.send("small_batch", user.room, "n", number)
    client = connect("small_batch", user, ack=ACK_NONE)
    client.ack(client.wait_event("_batch"))
    client.wait_event("_batch", nth=2)
    client.disconnect()
    assert connect("small_batch", user).wait_event("_batch").args == [[["n", 3], ["n", 4]]]


def test_batch_is_bounded_in_bytes(connect: Connector, tenant: Tenant, deployment: Deployment) -> None:
    """A part holds at most `batch_limit` bytes, but always at least one message."""
    user = tenant.user()
    connect("small_batch_bytes", user).disconnect()
    for size in (900, 900, 900, 5000, 100):
        deployment.send("small_batch_bytes", user.room, "n", "x" * size)
    client = connect("small_batch_bytes", user)
    client.records.wait_until(lambda _: sum(map(len, _batches(client))) == 5, "all five messages")
    sizes = [[len(str(entry[1])) for entry in batch] for batch in _batches(client)]
    assert [size for part in sizes for size in part] == [900, 900, 900, 5000, 100]
    assert all(sum(part) <= 2000 or part == [5000] for part in sizes)


def test_default_batch_cap(connect: Connector, tenant: Tenant, deployment: Deployment) -> None:
    """By default a `_batch` holds at most 1,000 messages."""
    user = tenant.user()
    connect("alpha", user).disconnect()
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda number: deployment.send("alpha", user.room, "n", number), range(1005)))
    client = connect("alpha", user)
    parts = [client.wait_event("_batch", nth=nth).args[0] for nth in (1, 2)]
    assert [len(part) for part in parts] == [1000, 5]
    assert sorted(entry[1] for part in parts for entry in part) == list(range(1005))


@every_client
def test_queue_overflow_while_connected(
    connect: Connector, tenant: Tenant, deployment: Deployment, kind: ClientKind
) -> None:
    """Past `queue_limit` the queue of a connected device is dropped and it gets
    `_resync` at once; then it works as before."""
    user = tenant.user()
    client = connect("small_queue", user, kind, ack=ACK_NONE)
    for number in range(6):
        deployment.send("small_queue", user.room, "n", number)
    assert client.wait_event("_resync").args == []
    deployment.send("small_queue", user.room, "after")
    client.wait_event("after")
    client.disconnect()
    again = connect("small_queue", user, kind)
    batch = batch_names(again.wait_event("_batch"))
    assert batch[-1] == "after"
    assert len(batch) <= 2


@every_client
def test_queue_overflow_while_away(
    connect: Connector, tenant: Tenant, deployment: Deployment, kind: ClientKind
) -> None:
    """A device whose queue overflowed while it was away gets `_resync` as the first event at its next connect."""
    user = tenant.user()
    connect("small_queue", user, kind).disconnect()
    for number in range(6):
        deployment.send("small_queue", user.room, "n", number)
    deployment.send("small_queue", user.room, "after")
    client = connect("small_queue", user, kind)
    assert client.wait_event("_resync").args == []
    connect.fence("small_queue", user.room, client)
    assert [event.name for event in client.events()][:2] == ["_settings", "_resync"]
    assert batch_names(client.wait_event("_batch"))[-1] == "after"


@every_client
def test_resync_that_arrived_is_not_repeated(
    connect: Connector, tenant: Tenant, deployment: Deployment, kind: ClientKind
) -> None:
    """A client that received its `_resync` does not get it again, so a page may reload itself on it."""
    user = tenant.user()
    client = connect("small_queue", user, kind, ack=ACK_NONE)
    for number in range(6):
        deployment.send("small_queue", user.room, "n", number)
    client.wait_event("_resync")
    connect.fence("small_queue", user.room, client)
    client.disconnect()
    again = connect("small_queue", user, kind)
    connect.fence("small_queue", user.room, again)
    assert "_resync" not in again.names()


def test_queue_at_its_limit(connect: Connector, tenant: Tenant, deployment: Deployment) -> None:
    """A queue that holds exactly `queue_limit` messages is kept whole."""
    user = tenant.user()
    connect("small_queue", user).disconnect()
    for number in range(5):
        deployment.send("small_queue", user.room, "n", number)
    client = connect("small_queue", user)
    assert client.wait_event("_batch").args == [[["n", number] for number in range(5)]]
    assert "_resync" not in client.names()


def test_queue_is_bounded_in_bytes(connect: Connector, tenant: Tenant, deployment: Deployment) -> None:
    """Past `queue_limit` bytes the queue is dropped too; another device of the user keeps its own."""
    user = tenant.user()
    connect("small_queue_bytes", user, device="away").disconnect()
    present = connect("small_queue_bytes", user, device="present")
    for _ in range(5):
        deployment.send("small_queue_bytes", user.room, "n", "x" * 1000)
        connect.fence("small_queue_bytes", user.room, present)
    away = connect("small_queue_bytes", user, device="away")
    away.wait_event("_resync")
    assert "_resync" not in present.names()


def _batches(client: Client) -> list[list[list[object]]]:
    """List the contents of the batches so far."""
    return [event.args[0] for event in client.events() if event.name == "_batch"]
