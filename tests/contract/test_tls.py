"""A server that ends TLS itself: every door over TLS with real clients, the redirect, renewed files, certificates of
clients, the figures."""

from __future__ import annotations

import json
import re
import signal
import socket
import ssl
import subprocess
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest
import websockets.sync.client

from tests.support.certificates import Authority, Pair
from tests.support.clients import NODE_KINDS, ClientKind
from tests.support.connector import Connector, Drivers
from tests.support.deployment import Deployment
from tests.support.forks import run_command
from tests.support.metrics import Figures
from tests.support.node_clients import NodeClients
from tests.support.ports import free_port
from tests.support.server import clean_environment
from tests.support.sites import contract_sites
from tests.support.tenant import Tenant
from tests.support.waiting import eventually

#: A reload looks at the files every 2 s, and waits until they are still.
_RELOAD_SECONDS = 30


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    """The authority that the clients of this module trust."""
    return Authority(tmp_path_factory.mktemp("tls"))


@pytest.fixture(scope="module")
def redirect_port() -> int:
    """The port for plain HTTP."""
    return free_port()


@pytest.fixture(scope="module")
def mounted_port() -> int:
    """A port of the server that channels replace."""
    return free_port()


@pytest.fixture(scope="module")
def pair(authority: Authority) -> Pair:
    """The files of the server."""
    return authority.sign("www.example.com", days=30)


@pytest.fixture(scope="module")
def deployment(
    tenant: Tenant, authority: Authority, pair: Pair, redirect_port: int, mounted_port: int
) -> Iterator[Deployment]:
    """A server with TLS, with a canary and one site on a port of its own."""
    sites = {**contract_sites(tenant), "shop": {"apiKey": "a-key-of-the-shop-alone", "channels": {}, "topics": {}}}
    config = {
        "tls": {"cert": str(pair.cert), "key": str(pair.key), "redirect_port": redirect_port},
        "mounts": {"channels": {"site": "shop", "http_port": mounted_port}},
    }
    server = Deployment(sites, config, environment={"RECADO_CANARY": "true"})
    server.trust(authority.client_context())
    yield server
    server.end()


@pytest.fixture(scope="module")
def drivers(drivers: Drivers, authority: Authority) -> Iterator[Drivers]:
    """The client libraries in Node, with trust in the authority."""
    node = NodeClients(trusted=authority.cert)
    yield Drivers(node, drivers.python)
    node.end()


@pytest.mark.parametrize("kind", NODE_KINDS, ids=str)
def test_every_client_over_tls(deployment: Deployment, connect: Connector, tenant: Tenant, kind: ClientKind) -> None:
    """Each client of Socket.IO gets a message over TLS, on every transport, and its acknowledgement counts."""
    assert deployment.url.startswith("https://127.0.0.1:")
    user = tenant.user()
    client = connect("alpha", user, kind)
    deployment.send("alpha", user.room, "news", "x" * 200_000)
    assert client.wait_event("news").args == ["x" * 200_000]
    query = {"site": "alpha", "apiKey": deployment.key("alpha"), "user": user.room}
    eventually(
        lambda: deployment.get("/devices", params=query).json()["devices"][0]["queue"]["messages"] == 0,
        "the acknowledgement",
    )


def curl(*arguments: str) -> subprocess.CompletedProcess[str]:
    """Run curl."""
    command = ["curl", "--silent", "--show-error", "--max-time", "20", *arguments]
    return subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)


def test_a_backend_over_tls(deployment: Deployment, authority: Authority) -> None:
    """curl posts to /send over TLS; without trust in the authority it sends nothing."""
    url = f"{deployment.url}/send?site=plain"
    body = [
        "-H",
        f"X-API-Key: {deployment.key('plain')}",
        "-H",
        "Content-Type: application/json",
        "-d",
        '{"rooms": "r", "event": "e"}',
    ]
    answer = curl("--cacert", str(authority.cert), *body, url)
    assert (answer.returncode, answer.stdout) == (0, "OK")
    assert curl(*body, url).returncode == 60


def test_http_2_is_not_offered(deployment: Deployment, authority: Authority) -> None:
    """A client that knows HTTP/2 is told by ALPN to speak HTTP/1.1."""
    context = authority.client_context()
    context.set_alpn_protocols(["h2", "http/1.1"])
    with _connected(deployment, context) as client:
        assert client.selected_alpn_protocol() == "http/1.1"


def _connected(deployment: Deployment, context: ssl.SSLContext) -> ssl.SSLSocket:
    port = httpx.URL(deployment.url).port
    assert port is not None
    return context.wrap_socket(socket.create_connection(("127.0.0.1", port)), server_hostname="127.0.0.1")


@pytest.mark.parametrize(("version", "works"), [("-tls1_3", True), ("-tls1_2", True), ("-tls1_1", False)])
def test_versions_of_tls(deployment: Deployment, version: str, works: bool) -> None:
    """openssl connects with TLS 1.3 and 1.2, and with nothing older."""
    at = deployment.url.removeprefix("https://")
    command = ["openssl", "s_client", "-connect", at, version, "-cipher", "DEFAULT@SECLEVEL=0", "-brief"]
    done = subprocess.run(command, input=b"", capture_output=True, timeout=60, check=False)
    assert (b"CONNECTION ESTABLISHED" in done.stderr) is works, done.stderr


def test_a_channel_on_a_port_of_its_own(deployment: Deployment, authority: Authority, mounted_port: int) -> None:
    """The port of `mounts` speaks TLS too: a WebSocket of a channel opens there, and plain HTTP gets 400."""
    url = f"wss://127.0.0.1:{mounted_port}/"
    with websockets.sync.client.connect(url, ssl=authority.client_context()) as channel:
        assert json.loads(channel.recv(timeout=30))
    answer = httpx.get(f"http://127.0.0.1:{mounted_port}/push")
    assert (answer.status_code, answer.text) == (400, "This port speaks HTTPS.")


def test_a_stream_over_tls(deployment: Deployment) -> None:
    """A topic's stream delivers an event over TLS."""
    base = f"{deployment.url}/topics/shop"
    with deployment._http.stream("POST", base, json={"ep": ["orders"]}, timeout=20) as stream:
        assert stream.status_code == 200
        parts = stream.iter_text()
        next(parts)
        event = {"ep": ["orders"], "e": {"type": "paid", "detail": 7}}
        answer = deployment.post("/topics/shop/event", json=event, headers={"X-API-Key": "a-key-of-the-shop-alone"})
        assert answer.status_code == 200, answer.text
        assert any("paid" in part for part in parts)


def test_the_redirect(deployment: Deployment, redirect_port: int) -> None:
    """Plain HTTP on the other port is answered with the same address under https; a POST keeps its method."""
    plain = f"http://127.0.0.1:{redirect_port}"
    answer = httpx.get(f"{plain}/socket.io/?EIO=4&x=%20y")
    assert (answer.status_code, answer.headers["location"]) == (301, f"{deployment.url}/socket.io/?EIO=4&x=%20y")
    assert httpx.post(f"{plain}/send", content=b"x").status_code == 308
    upgrade = {"Connection": "Upgrade", "Upgrade": "websocket", "Sec-WebSocket-Version": "13"}
    upgrade["Sec-WebSocket-Key"] = "dGhlIHNhbXBsZSBub25jZQ=="
    answer = httpx.get(f"{plain}/socket.io/?transport=websocket", headers=upgrade)
    assert (answer.status_code, answer.headers["location"]) == (
        301,
        f"{deployment.url}/socket.io/?transport=websocket",
    )
    assert httpx.get(plain, headers={"Host": "www.example.com@evil.example/"}).status_code == 400


def test_the_canary_over_tls(deployment: Deployment) -> None:
    """The node's messages to itself take the way over TLS."""
    eventually(lambda: Figures(deployment)("recado_canary_delivered_share") > 0, "an acknowledged message", 60)


def test_the_figures(deployment: Deployment) -> None:
    """Days of the certificate, handshakes, and refusals by reason are in /metrics."""
    with socket.create_connection(("127.0.0.1", httpx.URL(deployment.url).port or 0)) as stranger:
        stranger.sendall(b"\x16\x03\x01\x00\x05hello")
        while stranger.recv(100):
            pass
    failed = {"reason": "handshake failed"}
    eventually(lambda: Figures(deployment)("recado_refused_total", failed) >= 1, "the refusal to be counted")
    seen = Figures(deployment)
    # As made, or renewed by another test.
    assert 29 < seen("recado_tls_certificate_days_left") <= 90
    assert seen("recado_tls_handshakes_total") >= 1


def test_the_command_line(deployment: Deployment, connect: Connector, tenant: Tenant) -> None:
    """The command line reaches the server of this machine by its own settings, and trusts its certificate alone."""
    user = tenant.user()
    client = connect("alpha", user)
    done = send_by_command(deployment, user.room)
    assert (done.stdout, done.stderr) == ("OK\n", "")
    client.wait_event("news")


def send_by_command(deployment: Deployment, room: str, *options: str, **files: str) -> subprocess.CompletedProcess[str]:
    """`recado send` beside the server."""
    words = ("--site", "alpha", "--room", room, "--event", "news", *options)
    environment = clean_environment(PORT=str(httpx.URL(deployment.url).port), **files)
    return run_command(("send", *words), deployment.directory, environment)


def served_serial(deployment: Deployment, authority: Authority) -> str:
    """The serial number of the certificate that a new connection gets."""
    with _connected(deployment, authority.client_context()) as client:
        return str((client.getpeercert() or {})["serialNumber"])


def events(deployment: Deployment, name: str) -> list[dict[str, str]]:
    """The log lines of this event."""
    return [line for line in deployment.server.log() if line.get("event") == name]


def test_renewed_files(
    deployment: Deployment, authority: Authority, pair: Pair, connect: Connector, tenant: Tenant
) -> None:
    """Files that change are in use soon, without a restart, and connections go on; a broken file changes nothing and is
    logged; the next whole one counts. SIGHUP asks at once."""
    user = tenant.user()
    client = connect("alpha", user)
    first = served_serial(deployment, authority)
    pair.take_over(authority.sign("www.example.com", days=90))
    eventually(lambda: served_serial(deployment, authority) != first, "the new certificate", _RELOAD_SECONDS)
    second = served_serial(deployment, authority)
    assert Figures(deployment)("recado_tls_certificate_days_left") > 80
    good = pair.cert.read_bytes()
    pair.cert.write_bytes(good[:200])
    failures = eventually(lambda: events(deployment, "certificate not reloaded"), "the line", _RELOAD_SECONDS)
    assert re.search(r"tls.cert: .* does not serve: it holds no certificate", str(failures[-1]["reason"]))
    assert served_serial(deployment, authority) == second
    pair.cert.write_bytes(good)
    # Again whole, and an order to read it.
    reloads = len(events(deployment, "certificate reloaded"))
    deployment.server.signal(signal.SIGHUP)
    eventually(lambda: len(events(deployment, "certificate reloaded")) > reloads, "the reload", _RELOAD_SECONDS)
    assert served_serial(deployment, authority) == second
    deployment.send("alpha", user.room, "still here")
    client.wait_event("still here")


def _delivered(metrics: str) -> bool:
    """Whether the canaries of both workers have had an acknowledgement."""
    shares = re.findall(r"^recado_canary_delivered_share{worker=\"\d\"} (\S+)$", metrics, re.MULTILINE)
    return len(shares) == 2 and all(float(share) > 0 for share in shares)


def test_clients_with_certificates(tenant: Tenant, authority: Authority, tmp_path: Path) -> None:
    """With `verify_clients` a client needs a certificate of the authority, on every worker, and so does a command; the
    canary has its own."""
    pair = authority.sign("localhost")
    tls = {"cert": str(pair.cert), "key": str(pair.key), "ca": str(authority.cert), "verify_clients": True}
    known = authority.sign("client")
    server = Deployment(contract_sites(tenant), {"tls": tls, "workers": 2}, environment={"RECADO_CANARY": "true"})
    try:
        server.trust(authority.client_context(known))
        url = f"{server.url}/healthcheck"
        files = ["--cert", str(known.cert), "--key", str(known.key)]
        for _ in range(6):
            assert curl("--cacert", str(authority.cert), *files, url).stdout == "ok"
            assert curl("--cacert", str(authority.cert), url).returncode != 0
        command_files = {"RECADO_CLIENT_CERT": str(known.cert), "RECADO_CLIENT_KEY": str(known.key)}
        assert send_by_command(server, "nobody", **command_files).stdout == "OK\n"
        elsewhere = ("--url", server.url, "--api-key", server.key("alpha"), "--ca", str(authority.cert))
        assert send_by_command(server, "nobody", *elsewhere, **command_files).stdout == "OK\n"
        stranger = Authority(tmp_path).sign("stranger")
        for own in ((), ("--cert", str(stranger.cert), "--key", str(stranger.key))):
            refused = send_by_command(server, "nobody", *own)
            assert refused.stderr.startswith(f"recado: no answer from {server.url}: ")
            assert refused.stderr.endswith("; if it asks clients for a certificate, see --cert\n")
        for option, file in (("--cert", "nowhere.pem"), ("--cert", str(known.key)), ("--ca", str(known.key))):
            assert f"{file}: " in send_by_command(server, "nobody", option, file).stderr
        eventually(lambda: _delivered(server.get("/metrics").text), "messages of the canaries", 60)
    finally:
        server.end()
