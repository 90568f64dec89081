"""How a client of a site connects: credentials, authUrl, refusals, `_settings`, rooms, publicChannel."""

from __future__ import annotations

import dataclasses
from concurrent.futures import ThreadPoolExecutor

import pytest

from tests.support.clients import (
    ACK_NONE,
    MODERN,
    NODE_KINDS,
    ONE_OF_EACH,
    UPGRADE,
    WEBSOCKET,
    ClientKind,
    ConnectCall,
    each_library,
    every_client,
    every_node_client,
)
from tests.support.connector import Connector, batch_names, without_fences
from tests.support.deployment import Deployment
from tests.support.sites import FAR_NAME
from tests.support.tenant import SECRET, Answer, Tenant

OLD = tuple(kind for kind in ONE_OF_EACH if not kind.has_auth)
NEW = tuple(kind for kind in ONE_OF_EACH if kind.has_auth)


@every_client
def test_settings_come_first(connect: Connector, tenant: Tenant, kind: ClientKind) -> None:
    """The first event after CONNECT is `_settings` with device_ttl; when nothing waits, no `_batch` follows."""
    user = tenant.user()
    client = connect("alpha", user, kind)
    connect.fence("alpha", user.room, client)
    kinds = [record.kind for record in client.records.snapshot() if record.kind in ("connect", "event")]
    assert kinds[0] == "connect"
    assert client.events()[0].name == "_settings"
    assert client.events()[0].args == [{"device_ttl": 3600}]
    assert without_fences(client) == []


@every_client
def test_sites_do_not_leak(connect: Connector, tenant: Tenant, deployment: Deployment, kind: ClientKind) -> None:
    """Two sites with the same room names, tokens and deviceIds do not see each other's messages."""
    shared = tenant.unique("shared")
    user = tenant.user(shared)
    in_alpha = connect("alpha", user, kind)
    in_beta = connect("beta", user, kind)
    deployment.send("alpha", shared, "for-alpha")
    deployment.send("beta", user.room, "for-beta")
    connect.fence("alpha", user.room, in_alpha)
    connect.fence("beta", user.room, in_beta)
    assert without_fences(in_alpha) == ["for-alpha"]
    assert without_fences(in_beta) == ["for-beta"]


@every_client
def test_site_name_beyond_ascii(connect: Connector, tenant: Tenant, deployment: Deployment, kind: ClientKind) -> None:
    """A site's name may hold any letter: clients join it over polling and WebSockets, and get its events."""
    user = tenant.user()
    client = connect(FAR_NAME, user, kind)
    deployment.send(FAR_NAME, user.room, "first")
    connect.fence(FAR_NAME, user.room, client)
    assert without_fences(client) == ["first"]


@every_client
def test_plain_site(connect: Connector, tenant: Tenant, deployment: Deployment, kind: ClientKind) -> None:
    """Without userRoomPrefix an event goes to the sockets that are in the rooms now, once each, and is not queued."""
    room, other = tenant.unique("room"), tenant.unique("room")
    user = tenant.user(room)
    client = connect("plain", user, kind, ack=ACK_NONE)
    deployment.send("plain", [room, user.room], "once", 1)
    deployment.send("plain", other, "elsewhere")
    connect.fence("plain", room, client)
    assert without_fences(client) == ["once"]
    client.disconnect()
    deployment.send("plain", room, "missed")
    again = connect("plain", user, kind)
    connect.fence("plain", room, again)
    assert without_fences(again) == []


@every_node_client
def test_plain_site_asks_for_no_ack(
    connect: Connector, tenant: Tenant, deployment: Deployment, kind: ClientKind
) -> None:
    """Without userRoomPrefix events have no ack callback; with it every event but `_settings` and `_resync` has one."""
    user = tenant.user()
    plain, stored = connect("plain", user, kind), connect("alpha", user, kind)
    for site in ("plain", "alpha"):
        deployment.send(site, user.room, "news", "text")
    assert not plain.wait_event("news").wants_ack
    assert plain.wait_event("news").args == ["text"]
    assert stored.wait_event("news").wants_ack
    assert not stored.wait_event("_settings").wants_ack


def test_own_id_room_is_left(connect: Connector, tenant: Tenant, deployment: Deployment) -> None:
    """A socket is not in the room of its own id: authUrl alone decides its rooms."""
    user = tenant.user()
    client = connect("plain", user)
    details = client.wait_connected().details
    deployment.send("plain", [str(details["sid"]), str(details["engine"])], "to-the-id")
    connect.fence("plain", user.room, client)
    assert without_fences(client) == []


@every_client
def test_headers_to_auth_url(connect: Connector, tenant: Tenant, kind: ClientKind) -> None:
    """authUrl is a GET with `Authorization: <authScheme> <token>` and `X-META: <meta>`."""
    user = tenant.user()
    call = connect.call("alpha", user, kind)
    client = connect.begin(dataclasses.replace(call, query={**call.query, "meta": "a=b; c"}))
    client.wait_connected()
    (request,) = tenant.requests_of(user.token)
    assert request.path == "/alpha/rooms"
    assert request.headers["authorization"] == f"Token {user.token}"
    assert request.headers["x-meta"] == "a=b; c"


@each_library
def test_no_token_and_no_meta(connect: Connector, tenant: Tenant, kind: ClientKind) -> None:
    """Without a token the request to authUrl has no Authorization header; without meta it has no X-META."""
    room = tenant.unique("user_")
    tenant.set_rooms(None, room)
    try:
        client = connect.begin(ConnectCall(kind, connect.deployment.url, "alpha"))
        client.wait_connected()
        connect.fence("alpha", room, client)
    finally:
        tenant.answer(None, Answer(401))
    request = tenant.requests_of(None)[-1]
    assert "authorization" not in request.headers
    assert "x-meta" not in request.headers


@pytest.mark.parametrize("kind", NEW, ids=str)
def test_credentials_in_the_connect_payload(
    connect: Connector, tenant: Tenant, deployment: Deployment, kind: ClientKind
) -> None:
    """3.x, 4.x and python-socketio may send token, deviceId and meta as `auth`."""
    user = tenant.user()
    auth = {"token": user.token, "deviceId": "by-auth", "meta": "m"}
    call = ConnectCall(kind, connect.deployment.url, "alpha", auth=auth, ack=ACK_NONE)
    first = connect.begin(call)
    first.wait_event("_settings")
    assert tenant.requests_of(user.token)[0].headers["x-meta"] == "m"
    deployment.send("alpha", user.room, "kept")
    first.wait_event("kept")
    first.disconnect()
    again = connect("alpha", user, kind, device="by-auth")
    assert batch_names(again.wait_event("_batch")) == ["kept"]


@pytest.mark.parametrize("kind", [kind for kind in ONE_OF_EACH if kind.library != "python"], ids=str)
def test_credentials_in_the_query_option(connect: Connector, tenant: Tenant, kind: ClientKind) -> None:
    """The `query` option of io() counts as the page's query does."""
    user = tenant.user()
    query = {"token": user.token, "deviceId": "d1", "meta": "by option"}
    client = connect.begin(ConnectCall(kind, connect.deployment.url, "alpha", query_option=query))
    client.wait_event("_settings")
    (request,) = tenant.requests_of(user.token)
    assert request.headers["x-meta"] == "by option"


@pytest.mark.parametrize("kind", NEW, ids=str)
def test_payload_wins_over_the_handshake(connect: Connector, tenant: Tenant, kind: ClientKind) -> None:
    """The CONNECT payload takes precedence over the handshake's query, value by value."""
    loser, winner = tenant.user(), tenant.user()
    query = {"token": loser.token, "deviceId": "d1", "meta": "from the query"}
    client = connect.begin(ConnectCall(kind, connect.deployment.url, "alpha", query, auth={"token": winner.token}))
    client.wait_event("_settings")
    connect.fence("alpha", winner.room, client)
    assert tenant.requests_of(loser.token) == []
    assert tenant.requests_of(winner.token)[0].headers["x-meta"] == "from the query"


@pytest.mark.parametrize("kind", OLD, ids=str)
def test_packet_query_wins_over_the_handshake(connect: Connector, tenant: Tenant, kind: ClientKind) -> None:
    """1.x and 2.x: the query in the namespace's CONNECT packet takes precedence over the handshake's."""
    loser, winner = tenant.user(), tenant.user()
    first = connect("alpha", loser, kind)
    query = {"token": winner.token, "deviceId": "d1"}
    second = connect.share(first, ConnectCall(kind, connect.deployment.url, "beta", query))
    second.wait_event("_settings")
    connect.fence("beta", winner.room, second)
    assert [request.path for request in tenant.requests_of(loser.token)] == ["/alpha/rooms"]


REFUSALS = {
    "401": (Answer(401, b"nobody"), "Authentication failed"),
    "401 with rooms": (Answer(401, b'["user_1"]'), "Authentication failed"),
    "500": (Answer(500, b"oops"), "Auth 500 error"),
    "403": (Answer(403), "Auth 403 error"),
    "204": (Answer(204, b""), "Auth 204 error"),
    "302": (Answer(302, headers={"Location": "/elsewhere"}), "Auth 302 error"),
    "no private room": (Answer(body=b'["lobby", "visitors"]'), "User is missing a private room"),
    "no room": (Answer(body=b"[]"), "User is missing a private room"),
}
AUTH_ERRORS = {
    "not JSON": Answer(body=b"<html>"),
    "empty": Answer(body=b""),
    "an object": Answer(body=b'{"rooms": ["user_1"]}'),
    "true among": Answer(body=b'["user_1", true]'),
    "null among": Answer(body=b'["user_1", null]'),
    "a string": Answer(body=b'"user_1"'),
    "null": Answer(body=b"null"),
    "bad UTF-8": Answer(body=b'["user_\xff"]'),
    "cut": Answer(is_cut=True),
}


@each_library
def test_refusals_name_their_reason(connect: Connector, tenant: Tenant, kind: ClientKind) -> None:
    """Each refusing answer of authUrl reaches the page with the contract's text, as a string."""
    clients = {
        name: connect.begin(_call_with_token(connect, kind, "alpha", tenant.token(answer)))
        for name, (answer, _) in REFUSALS.items()
    }
    assert {name: client.wait_refused() for name, client in clients.items()} == {
        name: text for name, (_, text) in REFUSALS.items()
    }


@pytest.mark.parametrize("kind", [kind for kind in NODE_KINDS if kind.transports != UPGRADE], ids=str)
def test_a_page_connects_again(connect: Connector, tenant: Tenant, kind: ClientKind) -> None:
    """While authUrl fails each attempt is refused. The lines in docs/clients.md retry until it succeeds, on the same
    transport except with 4.x clients, which close it. A page without these lines never retries."""
    user = tenant.user()
    tenant.answer(user.token, Answer(503))
    call = dataclasses.replace(connect.call("alpha", user, kind), again_ms=50)
    patient, silent = connect.begin(call), connect.begin(dataclasses.replace(call, again_ms=0))
    patient.records.wait_until(lambda _: len(patient.refusals()) >= 3, "the page to be refused again and again")
    silent.wait_refused()
    tenant.set_rooms(user.token, *user.rooms)
    patient.wait_event("_settings")
    assert set(patient.refusals()) == {"Auth 503 error"}
    kinds = [record.kind for record in patient.records.snapshot()]
    assert ("closed" in kinds) == (kind.library == "4")
    assert len(silent.refusals()) == 1


@each_library
def test_auth_errors_name_their_reason(connect: Connector, tenant: Tenant, kind: ClientKind) -> None:
    """A network fault, or a body that is not a JSON array of strings, reaches the page as `Auth error: <reason>`."""
    clients = {
        name: connect.begin(_call_with_token(connect, kind, "alpha", tenant.token(answer)))
        for name, answer in AUTH_ERRORS.items()
    }
    clients["unreachable"] = connect.begin(_call_with_token(connect, kind, "unreachable", f"{SECRET}-token-any"))
    for name, client in clients.items():
        text = client.wait_refused()
        assert text.startswith("Auth error: "), (name, text)
        assert len(text) > len("Auth error: "), name
        assert SECRET not in text, name


def test_slow_auth_url(connect: Connector, tenant: Tenant) -> None:
    """When authUrl does not answer within 5 s every client gets an `Auth error`, and not earlier."""
    calls = [
        _call_with_token(connect, kind, "alpha", tenant.token(Answer(body=b'["user_1"]', delay_seconds=delay)))
        for kind in ONE_OF_EACH
        for delay in (3.0, 30.0)
    ]
    patient, impatient = zip(*zip(*[iter([connect.begin(call) for call in calls])] * 2, strict=True), strict=True)
    for client in patient:
        client.wait_event("_settings")
    for client in impatient:
        assert client.wait_refused(30).startswith("Auth error: ")


@each_library
def test_unknown_site(connect: Connector, tenant: Tenant, kind: ClientKind) -> None:
    """A site that does not exist gives the client library's usual `Invalid namespace`; authUrl is not called."""
    user = tenant.user()
    client = connect.begin(connect.call("nowhere", user, kind))
    assert client.wait_refused() == "Invalid namespace"
    assert tenant.requests_of(user.token) == []


@every_node_client
def test_transport_stays_open_after_a_refusal(
    connect: Connector, tenant: Tenant, deployment: Deployment, kind: ClientKind
) -> None:
    """A refusal does not close the transport: its other namespaces go on, and further ones can connect."""
    user, bare = tenant.user(), tenant.token(Answer(body=b"[]"))
    first = connect("alpha", user, kind)
    refusals = {"beta": bare, "nowhere": user.token, "unreachable": user.token, "small_queue": f"{SECRET}-unknown"}
    for site, token in refusals.items():
        connect.share(first, _on_second_namespace(connect, kind, site, token)).wait_refused()
    connect.fence("alpha", user.room, first)
    further = connect.share(first, _on_second_namespace(connect, kind, "small_batch", user.token))
    further.wait_event("_settings")
    connect.fence("small_batch", user.room, further)
    assert [record for record in first.records.snapshot() if record.kind == "closed"] == []


@every_client
def test_rooms_are_those_of_the_connection(
    connect: Connector, tenant: Tenant, deployment: Deployment, kind: ClientKind
) -> None:
    """A user who lost and gained a room since the last connection gets only the new room's messages."""
    lost, gained = tenant.unique("room"), tenant.unique("room")
    user = tenant.user(lost)
    connect("alpha", user, kind).disconnect()
    tenant.set_rooms(user.token, user.room, gained)
    client = connect("alpha", user, kind)
    deployment.send("alpha", lost, "lost")
    deployment.send("alpha", gained, "gained")
    connect.fence("alpha", user.room, client)
    assert without_fences(client) == ["gained"]


def test_rooms_change_while_away(connect: Connector, tenant: Tenant, deployment: Deployment) -> None:
    """Messages sent to a room before the user's rooms changed stay queued; the
    change applies from the next connection."""
    lost = tenant.unique("room")
    user = tenant.user(lost)
    connect("alpha", user).disconnect()
    deployment.send("alpha", lost, "before")
    tenant.set_rooms(user.token, user.room)
    client = connect("alpha", user)
    deployment.send("alpha", lost, "after")
    connect.fence("alpha", user.room, client)
    assert without_fences(client) == ["_batch"]
    assert batch_names(client.wait_event("_batch")) == ["before"]


@each_library
def test_public_channel(connect: Connector, tenant: Tenant, deployment: Deployment, kind: ClientKind) -> None:
    """publicChannel serves as the user room of a visitor without one: it has a queue, and no update is sent for it."""
    token = tenant.token(Answer(body=b'["public"]'))
    device = tenant.unique("visitor")
    query = {"token": token, "deviceId": device}
    first = connect.begin(ConnectCall(kind, connect.deployment.url, "public", query, ack=ACK_NONE))
    first.wait_event("_settings")
    event = tenant.unique("event")
    deployment.send("public", "public", event)
    first.wait_event(event)
    first.disconnect()
    again = connect.begin(ConnectCall(kind, connect.deployment.url, "public", query))
    assert event in batch_names(again.wait_event("_batch"))
    assert tenant.requests_of(token, "PUT") == []


def test_public_channel_beside_a_user_room(connect: Connector, tenant: Tenant, deployment: Deployment) -> None:
    """A user in a user room and the publicChannel gets messages to either of them once."""
    user = tenant.user("public")
    client = connect("public", user, device=tenant.unique("device"))
    own, everyone = tenant.unique("own"), tenant.unique("everyone")
    deployment.send("public", user.room, own)
    deployment.send("public", "public", everyone)
    connect.fence("public", user.room, client)
    connect.fence("public", "public", client)
    names = without_fences(client)
    assert (names.count(own), names.count(everyone)) == (1, 1)


def test_identical_auth_requests_share_one_call(connect: Connector, tenant: Tenant, deployment: Deployment) -> None:
    """Connections with the same token and meta at the same moment share one request to authUrl per node; different meta
    needs a request of its own."""
    token = tenant.token(Answer(body=b'["user_same"]', delay_seconds=1.0))
    call = _call_with_token(connect, MODERN, "alpha", token)
    other = dataclasses.replace(call, query={**call.query, "meta": "other"})
    clients = [connect.begin(call) for _ in range(10)] + [connect.begin(other)]
    for client in clients:
        client.wait_event("_settings")
    metas = [request.headers.get("x-meta") for request in tenant.requests_of(token)]
    assert metas.count("other") == 1
    assert 1 <= metas.count(None) <= len(deployment.nodes)


def test_200_clients_at_once(connect: Connector, tenant: Tenant, deployment: Deployment) -> None:
    """200 clients of all versions that connect at once all get `_settings`, and each gets one message once."""
    room = tenant.unique("everyone")
    kinds = [ClientKind(library, WEBSOCKET) for library in ("1", "2", "3", "4")]
    users = [tenant.user(room) for _ in range(200)]
    clients = [connect.begin(connect.call("alpha", user, kinds[n % 4])) for n, user in enumerate(users)]
    for client in clients:
        client.wait_event("_settings", timeout_seconds=60)
    with ThreadPoolExecutor(4) as pool:
        list(pool.map(lambda n: deployment.send("alpha", room, f"m{n}"), range(3)))
    connect.fence("alpha", room, *clients)
    assert {tuple(sorted(without_fences(client))) for client in clients} == {("m0", "m1", "m2")}


def test_room_names_of_any_text(connect: Connector, tenant: Tenant, deployment: Deployment) -> None:
    """Room names may hold any character; names of shared rooms are compared without case."""
    rooms = [tenant.unique(prefix) for prefix in ("Mixed Case ", "ümlaut ", "a:b:", "*", "{x}", "😀")]
    user = tenant.user(*rooms)
    client = connect("alpha", user)
    for number, room in enumerate(rooms):
        deployment.send("alpha", room, f"exact-{number}")
    deployment.send("alpha", rooms[0].upper(), "upper")
    deployment.send("alpha", rooms[1].lower(), "lower")
    connect.fence("alpha", user.room, client)
    assert without_fences(client) == [f"exact-{number}" for number in range(len(rooms))] + ["upper", "lower"]


def _call_with_token(connect: Connector, kind: ClientKind, site: str, token: str) -> ConnectCall:
    return ConnectCall(kind, connect.deployment.url, site, {"token": token, "deviceId": "d1"})


def _on_second_namespace(connect: Connector, kind: ClientKind, site: str, token: str) -> ConnectCall:
    """Put the credentials where this library sends those of a second namespace."""
    call = _call_with_token(connect, kind, site, token)
    return dataclasses.replace(call, query={}, auth=call.query) if kind.has_auth else call
