"""When to stop asking a backend that does not answer, and when to try again. Plain decisions, time passed in."""

from enum import Enum

#: Requests in a row that came to nothing (no answer, or one of 5xx) after which the backend is left alone.
FAILURES = 20
#: How long it is left alone, doubled with each try that fails too.
FIRST_PAUSE_SECONDS = 1.0
LONGEST_PAUSE_SECONDS = 30.0


class BreakerState(Enum):
    """What a breaker lets through."""

    #: Everything.
    CLOSED = "closed"
    #: One request, to see whether the backend answers again.
    HALF_OPEN = "half-open"
    #: Nothing, until the pause is over.
    OPEN = "open"


class Passage(Enum):
    """What a request is told that wants to go through."""

    #: Go.
    ORDINARY = "ordinary"
    #: Go: what becomes of it decides for all.
    PROBE = "probe"
    #: Do not go.
    REFUSED = "refused"


class Breaker:
    """The breaker of one site's backend. Lives as long as the adapter that asks it.

        CLOSED ──failures in a row──▶ OPEN ──pause over, one request──▶ HALF_OPEN ──answered──▶ CLOSED
                                       ▲                                    │
                                       └────────── failed: twice the pause ─┘

    Every request that was let through is to be reported with `answered`, `failed` or `abandoned`.
    """

    def __init__(self, failures: int = FAILURES) -> None:
        self.state = BreakerState.CLOSED
        #: From the last opening on.
        self.pause_seconds = FIRST_PAUSE_SECONDS
        self._failures_allowed = failures
        self._failures = 0
        self._opened_at = 0.0

    def admit(self, now: float) -> Passage:
        """Whether a request may go now."""
        if self.state is BreakerState.CLOSED:
            return Passage.ORDINARY
        if self.refuses(now):
            return Passage.REFUSED
        self.state = BreakerState.HALF_OPEN
        return Passage.PROBE

    def refuses(self, now: float) -> bool:
        """Whether a request that came now would have to be refused; changes nothing."""
        is_pausing = now < self._opened_at + self.pause_seconds
        return self.state is BreakerState.HALF_OPEN or (self.state is BreakerState.OPEN and is_pausing)

    def answered(self) -> None:
        """The backend answered a request, whatever it said: it is there."""
        self.state = BreakerState.CLOSED
        self._failures = 0

    def failed(self, passage: Passage, now: float) -> None:
        """A request came to nothing."""
        if passage is Passage.PROBE:
            self._open(now, min(self.pause_seconds * 2, LONGEST_PAUSE_SECONDS))
        elif self.state is BreakerState.CLOSED:
            # One that was sent before the breaker opened says nothing new.
            self._failures += 1
            if self._failures >= self._failures_allowed:
                self._open(now, FIRST_PAUSE_SECONDS)

    def abandoned(self, passage: Passage) -> None:
        """A request was given up before anything was heard of it: the next one takes its place."""
        if passage is Passage.PROBE and self.state is BreakerState.HALF_OPEN:
            self.state = BreakerState.OPEN

    def _open(self, now: float, pause_seconds: float) -> None:
        self.state = BreakerState.OPEN
        self.pause_seconds = pause_seconds
        self._opened_at = now
