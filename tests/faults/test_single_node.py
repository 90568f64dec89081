"""Faults that one node survives: its Redis is frozen, killed and started again; it ends by SIGTERM and SIGKILL."""

from __future__ import annotations

import dataclasses
import threading
import time
from collections.abc import Callable, Iterator

import httpx
import pytest

from tests.support.clients import ACK_NONE, NODE_KINDS, ack_except
from tests.support.connector import Connector, Drivers, batch_names
from tests.support.deployment import Deployment
from tests.support.processes import descendants, is_running, kill
from tests.support.sites import contract_sites
from tests.support.tenant import Tenant, User
from tests.support.waiting import eventually


@pytest.fixture(params=[False, True], ids=["own Redis", "embedded"])
def deployment(request: pytest.FixtureRequest, tenant: Tenant) -> Iterator[Deployment]:
    """A server of the test's own, once with a separate Redis and once with the embedded one."""
    server = Deployment(contract_sites(tenant), is_embedded=request.param)
    yield server
    server.end()


@pytest.fixture
def with_redis(tenant: Tenant) -> Iterator[Deployment]:
    """A server of the test's own with a separate Redis."""
    server = Deployment(contract_sites(tenant))
    yield server
    server.end()


@pytest.fixture
def connect_with_redis(with_redis: Deployment, drivers: Drivers) -> Iterator[Connector]:
    """Opens clients of `with_redis`."""
    connector = Connector(with_redis, drivers)
    yield connector
    connector.close()


@pytest.mark.parametrize("fault", ["frozen", "killed"])
def test_redis_away_and_back(with_redis: Deployment, connect_with_redis: Connector, tenant: Tenant, fault: str) -> None:
    """While Redis is stopped /send answers 503 with Retry-After within 2 s. When Redis is back the node works without a
    restart, with its queues intact."""
    valkey = with_redis.redis
    away, present = tenant.user(), tenant.user()
    connect_with_redis("alpha", away).disconnect()
    client = connect_with_redis("alpha", present, ack=ACK_NONE)
    for user in (away, present):
        with_redis.send("alpha", user.room, "before")
    client.wait_event("before")
    if fault == "frozen":
        valkey.suspend()
    else:
        valkey.kill()
    for site in ("alpha", "plain"):
        _check_unavailable(with_redis, site, away)
    assert with_redis.get("/healthcheck").status_code in (200, 503)
    if fault == "frozen":
        valkey.resume()
    else:
        valkey.start()
    eventually(lambda: _is_sent(with_redis, away, "after"), "/send to work again", 60)
    eventually(lambda: _is_sent(with_redis, present, "after"), "/send to work again", 60)
    client.wait_event("after")
    batch = batch_names(connect_with_redis("alpha", away).wait_event("_batch"))
    assert (batch[0], batch[-1]) == ("before", "after")
    client.disconnect()
    assert batch_names(connect_with_redis("alpha", present).wait_event("_batch"))[0] == "before"


def test_concurrent_sends_while_redis_is_frozen(with_redis: Deployment, tenant: Tenant) -> None:
    """Many concurrent sends to a frozen Redis are each answered 503 within 2 s."""
    valkey = with_redis.redis
    with_redis.send("alpha", "warm-up", "event")
    valkey.suspend()
    user = tenant.user()
    threads = [threading.Thread(target=_check_unavailable, args=(with_redis, "alpha", user)) for _ in range(20)]
    started = time.monotonic()
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    # One after the other they would need 20 s.
    assert time.monotonic() - started < 15
    valkey.resume()
    eventually(lambda: _is_sent(with_redis, user, "after"), "/send to work again", 60)


def test_connecting_while_redis_is_away(with_redis: Deployment, connect_with_redis: Connector, tenant: Tenant) -> None:
    """A client that connects while Redis is away gets an error or waits; once Redis is back it can connect."""
    valkey = with_redis.redis
    valkey.kill()
    user = tenant.user()
    client = connect_with_redis.begin(connect_with_redis.call("alpha", user))
    client.records.wait_for(lambda record: record.kind in ("refused", "disconnect", "closed"), "an answer", 30)
    valkey.start()

    def can_connect() -> bool:
        attempt = connect_with_redis.begin(connect_with_redis.call("alpha", user))
        ends = ("refused", "disconnect", "closed", "event")
        return attempt.records.wait_for(lambda record: record.kind in ends, "an answer", 30).kind == "event"

    eventually(can_connect, "a connection", 60, interval_seconds=0.2)


def test_acks_while_redis_is_away(with_redis: Deployment, connect_with_redis: Connector, tenant: Tenant) -> None:
    """An ack that arrives while Redis is away is either applied later or its message is sent again: none is lost."""
    valkey = with_redis.redis
    user = tenant.user()
    client = connect_with_redis("alpha", user, ack=ACK_NONE)
    for event in ("acked", "open"):
        with_redis.send("alpha", user.room, event)
    client.wait_event("open")
    valkey.kill()
    client.ack(client.wait_event("acked"))
    valkey.start()
    eventually(lambda: _is_sent(with_redis, user, "after"), "/send to work again", 60)
    client.wait_event("after")
    client.disconnect()
    batch = batch_names(connect_with_redis("alpha", user).wait_event("_batch"))
    assert [name for name in batch if name != "acked"] == ["open", "after"]


def test_sigterm(deployment: Deployment, drivers: Drivers, tenant: Tenant) -> None:
    """SIGTERM closes connections of every kind and the node exits with 0 within 10 s;
    no process remains; queues are intact."""
    connect = Connector(deployment, drivers)
    users = {kind: tenant.user() for kind in NODE_KINDS}
    clients = [connect("alpha", user, kind, ack=ACK_NONE) for kind, user in users.items()]
    for client, user in zip(clients, users.values(), strict=True):
        deployment.send("alpha", user.room, "kept", user.id)
        client.wait_event("kept")
    family = descendants(deployment.server.pid)
    assert bool(family) is (deployment.valkey is None)
    assert deployment.stop() == 0
    for client in clients:
        client.wait_disconnected()
    assert [pid for pid in family if is_running(pid)] == []
    deployment.start()
    for kind, user in users.items():
        assert connect("alpha", user, kind).wait_event("_batch").args == [[["kept", user.id]]]
    connect.close()


def test_sigterm_while_sending(deployment: Deployment, drivers: Drivers, tenant: Tenant) -> None:
    """Every message answered 200 before a SIGTERM is in the queue afterwards, in order."""
    connect = Connector(deployment, drivers)
    user = tenant.user()
    connect("alpha", user).disconnect()
    accepted = _send_until_it_fails(deployment, user, deployment.stop)
    deployment.start()
    (entries,) = connect("alpha", user).wait_event("_batch").args
    numbers = [entry[1] for entry in entries]
    assert numbers[: len(accepted)] == accepted
    assert len(numbers) - len(accepted) <= 1
    connect.close()


@pytest.mark.parametrize("is_left", [True, False], ids=["Redis left behind", "Redis killed too"])
def test_sigkill(deployment: Deployment, drivers: Drivers, tenant: Tenant, is_left: bool) -> None:
    """After a SIGKILL during sends and a start on the same data, every message answered 200 is there."""
    connect = Connector(deployment, drivers)
    user, connected = tenant.user(), tenant.user()
    connect("alpha", user).disconnect()
    client = connect("alpha", connected, ack=ack_except("open"))
    for event in ("open", "acked"):
        deployment.send("alpha", connected.room, event)
    client.wait_event("acked")
    _pass_barrier(connect, tenant)

    def crash() -> None:
        left = deployment.kill()
        if not is_left:
            for pid in left:
                kill(pid)
            if deployment.valkey:
                deployment.valkey.kill()

    accepted = _send_until_it_fails(deployment, user, crash)
    client.wait_disconnected()
    if deployment.valkey and not is_left:
        deployment.valkey.start()
    deployment.start()
    (entries,) = connect("alpha", user).wait_event("_batch").args
    assert [entry[1] for entry in entries][: len(accepted)] == accepted
    assert batch_names(connect("alpha", connected).wait_event("_batch")) == ["open"]
    family = descendants(deployment.server.pid)
    assert deployment.stop() == 0
    assert [pid for pid in family if is_running(pid)] == []
    connect.close()


def test_clients_come_back_by_themselves(with_redis: Deployment, connect_with_redis: Connector, tenant: Tenant) -> None:
    """After a SIGKILL and a new start every library reconnects by itself and gets its unacknowledged messages."""
    connect = connect_with_redis
    users = {kind: tenant.user() for kind in NODE_KINDS}
    calls = [connect.call("alpha", user, kind, ack=ACK_NONE) for kind, user in users.items()]
    clients = [connect.begin(dataclasses.replace(call, reconnects=True)) for call in calls]
    for client, user in zip(clients, users.values(), strict=True):
        client.wait_event("_settings")
        with_redis.send("alpha", user.room, "kept", user.id)
        client.wait_event("kept")
    with_redis.kill()
    with_redis.start()
    for client, user in zip(clients, users.values(), strict=True):
        assert client.wait_event("_batch", timeout_seconds=60).args == [[["kept", user.id]]]


def test_device_of_a_killed_node_expires(with_redis: Deployment, connect_with_redis: Connector, tenant: Tenant) -> None:
    """The devices of a killed node count as disconnected within seconds: after
    device_ttl Redis holds nothing of them."""
    user = tenant.user()
    client = connect_with_redis("brief", user, ack=ACK_NONE)
    with_redis.send("brief", user.room, "kept")
    client.wait_event("kept")
    with_redis.kill()
    with_redis.start()
    valkey = with_redis.redis
    eventually(lambda: user.room not in str(valkey.dump()), "the device to go", 60, interval_seconds=0.2)


def _pass_barrier(connect: Connector, tenant: Tenant) -> None:
    """Block until acks that arrived before this call have been applied: a later connection has lived and ended."""
    user = tenant.user()
    client = connect("alpha", user)
    connect.fence("alpha", user.room, client)
    client.disconnect()
    tenant.wait_for_update(user.token, "last_disconnected")


def _send_until_it_fails(deployment: Deployment, user: User, end: Callable[[], object]) -> list[int]:
    """Send numbers one after another while `end` ends the server; return the numbers answered 200."""
    accepted: list[int] = []
    enough = threading.Event()

    def send() -> None:
        for number in range(100_000):
            try:
                body = {"rooms": [user.room], "event": "n", "args": [number]}
                if deployment.try_send("alpha", body).status_code != 200:
                    return
            except httpx.TransportError:
                return
            accepted.append(number)
            if number == 50:
                enough.set()

    thread = threading.Thread(target=send)
    thread.start()
    assert enough.wait(30)
    end()
    thread.join(60)
    assert not thread.is_alive()
    return accepted


def _check_unavailable(deployment: Deployment, site: str, user: User) -> None:
    started = time.monotonic()
    answer = deployment.try_send(site, {"rooms": [user.room], "event": "lost", "args": []})
    assert answer.status_code == 503
    # Of a request that hangs the client would give up after a minute.
    assert time.monotonic() - started < 20
    assert int(answer.headers["retry-after"]) >= 1


def _is_sent(deployment: Deployment, user: User, event: str) -> bool:
    return deployment.try_send("alpha", {"rooms": [user.room], "event": event, "args": []}).status_code == 200
