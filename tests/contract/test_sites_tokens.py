"""Tokens that a site checks by itself, POST /disconnect and POST /rooms, with real clients, on two nodes behind a
balancer that is not sticky."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from typing import Any

import httpx
import pytest

from tests.support.background import BackgroundLoop
from tests.support.clients import Client, ClientKind, each_library, every_client
from tests.support.connector import Connector
from tests.support.deployment import Deployment
from tests.support.issuer import (
    EC_KEY,
    ISSUER,
    RSA_KEY,
    TOKEN_SECRET,
    claims_of,
    jwk_of,
    jwks_of,
    pem_of,
    signed,
    token_of,
)
from tests.support.jwks_server import JwksServer
from tests.support.sites import contract_sites
from tests.support.tenant import Tenant, User
from tests.support.waiting import eventually

_LISTED, _FIXED = "https://listed.example.com", "https://fixed.example.com"
_LARGE = b" " * 10_000_000


@pytest.fixture(scope="module")
def issuer(background: BackgroundLoop) -> Iterator[JwksServer]:
    """The issuer whose keys are in a JWKS."""
    server = JwksServer(background, jwks_of(jwk_of(RSA_KEY, "a")))
    yield server
    server.close()


@pytest.fixture(scope="module")
def deployment(tenant: Tenant, issuer: JwksServer) -> Iterator[Deployment]:
    """Two nodes with a site of tokens alone, one beside authUrl with tickets, and one with authUrl alone."""
    some = contract_sites(tenant)["alpha"]
    alone = {key: value for key, value in some.items() if key not in ("authUrl", "updateUserUrl")}
    secret = {"issuer": ISSUER, "secret": "${TOKEN_SECRET}", "leeway": 0}
    listed = {"issuer": _LISTED, "jwks": issuer.url, "audience": "push"}
    sites = {
        "alone": {**alone, "jwt": secret},
        "several": {**alone, "jwt": [secret, listed, {"issuer": _FIXED, "public_key": pem_of(EC_KEY)}]},
        "beside": {**some, "jwt": secret, "resume_ticket": {}},
        "asked": some,
    }
    server = Deployment(sites, {"log_level": "debug"}, environment={"TOKEN_SECRET": TOKEN_SECRET}, nodes=2)
    yield server
    server.end()


def owner(token: str, user: str = "8") -> User:
    """A user with this token."""
    return User(token, user, f"user_{user}", (f"user_{user}",))


def refusal(connect: Connector, site: str, token: str) -> Any:
    """The words that a client with the token gets."""
    return connect.begin(connect.call(site, owner(token))).wait_refused()


@every_client
def test_a_client_gets_in_by_its_token(
    connect: Connector, tenant: Tenant, deployment: Deployment, kind: ClientKind
) -> None:
    """Messages for the user and for a room of the token arrive, and no backend is asked."""
    user, room = tenant.unique("user"), tenant.unique("room")
    client = connect("alone", owner(token_of(user, room)), kind)
    deployment.send("alone", f"user_{user}", "own")
    deployment.send("alone", room, "shared")
    client.wait_event("own")
    client.wait_event("shared")
    client.disconnect()
    deployment.send("alone", room, "missed")
    again = connect("alone", owner(token_of(user, room)), kind)
    assert again.wait_event("_batch").args[0] == [["missed"]]
    assert tenant.requests_of(token_of(user, room)) == []


@each_library
def test_refusals(connect: Connector, kind: ClientKind) -> None:
    """A token that does not count is refused as by authUrl, whatever its fault."""
    for token in (token_of("8", seconds=-60), token_of("8")[:-4] + "AAAA", signed(claims_of(), None, "none"), "12345"):
        call = connect.call("alone", owner(token), kind)
        assert connect.begin(call).wait_refused() == "Authentication failed"


@pytest.mark.parametrize("kind", [ClientKind(name, ("websocket",)) for name in ("2", "4", "python")], ids=str)
def test_a_token_that_runs_out(connect: Connector, tenant: Tenant, deployment: Deployment, kind: ClientKind) -> None:
    """Two clients are told that their tokens run out: the client that hands in another stays, on the same connection,
    and the other one is closed with the reason."""
    users = [tenant.unique("user") for _ in range(2)]
    leaves = connect("alone", owner(token_of(users[1], seconds=4)), kind)
    stays = connect("alone", owner(token_of(users[0], seconds=50)), kind)
    for client, seconds in ((stays, 50), (leaves, 4)):
        assert 0 <= client.wait_event("_token_expiring").args[0]["expires_in"] <= seconds
    answer = stays.ask("_token", token_of(users[0], seconds=300))
    assert (answer["ok"], 250 <= answer["expires_in"] <= 300) == (True, True)
    assert leaves.wait_event("_closed").args == [{"reason": "token expired"}]
    leaves.wait_disconnected()
    connect.fence("alone", f"user_{users[0]}", stays)
    assert [record.kind for record in stays.records.snapshot()].count("connect") == 1
    assert "_closed" not in stays.names()


@each_library
def test_tokens_that_do_not_renew(connect: Connector, tenant: Tenant, kind: ClientKind) -> None:
    """A token of another user has an answer with the reason; a token with other rooms closes the connection."""
    user = tenant.unique("user")
    client = connect("alone", owner(token_of(user)), kind)
    assert client.ask("_token", token_of("another")) == {"error": "the token is of another user"}
    other = connect("alone", owner(token_of(user)), kind, "d2")
    assert other.ask("_token", token_of(user, "news")) == {"ok": True, "reconnect": True}
    other.wait_disconnected()


def test_several_issuers(connect: Connector, tenant: Tenant) -> None:
    """Each token is checked with the keys of its own issuer, of each kind."""
    listed = claims_of(tenant.unique("user"), iss=_LISTED, aud="push")
    fixed = claims_of(tenant.unique("user"), iss=_FIXED)
    for token in (token_of(), signed(listed, RSA_KEY, "RS256", kid="a"), signed(fixed, EC_KEY, "ES256")):
        connect("several", owner(token))
    for wrong in (
        signed(fixed, RSA_KEY, "RS256", kid="a"),
        signed({**listed, "aud": "shop"}, RSA_KEY, "RS256", kid="a"),
        signed(listed, TOKEN_SECRET),
        token_of(iss="https://unknown.example.com"),
    ):
        assert refusal(connect, "several", wrong) == "Authentication failed"


def test_a_jwks_that_rotates_and_fails(
    connect: Connector, tenant: Tenant, issuer: JwksServer, deployment: Deployment
) -> None:
    """A rotated key counts at once on every node. While the issuer hangs, fails or sends too much, the last good set
    serves, and unknown keys do not bring more requests."""

    def on_each(key: Any, algorithm: str, kid: str) -> list[Client]:
        token = signed(claims_of(tenant.unique("user"), iss=_LISTED, aud="push"), key, algorithm, kid=kid)
        call = connect.call("several", owner(token))
        return [connect.begin(dataclasses.replace(call, base_url=node.url)) for node in deployment.nodes]

    for client in on_each(RSA_KEY, "RS256", "a"):
        client.wait_connected()
    good = issuer.body = jwks_of(jwk_of(RSA_KEY, "a"), jwk_of(EC_KEY, "b"))
    for client in on_each(EC_KEY, "ES256", "b"):
        client.wait_connected()
    # Each node has read the set for its first token and for the new key.
    assert issuer.requests == 4
    try:
        for status, body, hangs in ((500, b"", False), (200, _LARGE, False), (200, b"", True)):
            issuer.status, issuer.body, issuer.hangs = status, body, hangs
            for number in range(2):
                for client in on_each(RSA_KEY, "RS256", f"x{number}"):
                    assert client.wait_refused() == "Authentication failed"
            for client in on_each(EC_KEY, "ES256", "b"):
                client.wait_connected()
        assert issuer.requests == 4
    finally:
        issuer.status, issuer.body, issuer.hangs = 200, good, False


def test_beside_auth_url(connect: Connector, tenant: Tenant, deployment: Deployment) -> None:
    """A token of the issuer needs no backend, every other token is authUrl's, and both get tickets. The backend hears
    of the connect with the token."""
    token = token_of(tenant.unique("user"))
    client = connect("beside", owner(token))
    assert "resume_ticket" in client.wait_event("_settings").args[0]
    tenant.wait_for_update(token, "last_connected")
    assert tenant.requests_of(token) == []
    user = tenant.user()
    connect("beside", user)
    assert len(tenant.requests_of(user.token)) == 1
    lines = [line for node in deployment.nodes for line in node.server.lines.snapshot()]
    assert not [line for line in lines if token.split(".")[1] in line or TOKEN_SECRET in line]


def order(deployment: Deployment, path: str, site: str, **body: Any) -> httpx.Response:
    """The answer to the site's backend."""
    headers = {"X-API-Key": deployment.key(site)}
    return deployment.request("POST", path, params={"site": site}, json=body, headers=headers)


def kick(deployment: Deployment, site: str, **body: Any) -> httpx.Response:
    """The answer to the site's backend, which ends connections."""
    return order(deployment, "/disconnect", site, **body)


def of_two_nodes(deployment: Deployment, connect: Connector, users: list[User], kind: ClientKind) -> list[Client]:
    """Clients of these users, in turn on each node."""
    clients = []
    for number, user in enumerate(users):
        call = connect.call("asked", user, kind, device=f"d{number}")
        clients.append(connect.begin(dataclasses.replace(call, base_url=deployment.nodes[number % 2].url)))
    for client in clients:
        client.wait_connected()
        client.wait_event("_settings")
    return clients


@each_library
def test_kicks_reach_all_nodes(connect: Connector, tenant: Tenant, deployment: Deployment, kind: ClientKind) -> None:
    """The connections of a user, of a device and of a room end on both nodes, with the text; all others stay."""
    room = tenant.unique("room")
    one, two, three = tenant.user(room), tenant.user(room), tenant.user()
    clients = of_two_nodes(deployment, connect, [one, one, two, two, three, three], kind)
    assert kick(deployment, "asked", user=one.room, text="Signed out").json() == {"disconnected": 2}
    for client in clients[:2]:
        assert client.wait_event("_closed").args == [{"reason": "Signed out"}]
        client.wait_disconnected()
    assert kick(deployment, "asked", user=two.room, device="d3").json() == {"disconnected": 1}
    assert clients[3].wait_event("_closed").args == [{"reason": "disconnected"}]
    assert kick(deployment, "asked", room=room.upper()).json() == {"disconnected": 1}
    clients[2].wait_disconnected()
    connect.fence("asked", three.room, *clients[4:])
    assert kick(deployment, "asked", user="user_nobody").json() == {"disconnected": 0}


def test_a_node_that_does_not_answer(connect: Connector, tenant: Tenant, deployment: Deployment) -> None:
    """While a node is frozen the answer is 503, with the number so far; repeated later it is whole."""
    user = tenant.user()
    first, second = of_two_nodes(deployment, connect, [user, user], ClientKind("4", ("websocket",)))
    deployment.nodes[1].suspend()
    try:
        answer = kick(deployment, "asked", user=user.room)
    finally:
        deployment.nodes[1].resume()
    assert (answer.status_code, answer.json()["disconnected"]) == (503, 1)
    first.wait_disconnected()
    eventually(lambda: kick(deployment, "asked", user=user.room).status_code == 200, "a whole answer")
    second.wait_disconnected()


@pytest.mark.parametrize("reconnect", [False, True])
def test_who_comes_back(connect: Connector, tenant: Tenant, deployment: Deployment, reconnect: bool) -> None:
    """A client that is to leave does not come back by itself; with `reconnect` it would."""
    (client,) = of_two_nodes(deployment, connect, [tenant.user()], ClientKind("4", ("websocket",)))
    assert kick(deployment, "asked", device="d0", reconnect=reconnect).json()["disconnected"] >= 1
    record = client.records.wait_for(lambda one: one.kind == "disconnect", "the library's event")
    assert record.details["reason"] == ("transport close" if reconnect else "io server disconnect")


def test_rooms_change_on_all_nodes(connect: Connector, tenant: Tenant, deployment: Deployment) -> None:
    """A user's clients on both nodes hear a room from the answer on, and nothing after they have left it."""
    user, room = tenant.user(), tenant.unique("Room")
    clients = of_two_nodes(deployment, connect, [user, user], ClientKind("4", ("websocket",)))
    assert order(deployment, "/rooms", "asked", user=user.room, join=[room]).json() == {"devices": 2}
    deployment.send("asked", room, "within")
    for client in clients:
        client.wait_event("within")
    assert order(deployment, "/rooms", "asked", user=user.room, leave=[room.upper()]).json() == {"devices": 2}
    deployment.send("asked", room, "after")
    connect.fence("asked", user.room, *clients)
    assert not [client for client in clients if "after" in client.names()]
