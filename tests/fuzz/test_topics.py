"""Requests to topics that nobody should send: subscriptions, events, extensions, registrations."""

from __future__ import annotations

import json
from urllib.parse import quote

import pytest
from hypothesis import strategies as st

from tests.fuzz.conftest import Fuzz
from tests.support.fuzz_inputs import Large, json_texts, mutated, texts, values
from tests.support.fuzzing import FuzzedNode

BODIES = [
    b'{"ep":["a.b",{"topic":"a.*","binded":true}],"clid":"c","bind_key":null}',
    b'{"ep":["a.b.#"],"clid":"\\ud800"}',
    b'{"ep":["a.b",{"topic":"t","whisper":7,"password":"p"}],"e":{"type":"x","detail":{"a":[1]}}}',
    b'{"ep":["\\ud800"],"e":{"type":"\\udfff"}}',
    b'{"connid":1e0,"secret":"x"}',
    b'{"password":"p","binded":true}',
]
LARGE = [
    b'{"ep":[' + b'"a.b",' * 999 + b'"a"]}',
    b'{"ep":["' + b"a." * 19_000 + b'"]}',
    b'{"ep":["' + b"*." * 19_000 + b'*"]}',
    b'{"ep":["a"],"e":{"type":"x","detail":' + b"[" * 40_000 + b"]" * 40_000 + b"}}",
    b'{"ep":["a"],"e":{"type":"x","detail":[' + b"{}," * 30_000 + b"1]}}",
    b'{"ep":' + b"[" * 90_000,
    b'{"clid":"' + b"x" * 90_000 + b'","ep":["a"]}',
]
DOORS = [
    ("POST", ""),
    ("POST", "event"),
    ("POST", "alive"),
    ("GET", "stream"),
    ("PUT", "registry/t"),
    ("GET", "registry/t"),
    ("DELETE", "registry/t"),
    ("GET", "state"),
    ("GET", "memory"),
    ("GET", "connections"),
]
PATHS = ["", "event", "registry/%2F", "registry/%ed%a0%80", "registry/" + "x" * 900, "registry/", "x", "%ff"]
METHODS = ["POST", "GET", "PUT", "DELETE", "OPTIONS", "HEAD", "get"]

_shapes = st.fixed_dictionaries(
    {}, optional={"ep": values, "e": values, "clid": values, "bind_key": values, "connid": values, "secret": values}
).map(lambda value: json.dumps(value).encode())
_named = texts.map(lambda topic: json.dumps({"ep": [topic], "e": {"type": topic}}).encode())
_bodies = st.one_of(mutated(BODIES), _shapes, _named, json_texts.map(str.encode), st.sampled_from(LARGE).map(Large))
_names = st.sampled_from(["topic", "binded", "clid", "bind_key", "lastEventId", "limit", "a"])
_queries = st.lists(st.tuples(_names, texts), max_size=4).map(
    lambda pairs: "&".join(f"{name}={quote(value, errors='surrogatepass')}" for name, value in pairs)
)
_others = st.tuples(st.sampled_from(METHODS), st.sampled_from(PATHS))
_doors = st.one_of(st.sampled_from(DOORS), st.sampled_from(DOORS[:4]), st.sampled_from(DOORS[:4]), _others)
_keys = st.sampled_from(["token=secret&", "token=secret&", "token=x&", ""])
_requests = st.tuples(_doors, _keys, _queries, _bodies)
_ids = st.sampled_from([b"1", b"\xff", b"9" * 40, b""])


@pytest.mark.timeout(3600)
def test_topics(node: FuzzedNode, run: Fuzz) -> None:
    """A request is carried out or refused."""

    def check(given: tuple[bytes, list[tuple[tuple[str, str], str, str, bytes]]]) -> None:
        last_id, requests = given

        async def scenario() -> None:
            for (method, path), key, query, body in requests:
                await node.http(method, f"/topics/wire/{path}?{key}{query}", body, [(b"last-event-id", last_id)])

        node.attempt(scenario, len(requests))

    run(st.tuples(_ids, st.lists(_requests, min_size=1, max_size=5)), check)
    assert {200, 400, 401, 403, 404, 405} <= node.statuses.keys()


def test_a_topic_that_is_wished_twice(node: FuzzedNode) -> None:
    """A stream without a key may wish for a topic plain and binded: at its end nothing of it is left."""

    async def scenario() -> None:
        for query in ("topic=a&binded=a", "binded=a.*&topic=b&topic=a.*"):
            assert (await node.http("GET", f"/topics/wire/stream?{query}"))[0] == 200

    node.attempt(scenario)
    node.check_objects()
