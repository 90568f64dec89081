"""Random bytes on /send, on the polling POST and on a WebSocket never give a 500 or a traceback.

The log is searched for tracebacks at the end of each module (conftest.py).
"""

from __future__ import annotations

import contextlib
import socket
from urllib.parse import urlsplit

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from websockets.exceptions import ConnectionClosed, InvalidHandshake, InvalidMessage

from tests.support.clients import ACK_NONE, ClientKind, every_node_client
from tests.support.connector import Connector, batch_names, without_fences
from tests.support.deployment import Deployment
from tests.support.raw import RawPolling, RawSocket
from tests.support.tenant import Tenant

EXAMPLES = 60
SEEDS = (
    b'{"rooms":["a"],"event":"news","args":[1,{"a":null}]}',
    b"rooms[]=a&rooms[1][x]=b&event=news&args[0][a][]=1&args[]=2",
    b'{"rooms":["a"],"event":"\\ud800","args":["\\udfff"]}',
    b'{"rooms":["a"],"event":"news","args":1E400}',
)
PACKETS = (
    b'40/alpha,{"token":"x"}',
    b"40/alpha?token=x&deviceId=%FF,",
    b"40/alpha,[1]",
    b'42/alpha,1["event",1]',
    b"43/alpha,1[]",
    b"43/alpha,99999999999999999999999[]",
    b'451-/alpha,["x",{"_placeholder":true,"num":0}]',
    b'451-/alpha,["x",{"_placeholder":true,"num":7}]',
    b"41/alpha,",
    b"44/alpha,x",
    b"47",
    b"2probe",
    b"5",
    b"6",
    b"1",
    b"bAAAA",
    b"4\xff",
    b"0{}",
    b"40" + b"/" * 3000,
    b"4" + b"9" * 400,
    b'42["' + b"[" * 3000,
)


@st.composite
def mutated(draw: st.DrawFn, seeds: tuple[bytes, ...]) -> bytes:
    """One of the seeds with a few bytes changed, removed or inserted."""
    data = bytearray(draw(st.sampled_from(seeds)))
    for _ in range(draw(st.integers(0, 4))):
        start = draw(st.integers(0, len(data)))
        end = min(len(data), start + draw(st.integers(0, 3)))
        data[start:end] = draw(
            st.binary(max_size=4) | st.sampled_from([b"[", b"]", b"{", b'"', b"&", b"=", b",", b"/"])
        )
    return bytes(data)


def test_bodies_of_send(deployment: Deployment) -> None:
    """Any bytes as the body of /send, under any content type, are answered with 200 or an error of the 400s."""

    @settings(max_examples=4 * EXAMPLES, deadline=None)
    @given(
        body=st.binary(max_size=400) | mutated(SEEDS),
        content_type=st.sampled_from(
            ["application/json", "application/x-www-form-urlencoded", "text/plain", "multipart/form-data", "", "x;=;"]
        ),
        site=st.sampled_from(["alpha", "plain"]),
    )
    def check(body: bytes, content_type: str, site: str) -> None:
        query = {"site": site, "apiKey": deployment.key(site)}
        answer = deployment.post(params=query, content=body, headers={"Content-Type": content_type})
        assert answer.status_code == 200 or 400 <= answer.status_code < 500

    check()


@pytest.mark.parametrize(
    "body",
    [
        b'{"rooms": ["a"], "event": "news", "args": ' + b"[" * 50_000 + b"]" * 50_000 + b"}",
        b'{"rooms": ["a"], "event": "news", "args": ' + b'{"a":' * 50_000 + b"1" + b"}" * 50_000 + b"}",
        b'{"rooms": ["a"], "event": "news", "args": ' + b"9" * 100_000 + b"}",
        b'{"rooms": ["' + b'","'.join([b"r"] * 50_000) + b'"], "event": "news"}',
        b'{"rooms": ["' + b"r" * 500_000 + b'"], "event": "news"}',
        b'{"rooms": ["a"], "event": "\\ud800", "args": ["\\udc00\\ud800"]}',
        b'{"rooms": ["\\ud800"], "event": "news"}',
        b'{"rooms": ["\\u0000"], "event": "\\u0000"}',
    ],
    ids=["lists", "objects", "digits", "rooms", "long room", "surrogate", "surrogate room", "nul"],
)
@pytest.mark.parametrize("site", ["alpha", "plain"])
def test_extreme_bodies(deployment: Deployment, site: str, body: bytes) -> None:
    """A body that is deep, long or odd is accepted or refused, quickly."""
    query = {"site": site, "apiKey": deployment.key(site)}
    answer = deployment.post(params=query, content=body, headers={"Content-Type": "application/json"}, timeout=5)
    assert answer.status_code in (200, 400, 413)


@pytest.mark.parametrize(
    "form",
    [
        b"rooms[]=a&event=e&args" + b"[a]" * 20_000 + b"=1",
        b"rooms[]=a&event=e&args[999999999]=1",
        b"rooms[]=a&event=e&" + b"&".join([b"args[]=1"] * 100_000),
        b"rooms[]=a&event=e&" + b"&".join(b"args[%d][a]=1" % number for number in range(40_000)),
        b"rooms[]=a&event=e&args[__proto__]=1&args[a][]=1&args[a][b]=2&args=3",
        b"&" * 900_000,
        b"=" * 900_000,
        b"[" * 900_000,
        b"%" * 900_000,
    ],
    ids=["deep", "index", "long list", "long objects", "clash", "ampersands", "equals", "brackets", "percents"],
)
def test_extreme_forms(deployment: Deployment, form: bytes) -> None:
    """A form that is deep, long or odd is accepted or refused within 3 s."""
    query = {"site": "plain", "apiKey": deployment.key("plain")}
    headers = {"Content-Type": "application/x-www-form-urlencoded"}
    assert deployment.post(params=query, content=form, headers=headers, timeout=3).status_code in (200, 400)


def test_queries_of_send(deployment: Deployment) -> None:
    """Any bytes as the query of /send are answered with an error of the 400s."""

    @settings(max_examples=EXAMPLES, deadline=None)
    @given(query=st.binary(max_size=60) | mutated((b"site=alpha&apiKey=x&resync=true", b"site[]=alpha&apiKey[a]=x")))
    def check(query: bytes) -> None:
        printable = bytes(byte if 33 <= byte < 127 and byte != 35 else 37 for byte in query).decode()
        answer = deployment.post(f"/send?{printable}", json={"rooms": [], "event": "news"})
        assert 400 <= answer.status_code < 500

    check()


@pytest.mark.parametrize("version", [3, 4])
def test_polling_bodies(deployment: Deployment, version: int) -> None:
    """Any bytes POSTed to a polling session are accepted or refused with 400; no other session is affected."""

    @settings(max_examples=EXAMPLES, deadline=None)
    @given(
        body=st.binary(max_size=300)
        | mutated(PACKETS)
        | st.lists(mutated(PACKETS), max_size=5).map(b"\x1e".join)
        | st.lists(mutated(PACKETS), max_size=5).map(lambda all_: b"".join(b"%d:%b" % (len(x), x) for x in all_)),
        content_type=st.sampled_from(
            ["text/plain;charset=UTF-8", "application/octet-stream", "application/x-www-form-urlencoded", ""]
        ),
        query=st.sampled_from([{}, {"b64": "1"}, {"j": "0"}]),
    )
    def check(body: bytes, content_type: str, query: dict[str, str]) -> None:
        session = RawPolling(deployment, version, query)
        assert session.poll().status_code == 200
        assert session.post(body, content_type).status_code in (200, 400)
        session.post(b"1" if version == 4 else b"1:1")

    check()


@pytest.mark.parametrize("version", [3, 4])
def test_websocket_messages(connect: Connector, tenant: Tenant, deployment: Deployment, version: int) -> None:
    """Any messages on a WebSocket close at most that WebSocket; other connections are not affected."""
    user = tenant.user()
    bystander = connect("alpha", user)

    @settings(max_examples=2 * EXAMPLES, deadline=None)
    @given(
        messages=st.lists(
            (mutated(PACKETS) | st.binary(max_size=100)) | mutated(PACKETS).map(lambda data: data.decode("latin-1")),
            min_size=1,
            max_size=6,
        )
    )
    def check(messages: list[bytes | str]) -> None:
        with (
            RawSocket(deployment.url, version, {"token": user.token}) as session,
            contextlib.suppress(ConnectionClosed),
        ):
            session.receive()
            for message in messages:
                session.send(message)

    check()
    connect.fence("alpha", user.room, bystander)


@every_node_client
def test_events_from_clients_are_ignored(
    connect: Connector, tenant: Tenant, deployment: Deployment, kind: ClientKind
) -> None:
    """An event that a page emits has no effect: it is neither an ack nor a message, and the connection goes on."""
    user = tenant.user()
    client, bystander = connect("alpha", user, kind, ack=ACK_NONE), connect("alpha", user, device="other")
    deployment.send("alpha", user.room, "kept")
    client.wait_event("kept")
    for event, args in (("kept", ["x"]), ("_batch", [[]]), ("_resync", []), ("", [None]), ("message", [{"a": 1}])):
        connect.drivers.node.emit(client, event, *args)
    connect.fence("alpha", user.room, client, bystander)
    assert without_fences(client) == without_fences(bystander) == ["kept"]
    client.disconnect()
    assert batch_names(connect("alpha", user, kind).wait_event("_batch")) == ["kept"]


def test_bytes_on_the_port(deployment: Deployment) -> None:
    """Any bytes on the TCP port, also after an upgrade, get an error of the 400s or a closed socket."""
    address = (urlsplit(deployment.url).hostname, urlsplit(deployment.url).port)
    upgrade = (
        b"GET /socket.io/?EIO=4&transport=websocket HTTP/1.1\r\nHost: x\r\nUpgrade: websocket\r\n"
        b"Connection: Upgrade\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
    )
    heads = (upgrade, upgrade[:-2], b"POST /send?site=alpha HTTP/1.1\r\nHost: x\r\nContent-Length: 9\r\n\r\n", b"")

    @settings(max_examples=2 * EXAMPLES, deadline=None)
    @given(data=st.binary(max_size=200), head=st.sampled_from(heads) | mutated(heads[:3]))
    def check(data: bytes, head: bytes) -> None:
        with socket.create_connection(address, timeout=30) as connection, contextlib.suppress(ConnectionError):
            connection.sendall(head + data)
            connection.shutdown(socket.SHUT_WR)
            answer = connection.recv(65536)
            assert not answer.startswith(b"HTTP/1.1 5")

    check()


@pytest.mark.parametrize(
    "query",
    [
        {},
        {"EIO": "5", "transport": "polling"},
        {"EIO": "x", "transport": "polling"},
        {"EIO": "4"},
        {"EIO": "4", "transport": "carrier-pigeon"},
        {"EIO": "4", "transport": "polling", "sid": "unknown"},
        {"EIO": "3", "transport": "polling", "sid": ""},
        {"EIO": "3", "transport": "polling", "j": "x);alert(1"},
    ],
    ids=str,
)
def test_bad_handshakes(deployment: Deployment, query: dict[str, str]) -> None:
    """An invalid handshake is refused with 400, over HTTP and over WebSocket."""
    answer = deployment.get("/socket.io/", params=query)
    assert answer.status_code in (200, 400)
    assert answer.status_code == 400 or "alert" not in answer.text
    if answer.status_code == 400 and query.get("transport") != "polling":
        refused = pytest.raises((InvalidHandshake, InvalidMessage, ConnectionClosed))
        with refused, RawSocket(deployment.url, 4, {**query, "transport": "x"}) as session:
            session.receive()
