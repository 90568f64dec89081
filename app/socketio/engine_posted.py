"""The packets of one POST, decoded and handled in slices: a payload of many costs nobody else a long turn of the loop.

Synchronous; the request that brought them asks for one slice after the other.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
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
    """Lives until its last packet is handled; the request that brought them calls `end` then, or when it is cancelled.

    No later packet may overtake these: a WebSocket that takes the session over waits for the call that `then` asks for.
    """

    __slots__ = ("_packets", "_reader", "_waiters", "handled", "is_refused")

    def __init__(self, reader: PacketReader, packets: Iterable[bytes | BinaryPacket]) -> None:
        """Take the packets of one POST, which may raise MalformedPacket when they are asked for."""
        self._reader = reader
        self._packets = iter(packets)
        self._waiters: list[Callable[[], None]] = []
        self.handled = 0
        self.is_refused = False
        """Whether one of the packets has ended the session."""

    def work(self, most: int) -> bool:
        """Handle so many packets, one at least and no more when the time of a turn is over; False behind the last."""
        end = perf_counter() + TURN_SECONDS
        try:
            for packet in self._packets:
                self.handled += 1
                self._reader.packet_received(packet)
                most -= 1
                if most == 0 or perf_counter() > end:
                    return True
        except MalformedPacket as error:
            self.is_refused = True
            self._reader.refuse(error)
        return False

    def then(self, call: Callable[[], None]) -> None:
        """Call this at the end of these packets."""
        self._waiters.append(call)

    def end(self) -> None:
        """Make the calls that wait for the end."""
        waiters, self._waiters = self._waiters, []
        for call in waiters:
            call()
