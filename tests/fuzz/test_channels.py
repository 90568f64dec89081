"""Texts of subscribers and bodies of publishers of channels that nobody should send."""

from __future__ import annotations

import json

import pytest
from hypothesis import strategies as st

from tests.fuzz.conftest import Fuzz
from tests.support.fuzz_inputs import Large, json_texts, mutated, texts, values
from tests.support.fuzzing import FuzzedNode

TEXTS = [
    b'{"messageType":"CLIENT_ACTION","action":"SUBSCRIBE","data":{"channel":"c"}}',
    b'{"messageType":"CLIENT_ACTION","action":"UNSUBSCRIBE","data":{"channel":"c"},"uuid":"x"}',
    b'{"messageType":"CLIENT_ACTION","action":"SUBSCRIBE","data":{"channel":"\\ud800"}}',
]
BODIES = [
    b'{"messageType":"SERVER_ACTION","action":"CREATE_CHANNEL","data":{"channel":"c"}}',
    b'{"messageType":"SERVER_ACTION","action":"PING_CHANNEL","data":{"channel":"c","channelToken":"TOKEN"}}',
    b'{"messageType":"SERVER_ACTION","action":"DELETE_CHANNEL","data":{"channel":"d","channelToken":"TOKEN"}}',
    b'{"messageType":"SERVER_ACTION","action":"PUSH_MESSAGE","data":{"channel":"c","channelToken":"TOKEN",'
    b'"recipients":["\\ud800"],"message":"m"}}',
]
LARGE = [
    b'{"messageType":' + b"[" * 49_000 + b"]" * 49_000 + b"}",
    b'{"messageType":"CLIENT_ACTION","action":"SUBSCRIBE","data":{"channel":"' + b"x" * 90_000 + b'"}}',
    b'{"messageType":"SERVER_ACTION","action":"PUSH_MESSAGE","data":{"channel":"c","channelToken":"TOKEN","recipients":['
    + b'"",' * 30_000
    + b'""],"message":""}}',
    b"\\ud800" * 15_000,
    b'"\\ud800' * 15_000,
]
PATHS = ["channel/create", "channel/ping", "channel/delete", "push", "push/", "x", "%ff", ""]
QUERIES = [
    "",
    "",
    "?uuid=%ff",
    "?resume=x",
    "?resume=" + "9" * 300,
    "?channels=c&channels=%ed%a0%80",
    "?channel=c&uuid=",
]

_shapes = st.fixed_dictionaries(
    {},
    optional={
        "messageType": st.just("CLIENT_ACTION"),
        "action": values,
        "data": st.dictionaries(texts, values),
        "uuid": values,
    },
).map(lambda value: json.dumps(value).encode())
_named = texts.map(
    lambda name: json.dumps({"messageType": "CLIENT_ACTION", "action": "SUBSCRIBE", "data": {"channel": name}}).encode()
)
_bodies = st.one_of(mutated(BODIES), _shapes, json_texts.map(str.encode), st.sampled_from(LARGE).map(Large))
_messages = st.one_of(
    st.one_of(mutated(TEXTS), _named, _shapes, json_texts.map(str.encode), st.sampled_from(LARGE).map(Large)).map(
        lambda text: text.decode("utf-8", "ignore")
    ),
    st.binary(max_size=10),
)


@pytest.mark.timeout(3600)
def test_channels(node: FuzzedNode, run: Fuzz) -> None:
    """A message is carried out, or answered with an error."""

    tokens: list[bytes] = []

    async def create() -> None:
        body = b'{"messageType":"SERVER_ACTION","action":"CREATE_CHANNEL","data":{"channel":"c"}}'
        _, answer = await node.http("POST", "/channels/wire/channel/create", body)
        tokens.append(json.loads(answer)["data"]["channelToken"].encode())

    node.attempt(create, 0)

    def check(given: tuple[str, list[str | bytes], list[tuple[str, bytes]]]) -> None:
        query, sent, bodies = given

        async def scenario() -> None:
            socket = await node.websocket(f"/channels/wire{query}")
            await socket.until(lambda: bool(socket.written) or socket.closed, "the first CLIENT_ACK")
            for message in sent:
                before = len(socket.written)
                socket.say(message)
                await socket.until(lambda: len(socket.written) > before or socket.closed, "an answer")  # noqa: B023
            for path, body in bodies:
                data = body.replace(b"TOKEN", tokens[0])
                await node.http("POST", f"/channels/wire/{path}", data, [(b"content-type", b"application/json")])

        node.attempt(scenario, len(sent) + len(bodies))

    paths = st.sampled_from(PATHS[:4] * 3 + PATHS)
    lists = (st.lists(_messages, max_size=4), st.lists(st.tuples(paths, _bodies), min_size=1, max_size=4))
    run(st.tuples(st.sampled_from(QUERIES), *lists), check)
    assert {101, 200, 400} <= node.statuses.keys()
