"""When to stop asking a backend that does not answer, and when to try again. Plain decisions, time passed in."""

from enum import Enum

#: The backend is left alone after this many failed requests in a row. A request fails without an answer, or with a 5xx.
FAILURES = 20
#: The pause without requests. It doubles with each failed try.
FIRST_PAUSE_SECONDS = 1.0
LONGEST_PAUSE_SECONDS = 30.0


class BreakerState(Enum):
    """The states of a breaker, by the requests that may pass."""

    #: All requests pass.
    CLOSED = "closed"
    #: One request passes, to see whether the backend answers again.
    HALF_OPEN = "half-open"
    #: No request passes until the pause is over.
    OPEN = "open"


class Passage(Enum):
    """The answer to a request that wants to pass."""

    #: Go.
    ORDINARY = "ordinary"
    #: Go. The outcome of this request decides the state.
    PROBE = "probe"
    #: Do not go.
    REFUSED = "refused"


class Breaker:
    """The breaker of one site's backend. Lives as long as the adapter that asks it.

        CLOSED ──failures in a row──▶ OPEN ──pause over, one request──▶ HALF_OPEN ──answered──▶ CLOSED
                                       ▲                                    │
                                       └────────── failed: twice the pause ─┘

    The caller reports every request that passed with `answered`, `failed` or `abandoned`.
    """

    def __init__(self, failures: int = FAILURES) -> None:
        self.state = BreakerState.CLOSED
        #: The pause of the last opening.
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
        """Whether a request would be refused now; changes nothing."""
        is_pausing = now < self._opened_at + self.pause_seconds
        return self.state is BreakerState.HALF_OPEN or (self.state is BreakerState.OPEN and is_pausing)

    def answered(self) -> None:
        """The backend answered a request: with any answer it is up."""
        self.state = BreakerState.CLOSED
        self._failures = 0

    def failed(self, passage: Passage, now: float) -> None:
        """A request failed."""
        if passage is Passage.PROBE:
            self._open(now, min(self.pause_seconds * 2, LONGEST_PAUSE_SECONDS))
        elif self.state is BreakerState.CLOSED:
            # The failure of a request that was sent before the breaker opened says nothing new.
            self._failures += 1
            if self._failures >= self._failures_allowed:
                self._open(now, FIRST_PAUSE_SECONDS)

    def abandoned(self, passage: Passage) -> None:
        """The caller gave a request up before its outcome: the next request takes its place."""
        if passage is Passage.PROBE and self.state is BreakerState.HALF_OPEN:
            self.state = BreakerState.OPEN

    def _open(self, now: float, pause_seconds: float) -> None:
        self.state = BreakerState.OPEN
        self.pause_seconds = pause_seconds
        self._opened_at = now
