"""The outcomes of a node's canary: of the last hour each with its time, and counts since the start. Without I/O."""

import math
from collections import Counter, deque
from enum import StrEnum
from time import monotonic

_HOUR_SECONDS = 3600.0
#: Outcomes of the last hour: one comes every 10 s.
_KEPT = 1_000
_SHARE = 0.99


class Stuck(StrEnum):
    """The place where a message got stuck: the first step of its way that was not seen."""

    NOT_CONNECTED = "not connected"
    NOT_ACCEPTED = "not accepted"
    NOT_HEARD = "not heard on the bus"
    NOT_WRITTEN = "not written"
    NOT_ACKED = "not acked in time"


class CanaryRecord:
    """Lives as long as the node's counts, which are read from other threads."""

    def __init__(self) -> None:
        self.sent = 0
        #: By place.
        self.missed: Counter[str] = Counter()
        #: (time, seconds until the ack was stored or None), oldest first.
        self._outcomes: deque[tuple[float, float | None]] = deque(maxlen=_KEPT)

    @property
    def is_well(self) -> bool:
        """Whether the last message was delivered, or none was sent yet."""
        return not self._outcomes or self._outcomes[-1][1] is not None

    def note_delivered(self, seconds: float) -> None:
        """A message was acknowledged after this time."""
        self.sent += 1
        self._outcomes.append((monotonic(), seconds))

    def note_missed(self, place: Stuck) -> None:
        """A message got stuck."""
        self.sent += 1
        self.missed[place.value] += 1
        self._outcomes.append((monotonic(), None))

    def share(self) -> float | None:
        """The delivered share of the last hour; None: no message in it."""
        outcomes = self._last_hour()
        return len(_delivered(outcomes)) / len(outcomes) if outcomes else None

    def slowest_percent(self) -> float | None:
        """The 99th percentile of the seconds of the delivered messages of the last hour; None: there are none."""
        delivered = sorted(_delivered(self._last_hour()))
        return delivered[math.ceil(len(delivered) * _SHARE) - 1] if delivered else None

    def _last_hour(self) -> list[float | None]:
        since = monotonic() - _HOUR_SECONDS
        return [seconds for at, seconds in list(self._outcomes) if at >= since]


def _delivered(outcomes: list[float | None]) -> list[float]:
    return [seconds for seconds in outcomes if seconds is not None]
