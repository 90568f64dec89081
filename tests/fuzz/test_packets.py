"""Packets on WebSockets that nobody should send, before a join, after one to each kind of site, and after a leave."""

from __future__ import annotations

import pytest
from hypothesis import strategies as st

from tests.fuzz.conftest import Fuzz
from tests.fuzz.packets import large_packets, packets
from tests.support.fuzzing import FuzzedNode

JOINS = ["", "", "40/mail,", "40/mail,", '40/shop,{"token":"known","deviceId":"d"}']

messages = st.one_of(
    packets.map(lambda packet: packet.decode("utf-8", "ignore")),
    packets.map(lambda packet: packet.decode("utf-8", "ignore")),
    large_packets.map(lambda packet: packet.decode("utf-8", "ignore")),
    st.binary(max_size=20),
    st.sampled_from([b"\x04abc", b"\x02", b"x" * 90_000]),
)


@pytest.mark.timeout(3600)
def test_packets(node: FuzzedNode, run: Fuzz) -> None:
    """A packet is taken, or ends its session."""

    def check(given: tuple[int, str, list[str | bytes]]) -> None:
        version, join, sent = given

        async def scenario() -> None:
            socket = await node.websocket(f"/socket.io/?EIO={version}&transport=websocket")
            if join:
                # Version 3 knows no payload of a CONNECT.
                socket.say(join if version == 4 else "40/mail,")
                await socket.until(lambda: len(socket.written) > (version == 3) + 1 or socket.closed, "the join")
            for message in sent:
                socket.say(message)

        node.attempt(scenario, len(sent))

    run(st.tuples(st.sampled_from([3, 4]), st.sampled_from(JOINS), st.lists(messages, min_size=1, max_size=8)), check)
