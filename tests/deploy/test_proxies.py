"""nginx, HAProxy and Caddy with the files of deploy/, in front of two nodes: every contract comes through whole."""

from __future__ import annotations

import json
import random
import signal
import ssl
import threading
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import urlsplit

import httpx
import pytest
import yaml

from tests.deploy.conftest import PART_BYTES
from tests.support.certificates import Authority
from tests.support.chat import Chatting
from tests.support.clients import MODERN, POLLING, UPGRADE, ClientKind
from tests.support.connector import Connector, Drivers, numbers
from tests.support.deployment import Deployment
from tests.support.endpoint import Endpoint
from tests.support.proxies import FOLDER, NAMES, Proxy, running_proxy
from tests.support.raw import RawPolling, RawSocket
from tests.support.swarm import Swarm
from tests.support.tenant import Tenant
from tests.support.topic_client import TopicBackend
from tests.support.waiting import eventually

_WAIT_SECONDS = 30.0
#: The sends at the moment at which a node closes its connections: one of each publisher.
_MOST_REFUSED = 2
_ANSWER_BYTES = {"content-type": "application/offset+octet-stream"}


class Entry(Endpoint):
    """The server as it is behind a proxy. Lives as long as the proxy."""

    def __init__(self, nodes: Deployment, proxy: Proxy) -> None:
        """Keep both."""
        super().__init__(nodes.sites)
        self.nodes = nodes.nodes
        self.proxy = proxy

    @property
    def url(self) -> str:
        """The proxy's URL."""
        return self.proxy.url

    def answer_from(self, address: str, **headers: str) -> str:
        """Join the site `alone` with a new device from one of the machine's addresses; the answer to the CONNECT."""
        with httpx.Client(transport=httpx.HTTPTransport(local_address=address), headers=headers, timeout=20) as http:
            query = {"EIO": "4", "transport": "polling"}
            opened = http.get(f"{self.url}/socket.io/", params=query).text
            query["sid"] = opened.partition('"sid":"')[2].partition('"')[0]
            auth = json.dumps({"token": self.token, "deviceId": f"{address} {len(headers)}"})
            posted = http.post(f"{self.url}/socket.io/", params=query, content=f"40/alone,{auth}")
            assert posted.status_code == 200, posted.text
            return http.get(f"{self.url}/socket.io/", params=query).text

    #: The token of the user of `answer_from`.
    token = ""


@pytest.fixture(scope="module", params=NAMES)
def entry(
    request: pytest.FixtureRequest, nodes: Deployment, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Entry]:
    """A proxy in front of the module's nodes."""
    folder = tmp_path_factory.mktemp(request.param)
    with running_proxy(request.param, [node.url for node in nodes.nodes], folder) as proxy:
        served = Entry(nodes, proxy)
        yield served
        served.close_http()


@pytest.fixture
def come(entry: Entry, drivers: Drivers) -> Iterator[Connector]:
    """Opens clients through the proxy."""
    connector = Connector(entry, drivers)
    yield connector
    connector.close()


@pytest.mark.parametrize("transports", [("websocket",), POLLING, UPGRADE], ids=["websocket", "polling", "upgrade"])
def test_messages_arrive(entry: Entry, come: Connector, tenant: Tenant, transports: tuple[str, ...]) -> None:
    """A client gets messages in order over each transport; over polling each of its requests may meet another node."""
    user = tenant.user()
    client = come("one", user, ClientKind(MODERN.library, transports))
    for number in range(5):
        entry.send("one", user.room, "n", number)
    client.wait_event("n", nth=5, timeout_seconds=_WAIT_SECONDS)
    assert numbers(client) == [0, 1, 2, 3, 4]


@pytest.mark.parametrize("way", ["frames", "sse"])
def test_streams_are_not_held_back(entry: Entry, way: str) -> None:
    """An event reaches the stream of a topic while the stream goes on, in frames and as Server-Sent Events."""
    backend = TopicBackend(entry, "news")
    with backend.subscribe("here") if way == "frames" else backend.listen("here") as stream:
        assert stream.response.status_code == 200
        stream.wait(1, _WAIT_SECONDS)
        for number in (1, 2):
            backend.emit("here", "paid", {"number": number})
            assert stream.wait_type("paid", number, _WAIT_SECONDS)["e"]["detail"] == {"number": number}
        assert not stream.ended.is_set()


def test_a_left_stream_ends_at_the_node(entry: Entry) -> None:
    """A client that leaves its stream is told to the node at once: no stream stays behind the proxy."""

    def streams() -> int:
        texts = [node.get("/metrics").text.splitlines() for node in entry.nodes]
        return sum(int(float(line.split()[-1])) for lines in texts for line in lines if line.startswith(_STREAMS))

    eventually(lambda: streams() == 0, "no stream", _WAIT_SECONDS)
    with TopicBackend(entry, "news").subscribe("here") as stream:
        stream.wait(1, _WAIT_SECONDS)
        assert streams() == 1
    eventually(lambda: streams() == 0, "the end of the stream", _WAIT_SECONDS)


_STREAMS = 'recado_streams{site="news"}'


def test_addresses_of_clients(entry: Entry, tenant: Tenant) -> None:
    """A client counts by its own address: what it claims in X-Forwarded-For changes nothing."""
    entry.token = tenant.user().token
    # Addresses of this proxy's own: the connects before them may still count.
    first, second = (f"127.0.{NAMES.index(entry.proxy.process.name) + 1}.{number}" for number in (2, 3))
    assert '"sid"' in entry.answer_from(first)
    claimed = {"X-Forwarded-For": "203.0.113.9", "X-Real-IP": "203.0.113.9", "Forwarded": "for=203.0.113.9"}
    assert "Too many connections" in entry.answer_from(first, **claimed)
    assert '"sid"' in entry.answer_from(second, **{"X-Forwarded-For": first})


def test_a_large_part_of_a_file(entry: Entry, nodes: Deployment, drivers: Drivers) -> None:
    """A file goes up in parts of 3 MB and comes back whole."""
    team = Chatting(nodes, drivers, "team", entry.url)
    token = team.login("ann", entry.proxy.process.name).wait_event("_settings").args[0]["session"]
    headers = {"authorization": f"Bearer {token}", "tus-resumable": "1.0.0"}
    data = random.randbytes(PART_BYTES + 5)
    made = entry.post("/team/files/", headers=headers | {"upload-length": str(len(data))})
    assert made.status_code == 201, made.text
    path = urlsplit(made.headers["location"]).path
    for start in (0, PART_BYTES):
        part = headers | _ANSWER_BYTES | {"upload-offset": str(start)}
        answer = entry.request("PATCH", path, headers=part, content=data[start : start + PART_BYTES], timeout=60)
        assert answer.status_code == 204, answer.text
    assert entry.get(path, headers=headers, timeout=60).content == data
    team.close()


def test_what_is_not_published(entry: Entry) -> None:
    """The figures, the console and its API answer nobody from outside of the operators' network."""
    assert [entry.get(path).status_code for path in ("/metrics", "/metrics/own")] == [404, 404]
    assert {entry.get(path).status_code for path in ("/console", "/console/", "/api/v1/sites")} <= {403, 404}
    assert entry.get("/healthz").text == "ok"


def test_paths_of_the_ingress(nodes: Deployment) -> None:
    """Each path that the manifests publish is one that a node serves."""
    ingress = yaml.safe_load((FOLDER / "kubernetes" / "ingress.yaml").read_text())
    paths = [path["path"] for path in ingress["spec"]["rules"][0]["http"]["paths"]]
    below = {"/socket.io/": "?EIO=4&transport=polling", "/topics/": "news/", "/channels/": "news/channel/ping"}
    assert len(paths) == 10
    for path in paths:
        assert nodes.nodes[0].get(path + below.get(path, "")).status_code != 404, path
    assert nodes.nodes[0].get("/nowhere").status_code == 404


class Newcomers:
    """Opens one session after the other, and one stream, until `end`; keeps what was refused."""

    def __init__(self, entry: Entry) -> None:
        """Start."""
        self._entry = entry
        self._over = threading.Event()
        self.opened = 0
        self.refused: list[str] = []
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def end(self) -> None:
        """Stop, and tell what was refused."""
        self._over.set()
        self._thread.join(_WAIT_SECONDS)
        assert not self._thread.is_alive()

    def _run(self) -> None:
        # Some 20 attempts a second are enough to meet a draining node.
        while not self._over.wait(0.03):
            for attempt in (self._poll, self._websocket, self._listen):
                try:
                    attempt()
                    self.opened += 1
                except Exception as error:
                    self.refused.append(f"{attempt.__name__}: {error!r}")

    def _poll(self) -> None:
        answer = RawPolling(self._entry, 4).poll()
        assert answer.status_code == 200, answer.text

    def _websocket(self) -> None:
        with RawSocket(self._entry.url, 4) as socket:
            assert socket.receive(_WAIT_SECONDS).startswith("0{")

    def _listen(self) -> None:
        query = {"topic": "here"}
        with httpx.stream("GET", f"{self._entry.url}/topics/news/stream", params=query, timeout=20) as answer:
            assert answer.status_code == 200


def test_a_node_drains(entry: Entry, tenant: Tenant) -> None:
    """One node ends by SIGTERM and starts again: no newcomer is refused, every device has every message in order, and
    sends are answered. One that meets the end of a connection between proxy and node may be refused: see proxies.md."""
    room = tenant.unique("room")
    node = entry.nodes[1]
    with Swarm(entry, "two") as swarm:
        for _ in range(20):
            swarm.add(tenant.user(room))
        swarm.board()
        newcomers = Newcomers(entry)
        try:
            with swarm.publishing(room, publishers=2, per_second=20):
                eventually(lambda: swarm.answered > 10 and newcomers.opened > 10, "the load", _WAIT_SECONDS)
                node.server.signal(signal.SIGTERM)
                assert node.server.wait(_WAIT_SECONDS) == 0
                answered, opened = swarm.answered, newcomers.opened
                eventually(lambda: swarm.answered > answered + 10, "sends without the node", _WAIT_SECONDS)
                eventually(lambda: newcomers.opened > opened + 10, "newcomers without the node", _WAIT_SECONDS)
                node.start()
                answered = swarm.answered
                eventually(lambda: swarm.answered > answered + 10, "sends with the node", _WAIT_SECONDS)
        finally:
            newcomers.end()
        swarm.wait_ready()
        swarm.check()
        assert newcomers.refused == []
        assert [sent.unknown for sent in swarm.sent.values()] == [[], []]
        assert sum(len(sent.refused) for sent in swarm.sent.values()) <= _MOST_REFUSED
        assert sum(client.connects for client in swarm.clients) > len(swarm.clients)


@pytest.mark.parametrize("name", NAMES)
def test_the_files_with_tls(name: str, tmp_path: Path, nodes: Deployment) -> None:
    """Each file as it stands, with its TLS: the proxy serves over https, and leads plain HTTP there."""
    authority = Authority(tmp_path)
    urls = [node.url for node in nodes.nodes]
    with running_proxy(name, urls, tmp_path / name, pair=authority.sign("push")) as proxy:
        trusted = ssl.create_default_context(cafile=authority.cert)
        assert httpx.get(f"{proxy.url}/healthz", verify=trusted).text == "ok"
        led = httpx.get(f"{proxy.plain_url}/socket.io/?EIO=4")
        assert led.status_code == 308
        assert (led.headers["location"].startswith("https://"), "EIO=4" in led.headers["location"]) == (True, True)


def test_haproxy_while_redis_is_away(nodes: Deployment, tmp_path: Path) -> None:
    """No node is ready, and HAProxy passes requests on all the same: the answer is a node's, with its reason."""
    urls = [node.url for node in nodes.nodes]

    def are_ready() -> bool:
        return all(node.get("/readyz").status_code == 200 for node in nodes.nodes)

    with running_proxy("haproxy", urls, tmp_path / "haproxy") as proxy:
        entry = Entry(nodes, proxy)
        nodes.redis.suspend()
        try:
            is_told = "backend ready_nodes has no server available"
            proxy.process.lines.wait_for(lambda line: is_told in line, is_told, 2 * _WAIT_SECONDS)
            answer = entry.get("/readyz")
            assert (answer.status_code, answer.json()["ready"]) == (503, False)
            assert entry.get("/healthz").text == "ok"
        finally:
            nodes.redis.resume()
        eventually(are_ready, "the nodes to be ready again", 2 * _WAIT_SECONDS)
        eventually(lambda: entry.get("/readyz").status_code == 200, "the proxy to see it", 2 * _WAIT_SECONDS)
        entry.close_http()
