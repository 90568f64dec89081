"""The valid requests of subscribers and backends, and the reasons for refused ones."""

from __future__ import annotations

import json
import tracemalloc
from collections.abc import Callable
from contextlib import nullcontext
from typing import Any

import pytest

from app.errors import BadRequest
from app.protocols.topics.registry import read_registration
from app.protocols.topics.requests import (
    MAX_CLIENT_ID_BYTES,
    MAX_EMITTED_PATTERNS,
    MAX_EMITTED_TOPICS,
    MAX_OTHER_BYTES,
    read_emission,
    read_proof,
    read_subscription,
)
from app.protocols.topics.topic import TopicRules


def packed(value: object) -> bytes:
    """Encode a value as a body."""
    return json.dumps(value).encode()


def nested(levels: int) -> list[Any]:
    """A list in a list, so many levels deep."""
    value: list[Any] = []
    for _ in range(levels - 1):
        value = [value]
    return value


def test_subscription() -> None:
    """Topics are given as text or as objects; a repeated topic counts once, and its
    bound and plain forms are two topics."""
    points: list[Any] = ["a/b", {"topic": "a/b"}, {"topic": "a/b", "binded": True}, {"topic": "c/#", "binded": "yes"}]
    read = read_subscription(packed({"ep": points, "clid": "me", "bind_key": "k", "more": 1}), 10)
    assert [(wish.topic, wish.is_binded) for wish in read.wishes] == [("a/b", False), ("a/b", True), ("c/#", False)]
    assert (read.client, read.bind_key) == ("me", "k")


@pytest.mark.parametrize("client", [None, 7, "", {}])
def test_client_without_name(client: object) -> None:
    """A client name that is not text counts as no name, as with the original."""
    assert read_subscription(packed({"ep": [], "clid": client}), 10).client == "@ANON_CONNECTION@"


@pytest.mark.parametrize(
    ("body", "reason"),
    [
        (b"", "Invalid JSON"),
        (b"{", "Invalid JSON"),
        (b"\xff", "UTF-8"),
        (b'{"ep":["' + b"\x80" + b'"]}', "UTF-8"),
        (b"[" * 100_000, "JSON"),
        (b'{"ep":' + b"[" * 100_000, "nested too deeply"),
        (b"[]", "JSON object"),
        (b"null", "JSON object"),
        (b"{}", "ep: expected a list"),
        (packed({"ep": "a"}), "ep: expected a list"),
        (packed({"ep": {"topic": "a"}}), "ep: expected a list"),
        (packed({"ep": [1]}), "text or an object"),
        (packed({"ep": [None]}), "text or an object"),
        (packed({"ep": [{}]}), "Topic missing"),
        (packed({"ep": [{"topic": 5}]}), "Topic should be a string"),
        (packed({"ep": [""]}), "Topic is empty"),
        (packed({"ep": ["a/#/b"]}), "last level"),
        (packed({"ep": ["a"] * 11}), "at most 10 topics"),
        (packed({"ep": ["a"], "bind_key": 5}), "bind_key"),
        (packed({"ep": ["a"], "clid": "c" * (MAX_CLIENT_ID_BYTES + 1)}), "clid"),
    ],
)
def test_what_is_no_subscription(body: bytes, reason: str) -> None:
    """An invalid subscription is refused with the reason and 400."""
    with pytest.raises(BadRequest, match=reason) as caught:
        read_subscription(body, 10)
    assert caught.value.status == 400


def test_levels_in_all_are_bounded() -> None:
    """The limit on levels keeps a body of a few hundred KB from creating a hundred thousand nodes of the trie."""
    topics = [f"{number}/" + "a/" * 126 for number in range(200)]
    for many in (topics, ["a" * 4_000 + str(number) for number in range(100)]):
        with pytest.raises(BadRequest, match="levels in all"):
            read_subscription(packed({"ep": many}), 1_000)
    fine = read_subscription(packed({"ep": [f"house/{number}/room/door" for number in range(1_000)]}), 1_000)
    assert fine.levels == 4_000


def test_emission() -> None:
    """Each target keeps its own options; the detail is kept byte by byte."""
    points: list[Any] = [
        "a",
        {"topic": "b/+", "whisper": 7, "binded": True, "password": "p"},
        {"topic": "c", "whisper": 7.0},
    ]
    body = packed({"ep": points, "bind_key": "k"})[:-1] + b', "e": {"type": "t", "detail":  1.50 }}'
    read = read_emission(body)
    assert [(t.topic, t.whisper, t.is_binded, t.password) for t in read.targets] == [
        ("a", None, False, None),
        ("b/+", 7, True, "p"),
        ("c", 7, False, None),
    ]
    assert (read.type, read.body, read.bind_key) == ("t", b'["t",1.50]', "k")


def test_patterns_of_an_emission_are_bounded() -> None:
    """Each of them is compared with every subscription, which takes time from all sites."""
    for number, is_fine in ((MAX_EMITTED_PATTERNS, True), (MAX_EMITTED_PATTERNS + 1, False)):
        body = packed({"ep": [f"a/{n}/#" for n in range(number)] + ["b"] * 100, "e": {"type": "t"}})
        with nullcontext() if is_fine else pytest.raises(BadRequest, match="wildcards"):
            assert len(read_emission(body).targets) == number + 100


def test_emission_without_detail() -> None:
    """A missing detail is no detail; null is a detail."""
    assert read_emission(b'{"ep":[],"e":{"type":"t"}}').body == b'["t"]'
    assert read_emission(b'{"ep":[],"e":{"type":"t","detail":null}}').body == b'["t",null]'


@pytest.mark.parametrize(
    ("value", "status", "reason"),
    [
        ({"e": {"type": "t"}}, 400, "ep"),
        ({"ep": ["a"]}, 400, "e: expected an object"),
        ({"ep": ["a"], "e": "t"}, 400, "e: expected an object"),
        ({"ep": ["a"], "e": None}, 400, "e: expected an object"),
        ({"ep": ["a"], "e": {}}, 400, "e.type"),
        ({"ep": ["a"], "e": {"type": 5}}, 400, "e.type"),
        ({"ep": ["a"], "e": {"type": "t", "detail": nested(201)}}, 400, "e.detail: nested too deeply, .* 200 levels"),
        ({"ep": ["@SERVER@"], "e": {"type": "t"}}, 403, "only the server"),
        ({"ep": ["a", {"topic": "@CONNECTION@/x"}], "e": {"type": "t"}}, 403, "only the server"),
        ({"ep": [{"topic": "a", "whisper": "7"}], "e": {"type": "t"}}, 400, "whisper"),
        ({"ep": [{"topic": "a", "whisper": True}], "e": {"type": "t"}}, 400, "whisper"),
        ({"ep": [{"topic": "a", "whisper": 2**53}], "e": {"type": "t"}}, 400, "whisper"),
        ({"ep": [{"topic": "a", "password": 1}], "e": {"type": "t"}}, 400, "password"),
        ({"ep": ["a"] * (MAX_EMITTED_TOPICS + 1), "e": {"type": "t"}}, 400, "at most"),
    ],
)
def test_what_is_no_emission(value: object, status: int, reason: str) -> None:
    """An invalid emission is refused with the reason; a topic of the server's own is refused."""
    with pytest.raises(BadRequest, match=reason) as caught:
        read_emission(packed(value))
    assert caught.value.status == status


def test_proof() -> None:
    """The body of /alive names a connection and its secret."""
    read = read_proof(b'{"connid": 12, "secret": "s"}')
    assert (read.connection, read.secret) == (12, "s")
    assert "'s'" not in repr(read)


@pytest.mark.parametrize(
    "value", [{}, {"connid": 1}, {"secret": "s"}, {"connid": "1", "secret": "s"}, {"connid": -1, "secret": "s"}]
)
def test_what_is_no_proof(value: object) -> None:
    """Both the connection and the secret are required."""
    with pytest.raises(BadRequest):
        read_proof(packed(value))


def test_no_secret_in_a_repr() -> None:
    """No repr shows a key, a password or a payload."""
    subscription = read_subscription(packed({"ep": ["a"], "bind_key": "s3cr3t"}), 10)
    emission = read_emission(
        packed(
            {"ep": [{"topic": "a", "password": "s3cr3t"}], "bind_key": "s3cr3t", "e": {"type": "t", "detail": "s3cr3t"}}
        )
    )
    assert "s3cr3t" not in f"{subscription!r} {emission!r} {emission.targets!r}"


def test_other_fields() -> None:
    """The fields of a subscription that mean nothing here are kept as JSON to be shown: no secrets, within a bound."""
    deep = "[" * 500 + "]" * 500
    body = (
        b'{"ep":["a"],"clid":"me","bind_key":"k","large":1e400,"wid":1,"x":{"y":[1.0]},"api_Key":"s3cr3t","deep":%s}'
        % deep.encode()
    )
    more = read_subscription(body, 1_000).more
    assert more == {"wid": b"1", "x": b'{"y":[1.0]}', "api_Key": b'"(removed)"'}
    long = packed({"ep": ["a"], "first": 1, "long": "x" * MAX_OTHER_BYTES, "last": 1})
    assert read_subscription(long, 10).more == {"first": b"1"}


@pytest.mark.parametrize("ep", [b"1e400", b"[1e400]", b"9" * 5_000, b'["a",' + b"9" * 5_000 + b"]"])
def test_numbers_without_bounds(ep: bytes) -> None:
    """A number that no reader takes is refused like any other mistake."""
    with pytest.raises(BadRequest):
        read_emission(b'{"ep":%b,"e":{"type":"t"}}' % ep)


def test_rules_of_the_original() -> None:
    """With the rules of es-web-notify the empty text is a client's name, /event passes over numbers, and a whisper to
    null is refused."""
    rules = TopicRules(takes_text=True)
    assert read_subscription(packed({"ep": ["", "a#"], "clid": ""}), 10, rules).client == ""
    event = {"ep": [1, True, "a+", {"topic": "b"}], "e": {"type": "t"}}
    assert [target.topic for target in read_emission(packed(event), rules).targets] == ["a+", "b"]
    with pytest.raises(BadRequest) as refused:
        read_emission(packed({"ep": [{"topic": "b", "whisper": None}], "e": {"type": "t"}}), rules)
    assert refused.value.phrase == "Invalid connection id in whisper"


@pytest.mark.parametrize("item", [b"[]", b"{}", b"0", b'{"a":0}'])
def test_values_that_nobody_asked_for_are_not_built(item: bytes) -> None:
    """Strangers may subscribe and extend: half a million values in one body are refused before they are built."""
    items = b"[" + (item + b",") * 200_000 + b"0]"
    bodies: list[tuple[Callable[[bytes], object], bytes]] = [
        (lambda body: read_subscription(body, 1_000), b'{"ep":' + items + b"}"),
        (lambda body: read_subscription(body, 1_000), b'{"ep":["a"],"clid":' + items + b"}"),
        (read_proof, b'{"connid":1,"secret":' + items + b"}"),
        (read_emission, b'{"e":{"type":"t"},"ep":' + items + b"}"),
        (read_registration, b'{"owner":"o","pub":' + items + b"}"),
    ]
    for read, body in bodies:
        tracemalloc.start()
        with pytest.raises(BadRequest):
            read(body)
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        assert peak < 3 * len(body)
