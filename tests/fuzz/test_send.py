"""Bodies and queries of POST /send that nobody should send."""

from __future__ import annotations

import json
from urllib.parse import quote

import pytest
from hypothesis import strategies as st

from tests.fuzz.conftest import Fuzz
from tests.support.fuzz_inputs import Large, json_texts, mutated, texts, values
from tests.support.fuzzing import FuzzedNode

SEEDS = [
    b'{"rooms":["user_1","a"],"event":"news","args":[1,{"a":null}]}',
    b'{"rooms":"a","event":"\\ud800","args":["\\udfff"]}',
    b'{"rooms":["a"],"event":"news","args":1E400,"args":[]}',
    b"rooms[]=a&rooms[1][x]=b&event=news&args[0][a][]=1&args[]=2",
    b"rooms=a&event=e&args[][a]=1&args[][b]=2&args[][a]=3",
    b"rooms=user_1&event=e&args[3]=1&args[0]=%ED%A0%80",
]
TYPES = [b"application/json", b"application/x-www-form-urlencoded", b"text/plain", b"multipart/form-data", b"x;=", b""]
LARGE = [
    b'{"rooms":["a"],"event":"e","args":' + b"[" * 49_000 + b"]" * 49_000 + b"}",
    b'{"rooms":["a"],"event":"e","args":[' + b"{}," * 33_000 + b"1]}",
    b'{"rooms":[' + b'"r",' * 24_000 + b'"r"],"event":"e"}',
    b"rooms=a&event=e&" + b"args=1&" * 14_000,
    b"rooms=a&event=e&" + b"args[][a]=1&" * 8_000,
    b"rooms=a&event=e&args" + b"[a]" * 49 + b"=1" + (b"&args" + b"[a]" * 48 + b"[b]=1") * 600,
    b"x" * 100_001,
    b"%" * 100_000,
    b"&" * 100_000,
    b"[" * 100_000,
    b"a=%ff&" * 16_000,
]

fields = st.sampled_from(
    ["rooms", "event", "args", "rooms[]", "args[]", "args[0][a]", "args[][a]", "args[9999]", "a[b"]
)
forms = st.lists(st.tuples(fields, texts), max_size=6).map(
    lambda pairs: "&".join(f"{name}={quote(value, errors='surrogatepass')}" for name, value in pairs).encode()
)
objects = st.fixed_dictionaries({}, optional={"rooms": values, "event": values, "args": values}).map(
    lambda value: json.dumps(value).encode()
)
arguments = json_texts.map(lambda text: f'{{"rooms":["user_1"],"event":"e","args":{text}}}'.encode("utf-8", "replace"))
bodies = st.one_of(mutated(SEEDS), objects, arguments, forms, st.binary(max_size=60), st.sampled_from(LARGE).map(Large))
queries = st.sampled_from(
    ["site=shop&apiKey=secret"] * 6 + ["site=shop", "site=shop&apiKey=%ff", "site[]=shop&apiKey=secret", "&&=&"]
)


@pytest.mark.timeout(3600)
def test_send(node: FuzzedNode, run: Fuzz) -> None:
    """A body is stored or refused."""

    def check(requests: list[tuple[str, bytes, bytes]]) -> None:
        async def scenario() -> None:
            for query, kind, body in requests:
                await node.http("POST", f"/send?{query}", body, [(b"content-type", kind)])

        node.attempt(scenario, len(requests))

    run(st.lists(st.tuples(queries, st.sampled_from(TYPES), bodies), min_size=1, max_size=4), check)
    assert {200, 400, 401} <= node.statuses.keys()
