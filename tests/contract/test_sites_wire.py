"""The wire of a site, packet by packet: what socket.io-webservice sent, and the forms of a connect."""

from __future__ import annotations

import json
from urllib.parse import quote

import httpx
import pytest

from tests.support.connector import Connector
from tests.support.deployment import Deployment
from tests.support.raw import RawPolling, RawSocket
from tests.support.sites import ORIGIN
from tests.support.tenant import Answer, Tenant

SETTINGS = '["_settings",{"device_ttl":3600}]'


@pytest.mark.parametrize("tail", ["", ","], ids=["1.x", "2.x"])
def test_order_of_packets_engine_3(connect: Connector, tenant: Tenant, deployment: Deployment, tail: str) -> None:
    """Engine.IO 3: `0{...}`, `40` unasked, then `40/site`, `_settings`, `_batch` with an ack id; `43` acknowledges."""
    user = tenant.user()
    connect("alpha", user, device="d 1").disconnect()
    deployment.send("alpha", user.room, "news", "a", 1)
    query = f"token={user.token}&deviceId={quote('d 1')}"
    with RawSocket(deployment.url, 3) as socket:
        handshake = socket.receive()
        assert handshake[0] == "0"
        assert set(json.loads(handshake[1:])) >= {"sid", "upgrades", "pingInterval", "pingTimeout"}
        assert socket.receive() == "40"
        socket.send(f"40/alpha?{query}{tail}")
        assert socket.receive().rstrip(",") == "40/alpha"
        assert socket.receive() == f"42/alpha,{SETTINGS}"
        batch = socket.receive()
        head, _, rest = batch.partition("[")
        ack_id = head.removeprefix("42/alpha,")
        assert ack_id.isdigit()
        assert "[" + rest == '["_batch",[["news","a",1]]]'
        socket.send(f"43/alpha,{ack_id}[]")
        deployment.send("alpha", user.room, "live")
        assert socket.receive().endswith('["live"]')
    client = connect("alpha", user, device="d 1")
    assert client.wait_event("_batch").args == [[["live"]]]


def test_order_of_packets_engine_4(tenant: Tenant, deployment: Deployment) -> None:
    """Engine.IO 4: `0{...}`, nothing unasked, then `40/site,{"sid":...}` and `_settings`."""
    user = tenant.user()
    with RawSocket(deployment.url, 4) as socket:
        handshake = json.loads(socket.receive().removeprefix("0"))
        assert set(handshake) == {"sid", "upgrades", "pingInterval", "pingTimeout", "maxPayload"}
        socket.send(f"40/alpha,{json.dumps({'token': user.token})}")
        answer = socket.receive()
        assert answer.startswith("40/alpha,")
        assert list(json.loads(answer.removeprefix("40/alpha,"))) == ["sid"]
        assert socket.receive() == f"42/alpha,{SETTINGS}"


def test_packet_query_before_the_handshake(tenant: Tenant, deployment: Deployment) -> None:
    """The query of the CONNECT packet takes precedence over the handshake's,
    value by value; its commas are part of it."""
    in_packet, in_handshake = tenant.user(), tenant.user()
    query = {"token": in_handshake.token, "meta": "handshake"}
    with RawSocket(deployment.url, 3, query) as socket:
        socket.receive()
        assert socket.receive() == "40"
        socket.send(f"40/alpha?token={in_packet.token},")
        assert socket.receive().rstrip(",") == "40/alpha"
        assert "_settings" in socket.receive()
        socket.send(f"40/beta?token={in_packet.token}&meta=a,b%2Cc")
        assert socket.receive().rstrip(",") == "40/beta"
    assert tenant.requests_of(in_handshake.token) == []
    metas = {request.path: request.headers["x-meta"] for request in tenant.requests_of(in_packet.token)}
    assert metas == {"/alpha/rooms": "handshake", "/beta/rooms": "a,b,c"}


@pytest.mark.parametrize("version", [3, 4])
def test_refusal_packets(tenant: Tenant, deployment: Deployment, version: int) -> None:
    """Refusals: Engine.IO 4 `44/site,{"message":"..."}`, Engine.IO 3 `44/site,"..."`; the transport stays open."""
    user, refused = tenant.user(), tenant.token(Answer(401))
    expected = {4: '{"message":"%s"}', 3: '"%s"'}[version]
    with RawSocket(deployment.url, version) as socket:
        socket.receive()
        if version == 3:
            assert socket.receive() == "40"
        socket.send(f"40/alpha?token={refused},")
        assert socket.receive() == "44/alpha," + expected % "Authentication failed"
        socket.send(f"40/nowhere?token={user.token},")
        assert socket.receive() == "44/nowhere," + expected % "Invalid namespace"
        socket.send(f"40/alpha?token={user.token},")
        assert socket.receive().startswith("40/alpha")


@pytest.mark.parametrize("version", [3, 4])
def test_plain_ascii_under_engine_3(connect: Connector, tenant: Tenant, deployment: Deployment, version: int) -> None:
    """Under EIO=3 events are plain ASCII (`\\u` escapes), live and in `_batch`, which is right for 1.x and 2.x."""
    user = tenant.user()
    connect("alpha", user, device="").disconnect()
    deployment.send("alpha", user.room, "größe", "😀")
    with RawSocket(deployment.url, version, {"token": user.token}) as socket:
        socket.receive()
        socket.send("40/alpha,")
        packet = ""
        while "_batch" not in packet:
            packet = socket.receive()
        deployment.send("alpha", user.room, "größe", "😀")
        live = socket.receive()
    assert json.loads(packet[packet.index("[") :]) == ["_batch", [["größe", "😀"]]]
    assert json.loads(live[live.index("[") :]) == ["größe", "😀"]
    if version == 3:
        assert (packet + live).isascii()


def test_polling_text_framing(tenant: Tenant, deployment: Deployment) -> None:
    """EIO=3 polling with b64=1: length-prefixed text, `<length>:<packet>`, both ways."""
    user = tenant.user()
    session = RawPolling(deployment, 3, {"b64": "1"})
    answer = session.poll()
    assert answer.headers["content-type"].startswith("text/plain")
    length, _, rest = answer.text.partition(":")
    assert json.loads(rest[1 : int(length)])["upgrades"] == ["websocket"]
    connect_packet = f"40/alpha?token={user.token}"
    posted = session.post(f"{len(connect_packet)}:{connect_packet}".encode())
    assert (posted.status_code, posted.text) == (200, "ok")
    text = f"42/alpha,{SETTINGS}"
    received = session.poll_until(SETTINGS.encode())
    assert f"{len(text)}:{text}".encode() in received


def test_polling_binary_framing(tenant: Tenant, deployment: Deployment) -> None:
    """EIO=3 polling without b64: `00 <digits> ff <data>` both ways."""
    user = tenant.user()
    session = RawPolling(deployment, 3)
    (handshake, *_) = _engine_3_packets(session.poll())
    assert json.loads(handshake.removeprefix("0"))["pingInterval"]
    packet = f"40/alpha?token={user.token}".encode()
    framed = b"\x00" + bytes(map(int, str(len(packet)))) + b"\xff" + packet
    assert session.post(framed, "application/octet-stream").status_code == 200
    received: list[str] = []
    while f"42/alpha,{SETTINGS}" not in received:
        answer = session.poll()
        assert (answer.status_code, answer.headers["content-type"]) == (200, "application/octet-stream")
        received += _engine_3_packets(answer)


def test_jsonp_polling(tenant: Tenant, deployment: Deployment) -> None:
    """EIO=3 JSONP polling with `j=`: a script that calls `___eio[j]`, bodies posted as the form field `d`."""
    user = tenant.user()
    session = RawPolling(deployment, 3, {"b64": "1", "j": "7"})
    answer = session.poll()
    assert answer.headers["content-type"].startswith("text/javascript")
    assert answer.text.startswith('___eio[7]("')
    assert answer.text.endswith('");')
    assert '0{"sid"' in json.loads(answer.text[len("___eio[7](") : -2])
    packet = f"40/alpha?token={user.token}"
    posted = session.post(f"d={quote(f'{len(packet)}:{packet}')}".encode(), "application/x-www-form-urlencoded")
    assert posted.status_code == 200
    assert b"_settings" in session.poll_until(b"device_ttl")


@pytest.mark.parametrize("version", [3, 4])
def test_cors(deployment: Deployment, version: int) -> None:
    """The origin of a polling request is echoed, with credentials; a preflight is answered."""
    url = f"{deployment.url}/socket.io/"
    query = {"EIO": str(version), "transport": "polling"}
    answer = httpx.get(url, params=query, headers={"Origin": "https://any.example"})
    assert answer.headers["access-control-allow-origin"] == "https://any.example"
    assert answer.headers["access-control-allow-credentials"] == "true"
    headers = {"Origin": "https://any.example", "Access-Control-Request-Method": "POST"}
    preflight = httpx.options(url, params=query, headers=headers)
    assert preflight.status_code in (200, 204)
    assert preflight.headers["access-control-allow-origin"] == "https://any.example"


@pytest.mark.parametrize(("origin", "is_welcome"), [(ORIGIN, True), ("https://evil.example", False), (None, True)])
def test_origins_of_a_site(tenant: Tenant, deployment: Deployment, origin: str | None, is_welcome: bool) -> None:
    """A site's `origins` restrict which pages may connect to it from a browser; they do not restrict other sites."""
    user = tenant.user()
    headers = {"Origin": origin} if origin else {}
    sites = {}
    for site in ("narrow", "alpha"):
        query = {"EIO": "4", "transport": "polling"}
        url = f"{deployment.url}/socket.io/"
        answer = httpx.get(url, params=query, headers=headers)
        query["sid"] = json.loads(answer.text[1:])["sid"]
        body = f"40/{site},{json.dumps({'token': user.token})}"
        httpx.post(url, params=query, content=body.encode(), headers=headers)
        sites[site] = httpx.get(url, params=query, headers=headers).text.startswith(f"40/{site},")
    assert sites == {"narrow": is_welcome, "alpha": True}


def _engine_3_packets(answer: httpx.Response) -> list[str]:
    """Split a binary payload of EIO=3."""
    packets, rest = [], answer.content
    while rest:
        head, _, rest = rest.partition(b"\xff")
        assert head[0] == 0
        length = int("".join(map(str, head[1:])))
        packets.append(rest[:length].decode())
        rest = rest[length:]
    return packets
