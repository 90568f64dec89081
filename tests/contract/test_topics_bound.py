"""Contract topics: permission to listen and to emit. Bind keys, the registry, passwords, and attacks on them."""

from __future__ import annotations

import base64
import itertools
import os
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from tests.support.bind_keys import KeyPair, jwt_of
from tests.support.bind_server import BindServer
from tests.support.deployment import Deployment
from tests.support.topic_client import TopicBackend, TopicStream
from tests.support.topic_sites import PAIR, topic_sites

_numbers = itertools.count()


def fresh_jwt(user: object = "u1", **claims: Any) -> str:
    """A JWT as the documentation recommends it: each call gives another one."""
    return jwt_of(user, jti=str(next(_numbers)), **claims)


KINDS: dict[str, Callable[[object], str]] = {
    "HS256": fresh_jwt,
    "RS256": lambda user: PAIR.jwt_of(user, jti=str(next(_numbers))),
    "RSA": PAIR.key_of,
}


@pytest.fixture(scope="module")
def bind_server() -> Iterator[BindServer]:
    """The website's backend that knows the user of each bind key."""
    server = BindServer()
    yield server
    server.end()


@pytest.fixture(scope="module")
def server(bind_server: BindServer) -> Iterator[Deployment]:
    """One node; each test uses topics of its own."""
    deployment = Deployment(topic_sites(bind_server.url), {"log_level": "debug"})
    yield deployment
    deployment.end()


@pytest.fixture
def bound(server: Deployment) -> TopicBackend:
    """A site with bind keys of both kinds."""
    return TopicBackend(server, "bound")


@pytest.fixture
def topic(request: pytest.FixtureRequest) -> str:
    """A topic that no other test uses."""
    return f"{request.node.originalname}/{next(_numbers)}"


def register(backend: TopicBackend, topic: str, **registration: Any) -> None:
    """Register a topic; the owner is `boss` unless said otherwise."""
    answer = backend.ask("PUT", f"/registry/{topic}", json={"owner": "boss", **registration})
    assert answer.status_code in (200, 201), answer.text


def binded(topic: str, **more: Any) -> dict[str, Any]:
    """A topic marked as binded."""
    return {"topic": topic, "binded": True, **more}


def heard(stream: TopicStream, backend: TopicBackend) -> list[Any]:
    """The events of a stream that also listens to `mark`, once the mark has arrived."""
    mark = f"mark {next(_numbers)}"
    backend.emit("mark", mark)
    stream.wait_type(mark)
    return [event["e"]["detail"] for event in stream.events.snapshot() if event["e"]["type"] == "bound"]


# Permission to listen and to emit


@pytest.mark.parametrize("kind", KINDS)
def test_bound_event(bound: TopicBackend, topic: str, kind: str) -> None:
    """A binded event reaches binded subscriptions whose user may `sub`, whichever kind of key they use."""
    register(bound, topic, sub=["u1"], pub=["p1"])
    make = KINDS[kind]
    with (
        bound.subscribe(binded(topic), "mark", bind_key=make("u1")) as one,
        bound.subscribe(binded(topic), "mark", bind_key=make("u2")) as two,
        bound.subscribe(topic, "mark") as plain,
    ):
        for stream in (one, two, plain):
            assert stream.number
        bound.emit([binded(topic)], "bound", 1, bind_key=make("p1"))
        bound.emit([topic], "bound", 2)
        assert heard(one, bound) == [1]
        assert heard(two, bound) == []
        assert heard(plain, bound) == [2]
        event = one.wait_type("bound")
        assert event["ep"] == {"requested": topic, "emitted": topic}


@pytest.mark.parametrize(
    ("sub", "hears"),
    [
        ([], {"boss"}),
        (["u1"], {"boss", "u1"}),
        (["+"], {"boss", "u1", "[][][]"}),
        (["[][][]"], {"boss", "[][][]"}),
        (["*"], {"boss", "u1", "[][][]", None}),
    ],
)
def test_who_may_listen(bound: TopicBackend, topic: str, sub: list[str], hears: set[str | None]) -> None:
    """`sub` lists users; "*" means all, "+" all bound users, "[][][]" bound without
    identity; the owner is always included."""
    register(bound, topic, sub=sub, pub=["*"])
    streams: dict[str | None, TopicStream] = {}
    for user in ("boss", "u1", "[][][]", None):
        points = [binded(topic) if user else topic, "mark"]
        stream = bound.subscribe(*points, bind_key=fresh_jwt(user) if user else None)
        streams[user] = stream.__enter__()
        assert stream.number
    try:
        bound.emit([binded(topic)], "bound", 1)
        assert {user for user, stream in streams.items() if heard(stream, bound)} == hears
    finally:
        for stream in streams.values():
            stream.__exit__()


@pytest.mark.parametrize(
    ("pub", "user", "status"),
    [
        (["u1"], "u1", 200),
        (["u1"], "u2", 403),
        (["u1"], None, 403),
        ([], "boss", 200),
        (["+"], "u2", 200),
        (["+"], "[][][]", 200),
        (["+"], None, 403),
        (["[][][]"], "u1", 403),
        (["[][][]"], "[][][]", 200),
        (["*"], None, 200),
        ([17], 17, 200),
    ],
)
def test_who_may_emit(bound: TopicBackend, topic: str, pub: list[Any], user: Any, status: int) -> None:
    """A binded event is refused with 403 when its user may not `pub`."""
    register(bound, topic, pub=pub)
    key = {} if user is None else {"bind_key": fresh_jwt(user)}
    assert bound.try_emit([binded(topic)], "t", **key).status_code == status


def test_password(bound: TopicBackend, topic: str) -> None:
    """A topic with a password requires it; a wrong or missing password is refused like a user who may not publish."""
    register(bound, topic, pub=["*"], pub_password="open sesame")
    answers = {
        password: bound.try_emit([binded(topic, **({} if password is None else {"password": password}))])
        for password in ("open sesame", "Open Sesame", "", None, "open sesame ")
    }
    assert {password: answer.status_code for password, answer in answers.items()} == {
        "open sesame": 200,
        "Open Sesame": 403,
        "": 403,
        None: 403,
        "open sesame ": 403,
    }
    other = bound.try_emit([binded(topic + "/nobody")])
    assert other.text.replace("/nobody", "") == answers["Open Sesame"].text
    # A new password replaces the old one at once.
    register(bound, topic, pub=["*"], pub_password="closed")
    assert bound.try_emit([binded(topic, password="open sesame")]).status_code == 403


def test_unregistered(bound: TopicBackend, topic: str) -> None:
    """A binded event to an unregistered topic, or to a pattern, is refused."""
    for point in (topic, f"{topic}/+", "#"):
        assert bound.try_emit([binded(point)], bind_key=fresh_jwt("boss")).status_code == 403


def test_pattern_of_bound_topics(bound: TopicBackend, topic: str) -> None:
    """A binded subscription may hold wildcards: the registration of each event's own topic decides."""
    register(bound, f"{topic}/a", sub=["u1"], pub=["*"])
    register(bound, f"{topic}/b", sub=["u2"], pub=["*"])
    with bound.subscribe(binded(f"{topic}/+"), "mark", bind_key=fresh_jwt("u1")) as stream:
        assert stream.number
        bound.emit([binded(f"{topic}/a")], "bound", "a")
        bound.emit([binded(f"{topic}/b")], "bound", "b")
        assert heard(stream, bound) == ["a"]


def test_whisper_to_who_may_not_listen(bound: TopicBackend, topic: str) -> None:
    """A binded whisper obeys `sub` too."""
    register(bound, topic, sub=["u1"], pub=["*"])
    with bound.subscribe(binded(topic), "mark", bind_key=fresh_jwt("u2")) as stream:
        bound.emit([binded(topic, whisper=stream.number)], "bound", 1)
        assert heard(stream, bound) == []


def test_without_a_key(bound: TopicBackend, topic: str) -> None:
    """A binded subscription without a key gets what every subscription gets, and no binded event."""
    register(bound, topic, sub=["u1"], pub=["*"])
    with bound.subscribe(binded(topic), "mark") as stream:
        assert stream.number
        bound.emit([binded(topic)], "bound", 1)
        bound.emit([topic], "bound", 2)
        assert heard(stream, bound) == [2]


def test_bound_sse(bound: TopicBackend, topic: str) -> None:
    """SSE binds with `binded=` and `bind_key=`; the replay leaves out events that the user may not hear."""
    register(bound, topic, sub=["u1"], pub=["*"])
    with bound.listen("mark", binded=topic, bind_key=fresh_jwt("u1")) as stream:
        assert stream.number
        bound.emit([binded(topic)], "bound", 1)
        assert heard(stream, bound) == [1]
    for user, expected in (("u1", [1]), ("u2", [])):
        with bound.listen("mark", binded=topic, bind_key=fresh_jwt(user), lastEventId="1") as stream:
            assert heard(stream, bound) == expected
    with bound.listen("mark", topic, lastEventId="1") as stream:
        assert heard(stream, bound) == []


# Invalid keys

WRONG: dict[str, Callable[[], Any]] = {
    "rubbish": lambda: "rubbish",
    "empty": lambda: "",
    "JWT of another secret": lambda: jwt_of("u1", "another-secret-of-thirty-two-bytes-or-more"),
    "JWT of another key": lambda: KeyPair().jwt_of("u1"),
    "JWT truncated": lambda: fresh_jwt()[:-6],
    "JWT expired": lambda: fresh_jwt(iat=time.time() - 61),
    "JWT of the future": lambda: fresh_jwt(iat=time.time() + 30),
    "JWT without user": lambda: fresh_jwt(None),
    "JWT refused": lambda: fresh_jwt("__DONT__"),
    "RSA truncated": lambda: PAIR.key_of("u1")[:-8],
    "RSA expired": lambda: PAIR.key_of("u1", age_seconds=10),
    "RSA of the future": lambda: PAIR.key_of("u1", age_seconds=-30),
    "RSA of another key": lambda: KeyPair().key_of("u1"),
    "RSA with broken padding": lambda: base64.b64encode(b"\0" + os.urandom(255)).decode(),
    "RSA without JSON": lambda: PAIR.encrypt(b"hello"),
}


@pytest.mark.parametrize("make", WRONG.values(), ids=list(WRONG))
def test_wrong_keys(server: Deployment, bound: TopicBackend, make: Callable[[], Any]) -> None:
    """Wrong, truncated, expired and future keys get one and the same answer, as subscriber and as emitter."""
    refused = [
        server.post(f"{bound.path}/", json={"ep": [binded("a")], "bind_key": make()}),
        server.get(f"{bound.path}/stream", params={"binded": "a", "bind_key": make()}),
        bound.try_emit(["a"], bind_key=make()),
    ]
    assert {(answer.status_code, answer.text) for answer in refused} == {(403, "Invalid bind_key.")}


@pytest.mark.parametrize("kind", ["HS256", "RS256", "RSA", "HS256 without jti"])
def test_replayed_to_subscribe(server: Deployment, bound: TopicBackend, kind: str) -> None:
    """A key is accepted for one subscription only."""
    key = jwt_of("u9", n=next(_numbers)) if kind == "HS256 without jti" else KINDS[kind]("u1")
    with bound.subscribe("a", bind_key=key) as stream:
        assert stream.response.status_code == 200
    for again in (key, f" {key}" if kind == "RSA" else key):
        answer = server.post(f"{bound.path}/", json={"ep": ["a"], "bind_key": again})
        assert (answer.status_code, answer.text) == (403, "Invalid bind_key.")


@pytest.mark.parametrize(("kind", "status"), [("HS256", 403), ("RS256", 403), ("RSA", 403), ("HS256 without jti", 200)])
def test_replayed_to_emit(bound: TopicBackend, topic: str, kind: str, status: int) -> None:
    """A key that is unique by construction is accepted for one emit; a JWT
    without `jti` is accepted while it is young."""
    register(bound, topic, pub=["u1"])
    key = jwt_of("u1", n=next(_numbers)) if kind == "HS256 without jti" else KINDS[kind]("u1")
    assert bound.try_emit([binded(topic)], bind_key=key).status_code == 200
    assert bound.try_emit([binded(topic)], bind_key=key).status_code == status


def test_site_without_keys(server: Deployment) -> None:
    """In a site without configured keys every key is refused."""
    other = TopicBackend(server, "other")
    for key in (fresh_jwt(), PAIR.key_of("u1")):
        assert server.post(f"{other.path}/", json={"ep": ["a"], "bind_key": key}).status_code == 403


# bindUrl


@pytest.fixture
def asking(server: Deployment) -> TopicBackend:
    """A site with a bindUrl."""
    return TopicBackend(server, "asking")


def test_bind_url(asking: TopicBackend, bind_server: BindServer, topic: str) -> None:
    """A subscriber's key is passed to bindUrl unchanged, and the answer is the user."""
    register(asking, topic, sub=["u5"], pub=["*"])
    key = base64.b64encode(os.urandom(256)).decode()
    bind_server.know(key, "u5")
    with asking.subscribe(binded(topic), "mark", bind_key=key) as stream:
        assert stream.number
        asking.emit([binded(topic)], "bound", 1)
        assert heard(stream, asking) == [1]
    assert ("POST", "application/json", key) in bind_server.requests.snapshot()


@pytest.mark.parametrize(
    ("status", "body", "expected"),
    [
        (200, b'""', 403),
        (200, b'"__DONT__"', 403),
        (200, b"null", 403),
        (200, b'{"uid":"u1"}', 403),
        (404, b"", 403),
        (500, b"", 403),
        (200, b"u1", 502),
        (200, b"\xff", 502),
        (200, b'"[][][]"', 200),
        (200, b"17", 200),
    ],
)
def test_answers_of_bind_url(
    server: Deployment, asking: TopicBackend, bind_server: BindServer, status: int, body: bytes, expected: int
) -> None:
    """`""`, `"__DONT__"` and an answer that is no user refuse the key; an answer
    that is no JSON is a failure of bindUrl."""
    key = base64.b64encode(os.urandom(256)).decode()
    bind_server.answers[key] = (status, body)
    if expected == 200:
        with asking.subscribe("a", bind_key=key) as stream:
            assert stream.response.status_code == 200
        expected = 403  # The key counts as used from now on.
    assert server.post(f"{asking.path}/", json={"ep": ["a"], "bind_key": key}).status_code == expected


def test_emitters_are_not_asked_about(asking: TopicBackend, bind_server: BindServer, topic: str) -> None:
    """An emitter's key is decrypted by the node, and a JWT is always read by the node: neither is passed to bindUrl."""
    register(asking, topic, pub=["u1"], sub=["u1"])
    before = len(bind_server.requests)
    asking.emit([binded(topic)], "t", 1, bind_key=PAIR.key_of("u1"))
    with asking.subscribe(binded(topic), bind_key=fresh_jwt("u1")) as stream:
        assert stream.number
    assert len(bind_server.requests) == before


# The registry


def test_registry(bound: TopicBackend, topic: str) -> None:
    """PUT registers and replaces, GET shows everything but the password, DELETE removes."""
    path = f"/registry/{topic}"
    assert bound.ask("GET", path).status_code == 404
    created = bound.ask("PUT", path, json={"owner": "u1", "pub_password": "s3cr3t", "pub": ["u2", 3], "sub": ["*"]})
    shown = {"topic": topic, "owner": "u1", "pub": ["u2", "3"], "sub": ["*"], "has_pub_password": True}
    assert (created.status_code, created.json()) == (201, shown)
    assert bound.ask("GET", path).json() == shown
    replaced = bound.ask("PUT", path, json={"owner": "u1"})
    assert (replaced.status_code, replaced.json()["has_pub_password"]) == (200, False)
    assert bound.ask("DELETE", path).status_code == 204
    assert bound.ask("DELETE", path).status_code == 404
    assert bound.ask("GET", path).status_code == 404


@pytest.mark.parametrize("odd", ["a/", "/a", "a//b", "with space", "ü", "100%", "a?b", "a%2Fb"])
def test_topics_in_a_path(bound: TopicBackend, odd: str) -> None:
    """Any topic can be registered when it is percent-encoded in the path."""
    encoded = "".join(f"%{byte:02X}" for byte in odd.encode())
    answer = bound.ask("PUT", f"/registry/{encoded}", json={"owner": "u1"})
    assert answer.status_code in (200, 201)
    assert answer.json()["topic"] == odd
    assert bound.ask("DELETE", f"/registry/{encoded}").status_code == 204


@pytest.mark.parametrize(
    ("name", "body", "status"),
    [
        ("a/+", {"owner": "u"}, 400),
        ("%23", {"owner": "u"}, 400),
        ("@CONNECTION@/x", {"owner": "u"}, 403),
        ("a", {}, 400),
        ("a", {"owner": ""}, 400),
        ("a", {"owner": "*"}, 400),
        ("a", {"owner": ["u"]}, 400),
        ("a", {"owner": "u", "pub": "u"}, 400),
        ("a", {"owner": "u", "sub": [None]}, 400),
        ("a", {"owner": "u", "sub": ["u"] * 10_001}, 400),
        ("a", {"owner": "u", "pub_password": 5}, 400),
        ("a", [], 400),
        ("a" * 5000, {"owner": "u"}, 400),
    ],
)
def test_what_cannot_be_registered(bound: TopicBackend, name: str, body: object, status: int) -> None:
    """A pattern, a topic of the server's own, an invalid owner, list or password,
    and a body of another shape are refused."""
    assert bound.ask("PUT", f"/registry/{name}", json=body).status_code == status


def test_nothing_secret_is_kept(server: Deployment, bound: TopicBackend, topic: str) -> None:
    """Redis holds a salted hash of a password, and a digest of a stream's secret and of a used key."""
    register(bound, topic, pub=["*"], pub_password="s3cr3t-password")
    key = fresh_jwt("u1")
    with bound.subscribe(binded(topic), bind_key=key) as stream:
        secret = stream.greeting["secret"]
        bound.emit([binded(topic, password="s3cr3t-password")])
        client = server.redis.client
        held = b"".join(client.dump(name) or b"" for name in client.scan_iter("recado:{bound}:topics:*"))
        names = b"".join(client.scan_iter("recado:{bound}:topics:*"))
    for text in ("s3cr3t-password", secret, key, key.rpartition(".")[0]):
        assert text.encode() not in held + names
