"""Resume tickets and bind keys that nobody has signed, or that say what no backend says."""

from __future__ import annotations

import base64
import json
import time
from typing import Any

import jwt
import pytest
from hypothesis import strategies as st

from tests.fuzz.conftest import Fuzz
from tests.support.bind_keys import JWT_SECRET
from tests.support.fuzz_inputs import json_texts, mutated, texts, values
from tests.support.fuzzing import FuzzedNode


def encoded(data: bytes) -> str:
    """Base64 of a part of a JWT."""
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()


def signed(claims: dict[str, Any]) -> str:
    """A JWT with the secret of bind keys."""
    content = json.dumps({"uid": "u", "iat": time.time(), **claims}).encode()
    return jwt.PyJWS().encode(content, JWT_SECRET, "HS256")


PARTS = [
    b'{"alg":"HS256","typ":"JWT"}',
    b'{"alg":"HS256","typ":"recado-ticket+jwt"}',
    b'{"alg":"none"}',
    b'{"alg":[]}',
    b'{"alg":{"a":1},"crit":["b64"],"b64":false}',
    b'{"uid":"u","iat":1e400}',
    b'{"site":"shop","rooms":["\\ud800"],"device_id":"d","token_mark":"","meta_mark":"","asked_at_ms":1,"generation":0,'
    b'"expires_at_ms":9999999999999,"aud":"recado-ticket"}',
    b"[]",
    b"1",
    b"\xff",
    b"",
]
_parts = mutated(PARTS) | json_texts.map(str.encode)
_joined = st.tuples(_parts, _parts, st.binary(max_size=8)).map(lambda parts: ".".join(map(encoded, parts)))
_claims = st.dictionaries(st.sampled_from(["uid", "iat", "nbf", "exp", "aud", "jti", "sub", "iss"]), values, max_size=3)
_shaped = st.sampled_from(["", ".", "..", "...", "a.b.c", "A" * 9_000, "=" * 100, "A" * 344, "\ud800.a.b", "é.é.é"])


@pytest.mark.timeout(3600)
def test_bind_keys(node: FuzzedNode, run: Fuzz) -> None:
    """A bind key is taken or refused, in a subscription and in an event."""

    def check(keys: list[str]) -> None:
        async def scenario() -> None:
            for key in keys:
                body = json.dumps({"ep": ["t"], "bind_key": key}).encode()
                await node.http("POST", "/topics/wire", body)

        node.attempt(scenario, len(keys))

    run(st.lists(st.one_of(_joined, _claims.map(signed), _shaped, texts), min_size=1, max_size=5), check, share=0.5)
    assert {200, 403} <= node.statuses.keys()


@pytest.mark.timeout(3600)
def test_tickets(node: FuzzedNode, run: Fuzz) -> None:
    """A ticket admits its client or is refused; the client then hears messages, or knows that it does not."""

    def check(given: list[tuple[object, object, object]]) -> None:
        async def scenario() -> None:
            for ticket, device, meta in given:
                socket = await node.websocket("/socket.io/?EIO=4&transport=websocket")
                credentials = json.dumps({"ticket": ticket, "deviceId": device, "meta": meta})
                socket.say(f"40/shop,{credentials}")
                await socket.until(lambda: len(socket.written) > 1 or socket.closed, "an answer")  # noqa: B023

        node.attempt(scenario, len(given))

    tickets = st.one_of(_joined, _claims.map(signed), _shaped, texts, values)
    run(st.lists(st.tuples(tickets, texts | values, texts), min_size=1, max_size=4), check, share=0.5)
