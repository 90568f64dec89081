"""Resume tickets with real clients, on two nodes behind a balancer that is not sticky."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator

import pytest

from tests.support.clients import Client, ClientKind, each_library, every_client
from tests.support.connector import Connector
from tests.support.deployment import Deployment
from tests.support.sites import contract_sites
from tests.support.tenant import Tenant, User


@pytest.fixture(scope="module")
def deployment(tenant: Tenant) -> Iterator[Deployment]:
    """Two nodes with a site that issues tickets, and a site whose tickets are renewed every second or so."""
    some = contract_sites(tenant)["alpha"]
    sites = {"back": {**some, "resume_ticket": {}}, "brief": {**some, "resume_ticket": {"ttl": 2}}}
    server = Deployment(sites, {"log_level": "debug"}, nodes=2)
    yield server
    server.end()


def come_back(connect: Connector, user: User, kind: ClientKind, ticket: str, *, with_token: bool) -> Client:
    """Begin to connect with the ticket, passed as pages of each client version pass it."""
    call = connect.call("back", user, kind)
    query = {**call.query} if with_token else {"deviceId": call.query["deviceId"]}
    if kind.has_auth:
        return connect.begin(dataclasses.replace(call, query=query, auth={"ticket": ticket}))
    return connect.begin(dataclasses.replace(call, query={**query, "ticket": ticket}))


@every_client
def test_coming_back(connect: Connector, tenant: Tenant, deployment: Deployment, kind: ClientKind) -> None:
    """A client with the ticket of `_settings` reconnects without a call to authUrl, at any node. It is the same device:
    the messages that it missed arrive in `_batch`."""
    room = tenant.unique("room")
    user = tenant.user(room)
    client = connect("back", user, kind)
    ticket = client.wait_event("_settings").args[0]["resume_ticket"]
    client.disconnect()
    deployment.send("back", room, "missed")
    for with_token in (True, False):
        again = come_back(connect, user, kind, ticket, with_token=with_token)
        again.wait_connected()
        assert set(again.wait_event("_settings").args[0]) == {"device_ttl", "resume_ticket"}
        if with_token:
            assert again.wait_event("_batch").args[0] == [["missed"]]
        connect.fence("back", room, again)
        again.disconnect()
    assert len(tenant.requests_of(user.token)) == 1


@each_library
def test_a_revoked_ticket(connect: Connector, tenant: Tenant, deployment: Deployment, kind: ClientKind) -> None:
    """With a revoked ticket and a token authUrl is called again; without a token the client is told the reason."""
    user = tenant.user()
    client = connect("back", user, kind)
    ticket = client.wait_event("_settings").args[0]["resume_ticket"]
    query = {"site": "back", "apiKey": deployment.key("back"), "room": user.room}
    assert deployment.request("DELETE", "/tickets", params=query).text == "OK"
    refused = come_back(connect, user, kind, ticket, with_token=False)
    assert refused.wait_refused() == "Auth error: the resume ticket was revoked"
    again = come_back(connect, user, kind, ticket, with_token=True)
    again.wait_connected()
    assert len(tenant.requests_of(user.token)) == 2


@each_library
def test_tickets_are_renewed(connect: Connector, tenant: Tenant, kind: ClientKind) -> None:
    """A connected client gets a new ticket in an event, which does not disturb clients that do not know it."""
    client = connect("brief", tenant.user(), kind)
    first = client.wait_event("_settings").args[0]["resume_ticket"]
    renewed = client.wait_event("_resume_ticket")
    assert isinstance(renewed.args[0], str)
    assert renewed.args[0] != first
    # (The Python library always reports that an ack is wanted.)
    assert kind.library == "python" or not renewed.wants_ack


def test_tickets_are_in_no_log(connect: Connector, tenant: Tenant, deployment: Deployment) -> None:
    """Tickets do not appear in the log, even when they are refused."""
    user = tenant.user()
    ticket = connect("back", user).wait_event("_settings").args[0]["resume_ticket"]
    kinds = (ClientKind("2", ("websocket",)), ClientKind("4", ("polling",)))
    for kind in kinds:
        come_back(connect, user, kind, ticket + "x", with_token=False).wait_refused()
        come_back(connect, user, kind, ticket, with_token=True).wait_connected()
    lines = [line for node in deployment.nodes for line in node.server.lines.snapshot()]
    assert not [line for line in lines if ticket[:40] in line]
