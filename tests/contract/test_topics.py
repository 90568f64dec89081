"""Contract topics: subscribing, emitting, wildcards, whispering, connected clients; with httpx as client."""

from __future__ import annotations

import json
import socket
import time
from collections.abc import Iterator
from urllib.parse import urlsplit

import pytest

from tests.support.deployment import Deployment
from tests.support.metrics import Figures
from tests.support.topic_client import TopicBackend
from tests.support.topic_sites import ORIGIN, topic_sites
from tests.support.waiting import eventually


@pytest.fixture(scope="module")
def server() -> Iterator[Deployment]:
    """One node; each test uses topics of its own."""
    deployment = Deployment(topic_sites(), {"log_level": "debug", "mounts": {"topics": "news"}})
    yield deployment
    deployment.end()


@pytest.fixture
def news(server: Deployment) -> TopicBackend:
    """The site that most tests use."""
    return TopicBackend(server, "news")


@pytest.fixture
def topic(request: pytest.FixtureRequest) -> str:
    """A topic that no other test uses."""
    return str(request.node.name).replace("[", "/").replace("]", "").replace("+", "").replace("#", "")


# Subscribing


def test_head_and_first_frame(news: TopicBackend, topic: str) -> None:
    """The answer is 200 with the contract's headers; the first frame is @SERVER@
    `connected` with connid, secret and timeout."""
    with news.subscribe(topic) as stream:
        headers = stream.response.headers
        assert stream.response.status_code == 200
        assert headers["content-type"] == "text/plain;charset=utf-8"
        assert headers["x-content-type-options"] == "nosniff"
        assert "no-store" in headers["cache-control"]
        assert headers["access-control-allow-origin"] == "*"
        assert headers["x-accel-buffering"] == "no"
        greeting = stream.greeting
        assert set(greeting) == {"connid", "secret", "timeout"}
        assert isinstance(greeting["connid"], int)
        assert 0 < greeting["connid"] < 2**53
        assert greeting["timeout"] == 60_000


def test_frame_of_an_event(news: TopicBackend, topic: str) -> None:
    """An event has the time, the emitted and the requested topic, its type and its detail as it was sent."""
    before = time.time() * 1000
    with news.subscribe(topic) as stream:
        assert stream.number
        detail = {"text": "it's ''5'' é \U0001f600", "list": [1, None]}
        news.emit(topic, "hello", detail)
        event = stream.wait(2)[1]
        assert before - 1000 < event.pop("iat") < time.time() * 1000 + 1000
        assert event == {"ep": {"requested": topic, "emitted": topic}, "e": {"type": "hello", "detail": detail}}
        news.emit(topic, "bare")
        assert stream.wait_type("bare")["e"] == {"type": "bare"}


def test_order(news: TopicBackend, topic: str) -> None:
    """Events arrive in the order in which /event accepted them."""
    with news.subscribe(topic) as stream:
        assert stream.number
        for number in range(50):
            news.emit(topic, "news", number)
        stream.wait(51)
        assert stream.details() == list(range(50))


def test_one_frame_for_each_topic(news: TopicBackend, topic: str) -> None:
    """A subscription with two topics that match an event gets it twice, each time with the requested topic."""
    with news.subscribe(f"{topic}/a", f"{topic}/+", f"{topic}/a", {"topic": f"{topic}/b"}) as stream:
        assert stream.number
        news.emit([f"{topic}/a", f"{topic}/b"], "news", 1)
        found = {(event["ep"]["requested"], event["ep"]["emitted"]) for event in stream.wait(5)[1:]}
        assert found == {
            (f"{topic}/a", f"{topic}/a"),
            (f"{topic}/+", f"{topic}/a"),
            (f"{topic}/+", f"{topic}/b"),
            (f"{topic}/b", f"{topic}/b"),
        }


@pytest.mark.parametrize(
    ("body", "status"),
    [
        (b"", 400),
        (b"{", 400),
        (b"\xff\xfe", 400),
        (b"[]", 400),
        (b"{}", 400),
        (b'{"ep":"a"}', 400),
        (b'{"ep":[{}]}', 400),
        (b'{"ep":[{"topic":1}]}', 400),
        (b'{"ep":[""]}', 400),
        (b'{"ep":["a/#/b"]}', 400),
        (b'{"ep":["' + b"a/" * 10_000 + b'"]}', 400),
        (b'{"ep":["' + b"a" * 5_000 + b'"]}', 400),
        (b'{"ep":' + b"[" * 200_000, 400),
        (b'{"ep":["a"],"x":"' + b"x" * 1_000_000 + b'"}', 413),
    ],
    ids=lambda value: str(value)[:30],
)
def test_what_is_refused(server: Deployment, news: TopicBackend, body: bytes, status: int) -> None:
    """An invalid subscription is refused at once, with the reason as text that a page may read."""
    answer = server.post(f"{news.path}/", content=body)
    assert (answer.status_code, bool(answer.text)) == (status, True)
    assert answer.headers["access-control-allow-origin"] == "*"


@pytest.mark.parametrize(
    ("method", "path", "allow"),
    [
        ("GET", "/", "POST"),
        ("PUT", "/", "POST"),
        ("HEAD", "/", "POST"),
        ("GET", "/event", "POST"),
        ("GET", "/alive", "POST"),
        ("POST", "/connections", "GET"),
        ("DELETE", "/state", "GET"),
        ("POST", "/memory", "GET"),
        ("POST", "/stream", "GET"),
        ("POST", "/registry/a", "GET, PUT, DELETE"),
    ],
)
def test_other_methods(server: Deployment, news: TopicBackend, method: str, path: str, allow: str) -> None:
    """Another method is answered 405 with Allow."""
    answer = server.request(method, news.path + path)
    assert (answer.status_code, answer.headers["allow"]) == (405, f"{allow}, OPTIONS")


def test_preflight(server: Deployment, news: TopicBackend) -> None:
    """OPTIONS answers the methods and headers that a page may send."""
    asked = {
        "origin": ORIGIN,
        "access-control-request-method": "POST",
        "access-control-request-headers": "content-type",
    }
    for path in ("/", "/event", "/alive", "/stream"):
        answer = server.request("OPTIONS", news.path + path, headers=asked)
        assert answer.status_code == 200
        assert answer.headers["access-control-allow-origin"] == "*"
        assert "OPTIONS" in answer.headers["access-control-allow-methods"]
        assert "content-type" in answer.headers["access-control-allow-headers"].lower()


@pytest.mark.parametrize(
    "path", ["/topics", "/topics/", "/topics/nobody/", "/topics/off/", "/topics/news/more", "/topics/news/registry"]
)
def test_other_paths(server: Deployment, path: str) -> None:
    """An unknown path is answered 404, and so is every path of a site without topics."""
    assert server.post(path, json={"ep": ["a"]}).status_code == 404


def test_origins(server: Deployment) -> None:
    """A site's origins narrow CORS: its own pages are named, other origins are refused, and
    a client that is no page is accepted."""
    narrow = TopicBackend(server, "narrow")
    own = server.request("OPTIONS", f"{narrow.path}/", headers={"origin": ORIGIN})
    assert own.headers["access-control-allow-origin"] == ORIGIN
    foreign = server.post(f"{narrow.path}/", json={"ep": ["a"]}, headers={"origin": "https://evil.example.com"})
    assert (foreign.status_code, "access-control-allow-origin" in foreign.headers) == (403, False)

    def logged() -> list[tuple[str, str]]:
        refused = [line for line in server.server.log() if line.get("event") == "request refused"]
        return [(line["site"], line["origin"]) for line in refused if line.get("reason") == "origin"]

    assert eventually(logged, "the line in the log") == [("narrow", "https://evil.example.com")]
    with narrow.subscribe("a") as stream:
        assert stream.number


def test_mount(server: Deployment, news: TopicBackend) -> None:
    """`mounts.topics` serves the site at the original paths."""
    topic = "mounted"
    news.path = ""
    with news.subscribe(topic) as stream:
        number, secret = stream.number, stream.greeting["secret"]
        news.emit(topic, "news", 1)
        assert stream.wait(2)[1]["e"]["detail"] == 1
        assert news.extend(number, secret).status_code == 200
        for path in ("/connections", "/state", "/memory"):
            assert news.ask("GET", path).status_code == 200
    # The other paths of the server still work.
    assert server.get("/healthcheck").text == "ok"


# The time-out of a connection


def test_timeout(server: Deployment) -> None:
    """A connection that is not extended ends after connection_timeout, as a complete response."""
    quick = TopicBackend(server, "quick")
    begun = time.monotonic()
    with quick.subscribe("a") as stream:
        assert stream.greeting["timeout"] == 3000
        assert stream.ended.wait(30)
        assert time.monotonic() - begun > 2.9
        assert stream.response.is_closed


def test_keep_alive(server: Deployment) -> None:
    """A connection without data gets `''0''` after keep_alive (50 s unless the site sets it), an SSE one a comment."""
    quick = TopicBackend(server, "quick")
    with quick.subscribe("a") as stream, quick.listen("a") as sse:
        stream.keep_alives.wait_until(lambda seen: len(seen) >= 2, "two keep-alives")
        sse.keep_alives.wait_until(lambda seen: len(seen) >= 2, "two keep-alives")


def test_alive(server: Deployment) -> None:
    """The secret extends a connection and is replaced by a new one, at most max_alive_count times."""
    quick = TopicBackend(server, "quick")
    begun = time.monotonic()
    with quick.subscribe("a") as stream:
        number, secret = stream.number, stream.greeting["secret"]
        assert quick.extend(number, "wrong").status_code == 403
        answer = quick.extend(number, secret)
        assert answer.status_code == 200
        assert answer.json() | {"secret": ""} == {"connid": number, "secret": "", "timeout": 3000}
        fresh = answer.json()["secret"]
        assert fresh != secret
        # An old secret is refused as any wrong secret is.
        assert quick.extend(number, secret).status_code == 403
        stream.keep_alives.wait_until(lambda seen: len(seen) >= 2, "a second to pass")
        last = quick.extend(number, fresh).json()["secret"]
        exhausted = quick.extend(number, last)
        assert exhausted.status_code == 429
        assert stream.ended.wait(30)
        assert time.monotonic() - begun > 3.7
        assert quick.extend(number, last).status_code == 404


def test_alive_of_others(server: Deployment, news: TopicBackend) -> None:
    """The secret of another connection, a connection of another site, and an unknown number extend nothing."""
    other = TopicBackend(server, "other")
    with news.subscribe("a") as one, news.subscribe("a") as two:
        assert news.extend(one.number, two.greeting["secret"]).status_code == 403
        assert other.extend(one.number, one.greeting["secret"]).status_code in (403, 404)
        assert news.extend(one.number + 1_000_000, one.greeting["secret"]).status_code == 404
        assert news.extend(one.number, one.greeting["secret"]).status_code == 200
    for body in (b"", b"{}", b'{"connid":1}', b'{"connid":"x","secret":"y"}'):
        assert server.post(f"{news.path}/alive", content=body).status_code == 400


# Emitting


@pytest.mark.parametrize("way", ["token", "header", "bearer"])
def test_key(server: Deployment, news: TopicBackend, topic: str, way: str) -> None:
    """/event accepts the site's key in three places."""
    key = server.key("news")
    headers = {"header": {"x-api-key": key}, "bearer": {"authorization": f"Bearer {key}"}}.get(way, {})
    query = {"token": key} if way == "token" else {}
    body = {"ep": [topic], "e": {"type": "t"}}
    with news.subscribe(topic) as stream:
        assert stream.number
        answer = server.post(f"{news.path}/event", params=query, headers=headers, json=body)
        assert (answer.status_code, answer.content) == (200, b"")
        assert stream.wait(2)


def test_wrong_key(server: Deployment, news: TopicBackend) -> None:
    """Every path for backends answers 401 without the key, with a wrong key, and with another site's key."""
    body = {"ep": ["a"], "e": {"type": "t"}}
    for query in ({}, {"token": ""}, {"token": "wrong"}, {"token": server.key("other")}):
        assert server.post(f"{news.path}/event", params=query, json=body).status_code == 401
        for path in ("/connections", "/state", "/memory", "/registry/a"):
            assert server.get(news.path + path, params=query).status_code == 401
        assert server.request("PUT", f"{news.path}/registry/a", params=query, json={"owner": "u"}).status_code == 401


@pytest.mark.parametrize(
    ("points", "status"),
    [(["@SERVER@"], 403), (["@CONNECTION@/me"], 403), (["a", "@x"], 403), ([{}], 400), ([None], 400), (["a+"], 400)],
)
def test_what_cannot_be_emitted(news: TopicBackend, points: list[object], status: int) -> None:
    """A topic that only the server emits to, and a text that is no topic, are refused."""
    assert news.ask("POST", "/event", json={"ep": points, "e": {"type": "t"}}).status_code == status


def test_all_or_none(news: TopicBackend, topic: str) -> None:
    """When one topic of an event is refused, none of its topics gets the event."""
    with news.subscribe(topic) as stream:
        assert stream.number
        assert news.try_emit([topic, {"topic": topic, "binded": True}], "no").status_code == 403
        news.emit(topic, "yes")
        assert stream.wait(2)[1]["e"]["type"] == "yes"


def test_no_topic(news: TopicBackend) -> None:
    """An event without topics is accepted and reaches no connection."""
    assert news.try_emit([], "t").status_code == 200


@pytest.mark.parametrize(
    ("subscribed", "emitted", "meets"),
    [
        ("house/1/water", "house/+/water", True),
        ("house/+/water", "house/1/water", True),
        ("house/#", "house", True),
        ("house", "house/#", True),
        ("house/1/power", "house/+/water", False),
        ("house/+", "house/1/water", False),
        ("$SYS/x", "+/x", False),
    ],
)
def test_wildcards(news: TopicBackend, subscribed: str, emitted: str, meets: bool) -> None:
    """`+` and `#` stand for levels in subscriptions and in emitted topics; the
    tests of the trie hold the other rules."""
    mark = f"{subscribed} {emitted}"
    with news.subscribe(subscribed, "mark") as stream:
        assert stream.number
        news.emit(emitted, mark, 1)
        news.emit("mark", mark, 2)
        stream.events.wait_for(lambda event: event["e"].get("detail") == 2, "the mark")
        heard = [event for event in stream.events.snapshot() if event["e"].get("detail") == 1]
        assert [event["ep"] for event in heard] == ([{"requested": subscribed, "emitted": emitted}] if meets else [])


def test_wildcards_do_not_reach_reserved_topics(news: TopicBackend, topic: str) -> None:
    """An event emitted to a pattern does not reach reserved topics, so a
    backend cannot fake that a client connected."""
    with news.subscribe(f"@CONNECTION@/{topic}", "mark") as stream:
        stream.wait(2)
        for emitted in ("#", "+/+", f"+/{topic}"):
            news.emit(emitted, "forged")
        news.emit("mark", "mark")
        stream.wait_type("mark")
        assert {event["ep"]["requested"] for event in stream.events.snapshot() if event["e"]["type"] == "forged"} <= {
            "mark"
        }


def test_whisper(news: TopicBackend, topic: str) -> None:
    """A whisper reaches its one connection, and only if that connection has subscribed to the topic."""
    with news.subscribe(topic) as one, news.subscribe(topic) as two, news.subscribe(f"{topic}/else") as three:
        numbers = [stream.number for stream in (one, two, three)]
        news.emit([{"topic": topic, "whisper": numbers[0]}], "w", 1)
        news.emit([{"topic": topic, "whisper": numbers[2]}], "w", 2)
        news.emit([{"topic": topic, "whisper": 1}], "w", 3)
        news.emit([topic, f"{topic}/else"], "end", 4)
        for stream in (one, two, three):
            stream.wait_type("end")
        assert [one.details(), two.details(), three.details()] == [[1, 4], [4], [4]]


# Connected clients


def test_connection_topic(news: TopicBackend, topic: str) -> None:
    """@CONNECTION@/<clid> gives `available` on subscribing, then `connect` and `disconnect` with the new count."""
    watched = f"@CONNECTION@/{topic}"
    with news.subscribe(watched) as watcher:
        first = watcher.wait(2)[1]
        assert first["ep"] == {"requested": watched, "emitted": watched}
        assert first["e"] == {"type": "available", "detail": {"clid_instances": 0}}
        with news.subscribe("a", clid=topic) as one:
            assert one.number
            assert watcher.wait(3)[2]["e"] == {"type": "connect", "detail": {"clid_instances": 1}}
            with news.subscribe(watched, clid=topic) as two:
                assert two.wait(2)[1]["e"]["detail"] == {"clid_instances": 2}
                assert watcher.wait(4)[3]["e"] == {"type": "connect", "detail": {"clid_instances": 2}}
            assert watcher.wait(5)[4]["e"] == {"type": "disconnect", "detail": {"clid_instances": 1}}
            # A connection is not told of its own `connect`.
            assert len(two.events.snapshot()) == 2
        assert watcher.wait(6)[5]["e"] == {"type": "disconnect", "detail": {"clid_instances": 0}}


def test_connections(news: TopicBackend, topic: str) -> None:
    """/connections answers the counts by client with @TOTAL@, one client's count as
    text, and its details without credentials."""
    secret = {"authorization": "Bearer s3cr3t", "cookie": "a=s3cr3t", "x-shown": "yes"}
    request = news.subscribe("a", {"topic": "b/#", "binded": True}, clid=topic, bind_key=None)
    request._request.headers.update(secret)
    with request as stream:
        assert stream.number
        counts = news.ask("GET", "/connections").json()
        assert counts[topic] == 1
        assert counts["@TOTAL@"] == sum(count for name, count in counts.items() if name != "@TOTAL@")
        one = news.ask("GET", "/connections", params={"clid": topic})
        assert (one.text, one.headers["content-type"].partition(";")[0]) == ("1", "text/plain")
        details = news.ask("GET", "/connections", params={"clid": topic, "details": "true"})
        assert "s3cr3t" not in details.text
        shown = details.json()[str(stream.number)]
        assert shown["headers"]["x-shown"] == "yes"
        assert shown["body"] == {"clid": topic, "ep": [{"topic": "a"}, {"topic": "b/#", "binded": True}]}
    eventually(lambda: news.ask("GET", "/connections", params={"clid": topic}).text == "0", "the count to fall")
    assert news.ask("GET", "/connections", params={"clid": topic, "details": "true"}).json() == {}


def test_anonymous(news: TopicBackend) -> None:
    """A client without a clid counts as @ANON_CONNECTION@."""
    with news.subscribe("a") as stream:
        assert stream.number
        assert news.ask("GET", "/connections").json()["@ANON_CONNECTION@"] >= 1


def test_state_and_memory(news: TopicBackend, topic: str) -> None:
    """/state counts connections, clients and topics; /memory gives the memory of each node's process."""
    with news.subscribe(topic, f"{topic}/+", clid=topic) as stream, news.listen(topic) as other:
        assert stream.number
        assert other.number
        state = news.ask("GET", "/state").json()
        assert state["connections"] >= 2
        assert state["clients"][topic] == 1
        assert (state["topics"][topic], state["topics"][f"{topic}/+"]) == (2, 1)
    (memory,) = news.ask("GET", "/memory").json().values()
    assert memory["rss"] > 10
    assert memory["peak"] >= 10


def test_sites_are_apart(server: Deployment, news: TopicBackend, topic: str) -> None:
    """An event emitted in one site does not reach any other site."""
    other = TopicBackend(server, "other")
    with news.subscribe(topic, "#") as here, other.subscribe(topic, "#") as there:
        assert here.number
        assert there.number
        other.emit(topic, "t", "there")
        news.emit(topic, "t", "here")
        here.wait(3)
        there.wait(3)
        assert set(here.details()) == {"here"}
        assert set(there.details()) == {"there"}


# Server-Sent Events


def test_sse(news: TopicBackend, topic: str) -> None:
    """The same subscription over SSE: each event has id, event, and data with the JSON of a frame."""
    with news.listen(f"{topic}/a b", f"{topic}/#") as stream:
        assert stream.response.headers["content-type"].startswith("text/event-stream")
        assert stream.greeting["timeout"] == 60_000
        news.emit(f"{topic}/x", "hello", {"n": 1})
        event = stream.wait(2)[1]
        assert event["ep"] == {"requested": f"{topic}/#", "emitted": f"{topic}/x"}
        assert event["e"] == {"type": "hello", "detail": {"n": 1}}
        assert stream.types == ["connected", "hello"]
        assert stream.ids[0] is None
        assert stream.ids[1]


@pytest.mark.parametrize("way", ["header", "query"])
def test_last_event_id(news: TopicBackend, topic: str, way: str) -> None:
    """A reader that reconnects gets the events that it missed, in order and without `_resync`, then live events."""
    with news.listen(f"{topic}/+") as stream:
        assert stream.number
        news.emit(f"{topic}/a", "t", 0)
        stream.wait(2)
        seen = stream.ids[1] or ""
    for number in range(1, 6):
        news.emit(f"{topic}/{number}", "t", number)
        news.emit("elsewhere", "t", "not for it")
    headers, query = ({"last-event-id": seen}, {}) if way == "header" else ({}, {"lastEventId": seen})
    with news.listen(f"{topic}/+", headers=headers, **query) as again:
        assert again.wait(6)[0]["e"]["type"] == "connected"
        news.emit(f"{topic}/live", "t", "live")
        again.wait(7)
        assert again.details() == [1, 2, 3, 4, 5, "live"]
        assert "_resync" not in again.types


def test_id_stands_behind_all_of_an_event(news: TopicBackend, topic: str) -> None:
    """Only the last of an event's parts has the id, so a reader that is cut off between parts misses none."""
    with news.listen(f"{topic}/a", f"{topic}/+") as stream:
        assert stream.number
        news.emit([f"{topic}/a", f"{topic}/b"], "t")
        stream.wait(4)
        assert [bool(id_) for id_ in stream.ids] == [False, False, False, True]


def test_resync(server: Deployment) -> None:
    """When the history does not reach back far enough, `_resync` comes first, then the events that are still held."""
    forgetful = TopicBackend(server, "forgetful")
    with forgetful.listen("a") as stream:
        assert stream.number
        forgetful.emit("a", "t", 0)
        stream.wait(2)
        seen = stream.ids[1] or ""
    for number in range(1, 6):
        forgetful.emit("a", "t", number)
    with forgetful.listen("a", lastEventId=seen) as stream:
        stream.wait(5)
        assert stream.types[:2] == ["connected", "_resync"]
        assert stream.details() == [3, 4, 5]
    for strange in ("9007199254740000", "rubbish", "-1", "9" * 30):
        with forgetful.listen("a", lastEventId=strange) as stream:
            stream.wait_type("_resync")


@pytest.mark.parametrize("query", ["", "?topic=", "?topic=a/%23/b", "?topic=" + "a/" * 3000])
def test_sse_that_is_refused(server: Deployment, news: TopicBackend, query: str) -> None:
    """An SSE request without a topic, or with an invalid one, is refused."""
    assert server.get(f"{news.path}/stream{query}").status_code == 400


# Bounds


def test_limits(server: Deployment) -> None:
    """The site's limits apply: connections (a place is free again when one ends), topics
    of a subscription, bytes of an event."""
    limited = TopicBackend(server, "limited")
    assert server.post(f"{limited.path}/", json={"ep": ["a", "b", "c", "d"]}).status_code == 400
    assert limited.try_emit(["a"], "t", "x" * 3000).status_code == 413
    with limited.subscribe("a") as one:
        assert one.number
        with limited.subscribe("a") as two:
            assert two.number
            refused = server.post(f"{limited.path}/", json={"ep": ["a"]})
            assert (refused.status_code, refused.text) == (429, "Too many connections")

        def joins_again() -> bool:
            with limited.subscribe("a") as three:
                return three.response.status_code == 200

        eventually(joins_again, "the place to be free")


def raw_subscription(server: Deployment, path: str, body: bytes, version: bytes = b"1.1") -> socket.socket:
    """Subscribe over a socket, without a client library."""
    address = urlsplit(server.url)
    connection = socket.create_connection((address.hostname, address.port), timeout=30)
    length = str(len(body)).encode()
    connection.sendall(
        b"POST "
        + path.encode()
        + b" HTTP/"
        + version
        + b"\r\nhost: x\r\ncontent-length: "
        + length
        + b"\r\n\r\n"
        + body
    )
    return connection


def test_slow_reader(server: Deployment) -> None:
    """A client that does not read is closed at outbox_limit and counted by this reason; the others get everything."""
    slow = TopicBackend(server, "slow")

    def cut_off() -> float:
        return Figures(server)("recado_stream_ends_total", site="slow", reason="outbox full")

    before = cut_off()
    with slow.subscribe("a") as reader, raw_subscription(server, "/topics/slow/", b'{"ep":["a"]}') as sleeper:
        assert reader.number
        assert sleeper.recv(30)
        for number in range(1000):
            slow.emit("a", "t", [number, "x" * 15_000])
            if (
                number % 50 == 0
                and Figures(server)("recado_stream_ends_total", site="slow", reason="outbox full") > before
            ):
                break
        else:
            pytest.fail("the sleeper was never cut off")
        reader.wait(number + 2)
        assert [detail[0] for detail in reader.details()] == list(range(number + 1))


def test_old_http(server: Deployment, news: TopicBackend, topic: str) -> None:
    """A client or proxy with HTTP/1.0 gets frames without chunked encoding."""
    body = json.dumps({"ep": [topic]}).encode()
    with raw_subscription(server, "/topics/news/", body, b"1.0") as connection:
        data = b""
        while b"connected" not in data:
            data += connection.recv(4096)
        head, _, rest = data.partition(b"\r\n\r\n")
        assert b"chunked" not in head
        assert rest.startswith(b"''")
        news.emit(topic, "t", 1)
        while b'"detail":1' not in rest:
            rest += connection.recv(4096)
        assert b"\r\n" not in rest


def test_client_that_talks(server: Deployment, news: TopicBackend, topic: str) -> None:
    """Bytes that a client sends after its subscription are not read as
    requests; a client that sends many is cut off."""
    with raw_subscription(server, "/topics/news/", json.dumps({"ep": [topic]}).encode()) as connection:
        assert connection.recv(4096)
        connection.sendall(b"GET /healthcheck HTTP/1.1\r\nhost: x\r\n\r\n")
        news.emit(topic, "still there")
        data = b""
        while b"still there" not in data:
            data += connection.recv(4096)
        assert b"content-length: 2" not in data
        assert is_cut_off(connection)


def is_cut_off(connection: socket.socket) -> bool:
    """Send until the server closes the connection; return whether it did."""
    try:
        for _ in range(50):
            connection.sendall(b"x" * 10_000)
        return not connection.recv(30)
    except ConnectionError:
        return True


def test_bridge(server: Deployment) -> None:
    """A topic bound to a room gets messages sent to the room: a single argument
    is the detail, several become a list."""
    bridged = TopicBackend(server, "bridged")
    with bridged.subscribe("weather/+") as stream:
        assert stream.number
        server.send("bridged", "bern", "sunny", {"degrees": 20})
        server.send("bridged", ["chur"], "rain", 1, 2)
        server.send("bridged", "nowhere", "lost")
        server.send("bridged", "bern", "bare")
        events = stream.wait(4)[1:]
        assert [(event["ep"]["emitted"], event["e"]) for event in events] == [
            ("weather/bern", {"type": "sunny", "detail": {"degrees": 20}}),
            ("weather/chur", {"type": "rain", "detail": [1, 2]}),
            ("weather/bern", {"type": "bare"}),
        ]


def test_topics_bound_to_one_room(server: Deployment) -> None:
    """Topics bound to the same room act as one: an event to either, or a message to the room, reaches both."""
    bridged = TopicBackend(server, "bridged")
    with bridged.subscribe("weather/bern") as one, bridged.subscribe("wetter/bern") as other:
        assert one.number
        assert other.number
        bridged.emit("weather/bern", "t", 1)
        bridged.emit([{"topic": "wetter/bern"}, "weather/+"], "t", 2)
        server.send("bridged", "bern", "t", 3)
        bridged.emit([{"topic": "weather/bern", "whisper": one.number}], "t", 4)
        bridged.emit(["weather/bern", "wetter/bern"], "end")
        one.wait_type("end")
        other.wait_type("end")
        assert (one.details(), other.details()) == ([1, 2, 2, 3, 4, None], [1, 2, 3, None])
