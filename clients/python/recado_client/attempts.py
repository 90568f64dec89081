"""When a call is tried again, and when it ends. Plain decisions: the time is passed in."""

from __future__ import annotations

import random

from recado_client.errors import RecadoError
from recado_client.settings import Settings

_FIRST_PAUSE_SECONDS = 0.2
_LONGEST_PAUSE_SECONDS = 5.0


class Attempts:
    """The attempts of one call, from its begin on. Lives as long as the call."""

    def __init__(self, settings: Settings, wait_seconds: float, now: float) -> None:
        """`wait_seconds` is what the server was asked to wait; it counts for no time-out."""
        self._settings = settings
        self._attempt_seconds = settings.attempt_timeout + wait_seconds
        self._end = now + settings.deadline + wait_seconds
        self._made: int = 0

    @property
    def has_repeated(self) -> bool:
        """Whether the attempt under way is not the first."""
        return self._made > 0

    def seconds_left(self, now: float) -> float:
        """The time of the attempt that begins now."""
        return max(0.001, min(self._attempt_seconds, self._end - now))

    def pause_behind(self, error: RecadoError, now: float) -> float | None:
        """The pause before the next attempt; None when the error is to be raised."""
        if not error.passes or self._made >= self._settings.retries:
            return None
        step: float = min(_LONGEST_PAUSE_SECONDS, _FIRST_PAUSE_SECONDS * 2**self._made)
        # Each caller waits for a time of its own, so that a server that comes back does not get all at one moment.
        pause = max(step * random.uniform(0.5, 1.0), error.retry_after)
        if now + pause >= self._end:
            return None
        self._made += 1
        return pause
