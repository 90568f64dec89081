"""The packets that wait for a polling client, bounded in bytes, and the poll that waits for them.

Knows neither HTTP nor sessions.
"""

from __future__ import annotations

import asyncio

from app.socketio.engine_packet import NOOP, Packet


class Mailbox:
    """Lives while requests carry a session, and until its last poll has been answered; holds a future, never a task."""

    __slots__ = ("_is_poll_owed", "_largest_bytes", "_packets", "_poll", "_waiting_bytes", "max_bytes")

    def __init__(self, max_bytes: int) -> None:
        """Take the bound of the waiting packets."""
        self.max_bytes = max_bytes
        self._packets: list[Packet] = []
        self._waiting_bytes = 0
        self._largest_bytes = 0
        self._poll: asyncio.Future[bool] | None = None
        self._is_poll_owed = False

    @property
    def waiting_bytes(self) -> int:
        """The size of the waiting packets, with the cost of keeping each."""
        return self._waiting_bytes

    @property
    def has_payload(self) -> bool:
        """Whether a poll can be answered at once."""
        return bool(self._packets) or self._is_poll_owed

    @property
    def has_waiting_poll(self) -> bool:
        """Whether a poll is under way."""
        return self._poll is not None

    def add(self, packet: Packet) -> bool:
        """Let a packet wait for the next poll; False when the bound is passed, which empties the mailbox.

        The largest packet counts apart: a replay of a megabyte is no reason to close, the packets around it are.
        """
        size = packet.waiting_bytes
        self._waiting_bytes += size
        self._largest_bytes = max(self._largest_bytes, size)
        if self._packets and self._waiting_bytes - min(self._largest_bytes, self.max_bytes) > self.max_bytes:
            self.take_packets()
            return False
        self._packets.append(packet)
        self.wake()
        return True

    def add_farewell(self, packet: Packet) -> None:
        """Add the last packet of a session, past any bound."""
        self._packets.append(packet)
        self.wake()

    def take_packets(self) -> list[Packet]:
        """Take the waiting packets, in order."""
        packets, self._packets, self._waiting_bytes, self._largest_bytes = self._packets, [], 0, 0
        return packets

    def take_payload(self) -> list[Packet]:
        """Take the waiting packets as the answer of a poll, which must not be empty: a noop where none waits."""
        return self.take_packets() or [NOOP]

    async def wait(self) -> bool:
        """Wait until a poll can be answered; False: the client gave it up. One waiter at a time."""
        self._poll = asyncio.get_running_loop().create_future()
        try:
            return await self._poll
        finally:
            self._poll = None

    def wake(self) -> None:
        """Let a waiting poll be answered."""
        self._settle(True)

    def poll_lost(self) -> None:
        """Note that the client gave up the waiting poll."""
        self._settle(False)

    def owe_polls(self, is_owed: bool) -> None:
        """Answer every poll at once while `is_owed`, if need be with a noop: the client is about to leave polling."""
        self._is_poll_owed = is_owed
        if is_owed:
            self.wake()

    def _settle(self, is_wanted: bool) -> None:
        if self._poll is not None and not self._poll.done():
            self._poll.set_result(is_wanted)
