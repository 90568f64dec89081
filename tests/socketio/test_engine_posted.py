"""The packets of one POST in slices."""

from __future__ import annotations

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

    def packet_received(self, packet: bytes | BinaryPacket) -> None:
        """Take the time, and count."""
        self.now += self.seconds
        self.packets += 1

    def refuse(self, error: MalformedPacket) -> None:
        """No packet is wrong here."""


@pytest.mark.parametrize(("seconds", "in_a_turn"), [(0.0, 64), (0.0002, 3), (0.1, 1)])
def test_slow_packets_are_fewer_in_a_turn(monkeypatch: pytest.MonkeyPatch, seconds: float, in_a_turn: int) -> None:
    """A turn ends when its time is over, behind one packet at the earliest; what must not wait ends all at once."""
    reader = Reader()
    reader.seconds = seconds
    monkeypatch.setattr(engine_posted, "perf_counter", lambda: reader.now)
    posted = PostedPackets(reader, [b"4a"] * 200)
    assert posted.work(PACKETS_A_TURN)
    assert reader.packets == in_a_turn
    posted.finish()
    assert reader.packets == 200
    assert not posted.work(PACKETS_A_TURN)
