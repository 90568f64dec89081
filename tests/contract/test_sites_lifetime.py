"""Contract, "Acks, replay, resync": device_ttl, the keys left in Redis afterwards, and a device_ttl of 0."""

from __future__ import annotations

from tests.support.clients import ACK_NONE, ALL_KINDS
from tests.support.connector import Connector, batch_names, without_fences
from tests.support.deployment import Deployment
from tests.support.tenant import Tenant
from tests.support.valkey import Valkey
from tests.support.waiting import eventually


def test_beyond_device_ttl_nothing_is_left(connect: Connector, tenant: Tenant, deployment: Deployment) -> None:
    """After device_ttl no key or member in Redis names the device or the user or
    holds their messages; the queue is gone."""
    room = tenant.unique("shared")
    users = {kind: tenant.user(room) for kind in ALL_KINDS}
    device, event = tenant.unique("device"), tenant.unique("event")
    clients = [connect("brief", user, kind, device=device, ack=ACK_NONE) for kind, user in users.items()]
    deployment.send("brief", room, event, "live")
    for client in clients:
        client.wait_event(event)
        client.disconnect()
    deployment.send("brief", room, event, "away")
    valkey = deployment.redis
    assert _keys_that_name(valkey, device) != []
    traces = [device, room, event, *(user.room for user in users.values())]
    eventually(lambda: not _keys_that_name(valkey, *traces), "every trace of the devices to go", 60)
    for kind, user in users.items():
        client = connect("brief", user, kind, device=device)
        connect.fence("brief", user.room, client)
        assert without_fences(client) == [], kind


def test_send_to_an_expired_device(connect: Connector, tenant: Tenant, deployment: Deployment) -> None:
    """A message for a device that has been away for more than device_ttl is no error and leaves nothing in Redis."""
    user = tenant.user()
    connect("brief", user).disconnect()
    valkey = deployment.redis
    eventually(lambda: not _keys_that_name(valkey, user.room), "the device to go", 60)
    deployment.send("brief", user.room, "too late")
    assert _keys_that_name(valkey, user.room, "too late") == []


def test_within_device_ttl(connect: Connector, tenant: Tenant, deployment: Deployment) -> None:
    """A reconnect within device_ttl keeps the queue, and the time counts from the last disconnect."""
    user, control = tenant.user(), tenant.user()
    valkey = deployment.redis
    connect("brief", user, ack=ACK_NONE).disconnect()
    deployment.send("brief", user.room, "kept")
    for _ in range(2):
        # Each round is shorter than device_ttl and both together are longer: a
        # control device left in the first round expires.
        client = connect("brief", user, ack=ACK_NONE)
        assert batch_names(client.wait_event("_batch")) == ["kept"]
        connect("brief", control).disconnect()
        eventually(lambda: not _keys_that_name(valkey, control.room), "the control device to go", 60)
        client.disconnect()
        tenant.wait_for_update(user.token, "last_disconnected")
    assert batch_names(connect("brief", user).wait_event("_batch")) == ["kept"]


def test_connected_device_does_not_age(connect: Connector, tenant: Tenant, deployment: Deployment) -> None:
    """A connected device's messages do not expire, even when the connection outlives device_ttl."""
    user, control = tenant.user(), tenant.user()
    valkey = deployment.redis
    client = connect("brief", user, ack=ACK_NONE)
    deployment.send("brief", user.room, "kept")
    client.wait_event("kept")
    connect("brief", control).disconnect()
    eventually(lambda: not _keys_that_name(valkey, control.room), "the control device to go", 60)
    deployment.send("brief", user.room, "live")
    client.wait_event("live")
    client.disconnect()
    assert batch_names(connect("brief", user).wait_event("_batch")) == ["kept", "live"]


def test_one_of_two_devices_expires(connect: Connector, tenant: Tenant, deployment: Deployment) -> None:
    """When one device of a user expires, the other keeps receiving and keeps its queue."""
    user = tenant.user()
    gone, stays = tenant.unique("gone"), tenant.unique("stays")
    client = connect("brief", user, device=stays, ack=ACK_NONE)
    connect("brief", user, device=gone).disconnect()
    deployment.send("brief", user.room, "both")
    client.wait_event("both")
    eventually(lambda: not _keys_that_name(deployment.redis, gone), "the first device to go", 60)
    deployment.send("brief", user.room, "one")
    client.wait_event("one")
    client.disconnect()
    assert batch_names(connect("brief", user, device=stays).wait_event("_batch")) == ["both", "one"]


def test_device_ttl_zero_never_expires(connect: Connector, tenant: Tenant, deployment: Deployment) -> None:
    """With device_ttl 0 a device's queue never expires: `_settings` says 0, and no key of the device has an expiry."""
    user, control = tenant.user(), tenant.user()
    valkey = deployment.redis
    client = connect("endless", user, ack=ACK_NONE)
    assert client.wait_event("_settings").args == [{"device_ttl": 0}]
    deployment.send("endless", user.room, "live")
    client.wait_event("live")
    client.disconnect()
    deployment.send("endless", user.room, "away")
    connect("brief", control).disconnect()
    eventually(lambda: not _keys_that_name(valkey, control.room), "a device of another site to go", 60)
    keys = _keys_that_name(valkey, user.room)
    assert keys != []
    assert {key: valkey.client.ttl(key) for key in keys} == dict.fromkeys(keys, -1)
    assert batch_names(connect("endless", user).wait_event("_batch")) == ["live", "away"]


def test_acknowledged_bodies_are_gone(connect: Connector, tenant: Tenant, deployment: Deployment) -> None:
    """A message's body is deleted from Redis when every device has acknowledged it; until then it is stored once."""
    room = tenant.unique("shared")
    users = [tenant.user(room) for _ in range(3)]
    event = tenant.unique("event")
    clients = [connect("alpha", user, ack=ACK_NONE) for user in users]
    deployment.send("alpha", room, event, "body")
    valkey = deployment.redis
    for client in clients:
        received = client.wait_event(event)
        assert str(valkey.dump()).count(f'"{event}","body"') == 1
        client.ack(received)
    eventually(lambda: event not in str(valkey.dump()), "the body to go")


def _keys_that_name(valkey: Valkey, *names: str) -> list[str]:
    """List the keys that contain one of these names, in the key itself or anywhere in its value."""
    return [key for key, content in valkey.dump().items() if any(name in key or name in str(content) for name in names)]
