"""Receipts: callbacks that wait for proof that a client has received earlier packets, called in order.

Knows neither packets nor transports: the session asks the client in the way of its version.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable


class Receipts:
    """The open questions of one session; made with the first, lives as long as the session."""

    __slots__ = ("_fetched", "_questions")

    def __init__(self, has_heartbeat_open: bool) -> None:
        """`has_heartbeat_open`: a ping of the heartbeat is on its way, its pong comes before any answer."""
        self._questions: deque[Callable[[], None] | None] = deque([None] if has_heartbeat_open else [])
        self._fetched = 0

    def ask(self, received: Callable[[], None] | None) -> None:
        """Note that a ping was sent: for a callback, or (None) for the heartbeat alone."""
        self._questions.append(received)

    def answer(self) -> bool:
        """Take a pong; False if it answers the heartbeat, or no ping at all."""
        received = self._questions.popleft() if self._questions else None
        if received is None:
            return False
        received()
        return True

    def payload_fetched(self) -> None:
        """Note, where there are no pings, that every packet in question has left with the answer of this poll."""
        self._fetched = len(self._questions)

    def poll_received(self) -> None:
        """Note, where there are no pings, that the client polls again: it has the previous answer."""
        fetched, self._fetched = self._fetched, 0
        for _ in range(fetched):
            self.answer()

    @property
    def is_waiting(self) -> bool:
        """Whether any question is open."""
        return bool(self._questions)
