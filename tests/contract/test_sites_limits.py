"""A site's limits as clients and backends see them, on two nodes behind a balancer that is not sticky."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from tests.support.clients import ClientKind, each_library
from tests.support.connector import Connector
from tests.support.deployment import Deployment
from tests.support.sites import contract_sites
from tests.support.tenant import Tenant, User
from tests.support.waiting import eventually

LIMITS: dict[str, dict[str, Any]] = {
    "per_user": {"connections_per_user": 2},
    "few": {"connections": 2},
    "rooms": {"rooms_per_connection": 2},
    "rate": {"sends_per_second": 0.2, "sends_burst": 3},
    "short": {"message_bytes": 100},
    "by_address": {"connections_per_address": 1},
}


@pytest.fixture(scope="module")
def deployment(tenant: Tenant) -> Iterator[Deployment]:
    """Two nodes whose sites have limits; they trust the client address that a proxy on 127.0.0.1 reports."""
    some = contract_sites(tenant)["alpha"]
    sites = {name: {**some, "limits": limits} for name, limits in LIMITS.items()}
    server = Deployment(sites, {"trusted_proxies": ["127.0.0.1"], "joining_per_address": 50}, nodes=2)
    yield server
    server.end()


def refusal(connect: Connector, site: str, user: User, kind: ClientKind, device: str = "d1") -> object:
    """The text of the refusal as the page gets it."""
    return connect.begin(connect.call(site, user, kind, device)).wait_refused()


@each_library
def test_connections_of_a_user(connect: Connector, tenant: Tenant, kind: ClientKind) -> None:
    """A connection over the user's limit is refused with the reason at any
    node; when one leaves there is room again."""
    user, other = tenant.user(), tenant.user()
    first = connect("per_user", user, kind, "d1")
    connect("per_user", user, kind, "d2")
    assert refusal(connect, "per_user", user, kind, "d3") == "Too many connections of this user"
    connect("per_user", other, kind, "d1")
    first.disconnect()
    eventually(lambda: _is_free(connect, user, kind), "the place to be free")


def _is_free(connect: Connector, user: User, kind: ClientKind) -> bool:
    client = connect.begin(connect.call("per_user", user, kind, "d3"))
    client.records.wait_for(lambda record: record.kind in ("connect", "refused"), "an answer", 10)
    return not client.refusals()


@each_library
def test_connections_of_the_site(connect: Connector, deployment: Deployment, tenant: Tenant, kind: ClientKind) -> None:
    """Connections of a site are counted over both nodes; those already open go on."""
    eventually(lambda: not _counted(deployment, "few"), "nobody to be left of the tests before")
    room = tenant.unique("room")
    clients = [connect("few", tenant.user(room), kind) for _ in range(2)]
    assert refusal(connect, "few", tenant.user(room), kind) == "Too many connections"
    connect.fence("few", room, *clients)


@each_library
def test_rooms_of_a_connection(connect: Connector, tenant: Tenant, kind: ClientKind) -> None:
    """The user room counts towards the limit of rooms of a connection."""
    connect("rooms", tenant.user("a"), kind)
    assert refusal(connect, "rooms", tenant.user("a", "b"), kind) == "Too many rooms: expected at most 2"


def _counted(deployment: Deployment, site: str) -> list[str]:
    return [key for key in deployment.redis.dump() if key.startswith(f"recado:{{{site}}}:seats")]


def _joins_from(deployment: Deployment, address: str, user: User) -> str:
    """Join over polling as a client of a proxy that names the client's address; return the answer to CONNECT."""
    query = {"EIO": "4", "transport": "polling"}
    headers = {"X-Forwarded-For": f"198.51.100.1, {address}"}
    opened = deployment.nodes[0].get("/socket.io/", params=query, headers=headers)
    session = {**query, "sid": opened.text.partition('"sid":"')[2].partition('"')[0]}
    packet = f'40/by_address,{{"token":"{user.token}"}}'
    assert deployment.nodes[0].post("/socket.io/", params=session, content=packet).status_code == 200
    return deployment.nodes[0].get("/socket.io/", params=session).text


def test_connections_of_an_address(deployment: Deployment, tenant: Tenant) -> None:
    """Behind a trusted proxy the address is the one that the proxy saw, whatever address the client claims."""
    assert _joins_from(deployment, "203.0.113.7", tenant.user()).startswith("40/by_address")
    refused = '44/by_address,{"message":"Too many connections from this address"}'
    assert _joins_from(deployment, "203.0.113.7", tenant.user()) == refused
    assert _joins_from(deployment, "203.0.113.8", tenant.user()).startswith("40/by_address")


def test_sessions_of_an_address_that_have_joined_nothing(deployment: Deployment) -> None:
    """A node answers a session over `joining_per_address` 429, and those of another address as before."""
    query = {"EIO": "4", "transport": "polling"}

    def status(address: str) -> int:
        headers = {"X-Forwarded-For": address}
        return deployment.nodes[0].get("/socket.io/", params=query, headers=headers).status_code

    assert [status("203.0.113.9") for _ in range(51)] == [200] * 50 + [429]
    assert status("203.0.113.10") == 200


def test_sends_per_second(deployment: Deployment, tenant: Tenant) -> None:
    """Over the rate limit /send answers 429 with Retry-After on every node, and nothing is stored."""
    body = {"rooms": [tenant.unique("user_")], "event": "news"}
    answers = [deployment.nodes[number % 2].try_send("rate", body) for number in range(4)]
    assert [answer.status_code for answer in answers] == [200, 200, 200, 429]
    assert answers[3].text == "Too many messages: this site may send 0.2 a second, try again."
    assert 1 <= int(answers[3].headers["retry-after"]) <= 5


def test_message_bytes(deployment: Deployment) -> None:
    """A message over the limit is answered 413, with the expected size."""
    answer = deployment.try_send("short", {"rooms": ["a"], "event": "news", "args": ["x" * 100]})
    assert (answer.status_code, answer.text) == (413, "Message: expected at most 100 bytes as JSON, got 111.")
    assert deployment.try_send("short", {"rooms": ["a"], "event": "news", "args": ["x" * 50]}).status_code == 200
