"""The packets of one POST in slices."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from app.socketio import engine_posted
from app.socketio.engine_packet import BinaryPacket, MalformedPacket
from app.socketio.engine_posted import PACKETS_A_TURN, PostedPackets


class Reader:
    """Needs a fixed time for each packet, by its own clock."""

    def __init__(self) -> None:
        self.now = 0.0
        self.seconds = 0.0
        self.packets = 0
        self.refused: list[str] = []

    def packet_received(self, packet: bytes | BinaryPacket) -> None:
        """Take the time, and count."""
        self.now += self.seconds
        self.packets += 1

    def refuse(self, error: MalformedPacket) -> None:
        """Remember the reason."""
        self.refused.append(error.reason)


@pytest.mark.parametrize(("seconds", "in_a_turn"), [(0.0, 64), (0.0002, 3), (0.1, 1)])
def test_slow_packets_are_fewer_in_a_turn(monkeypatch: pytest.MonkeyPatch, seconds: float, in_a_turn: int) -> None:
    """A turn ends when its time is over, behind one packet at the earliest."""
    reader = Reader()
    reader.seconds = seconds
    monkeypatch.setattr(engine_posted, "perf_counter", lambda: reader.now)
    posted = PostedPackets(reader, [b"4a"] * 200)
    assert posted.work(PACKETS_A_TURN)
    assert reader.packets == in_a_turn
    while posted.work(PACKETS_A_TURN):
        pass
    assert reader.packets == posted.handled == 200


def test_packets_are_asked_for_in_slices() -> None:
    """The packets are decoded in the turn in which they are handled; a mistake ends the session behind those before."""
    asked = 0

    def packets() -> Iterator[bytes]:
        nonlocal asked
        for _ in range(100):
            asked += 1
            yield b"4a"
        raise MalformedPacket

    reader = Reader()
    posted = PostedPackets(reader, packets())
    assert posted.work(PACKETS_A_TURN)
    assert asked <= PACKETS_A_TURN
    while posted.work(PACKETS_A_TURN):
        pass
    assert reader.packets == 100
    assert posted.is_refused
    assert reader.refused == ["parse error"]
