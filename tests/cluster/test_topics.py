"""Topics over two nodes: events emitted at one and heard at the other; a killed node, a restart, an outage of Redis."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.support.bind_keys import jwt_of
from tests.support.deployment import Deployment
from tests.support.topic_client import TopicBackend
from tests.support.topic_sites import topic_sites
from tests.support.waiting import eventually


@pytest.fixture(scope="module")
def pair() -> Iterator[Deployment]:
    """Two nodes."""
    deployment = Deployment(topic_sites(), {"log_level": "debug"}, nodes=2)
    yield deployment
    deployment.end()


@pytest.fixture
def one(pair: Deployment) -> TopicBackend:
    """A site at the first node."""
    return TopicBackend(pair.nodes[0], "bound")


@pytest.fixture
def two(pair: Deployment) -> TopicBackend:
    """The same site at the second node."""
    return TopicBackend(pair.nodes[1], "bound")


@pytest.fixture
def topic(request: pytest.FixtureRequest) -> str:
    """A topic that no other test uses."""
    return str(request.node.name)


def test_over_nodes(one: TopicBackend, two: TopicBackend, topic: str) -> None:
    """An event accepted by one node reaches streams of both, in one order: exact
    topics, patterns on either side, and SSE."""
    with two.subscribe(f"{topic}/a") as exact, two.subscribe(f"{topic}/+") as pattern, two.listen(f"{topic}/a") as sse:
        for stream in (exact, pattern, sse):
            assert stream.number
        for number in range(20):
            backend = (one, two)[number % 2]
            backend.emit(f"{topic}/a" if number % 3 else f"{topic}/#", "t", number)
        for stream in (exact, pattern, sse):
            stream.wait(21)
            assert stream.details() == list(range(20))


def test_whisper_over_nodes(one: TopicBackend, two: TopicBackend, topic: str) -> None:
    """A whisper reaches its connection on another node; connids are unique over nodes."""
    with one.subscribe(topic) as here, two.subscribe(topic) as there:
        assert here.number != there.number
        one.emit([{"topic": topic, "whisper": there.number}], "t", 1)
        one.emit(topic, "end", 2)
        for stream in (here, there):
            stream.wait_type("end")
        assert (here.details(), there.details()) == ([2], [1, 2])


def test_alive_over_nodes(pair: Deployment) -> None:
    """Any node extends a connection, and only with the connection's own secret."""
    one, two = (TopicBackend(node, "quick") for node in pair.nodes)
    with one.subscribe("a") as stream:
        assert two.extend(stream.number, "wrong").status_code == 403
        answer = two.extend(stream.number, stream.greeting["secret"])
        assert answer.status_code == 200
        assert one.extend(stream.number, answer.json()["secret"]).status_code == 200
        assert stream.ended.wait(30)
        eventually(lambda: two.extend(stream.number, "any").status_code == 404, "the connection to be forgotten")


def test_counts_over_nodes(one: TopicBackend, two: TopicBackend, topic: str) -> None:
    """A client's count of instances, /connections, /state and /memory cover both nodes, whichever node is asked."""
    with one.subscribe(f"@CONNECTION@/{topic}") as watcher, one.subscribe("a", clid=topic) as here:
        assert watcher.number
        assert here.number
        watcher.wait_type("connect")
        with two.subscribe("a", f"@CONNECTION@/{topic}", clid=topic) as there:
            assert there.wait_type("available")["e"]["detail"] == {"clid_instances": 2}
            assert watcher.wait_type("connect", 2)["e"]["detail"] == {"clid_instances": 2}
            for backend in (one, two):
                assert backend.ask("GET", "/connections").json()[topic] == 2
                details = backend.ask("GET", "/connections", params={"clid": topic, "details": "true"})
                assert set(details.json()) == {str(here.number), str(there.number)}
                assert details.headers["recado-nodes"] == "2/2"
                state = backend.ask("GET", "/state").json()
                assert (state["clients"][topic], state["topics"]["a"], state["nodes"]) == (2, 2, 2)
                assert len(backend.ask("GET", "/memory").json()) == 2
        assert watcher.wait_type("disconnect")["e"]["detail"] == {"clid_instances": 1}


def test_registry_and_keys_over_nodes(one: TopicBackend, two: TopicBackend, topic: str) -> None:
    """A topic registered at one node is bound at the other, and a key used at one node counts as used at the other."""
    assert one.ask("PUT", f"/registry/{topic}", json={"owner": "boss", "sub": ["u1"]}).status_code == 201
    assert two.ask("GET", f"/registry/{topic}").json()["sub"] == ["u1"]
    key = jwt_of("u1", jti=topic)
    with two.subscribe({"topic": topic, "binded": True}, bind_key=key) as stream:
        assert stream.number
        refused = one.server.post(f"{one.path}/", json={"ep": [topic], "bind_key": key})
        assert refused.status_code == 403
        one.emit([{"topic": topic, "binded": True}], "t", 1, bind_key=jwt_of("boss", jti=topic))
        stream.wait(2)
        assert stream.details() == [1]


def test_history_over_nodes(one: TopicBackend, two: TopicBackend, topic: str) -> None:
    """A reader that reconnects to another node misses nothing."""
    with one.listen(topic) as stream:
        assert stream.number
        one.emit(topic, "t", 0)
        stream.wait(2)
        seen = stream.ids[1] or ""
    for number in range(1, 4):
        one.emit(topic, "t", number)
    with two.listen(topic, lastEventId=seen) as stream:
        stream.wait(4)
        assert stream.details() == [1, 2, 3]
        assert "_resync" not in stream.types


def test_killed_node() -> None:
    """When a node is killed the other's streams go on, the ends of its clients are
    told, and its readers go on elsewhere."""
    pair = Deployment(topic_sites(), nodes=2)
    try:
        one, two = (TopicBackend(node, "bound") for node in pair.nodes)
        with (
            two.subscribe("a", "@CONNECTION@/victim") as survivor,
            one.subscribe("a", clid="victim") as victim,
            one.listen("a") as reader,
        ):
            for stream in (survivor, victim, reader):
                assert stream.number
            two.emit("a", "t", 0)
            reader.wait(2)
            seen = reader.ids[1] or ""
            pair.nodes[0].kill()
            for number in range(1, 6):
                two.emit("a", "t", number)
            assert victim.ended.wait(30)
            assert reader.ended.wait(30)
            with two.listen("a", lastEventId=seen) as again:
                again.wait(6)
                assert again.details() == [1, 2, 3, 4, 5]
            survivor.events.wait_until(lambda _: survivor.details() == [0, 1, 2, 3, 4, 5], "what was emitted")
            assert survivor.wait_type("disconnect", timeout_seconds=60)["e"]["detail"] == {"clid_instances": 0}
            assert "victim" not in two.ask("GET", "/connections").json()
            assert list(two.ask("GET", "/memory").json()) != []
            assert two.ask("GET", "/memory").headers["recado-nodes"] == "1/1"
            # The killed node starts again, and its streams hear events.
            pair.nodes[0].start()
            with one.subscribe("a") as fresh:
                assert fresh.number
                two.emit("a", "t", 6)
                fresh.wait(2)
    finally:
        pair.end()


def test_restart() -> None:
    """Registered topics and used keys survive a restart of server and Redis; streams end as complete answers."""
    server = Deployment(topic_sites(), is_embedded=True)
    try:
        backend = TopicBackend(server, "bound")
        assert backend.ask("PUT", "/registry/a", json={"owner": "boss", "pub_password": "p"}).status_code == 201
        key = jwt_of("boss", jti="once")
        with backend.subscribe({"topic": "a", "binded": True}, bind_key=key) as stream:
            number = stream.number
            assert server.stop() == 0
            assert stream.ended.wait(30)
        server.start()
        assert backend.ask("GET", "/registry/a").json()["has_pub_password"] is True
        assert server.post(f"{backend.path}/", json={"ep": ["a"], "bind_key": key}).status_code == 403
        with backend.subscribe({"topic": "a", "binded": True}, bind_key=jwt_of("boss", jti="twice")) as stream:
            assert stream.number > number
            point = {"topic": "a", "binded": True, "password": "p"}
            backend.emit([point], "t", 1, bind_key=jwt_of("boss", jti="thrice"))
            stream.wait(2)
        assert backend.ask("GET", "/connections").json()["@TOTAL@"] <= 1
    finally:
        server.end()


def test_redis_away() -> None:
    """While Redis is away /event and subscribing answer 503; open streams stay, and hear events when Redis is back."""
    server = Deployment(topic_sites(), {"redis_timeout": 0.5})
    try:
        backend = TopicBackend(server, "quick")
        news = TopicBackend(server, "news")
        with news.subscribe("a", clid="me") as stream, backend.subscribe("a") as quick:
            assert stream.number
            assert quick.number
            server.redis.suspend()
            answer = news.try_emit(["a"], "lost")
            assert (answer.status_code, answer.headers["retry-after"]) == (503, "1")
            assert server.post(f"{news.path}/", json={"ep": ["a"]}).status_code == 503
            assert news.extend(stream.number, stream.greeting["secret"]).status_code == 503
            quick.keep_alives.wait_until(lambda seen: len(seen) >= 4, "its time-out to pass")
            assert not quick.ended.is_set()
            server.redis.resume()
            eventually(lambda: news.try_emit(["a"], "back").status_code == 200, "Redis to be used again")
            stream.wait_type("back")
            assert quick.ended.wait(30)
            eventually(lambda: news.ask("GET", "/connections").json()["me"] == 1, "the count")
    finally:
        server.end()
