"""Contract topics at the paths of es-web-notify: what its clients, pages and operators saw there, they see here."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from typing import Any

import pytest

from tests.support.bind_keys import JWT_SECRET, jwt_of
from tests.support.bind_server import BindServer
from tests.support.deployment import Deployment
from tests.support.tenant import SECRET
from tests.support.topic_client import TopicBackend, TopicStream

SITE = "old"
KINDS = ["rss", "heapTotal", "heapUsed", "external", "arrayBuffers"]
_numbers = itertools.count()


@pytest.fixture(scope="module")
def bind_server() -> Iterator[BindServer]:
    """The website's backend that knows the user of each bind key."""
    server = BindServer()
    yield server
    server.end()


@pytest.fixture(scope="module", params=[1, 2], ids=["one node", "two nodes"])
def server(request: pytest.FixtureRequest, bind_server: BindServer) -> Iterator[Deployment]:
    """A site at the paths of es-web-notify; each test uses clients and topics of its own."""
    topics = {
        "open_status": True,
        "reserved_under_hash": True,
        "jwt_secret": JWT_SECRET,
        "connection_timeout": 6,
        "bindUrl": bind_server.url,
        "bind_method": "RETREIVE",
        "bind_headers": {"X-Site": "old", "Content-Type": "text/plain", "User-Agent": "node"},
    }
    sites = {SITE: {"apiKey": f"{SECRET}-key-old", "topics": topics}}
    deployment = Deployment(sites, {"mounts": {"topics": SITE}}, nodes=request.param)
    yield deployment
    deployment.end()


@pytest.fixture
def old(server: Deployment) -> TopicBackend:
    """The site at the original paths."""
    backend = TopicBackend(server, SITE)
    backend.path = ""
    return backend


@pytest.fixture
def client(request: pytest.FixtureRequest) -> str:
    """A client's name, and the first level of topics, that no other test uses."""
    return f"{request.node.originalname}-{next(_numbers)}"


def seen(stream: TopicStream, count: int) -> list[tuple[str, str, str, Any]]:
    """The first events of a stream: requested topic, emitted topic, type and number of streams."""
    events = stream.wait(count)[:count]
    return [
        (
            event["ep"]["requested"],
            event["ep"]["emitted"],
            event["e"]["type"],
            event["e"].get("detail", {}).get("clid_instances"),
        )
        for event in events
    ]


CONNECTED = ("@SERVER@", "@SERVER@", "connected", None)


def test_connections(server: Deployment, old: TopicBackend, client: str) -> None:
    """/connections needs no key with `open_status`: the counts, one client's count as text, and its details with the
    fields that mean nothing here."""
    counted = server.get("/connections").json()
    assert "@TOTAL@" not in counted or counted["@TOTAL@"]
    point = {"topic": f"{client}/b", "binded": True, "x": 1}
    with old.subscribe("a", point, clid=client, wid="0001", more={"n": [1.0]}, api_token="s3cr3t") as stream:
        counts = server.get("/connections").json()
        assert counts[client] == 1
        assert counts["@TOTAL@"] == sum(counts.values()) - counts["@TOTAL@"]
        assert server.get("/connections", params={"clid": client}).text == "1"
        details = server.get("/connections", params={"clid": client, "details": "true"})
        assert details.headers["content-type"] == "application/json;charset=utf-8"
        assert "s3cr3t" not in details.text
        body = details.json()[str(stream.number)]["body"]
        assert body == {
            "clid": client,
            "ep": [{"topic": "a"}, {"topic": f"{client}/b"}],
            "wid": "0001",
            "more": {"n": [1.0]},
            "api_token": "(removed)",
        }
        # The same fields are shown at our own paths.
        own = TopicBackend(server, SITE).ask("GET", "/connections", params={"clid": client, "details": "true"})
        assert own.json()[str(stream.number)]["body"]["wid"] == "0001"


def test_bound_topics_are_shown(server: Deployment, old: TopicBackend, client: str) -> None:
    """A binded topic has the prefix and the user that es-web-notify gave it, in /state and in the details."""
    point = {"topic": f"{client}/b", "binded": True}
    with old.subscribe(point, clid=client, bind_key=jwt_of("u7", jti=client)) as stream:
        shown = server.get("/connections", params={"clid": client, "details": "true"}).json()[str(stream.number)]
        assert shown["body"]["ep"] == [{"topic": f"@bind@/{client}/b", "bind": "u7"}]
        assert server.get("/state").json()["topics"][f"@bind@/{client}/b"] == "???"


def test_state(server: Deployment, old: TopicBackend, client: str) -> None:
    """/state has the five fields of es-web-notify over all nodes, with "???" for what is deeper."""
    with old.subscribe(f"{client}/#", clid=client) as one, old.subscribe(f"{client}/a", clid=client) as two:
        state = server.get("/state").json()
        assert list(state) == ["nextId", "connections", "clids", "clid_headers", "topics"]
        assert {str(one.number), str(two.number)} <= state["connections"].keys()
        assert state["nextId"] > max(map(int, state["connections"]))
        assert state["clids"][client] == 2
        assert state["clids"]["@TOTAL@"] >= 2
        assert state["clid_headers"][client] == "???"
        assert state["topics"][f"{client}/#"] == state["topics"][f"{client}/a"] == "???"


def test_memory(server: Deployment) -> None:
    """/memory has the kinds of Node.js, as text in MB."""
    memory = server.get("/memory").json()
    assert list(memory) == KINDS
    assert all(value.endswith(" MB") for value in memory.values())
    assert float(memory["rss"].removesuffix(" MB")) > 10


def test_of_oneself(old: TopicBackend, client: str) -> None:
    """A stream that watches its own client hears of its own coming first, then `connected`, then `available` with text,
    and of its going when its time is over."""
    own = f"@CONNECTION@/{client}"
    with old.subscribe(own, clid=client) as stream:
        assert seen(stream, 3) == [(own, own, "connect", 1), CONNECTED, (own, own, "available", "1")]
        with old.subscribe(own, clid=client) as second:
            assert seen(second, 3) == [(own, own, "connect", 2), CONNECTED, (own, own, "available", "2")]
            assert seen(stream, 4)[3] == (own, own, "connect", 2)
        assert seen(stream, 5)[4] == (own, own, "disconnect", 1)
        assert stream.ended.wait(30)
        assert seen(stream, 6)[5:] == [(own, own, "disconnect", 0)]


def test_reserved_under_hash(old: TopicBackend, client: str) -> None:
    """`#` and `+/<clid>` hear of connections, `@CONNECTION@/+` is the topic of the client `+`."""
    topic = f"@CONNECTION@/{client}"
    with old.subscribe("#", f"+/{client}", "@CONNECTION@/+", clid=f"{client}-watch") as watcher:
        assert seen(watcher, 3) == [
            ("#", f"{topic}-watch", "connect", 1),
            CONNECTED,
            ("@CONNECTION@/+", "@CONNECTION@/+", "available", "0"),
        ]
        with old.subscribe("a", clid=client) as stream:
            assert stream.number
            expected = {("#", topic, "connect", 1), (f"+/{client}", topic, "connect", 1)}
            watcher.events.wait_until(lambda _: expected <= set(_all(watcher)), "the connect")
        expected = {("#", topic, "disconnect", 0), (f"+/{client}", topic, "disconnect", 0)}
        watcher.events.wait_until(lambda _: expected <= set(_all(watcher)), "the disconnect")
        assert [one for one in _all(watcher) if one[0] == "@CONNECTION@/+"] == [
            ("@CONNECTION@/+", "@CONNECTION@/+", "available", "0")
        ]


def _all(stream: TopicStream) -> list[tuple[str, str, str, Any]]:
    return seen(stream, len(stream.events.snapshot()))


def test_binded_events_stay_hidden(old: TopicBackend, server: Deployment, client: str) -> None:
    """A plain `#` never hears binded events, which it did with es-web-notify."""
    own = TopicBackend(server, SITE)
    registered = own.ask("PUT", f"/registry/{client}", json={"owner": "u1", "pub": ["u1"], "sub": ["u1"]})
    assert registered.status_code == 201
    with old.subscribe("#") as stream:
        assert stream.wait_type("connected")
        key = jwt_of("u1", jti=client)
        old.emit([{"topic": client, "binded": True}], "hidden", 1, bind_key=key)
        old.emit(f"{client}/end", "end")
        stream.wait_type("end")
        assert "hidden" not in {event["e"]["type"] for event in stream.events.snapshot()}


@pytest.mark.parametrize("topic", ["", "a#", "a+", "x/#/y", "#a/+b"])
def test_topics_that_are_text(old: TopicBackend, client: str, topic: str) -> None:
    """Topics that MQTT forbids are text: they reach those who subscribed to them, and are matched by wildcards."""
    emitted = topic and f"{client}/{topic}"
    with old.subscribe(emitted) as exact, old.subscribe(f"{client}/#" if emitted else "#") as pattern:
        exact.wait_type("connected")
        pattern.wait_type("connected")
        # A number is no topic; es-web-notify passes over it.
        answer = old.ask("POST", "/event", json={"ep": [emitted, 7], "e": {"type": "t", "detail": client}})
        assert answer.status_code == 200
        for stream in (exact, pattern):
            events = stream.events.wait_for(lambda event: event["e"].get("detail") == client, "the event")
            assert events["ep"]["emitted"] == emitted
        old.emit(f"{client}/x/other/y", "other")
    assert "other" not in {event["e"]["type"] for event in exact.events.snapshot()}


def test_client_without_name(old: TopicBackend, server: Deployment) -> None:
    """The empty text is a client's name."""
    with old.subscribe("a", clid="") as stream:
        assert stream.number
        assert server.get("/connections", params={"clid": ""}).text == "1"


@pytest.mark.parametrize(
    ("path", "body", "phrase"),
    [
        ("/", b"{", "Invalid JSON in body"),
        ("/", b"{}", "Event Points should be an array"),
        ("/", b'{"ep":[3]}', "Invalid Event Point"),
        ("/", b'{"ep":[{}]}', "Topic missing"),
        ("/", b'{"ep":[{"topic":1}]}', "Topic should be a string"),
        ("/event", b"{", "Invalid JSON in body"),
        ("/event", b'{"ep":["a"]}', "Invalid object"),
        ("/event", b'{"ep":[null],"e":{"type":"t"}}', "Event Point can't be null"),
        ("/event", b'{"ep":[{"topic":"a","whisper":"1"}],"e":{"type":"t"}}', "Invalid connection id in whisper"),
        ("/alive", b"[]", "Invalid object"),
        ("/alive", b'{"connid":1,"secret":"x"}', "Invalid data"),
    ],
)
def test_reason_in_the_status_line(old: TopicBackend, path: str, body: bytes, phrase: str) -> None:
    """The status line has the words of es-web-notify; the body says more."""
    answer = old.ask("POST", path, content=body)
    assert answer.reason_phrase == phrase
    assert answer.text


def test_reason_of_a_method(old: TopicBackend) -> None:
    """The status line of a wrong method has the words of es-web-notify; behind it the connection still works."""
    assert old.ask("GET", "/").reason_phrase == "Method is not POST"
    assert old.ask("POST", "/state").reason_phrase == "Method is not GET"
    assert old.ask("GET", "/state").reason_phrase == "OK"


def test_bind_url(old: TopicBackend, bind_server: BindServer, client: str) -> None:
    """bindUrl is asked with the method and the headers of the site."""
    bind_server.know(client, 7)
    with old.subscribe("a", bind_key=client) as stream:
        assert stream.number
    assert bind_server.requests.snapshot()[-1] == ("RETREIVE", "text/plain", client)
    headers = bind_server.headers[-1]
    assert (headers["x-site"], headers.get_all("user-agent")) == ("old", ["node"])
