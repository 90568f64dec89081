"""Contract, "Connecting" 5: updateUserUrl is told when a user connects and
disconnects, and never delays a connection."""

from __future__ import annotations

import re

import pytest

from tests.support.clients import ClientKind, every_client
from tests.support.connector import Connector
from tests.support.tenant import Answer, Tenant, TenantRequest

TIMESTAMP = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z")


@every_client
def test_told_when_a_user_comes_and_goes(connect: Connector, tenant: Tenant, kind: ClientKind) -> None:
    """On connect and disconnect updateUserUrl gets a PUT with id and time and the Authorization header of authUrl."""
    user = tenant.user("lobby")
    client = connect("alpha", user, kind)
    _check(tenant.wait_for_update(user.token, "last_connected"), user.id, "last_connected", f"Token {user.token}")
    client.disconnect()
    _check(tenant.wait_for_update(user.token, "last_disconnected"), user.id, "last_disconnected", f"Token {user.token}")
    assert len(tenant.requests_of(user.token, "PUT")) == 2


@pytest.mark.parametrize(
    ("site", "room", "expected"),
    [
        ("alpha", "user_3_admin", "3"),
        ("alpha", "user_7", "7"),
        ("alpha", "user_a b/c", "a b/c"),
        ("members", "member8", "8"),
        ("members", "member8_x", "8"),
    ],
)
def test_id_of_the_user(connect: Connector, tenant: Tenant, site: str, room: str, expected: str) -> None:
    """The id is the part of the user room between the prefix and the next `_`; it is in the URL and in the body."""
    user = tenant.user(room=room)
    connect(site, user)
    request = tenant.wait_for_update(user.token, "last_connected")
    assert request.body["id"] == expected
    assert request.path == f"/{site}/users/{expected.replace(' ', '%20').replace('/', '%2F')}"


@pytest.mark.parametrize(
    "answer",
    [Answer(500), Answer(404), Answer(is_cut=True), Answer(delay_seconds=20)],
    ids=["500", "404", "cut", "slow"],
)
def test_never_delays_or_fails_a_connection(connect: Connector, tenant: Tenant, answer: Answer) -> None:
    """The connection works at once, whatever updateUserUrl answers."""
    user = tenant.user()
    tenant.answer_updates(user.token, answer)
    client = connect("alpha", user)
    tenant.wait_for_update(user.token, "last_connected")
    connect.fence("alpha", user.room, client)
    client.disconnect()
    again = connect("alpha", user)
    connect.fence("alpha", user.room, again)


def test_each_user_room_is_told(connect: Connector, tenant: Tenant) -> None:
    """A connection with two user rooms is reported for both, and never for the publicChannel."""
    user = tenant.user("public", "user_second")
    connect("public", user, device=tenant.unique("device"))
    tenant.requests.wait_until(
        lambda seen: {r.body["id"] for r in seen if r.method == "PUT" and r.token == user.token} >= {user.id, "second"},
        "PUTs for both users",
    )
    assert {request.body["id"] for request in tenant.requests_of(user.token, "PUT")} == {user.id, "second"}


def _check(request: TenantRequest, user_id: str, key: str, authorization: str) -> None:
    assert request.path == f"/alpha/users/{user_id}"
    assert request.body["id"] == user_id
    assert set(request.body["user"]) == {key}
    assert TIMESTAMP.fullmatch(request.body["user"][key])
    assert request.headers["authorization"] == authorization
    assert request.headers["content-type"].startswith("application/json")
