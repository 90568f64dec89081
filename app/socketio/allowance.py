"""The packets that a client may send in a time: a bucket that fills up again. Knows no sessions."""

from __future__ import annotations

from time import monotonic

from app.socketio.engine_packet import PacketFlood
from app.transport.refusals import PACKETS_TOO_FAST

PACKETS_A_SECOND = 100.0
PACKETS_AT_ONCE = 100
"""A client library sends two packets for each namespace that it joins, and one for each heartbeat."""


class Allowance:
    """Lives until its session has joined a site."""

    __slots__ = ("_filled_at", "_left")

    def __init__(self) -> None:
        """Begin with a full bucket."""
        self._left = float(PACKETS_AT_ONCE)
        self._filled_at = monotonic()

    def spend(self) -> None:
        """Take one packet; raises PacketFlood when too many have come. Only an empty bucket asks the clock."""
        if self._left < 1:
            now = monotonic()
            self._left = min(self._left + (now - self._filled_at) * PACKETS_A_SECOND, PACKETS_AT_ONCE)
            self._filled_at = now
            if self._left < 1:
                raise PacketFlood(PACKETS_TOO_FAST)
        self._left -= 1
