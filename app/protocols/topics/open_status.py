"""A bound on the requests without a key to an open /connections, /state or /memory: each asks all nodes. No I/O."""

from collections import Counter

from app.errors import LimitReached

#: For each site on each node.
MAX_A_SECOND = 20
_LIMIT = "open_status"


class OpenStatus:
    """The requests of the present second. Lives as long as the node."""

    def __init__(self) -> None:
        self._second = 0
        self._asked: Counter[str] = Counter()

    def take(self, site: str, now_seconds: float) -> None:
        """Counts a request. Raises LimitReached when the second has had its share."""
        if int(now_seconds) != self._second:
            self._second = int(now_seconds)
            self._asked.clear()
        if self._asked[site] >= MAX_A_SECOND:
            raise LimitReached(f"expected at most {MAX_A_SECOND} requests without a key a second", _LIMIT, 429, 1)
        self._asked[site] += 1
