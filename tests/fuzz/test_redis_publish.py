"""Identifiers, PUBLISHed messages and entries of mailboxes that nobody should write."""

from __future__ import annotations

import itertools
import json

import pytest
from hypothesis import strategies as st

from tests.fuzz.conftest import Fuzz
from tests.support.fuzz_inputs import Large, json_texts, mutated, texts
from tests.support.fuzzing import FuzzedNode
from tests.support.valkey import Valkey

ENTRIES = [
    b'{"source":"rm.users.u","timestamp":1,"bubble":true,"payload":"x"}',
    b'{"source":"\\ud800","timestamp":"x","bubble":null,"payload":{"a":[1e400]}}',
    b'{"payload":"\\ud800"}',
    b'{"payload":' + b"[" * 990 + b"]" * 990 + b"}",
    b'{"payload":' + b'{"a":' * 990 + b"1" + b"}" * 990 + b"}",
    b'{"source":[[]],"payload":1}',
    b"plain",
    b"\xff\xfe",
    b"",
]
LARGE = [
    b"[" * 90_000,
    b'{"payload":' + b"[" * 45_000 + b"]" * 45_000 + b"}",
    b'{"payload":[' + b"{}," * 30_000 + b"1]}",
]
MARK = b"the-last-entry"

entries = st.one_of(
    mutated(ENTRIES),
    json_texts.map(lambda text: b'{"payload":' + text.encode() + b"}"),
    json_texts.map(str.encode),
    st.sampled_from(LARGE).map(Large),
)
channels = st.sampled_from(["rm.users.a", "rm.channels.c", "rm.users.", "rm.", "rm.users.a:b", "rm.x.y", "rm.users.\n"])
arguments = texts.map(json.dumps) | json_texts
users = itertools.count(1)


@pytest.mark.timeout(3600)
def test_redis_publish(node: FuzzedNode, run: Fuzz, valkey: Valkey) -> None:
    """A client that identifies itself wrongly is refused, and no entry keeps those behind it from their user."""

    def check(given: tuple[list[str], list[bytes], list[tuple[str, bytes]]]) -> None:
        wrong, waiting, published = given
        user = f"user{next(users)}"
        box = f"rm:users:{user}:messages"

        async def scenario() -> None:
            # Another try of the same input begins with a mailbox of its own.
            valkey.client.delete(box)
            valkey.client.rpush(box, *waiting, b'{"payload":"' + MARK + b'"}')
            for channel, payload in published:
                valkey.client.publish(channel, payload)
            stranger = await node.websocket("/socket.io/?EIO=4&transport=websocket")
            stranger.say("40/mail,")
            await stranger.until(lambda: len(stranger.written) > 1, "the join")
            for argument in wrong:
                stranger.say(f'42/mail,7["identifier",{argument}]')
            socket = await node.websocket("/socket.io/?EIO=4&transport=websocket")
            socket.say("40/mail,")
            await socket.until(lambda: len(socket.written) > 1, "the join")
            socket.say(f'42/mail,["identifier","{user}"]')
            await socket.until(lambda: any(MARK in frame for frame in socket.written), "the last entry")

        node.attempt(scenario, len(wrong) + len(waiting) + len(published))

    # Many at a time: the two connections of an example cost more than what is tried with them.
    lists = (
        st.lists(arguments, max_size=2),
        st.lists(entries, min_size=2, max_size=12),
        st.lists(st.tuples(channels, entries), max_size=8),
    )
    run(st.tuples(*lists), check)
