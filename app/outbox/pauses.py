"""The back-off of a server or a site that takes no messages at the moment. The code is pure; the time is passed in."""

from collections.abc import Iterable

from msgspec import Struct

#: The first wait; each further one is twice as long, up to the longest.
FIRST_SECONDS = 0.25
LONGEST_SECONDS = 30.0


class _Pause(Struct, frozen=True):
    until: float
    failures: int
    reason: str


class Pauses:
    """The pauses of one reader, by site, and by "" for the server. Lives as long as the reader."""

    def __init__(self) -> None:
        self._pauses: dict[str, _Pause] = {}

    def fail(self, name: str, now: float, asked_seconds: float, reason: str) -> bool:
        """Begins a pause, the next longer one after a failure. `asked_seconds` is what the server asked for. Answers
        whether the reason is news."""
        earlier = self._pauses.get(name)
        failures = earlier.failures + 1 if earlier else 1
        seconds = min(LONGEST_SECONDS, max(FIRST_SECONDS * 2 ** min(failures - 1, 16), asked_seconds))
        self._pauses[name] = _Pause(now + seconds, failures, reason)
        return earlier is None or earlier.reason != reason

    def succeed(self, *names: str) -> list[str]:
        """Ends pauses, and answers which of these there were."""
        return [name for name in names if self._pauses.pop(name, None)]

    def open_sites(self, sites: Iterable[str], now: float) -> list[str]:
        """The sites that may be tried now."""
        return [] if self._waits("", now) else [site for site in sites if not self._waits(site, now)]

    def seconds_left(self, now: float) -> float | None:
        """The time until the next pause is over; None without one."""
        left = [pause.until - now for pause in self._pauses.values() if pause.until > now]
        return min(left, default=None)

    def _waits(self, name: str, now: float) -> bool:
        pause = self._pauses.get(name)
        return pause is not None and pause.until > now
