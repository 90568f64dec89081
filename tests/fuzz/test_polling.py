"""Requests of polling sessions that nobody should send: payloads of both versions, in text, in binary and for JSONP."""

from __future__ import annotations

import re
from urllib.parse import quote

import pytest
from hypothesis import strategies as st

from app.socketio.engine_session import EngineSession
from tests.fuzz.conftest import Fuzz
from tests.fuzz.packets import large_packets, packets
from tests.support.fuzz_inputs import Large
from tests.support.fuzzing import FuzzedNode
from tests.support.waiting import until

LARGE = [
    b"\x1e" * 60_000,
    b"\x1e".join([b"6"] * 30_000),
    b"\x1e".join([b'42/mail,["a"]'] * 500),
    b"\x1e".join([b"40/mail,\x1e41/mail,"] * 250),
    b"1:6" * 20_000,
    b"0:" * 30_000,
    b'13:42/mail,["a"]' * 500,
    b"\x00\x01\xff6" * 15_000,
    b"\x01\x09\x09\x09\xff\x04" * 10_000,
    b"d=" + b"%5C" * 20_000,
    b"d=" + b"\\\\n" * 20_000,
    b"d=1&" * 15_000,
    b"9" * 60_000,
    "2:é".encode() * 500,
    "é".encode() * 30_000,
]


def v4(parts: list[bytes]) -> bytes:
    """A payload of version 4."""
    return b"\x1e".join(parts)


def v3(parts: list[bytes]) -> bytes:
    """A payload of version 3, its lengths as Python counts them."""
    return b"".join(b"%d:%b" % (len(part.decode("utf-8", "replace")), part) for part in parts)


def v3_binary(parts: list[bytes]) -> bytes:
    """A binary payload of version 3."""
    heads = [b"\x00" + bytes(map(int, str(len(part)))) + b"\xff" for part in parts]
    return b"".join(head + part for head, part in zip(heads, parts, strict=True))


def form(parts: list[bytes]) -> bytes:
    """A form of JSONP."""
    return b"d=" + quote(v3(parts)).encode()


several = st.lists(packets, min_size=1, max_size=4)
forms = st.sampled_from([v4, v3, v3_binary, form])
payloads = st.one_of(
    st.tuples(forms, several).map(lambda pair: pair[0](pair[1])),
    st.tuples(forms, large_packets).map(lambda pair: Large(pair[0]([pair[1]]))),
    st.binary(max_size=40),
    st.sampled_from(LARGE).map(Large),
)
kinds = st.sampled_from([b"text/plain", b"application/octet-stream", b"application/x-www-form-urlencoded", b""])
extras = st.sampled_from(["", "", "", "&j=0", "&b64=1", "&j=x)", "&sid=x", "&transport=websocket", "&EIO=4&a=%ff"])
posts = st.lists(st.tuples(kinds, extras, payloads), min_size=1, max_size=5)


async def fetch(node: FuzzedNode, target: str, session: EngineSession | None) -> None:
    """Poll, if something waits."""
    if session is not None and session.mailbox is not None and session.mailbox.has_payload:
        await node.http("GET", target)


@pytest.mark.timeout(3600)
def test_polling(node: FuzzedNode, run: Fuzz) -> None:
    """A payload is taken or refused, before and after a join."""

    def check(given: tuple[int, str, bool, list[tuple[bytes, str, bytes]]]) -> None:
        version, extra, is_joined, bodies = given

        async def scenario() -> None:
            target = f"/socket.io/?EIO={version}&transport=polling"
            _, opened = await node.http("GET", target + extra)
            found = re.search(rb'sid\\*":\\*"([^"\\]+)', opened)
            assert found is not None
            sid = found[1].decode()
            session = node.services.socket_server.engine.sessions[sid]
            target += f"&sid={sid}"
            if is_joined:
                await node.http("POST", target, v4([b"40/mail,"]) if version == 4 else v3([b"40/mail,"]))
                await until(lambda: session.mailbox is None or session.mailbox.has_payload, "the join")
                await fetch(node, target, session)
            for kind, more, body in bodies:
                await node.http("POST", target + more, body, [(b"content-type", kind)])
                await fetch(node, target, session)

        node.attempt(scenario, len(bodies))

    run(st.tuples(st.sampled_from([2, 3, 4]), st.sampled_from(["", "", "&j=0", "&b64=1"]), st.booleans(), posts), check)
    assert {200, 400, 413} <= node.statuses.keys()
