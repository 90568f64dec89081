"""Bounds on the requests without a key to an open /connections, /state or /memory: each asks all nodes, and to encode a
large state takes milliseconds."""

import asyncio
from collections import Counter
from collections.abc import Awaitable, Callable
from typing import Generic, TypeVar

from app.errors import LimitReached

#: For each site on each node.
MAX_A_SECOND = 20
_LIMIT = "open_status"
#: The answers of a second for which all nodes are asked: pages and people ask less often. Others get the last of them.
MOST_FRESH_A_SECOND = 3
KEPT_SECONDS = 1.0

T = TypeVar("T")


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


class SharedAnswers(Generic[T]):
    """The last answers to each question, for requests past the fresh ones of a second. Lives as long as the node."""

    def __init__(self) -> None:
        self._asked: dict[str, asyncio.Task[T]] = {}
        #: The fresh answers of this second.
        self._fresh: Counter[str] = Counter()

    async def get(self, question: str, ask: Callable[[], Awaitable[T]]) -> T:
        """An answer of its own, or past the bound the last one. Raises the errors of `ask`."""
        asked = self._asked.get(question)
        if asked is None or (asked.done() and self._fresh[question] < MOST_FRESH_A_SECOND):
            if not self._fresh[question]:
                asyncio.get_running_loop().call_later(KEPT_SECONDS, self._forget, question)
            self._fresh[question] += 1
            self._asked[question] = asyncio.ensure_future(ask())
        del asked
        # A caller that gives up takes the answer from nobody else.
        return await asyncio.shield(self._asked[question])

    def _forget(self, question: str) -> None:
        del self._fresh[question]
        asked = self._asked.pop(question)
        if not asked.done():
            self._asked[question] = asked
            self._fresh[question] = 1
            asyncio.get_running_loop().call_later(KEPT_SECONDS, self._forget, question)
