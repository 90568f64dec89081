"""Sessions that any node answers for: two server processes on one Valkey that do not know of each other."""

from __future__ import annotations

import itertools
import json
import random
import re
import shutil
import signal
import socket
import tempfile
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from pathlib import Path
from urllib.parse import urlencode, urlsplit

import httpx
import pytest
import yaml
from prometheus_client.parser import text_string_to_metric_families
from websockets.exceptions import ConnectionClosed, InvalidStatus
from websockets.sync.client import ClientConnection, connect

from tests.support.balancer import Balancer
from tests.support.clients import POLLING, ClientKind, ConnectCall
from tests.support.connector import Drivers, numbers
from tests.support.ports import free_port
from tests.support.server import Server
from tests.support.sites import contract_sites
from tests.support.store import running_valkey
from tests.support.tenant import Tenant, User
from tests.support.valkey import Valkey
from tests.support.waiting import eventually

UNKNOWN_SID = {"code": 1, "message": "Session ID unknown"}
MAX_PAYLOAD = 200_000
SECRET = "the same for both"


class Pair:
    """Two nodes; live for this module, unless a test kills one and starts its own pair."""

    def __init__(self, tenant: Tenant, valkey: Valkey, is_clustered: bool = False) -> None:
        """Start both nodes."""
        self.directory = Path(tempfile.mkdtemp(prefix="recado-"))
        self.valkey = valkey
        (self.directory / "sites.yml").write_text(yaml.safe_dump(contract_sites(tenant)))
        config = {"io": {"maxPayload": MAX_PAYLOAD}, "log_level": "debug"}
        (self.directory / "config.yml").write_text(yaml.safe_dump({"production": config}))
        self.nodes: list[Server] = []
        for _ in range(2):
            self.nodes.append(self._start(is_clustered))
        if is_clustered:
            self._separate()

    def _start(self, is_clustered: bool) -> Server:
        environment = {"REDIS_URL": self.valkey.url}
        port = 0
        if is_clustered:
            port = free_port()
            environment |= {"RECADO_NODE_URL": f"http://127.0.0.1:{port}", "RECADO_CLUSTER_SECRET": SECRET}
        return Server(self.directory, "--port", str(port), **environment)

    def _separate(self) -> None:
        """Remove the socket files, as if each node were on a machine of its own."""
        for key in self.valkey.client.keys("recado:place:*"):
            Path(json.loads(self.valkey.client.get(key) or b"")["socket"]).unlink()

    def end(self) -> None:
        """End both nodes."""
        with ThreadPoolExecutor() as pool:
            list(pool.map(Server.end, self.nodes))
        shutil.rmtree(self.directory)


@pytest.fixture(scope="module")
def pair(tenant: Tenant) -> Iterator[Pair]:
    """Two nodes that this module's tests share."""
    with running_valkey() as valkey:
        both = Pair(tenant, valkey)
        yield both
        both.end()


@pytest.fixture
def own_pair(tenant: Tenant, request: pytest.FixtureRequest) -> Iterator[Pair]:
    """Two nodes of the test's own; with a true parameter, nodes that know their URLs and a secret."""
    with running_valkey() as valkey:
        both = Pair(tenant, valkey, getattr(request, "param", False))
        yield both
        both.end()


@pytest.fixture
def ends() -> Iterator[ExitStack]:
    """Ends what a test has started, in reverse order."""
    with ExitStack() as stack:
        yield stack


class Session:
    """A polling session whose requests may go to either node; lives for one test."""

    def __init__(self, pair: Pair, version: int = 4, **query: str) -> None:
        """Open the session at the first node."""
        self.pair = pair
        self.version = version
        self.query = {"EIO": str(version), "transport": "polling", **query}
        opened = self.ask(0, "GET")
        found = re.search(r'sid\\?":\\?"([^"\\]+)', opened.text)
        assert found, opened.text
        self.query["sid"] = found[1]

    def ask(self, node: int, method: str, **request: object) -> httpx.Response:
        """Send one request to a node."""
        url = f"{self.pair.nodes[node].url}/socket.io/"
        return httpx.request(method, url, params=self.query, timeout=60, **request)  # type: ignore[arg-type]

    def join(self, node: int, user: User) -> str:
        """Join the site `alpha` over a node; return the text of the polls there, up to `_settings`."""
        packet = "40/alpha," + json.dumps({"token": user.token, "deviceId": "d"})
        assert self.ask(node, "POST", content=packet).text == "ok"
        text = ""
        while "_settings" not in text:
            text += self.ask(node, "GET").text
        return text

    @contextmanager
    def socket(self, node: int) -> Iterator[ClientConnection]:
        """A WebSocket of this session, over a node."""
        query = urlencode({**self.query, "transport": "websocket"})
        url = self.pair.nodes[node].url.replace("http", "ws") + f"/socket.io/?{query}"
        with connect(url, compression=None) as opened:
            yield opened

    @contextmanager
    def upgrade(self, node: int) -> Iterator[ClientConnection]:
        """A WebSocket of this session, over a node, after its probe was answered."""
        with self.socket(node) as opened:
            opened.send("2probe")
            assert opened.recv(30) == "3probe"
            yield opened


def send(node: Server, pair: Pair, user: User, event: str, *args: object) -> None:
    """Send an event to the user's room over a node."""
    key = yaml.safe_load((pair.directory / "sites.yml").read_text())["alpha"]["apiKey"]
    query = {"site": "alpha", "apiKey": key}
    answer = httpx.post(f"{node.url}/send", params=query, json={"rooms": user.room, "event": event, "args": args})
    assert (answer.status_code, answer.text) == (200, "OK")


def figure(node: Server, name: str, **labels: str) -> float:
    """A sample of the node's metrics."""
    families = text_string_to_metric_families(httpx.get(f"{node.url}/metrics").text)
    samples = [one for family in families for one in family.samples]
    return sum(one.value for one in samples if one.name == name and labels.items() <= one.labels.items())


def raw_answer(node: Server, request: bytes) -> bytes:
    """The complete answer of a node to a request that asks the node to close."""
    parts = urlsplit(node.url)
    assert parts.hostname
    with socket.create_connection((parts.hostname, parts.port or 80), timeout=30) as connection:
        connection.sendall(request)
        answer = b""
        while part := connection.recv(65536):
            answer += part
    return answer


def test_polling_goes_on_at_another_node(pair: Pair, tenant: Tenant) -> None:
    """A session opened at one node joins, receives and acknowledges over another node that does not know it."""
    user = tenant.user()
    session = Session(pair)
    assert '"_settings"' in session.join(1, user)
    send(pair.nodes[1], pair, user, "news", 1)
    event = session.ask(1, "GET").text
    seq = event.removeprefix("42/alpha,").partition("[")[0]
    assert event == f'42/alpha,{seq}["news",1]'
    assert session.ask(1, "POST", content=f"43/alpha,{seq}[]").text == "ok"
    keys = ("body:" + seq, "flights")
    eventually(
        lambda: not any(pair.valkey.client.exists(f"recado:{{alpha}}:{key}") for key in keys),
        "the ack to remove the message",
    )
    assert figure(pair.nodes[1], "recado_passed_requests_total", result="passed on") >= 4


@pytest.mark.parametrize("query", [{"b64": "1"}, {"j": "0"}])
def test_old_ways_of_polling(pair: Pair, query: dict[str, str]) -> None:
    """Base64 and JSONP requests of version 3 are passed on like others, and so is the form body of a JSONP POST."""
    session = Session(pair, 3, **query)
    assert session.ask(0, "GET").status_code == 200
    if "j" in query:
        assert session.ask(1, "POST", data={"d": "1:2"}).text == "ok"
    else:
        assert session.ask(1, "POST", content="1:2").text == "ok"
    assert "1:3" in session.ask(1, "GET").text


def test_answers_are_the_owners_to_the_byte(pair: Pair) -> None:
    """Status, headers (CORS among them) and body equal those of the owner's own answer; so do errors."""
    session = Session(pair)
    query = urlencode({**session.query, "transport": "websocket"})
    for method, body in (("GET", b""), ("PUT", b"x"), ("OPTIONS", b"")):
        head = f"{method} /socket.io/?{query} HTTP/1.1\r\nHost: push.example.com\r\nOrigin: https://www.example.com\r\n"
        request = f"{head}Content-Length: {len(body)}\r\nConnection: close\r\n\r\n".encode() + body
        direct, passed = (raw_answer(node, request) for node in pair.nodes)
        assert passed == direct
        assert b"access-control-allow-origin: https://www.example.com" in direct


def test_upgrade_goes_through_another_node(pair: Pair, tenant: Tenant) -> None:
    """A WebSocket that reaches another node upgrades the session over there: bytes pass both ways, large ones too."""
    user = tenant.user()
    session = Session(pair)
    session.join(0, user)
    with session.upgrade(1) as opened:
        opened.send("5")
        text = "x" * 150_000
        send(pair.nodes[1], pair, user, "news", text)
        event = opened.recv(30)
        assert isinstance(event, str)
        assert event.endswith(f'["news","{text}"]')
        # The JSON of a client may have 64 KB.
        opened.send("42/alpha,7" + json.dumps(["ask", text[:60_000]]))
        assert opened.recv(30) == "43/alpha,7[]"
    eventually(lambda: session.ask(1, "GET").json() == UNKNOWN_SID, "the close to reach the owner")


def test_refused_upgrade_is_the_owners(pair: Pair) -> None:
    """A WebSocket that the owner refuses is refused in the owner's words; one too many is opened and closed."""
    session = Session(pair)
    with session.upgrade(1) as opened:
        opened.send("5")
        for node in (0, 1):
            with session.socket(node) as second, pytest.raises(ConnectionClosed):
                second.recv(30)
        query = urlencode({**session.query, "transport": "polling"})
        head = f"GET /socket.io/?{query} HTTP/1.1\r\nHost: a\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
        request = head + "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n\r\n"
        direct, passed = (raw_answer(node, request.encode()) for node in pair.nodes)
        assert direct == passed
        assert b'{"code":3,"message":"Bad request"}' in direct


def test_client_that_leaves_takes_its_poll_back(own_pair: Pair) -> None:
    """A client that drops its poll at one node ends the session at its owner, as it would at the owner itself."""
    session = Session(own_pair)
    parts = urlsplit(own_pair.nodes[1].url)

    def ends_by_leaving() -> bool:
        # No event tells when a poll has reached the owner: drop it after a moment, and repeat if that was too early.
        with socket.create_connection((parts.hostname or "", parts.port or 80)) as poll:
            poll.sendall(f"GET /socket.io/?{urlencode(session.query)} HTTP/1.1\r\nHost: a\r\n\r\n".encode())
            figure(own_pair.nodes[1], "recado_sessions")
        return figure(own_pair.nodes[0], "recado_sessions") == 0

    eventually(ends_by_leaving, "the session to end")


def test_body_beyond_the_bound(pair: Pair) -> None:
    """A body longer than maxPayload is refused by the owner, which ends the session."""
    session = Session(pair)
    answer = session.ask(1, "POST", content=b"4" * (MAX_PAYLOAD + 100_000))
    assert answer.status_code == 413
    assert session.ask(1, "GET").json() == UNKNOWN_SID


def test_nobody_owns_it(pair: Pair) -> None:
    """A session id of a node that never existed, or without a node, is answered
    as an unknown session, by either node."""
    session = Session(pair)
    for sid in ("0123456789.abc", "no-node-in-it", "../..", "", "0123456789", "." + session.query["sid"]):
        session.query["sid"] = sid
        for node in (0, 1):
            answer = session.ask(node, "GET")
            assert (answer.status_code, answer.json()) == (400, UNKNOWN_SID)


@pytest.mark.parametrize("own_pair", [False, True], indirect=True)
def test_owner_was_killed(own_pair: Pair) -> None:
    """Once its owner is dead a session is unknown, whether the owner was reached over its socket file or its URL."""
    session = Session(own_pair)
    assert session.ask(1, "POST", content="3").text == "ok"
    own_pair.nodes[0].signal(signal.SIGKILL)
    own_pair.nodes[0].wait()
    answer = session.ask(1, "GET")
    assert (answer.status_code, answer.json()) == (400, UNKNOWN_SID)
    with pytest.raises(InvalidStatus, match="400"), session.socket(1):
        pass
    # Behind its burial, seconds later, nobody is asked any more.
    results = ("owner unreachable", "owner unknown")
    assert sum(figure(own_pair.nodes[1], "recado_passed_requests_total", result=result) for result in results) == 2


@pytest.mark.parametrize("own_pair", [True], indirect=True)
def test_between_machines(own_pair: Pair, tenant: Tenant) -> None:
    """Without a common file system requests and WebSockets go to the owner's URL, signed."""
    user = tenant.user()
    session = Session(own_pair)
    session.join(1, user)
    with session.upgrade(1) as opened:
        opened.send("5")
        send(own_pair.nodes[1], own_pair, user, "news", 1)
        assert str(opened.recv(30)).endswith('["news",1]')
    assert figure(own_pair.nodes[1], "recado_passed_requests_total", result="passed on") >= 3
    assert not [line for node in own_pair.nodes for line in node.lines.snapshot() if SECRET in line]


def test_no_secret_no_trust(own_pair: Pair) -> None:
    """A request that claims to be passed on, without the right signature, is refused, even at the owner."""
    session = Session(own_pair)
    answer = session.ask(0, "POST", content="3", headers={"X-Recado-Signature": "guess"})
    assert (answer.status_code, answer.json()) == (400, UNKNOWN_SID)
    assert session.ask(0, "POST", content="3").text == "ok"
    assert figure(own_pair.nodes[0], "recado_passed_requests_total", result="refused") == 1


def begin(node: Server, session: Session, method: str, sent: bytes = b"", length: int = 0) -> socket.socket:
    """Send the head of a request and the start of its body; return when the node has taken it."""
    parts = urlsplit(node.url)
    connection = socket.create_connection((parts.hostname or "", parts.port or 80), timeout=30)
    head = f"{method} /socket.io/?{urlencode(session.query)} HTTP/1.1\r\nHost: a\r\nContent-Length: {length}\r\n\r\n"
    connection.sendall(head.encode() + sent)
    # The node answers this request only after it has taken the one before it.
    figure(node, "recado_sessions")
    return connection


def rest(connection: socket.socket) -> bytes:
    """Everything that arrives until the node closes."""
    with connection:
        return b"".join(iter(lambda: connection.recv(65536), b""))


@pytest.mark.parametrize("own_pair", [False, True], indirect=True)
def test_node_that_ends_hands_polls_back(own_pair: Pair, tenant: Tenant) -> None:
    """SIGTERM at a node that passes on a poll and a POST of a session owned elsewhere: the owner answers the poll with
    a noop, the POST arrives whole, the session lives on, and the node ends with 0."""
    user = tenant.user()
    session = Session(own_pair)
    session.join(1, user)
    owner, other = own_pair.nodes
    body = b'42/alpha,7["ask",1]'
    poll = begin(other, session, "GET")
    post = begin(other, session, "POST", body[:5], len(body))
    other.signal(signal.SIGTERM)
    answer = rest(poll)
    assert answer.startswith(b"HTTP/1.1 200 OK\r\n")
    assert answer.endswith(b"\r\n\r\n6")
    assert b"connection: close" in answer
    post.sendall(body[5:])
    assert rest(post).endswith(b"\r\n\r\nok")
    assert other.wait() == 0
    assert session.ask(0, "GET").text == "43/alpha,7[]"
    send(owner, own_pair, user, "news", 1)
    assert session.ask(0, "GET").text.endswith('["news",1]')
    assert figure(owner, "recado_sessions") == 1


@pytest.mark.parametrize("library", ["2", "4"])
def test_client_outlives_the_node_that_passes_its_polls(
    own_pair: Pair, tenant: Tenant, drivers: Drivers, library: str, ends: ExitStack
) -> None:
    """A client whose polls pass through a node that ends stays connected to their owner, without a new connect, and
    gets everything, once and in order."""
    owner, other = own_pair.nodes
    listed = [owner.url]
    balancer = Balancer(lambda: listed, random.Random(1))
    ends.callback(balancer.end)
    user = tenant.user()
    query = {"token": user.token, "deviceId": "d"}
    client = drivers.node.connect(ConnectCall(ClientKind(library, POLLING), balancer.url, "alpha", query))
    # The balancer may end only when no client connects any more.
    ends.callback(lambda: eventually(lambda: figure(owner, "recado_sessions") == 0, "the client to leave"))
    ends.callback(client.forget)
    client.wait_event("_settings")
    listed[:] = [other.url]

    def is_passed_on() -> bool:
        return figure(other, "recado_passed_requests_total", result="passed on") >= 4

    sent = itertools.count()

    def send_more() -> bool:
        send(owner, own_pair, user, "n", next(sent))
        return is_passed_on()

    eventually(send_more, "polls to go through the other node")
    other.signal(signal.SIGTERM)
    listed[:] = [owner.url]
    assert other.wait() == 0
    for _ in range(3):
        send(owner, own_pair, user, "n", next(sent))
    send(owner, own_pair, user, "fence")
    client.wait_event("fence")
    assert numbers(client) == list(range(next(sent)))
    assert figure(owner, "recado_sessions") == 1
