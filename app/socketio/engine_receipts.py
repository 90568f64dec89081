"""Who wants to know that a client has received what was sent: one question after another, answered in order.

Knows neither packets nor transports: the session asks the client in whatever way its version has.
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
        """A ping was sent: for somebody, or (None) for the heartbeat alone."""
        self._questions.append(received)

    def answer(self) -> bool:
        """A pong has come; False if it is the heartbeat's (or nobody's)."""
        received = self._questions.popleft() if self._questions else None
        if received is None:
            return False
        received()
        return True

    def payload_fetched(self) -> None:
        """Without pings: everything asked so far is on its way with this poll's answer."""
        self._fetched = len(self._questions)

    def poll_received(self) -> None:
        """Without pings: the client asks again, so it has the answer before."""
        fetched, self._fetched = self._fetched, 0
        for _ in range(fetched):
            self.answer()

    @property
    def is_waiting(self) -> bool:
        """Whether any question is open."""
        return bool(self._questions)
