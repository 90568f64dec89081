"""How long a link without answers is waited for, and when that is over on the server's clock. Time is passed in."""

from collections.abc import Callable

#: Between two looks at a link.
LOOK_SECONDS = 0.1
#: A look that comes later than this was kept by this process, not by the server: the time beyond it does not count.
_LATEST_LOOK_SECONDS = 2 * LOOK_SECONDS
#: An offset that may be wrong by more than this is measured again, at most so often for a link.
CLOCK_DOUBT_SECONDS = 0.05
MOST_MEASURES = 20


class Patience:
    """The silence of one link at a time, as looks at intervals see it. Lives as long as the link's owner."""

    def __init__(self, timeout_seconds: Callable[[], float]) -> None:
        """`timeout_seconds` answers the time-out of a command."""
        self._timeout_seconds = timeout_seconds
        self._silent = 0.0
        self._answered = 0
        self._looked_at = 0.0

    def begin(self, now: float, answered: int) -> None:
        """There is a new link, with so many answers so far."""
        self._silent, self._answered, self._looked_at = 0.0, answered, now

    @property
    def _most(self) -> float:
        """Less than the time-out, because looks come at intervals."""
        return self._timeout_seconds() - LOOK_SECONDS

    def is_over(self, now: float, answered: int, is_waiting: bool) -> bool:
        """Looks at the link. Whether its silence has lasted too long."""
        passed = min(now - self._looked_at, _LATEST_LOOK_SECONDS)
        self._silent = self._silent + passed if is_waiting and answered == self._answered else 0.0
        self._answered, self._looked_at = answered, now
        return self._silent > self._most

    def ends_at(self, now: float, answered: int, is_waiting: bool) -> float:
        """The earliest time when the link may be given up: a command that is given now must not run after it."""
        silent = self._silent if is_waiting and answered == self._answered else 0.0
        return max(self._looked_at, now - _LATEST_LOOK_SECONDS) + self._most - silent


class ServerClock:
    """The clock of a server as seen from here. Lives as long as the owner of the links to it.

    The server reads its clock between question and answer. The offset is that of the answer: it is never too large, so
    a command never runs after its deadline. While the process or the machine is slow it is too small, and commands
    would be refused as late; so the answer with the shortest wait counts.
    """

    def __init__(self) -> None:
        self._offset_ms = 0.0
        #: How much too small the offset may be.
        self._doubt = float("inf")
        self._measures = 0

    def begin(self) -> None:
        """Another server may answer from here on, or its clock has been set: earlier answers do not count."""
        self._doubt, self._measures = float("inf"), 0

    @property
    def is_doubtful(self) -> bool:
        """Whether it is worthwhile to ask again."""
        return self._doubt > CLOCK_DOUBT_SECONDS and self._measures < MOST_MEASURES

    def note(self, server_ms: float, asked_at: float, answered_at: float) -> None:
        """The server's clock showed this time between these two of ours."""
        self._measures += 1
        doubt = answered_at - asked_at
        if doubt < self._doubt:
            self._doubt, self._offset_ms = doubt, server_ms - answered_at * 1000

    def ms_at(self, time: float) -> int:
        """The server's time at this time of ours."""
        return int(time * 1000 + self._offset_ms)
