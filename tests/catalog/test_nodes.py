"""Stored sites on two real nodes: what an operator changes is served by both, and nobody else notices."""

from __future__ import annotations

import asyncio
import itertools
import time
from collections.abc import Callable, Iterator, Mapping
from functools import partial
from typing import Any

import httpx
import pytest
from msgspec import structs

from app.catalog.site_facts import SiteOnNode, key_uses, on_nodes
from app.catalog.sql_sites import SqlSites
from app.catalog.stored_site import StoredSite, key_name
from tests.support.channels import Subscription, channels_site
from tests.support.clients import Client
from tests.support.connector import Connector, Drivers
from tests.support.deployment import Deployment, Node
from tests.support.operating import Operator
from tests.support.sites import load_sites
from tests.support.tenant import SECRET, Tenant
from tests.support.waiting import eventually

_numbers = itertools.count(1)


@pytest.fixture(scope="module")
def database_url(tmp_path_factory: pytest.TempPathFactory) -> str:
    """One database for both nodes."""
    return f"sqlite:///{tmp_path_factory.mktemp('stored') / 'journal.sqlite'}"


@pytest.fixture(scope="module")
def deployment(tenant: Tenant, database_url: str) -> Iterator[Deployment]:
    """Two nodes."""
    server = Deployment(load_sites(tenant), environment={"DATABASE_URL": database_url}, nodes=2)
    yield server
    server.end()


@pytest.fixture(scope="module")
def operator(deployment: Deployment, database_url: str) -> Operator:
    """An operator of this database."""
    return Operator(database_url, deployment.redis.url)


@pytest.fixture
def connect(deployment: Deployment, drivers: Drivers) -> Iterator[Connector]:
    """Opens clients at any node."""
    connector = Connector(deployment, drivers)
    yield connector
    connector.close()


@pytest.fixture
def name() -> str:
    """A name that no other test uses."""
    return f"stored{next(_numbers)}"


def block_of(tenant: Tenant, name: str, **settings: Any) -> dict[str, Any]:
    """A block as it would stand in sites.yml."""
    own = {"authUrl": f"{tenant.url}/{name}/rooms", "authScheme": "Token", "apiKey": f"{SECRET}-key-of-{name}"}
    return {**own, "userRoomPrefix": "user_", **settings}


def send_at(node: Node, site: str, key: str, room: str = "user_nobody", event: str = "news") -> int:
    """The status of a message that is sent at one node."""
    body = {"rooms": room, "event": event}
    return httpx.post(f"{node.url}/send", params={"site": site, "apiKey": key}, json=body).status_code


def _answers(node: Node, site: str, key: str, status: int) -> bool:
    return send_at(node, site, key) == status


def wait_status(deployment: Deployment, site: str, key: str, status: int) -> float:
    """Waits until every node answers a message so; the seconds that it took."""
    began = time.monotonic()
    for node in deployment.nodes:
        eventually(partial(_answers, node, site, key, status), f"{status} at every node")
    return time.monotonic() - began


def client_at(connect: Connector, node: Node, site: str, user: Any, **options: Any) -> Client:
    """A client at one node, which has its settings."""
    call = connect.call(site, user, **options)
    client = connect.begin(type(call)(**{**vars(call), "base_url": node.url}))
    client.wait_connected()
    client.wait_event("_settings")
    return client


def ends_of(client: Client) -> list[str]:
    """The ends of connections that a client has seen."""
    return [record.kind for record in client.records.snapshot() if record.kind in ("disconnect", "closed")]


def log_of(node: Node, event: str, **fields: Any) -> list[Mapping[str, Any]]:
    """The lines of an event in a node's log."""
    lines = [line for line in node.server.log() if line.get("event") == event]
    return [line for line in lines if all(line.get(name) == value for name, value in fields.items())]


def test_a_site_is_added(
    deployment: Deployment,
    operator: Operator,
    connect: Connector,
    tenant: Tenant,
    name: str,
    tell: Callable[[str], None],
) -> None:
    """Both nodes serve a new site in a moment; a client at one hears what is sent at the other, and the clients of
    other sites stay."""
    user = tenant.user()
    old = client_at(connect, deployment.nodes[0], "one", user)
    block = block_of(tenant, name, channels={})
    assert send_at(deployment.nodes[0], name, block["apiKey"]) == 401
    operator.add(name, block)
    tell(f"served by both nodes after {wait_status(deployment, name, block['apiKey'], 200):.2f} s")
    client = client_at(connect, deployment.nodes[0], name, user)
    assert send_at(deployment.nodes[1], name, block["apiKey"], user.room, "hello") == 200
    client.wait_event("hello")
    with Subscription(deployment.nodes[1].url, name) as subscription:
        assert subscription.uuid
    deployment.nodes[1].send("one", user.room, "still")
    old.wait_event("still")
    assert ends_of(old) == []


def test_settings_change_under_clients(
    deployment: Deployment, operator: Operator, connect: Connector, tenant: Tenant, name: str
) -> None:
    """Limits, origins and keys change without an end of a connection."""
    block = block_of(tenant, name)
    operator.add(name, block)
    wait_status(deployment, name, block["apiKey"], 200)
    user = tenant.user()
    client = client_at(connect, deployment.nodes[0], name, user)
    limited = {**block, "limits": {"rooms_per_send": 1}, "apiKey": f"{SECRET}-another-key-of-{name}"}
    operator.change(name, limited)
    wait_status(deployment, name, limited["apiKey"], 200)
    assert {send_at(node, name, block["apiKey"]) for node in deployment.nodes} == {401}
    answer = httpx.post(
        f"{deployment.nodes[1].url}/send",
        params={"site": name, "apiKey": limited["apiKey"]},
        json={"rooms": ["a", "b"], "event": "x"},
    )
    assert answer.status_code == 413
    assert send_at(deployment.nodes[1], name, limited["apiKey"], user.room, "after") == 200
    client.wait_event("after")
    assert ends_of(client) == []


def test_a_structural_change_lets_clients_come_again(
    deployment: Deployment, operator: Operator, connect: Connector, tenant: Tenant, name: str
) -> None:
    """A site that gets another prefix of user rooms and a protocol: its clients lose their transports, so that they
    connect again; the clients of other sites stay."""
    block = block_of(tenant, name, userRoomPrefix="member_")
    operator.add(name, block)
    wait_status(deployment, name, block["apiKey"], 200)
    user = tenant.user(room="member_7")
    old = client_at(connect, deployment.nodes[0], "one", tenant.user())
    client = client_at(connect, deployment.nodes[0], name, user)
    operator.change(name, {**block, "userRoomPrefix": "mem", "channels": {"open_create": True}})
    for node in deployment.nodes:
        eventually(partial(log_of, node, "site changed", site=name), "the change")
    client.wait_disconnected()
    eventually(partial(log_of, deployment.nodes[0], "disconnected", site=name, reason="site changed"), "the reason")
    with Subscription(deployment.nodes[1].url, name) as subscription:
        assert subscription.uuid
    again = client_at(connect, deployment.nodes[1], name, user)
    assert send_at(deployment.nodes[0], name, block["apiKey"], "member_7", "again") == 200
    again.wait_event("again")
    assert ends_of(old) == []


def test_a_key_is_rotated(deployment: Deployment, operator: Operator, tenant: Tenant, name: str) -> None:
    """The new key is valid beside the old one, no send with either is refused meanwhile, and each key's last use is
    known; a key that was removed is refused."""
    block = block_of(tenant, name)
    operator.add(name, block)
    wait_status(deployment, name, block["apiKey"], 200)
    site, key = operator.run(lambda catalog, _: catalog.add_key(name))
    assert [key_name(one) for one in site.keys] == [key_name(key), key_name(block["apiKey"])]
    refused = 0
    nodes = itertools.cycle(deployment.nodes)

    def is_everywhere() -> bool:
        nonlocal refused
        refused += send_at(next(nodes), name, block["apiKey"]) != 200
        return all(send_at(node, name, key) == 200 for node in deployment.nodes)

    eventually(is_everywhere, "the new key at every node")
    assert refused == 0
    before = operator.run(lambda _, redis: key_uses(redis, name))
    assert set(before) <= {key_name(key), key_name(block["apiKey"])}
    eventually(lambda: set(operator.run(lambda _, redis: key_uses(redis, name))) == set(site.keys_made), "last uses")
    operator.run(lambda catalog, _: catalog.remove_key(name, key_name(block["apiKey"])))
    wait_status(deployment, name, block["apiKey"], 401)
    assert {send_at(node, name, key) for node in deployment.nodes} == {200}
    eventually(lambda: set(operator.run(lambda _, redis: key_uses(redis, name))) == {key_name(key)}, "one last use")


def test_a_site_is_removed(
    deployment: Deployment,
    operator: Operator,
    connect: Connector,
    tenant: Tenant,
    name: str,
    tell: Callable[[str], None],
) -> None:
    """The clients of a removed site are told to leave, its keys leave Redis, the clients of other sites stay, and a
    site of the same name may come later."""
    block = channels_site(**block_of(tenant, name, topics={}))
    operator.add(name, block)
    wait_status(deployment, name, str(block["apiKey"]), 200)
    user = tenant.user()
    old = client_at(connect, deployment.nodes[1], "one", user)
    client = client_at(connect, deployment.nodes[0], name, user)
    subscription = Subscription(deployment.nodes[1].url, name)
    assert send_at(deployment.nodes[1], name, str(block["apiKey"]), user.room, "hello") == 200
    client.wait_event("hello")
    valkey = deployment.redis.client
    assert valkey.keys(f"recado:{{{name}}}:*")

    began = time.monotonic()
    operator.remove(name)
    client.wait_disconnected()
    assert subscription.closed() == (1001, "site removed")
    wait_status(deployment, name, str(block["apiKey"]), 401)
    tell(f"clients gone and refused after {time.monotonic() - began:.2f} s")
    eventually(lambda: operator.state(name) == "gone", "the keys to be removed", 60)
    assert valkey.keys(f"recado:{{{name}}}:*") == []
    eventually(partial(log_of, deployment.nodes[0], "disconnected", site=name, reason="site removed"), "the reason")
    deployment.nodes[0].send("one", user.room, "still")
    old.wait_event("still")
    assert ends_of(old) == []

    operator.add(name, block)
    wait_status(deployment, name, str(block["apiKey"]), 200)
    again = client_at(connect, deployment.nodes[1], name, user)
    assert send_at(deployment.nodes[0], name, str(block["apiKey"]), user.room, "again") == 200
    again.wait_event("again")


def test_health_of_auth_url(
    deployment: Deployment, operator: Operator, connect: Connector, tenant: Tenant, name: str
) -> None:
    """Each node that has connections of a site tells how many, and how its authUrl does."""
    block = block_of(tenant, name)
    operator.add(name, block)
    wait_status(deployment, name, block["apiKey"], 200)
    client_at(connect, deployment.nodes[0], name, tenant.user())

    def found() -> list[SiteOnNode]:
        return [one for one in operator.run(lambda _, redis: on_nodes(redis, name)).values() if one.connections]

    [health] = eventually(found, "the connection")
    assert (health.connections, health.breaker, health.in_flight) == (1, "closed", 0)
    assert (health.waiting, health.asked) == (0, 1)
    assert health.results == {"known": 1}
    assert 0 < health.ms < 8_000


def test_a_later_node_serves_stored_sites(
    deployment: Deployment, operator: Operator, tenant: Tenant, name: str
) -> None:
    """A node that starts later has the stored sites from its start, also while SQL is away: then those of the copy."""
    block = block_of(tenant, name)
    operator.add(name, block)
    wait_status(deployment, name, block["apiKey"], 200)
    node = deployment.add_node(DATABASE_URL=f"postgresql://nobody@/none?host={deployment.directory}")
    try:
        assert send_at(node, name, block["apiKey"]) == 200
        assert log_of(node, "stored sites taken from redis")
    finally:
        deployment.nodes.remove(node)
        node.end()


def test_a_node_without_sql(deployment: Deployment, operator: Operator, tenant: Tenant, name: str) -> None:
    """A node without a database says so, and serves the sites of sites.yml."""
    block = block_of(tenant, name)
    operator.add(name, block)
    node = deployment.add_node(DATABASE_URL="none")
    try:
        assert log_of(node, "stored sites off")
        assert send_at(node, name, block["apiKey"]) == 401
        assert send_at(node, "one", deployment.key("one")) == 200
    finally:
        deployment.nodes.remove(node)
        node.end()


def test_redis_that_loses_the_copy(deployment: Deployment, operator: Operator, tenant: Tenant, name: str) -> None:
    """A copy that is lost changes nothing that is served; a node writes it again from SQL."""
    block = block_of(tenant, name)
    operator.add(name, block)
    wait_status(deployment, name, block["apiKey"], 200)
    valkey = deployment.redis.client
    valkey.delete("recado:catalog:{all}:marks", "recado:catalog:{all}:sites", "recado:catalog:{all}:versions")
    eventually(lambda: valkey.hget("recado:catalog:{all}:sites", name), "the copy")
    assert {send_at(node, name, block["apiKey"]) for node in deployment.nodes} == {200}
    assert not any(log_of(node, "site removed", site=name) for node in deployment.nodes)


def test_a_shared_transport_stays(
    deployment: Deployment, operator: Operator, connect: Connector, tenant: Tenant, name: str
) -> None:
    """A session that has joined a site of sites.yml, too, keeps its transport when the stored site is removed."""
    block = block_of(tenant, name)
    operator.add(name, block)
    wait_status(deployment, name, block["apiKey"], 200)
    user = tenant.user()
    kept = client_at(connect, deployment.nodes[0], "one", user)
    call = connect.call(name, user)
    shared = connect.share(kept, type(call)(**{**vars(call), "base_url": deployment.nodes[0].url}))
    shared.wait_event("_settings")
    operator.remove(name)
    shared.wait_disconnected()
    deployment.nodes[1].send("one", user.room, "still")
    kept.wait_event("still")
    assert ends_of(kept) == []


def test_a_change_that_redis_was_not_told_of(
    deployment: Deployment, database_url: str, operator: Operator, tenant: Tenant, name: str
) -> None:
    """Nodes find in SQL what an operator changed while Redis was away."""
    block = block_of(tenant, name)
    operator.add(name, block)

    async def change_in_sql() -> None:
        rows = SqlSites.open(database_url)
        try:
            await rows.change(name, lambda site, version: _with_key(site, version, "the-key-that-only-sql-knows"))
        finally:
            await rows.close()

    asyncio.run(change_in_sql())
    eventually(
        lambda: {send_at(node, name, "the-key-that-only-sql-knows") for node in deployment.nodes} == {200},
        "both nodes to look into SQL",
        30,
    )


def _with_key(site: StoredSite | None, version: int, key: str) -> StoredSite:
    assert site is not None
    return structs.replace(site, version=version, block={**site.block, "apiKey": key})


def test_redis_that_is_away(deployment: Deployment, operator: Operator, tenant: Tenant, name: str) -> None:
    """A Redis that stops and comes again without the copy takes no site from any node."""
    block = block_of(tenant, name)
    operator.add(name, block)
    wait_status(deployment, name, block["apiKey"], 200)
    valkey = deployment.redis
    valkey.kill()
    eventually(lambda: all(send_at(node, name, block["apiKey"]) == 503 for node in deployment.nodes), "503")
    valkey.start()
    valkey.client.delete("recado:catalog:{all}:marks", "recado:catalog:{all}:sites", "recado:catalog:{all}:versions")
    for node in deployment.nodes:
        eventually(partial(_answers, node, name, block["apiKey"], 200), "the site again")
    eventually(lambda: valkey.client.hget("recado:catalog:{all}:sites", name), "the copy", 60)
    assert not any(log_of(node, "site removed", site=name) for node in deployment.nodes)
