"""One timer for the deadlines of all sessions: buckets of items by due tick, instead of a timer or task for each.

Knows nothing of the items' nature.
"""

from __future__ import annotations

import asyncio
import logging
import math
from typing import Protocol

_logger = logging.getLogger(__name__)

NOT_WAITING = -1
"""The bucket of an item that is in no wheel."""


class Timed(Protocol):
    """Something with at most one deadline in one wheel; the wheel alone writes `bucket`."""

    bucket: int
    deadline: float

    def deadline_passed(self, now: float) -> None:
        """Called in the first tick after `deadline` (loop.time()); the item has left the wheel and may enter again."""


class DeadlineWheel:
    """Lives as long as its server; holds no timer while it is empty. An item is due up to one tick late, never early.

    A deadline that moves later costs nothing until the old bucket is due: the item then moves to its new bucket.
    """

    def __init__(self, tick_seconds: float) -> None:
        """Take the width of a bucket."""
        self.tick_seconds = tick_seconds
        self._buckets: dict[int, set[Timed]] = {}
        self._timer: asyncio.TimerHandle | None = None
        self._armed_for = 0

    def __len__(self) -> int:
        """Count the waiting items."""
        return sum(map(len, self._buckets.values()))

    def schedule(self, item: Timed, deadline: float) -> None:
        """Set the deadline of an item (loop.time()), which replaces an earlier one."""
        item.deadline = deadline
        index = math.ceil(deadline / self.tick_seconds)
        if item.bucket != NOT_WAITING:
            if item.bucket <= index:
                return
            self.cancel(item)
        item.bucket = index
        self._buckets.setdefault(index, set()).add(item)
        self._arm(index)

    def cancel(self, item: Timed) -> None:
        """Remove an item; no-op if it is not in the wheel."""
        bucket = self._buckets.get(item.bucket)
        if bucket is not None:
            bucket.discard(item)
            if not bucket:
                del self._buckets[item.bucket]
        item.bucket = NOT_WAITING
        if not self._buckets and self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _arm(self, index: int) -> None:
        """Make sure that the timer fires for this bucket, or for an earlier one."""
        if self._timer is not None:
            if self._armed_for <= index:
                return
            self._timer.cancel()
        self._armed_for = index
        self._timer = asyncio.get_running_loop().call_at(index * self.tick_seconds, self._turn)

    def _turn(self) -> None:
        self._timer = None
        now = asyncio.get_running_loop().time()
        due: list[Timed] = []
        for index in [index for index in self._buckets if index * self.tick_seconds <= now]:
            due.extend(self._buckets.pop(index))
        for item in due:
            item.bucket = NOT_WAITING
        for item in due:
            self._take(item, now)
        if self._buckets:
            self._arm(min(self._buckets))

    def _take(self, item: Timed, now: float) -> None:
        if item.bucket != NOT_WAITING:
            return  # an earlier item of this turn has scheduled it again
        if item.deadline > now:
            self.schedule(item, item.deadline)
            return
        try:
            item.deadline_passed(now)
        except Exception:
            # The fault of one session must not stop the clock of all others.
            _logger.exception("a deadline could not be handled")
