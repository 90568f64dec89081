"""The bounds of the events of one connection: how many wait, and how many come in a time. No I/O."""

from collections import deque
from typing import Any

from msgspec import Struct

from app.protocols.messenger.answers import ChatRefusal
from app.protocols.messenger.bounds import MAX_EVENTS_WAITING
from app.protocols.messenger.handlers import Handler

#: The events that may come at once after a pause, in seconds of the rate.
_BURST_SECONDS = 2.0


class WaitingEvent(Struct, frozen=True):
    """An event whose turn has not come."""

    name: str
    handler: Handler
    #: Read so far as it can be before its turn; see `EventIds`.
    data: Any
    ack_id: int | None


class EventGate:
    """The events of one connection that wait for their turn. Lives as long as the connection."""

    __slots__ = ("_allowed_at", "is_working", "under_way", "waiting")

    def __init__(self) -> None:
        self.waiting: deque[WaitingEvent] = deque()
        #: Whether events are being handled, in their order.
        self.is_working = False
        #: The events that are being handled, more than one where they may be under way together.
        self.under_way = 0
        #: When the events so far would have come at the rate.
        self._allowed_at = 0.0

    def count(self, now: float, events_per_second: float) -> None:
        """Counts an event that has come. Raises ChatRefusal for one too many."""
        if len(self.waiting) + self.under_way >= MAX_EVENTS_WAITING:
            raise ChatRefusal("too_many", f"Expected at most {MAX_EVENTS_WAITING} events without an answer.")
        share = 1 / events_per_second
        at = max(self._allowed_at, now - max(_BURST_SECONDS, share)) + share
        if at > now + 1e-9:
            raise ChatRefusal("too_many", "Expected fewer events in this time.", retry_after=1)
        self._allowed_at = at

    def take(self) -> list[WaitingEvent]:
        """The event whose turn has come, with those behind it that may be under way together with it."""
        taken = [self.waiting.popleft()]
        while taken[0].handler.is_grouped and self.waiting and self.waiting[0].handler == taken[0].handler:
            taken.append(self.waiting.popleft())
        self.under_way = len(taken)
        return taken
