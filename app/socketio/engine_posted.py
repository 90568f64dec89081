"""The packets of one POST, worked off in slices: a payload of hundreds costs nobody else a long turn of the loop.

Synchronous; the request that brought them asks for one slice after the other.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Iterable
from time import perf_counter
from typing import Protocol

from app.socketio.engine_packet import BinaryPacket, MalformedPacket

PACKETS_A_TURN = 64
"""The most packets of one POST that are worked off in one turn of the loop."""
TURN_SECONDS = 0.0005
"""Slow packets are fewer in a turn: their sender is to cost others as little as one of acks."""


class PacketReader(Protocol):
    """The session, as its posted packets see it."""

    def packet_received(self, packet: bytes | BinaryPacket) -> None:
        """Handle one packet; no-op after the end of the session. Raises MalformedPacket."""

    def refuse(self, error: MalformedPacket) -> None:
        """End the session because of a packet."""


class PostedPackets:
    """Lives until its last packet is handled."""

    __slots__ = ("_packets", "_reader", "is_refused")

    def __init__(self, reader: PacketReader, packets: Iterable[bytes | BinaryPacket]) -> None:
        """Take the packets of one POST."""
        self._reader = reader
        self._packets = deque(packets)
        self.is_refused = False
        """Whether one of the packets has ended the session."""

    def work(self, most: int) -> bool:
        """Handle so many packets, one at least and no more when the time of a turn is over; True while others wait."""
        self._work(most, perf_counter() + TURN_SECONDS)
        return bool(self._packets)

    def finish(self) -> None:
        """Handle all at once: later packets come by another way, and must not overtake these."""
        self._work(len(self._packets), math.inf)

    def _work(self, most: int, end: float) -> None:
        try:
            for _ in range(min(most, len(self._packets))):
                self._reader.packet_received(self._packets.popleft())
                if perf_counter() > end:
                    break
        except MalformedPacket as error:
            self._packets.clear()
            self.is_refused = True
            self._reader.refuse(error)
