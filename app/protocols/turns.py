"""Turns: how many requests of one asker are under way at once, and how long each may take."""

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Callable, Iterable
from contextlib import asynccontextmanager
from typing import TypeVar

from app.errors import RequestRefused

#: The things that one turn of the event loop looks at.
_LOOKED_AT_A_TURN = 500

T = TypeVar("T")


async def look_in_turns(things: Iterable[T], size: Callable[[T], int] = lambda _: 1) -> AsyncIterator[T]:
    """The things one by one; other work of the event loop goes on between some hundreds. `size` says as how many one
    counts."""
    looked_at = 0
    for thing in things:
        yield thing
        looked_at += size(thing)
        if looked_at >= _LOOKED_AT_A_TURN:
            looked_at = 0
            await asyncio.sleep(0)


class Turns:
    """The requests under way, by asker. Lives as long as the node."""

    def __init__(self, most: int, seconds: float, asker: str) -> None:
        """`asker` is the word for an asker in the text of a refusal."""
        self._most = most
        self._asker = asker
        self._under_way: Counter[str] = Counter()
        #: The time of one request.
        self.seconds = seconds

    @asynccontextmanager
    async def turn(self, name: str) -> AsyncIterator[None]:
        """A request, within its bounds. Raises RequestRefused when too many are under way, or in its course when it
        takes too long."""
        if self._under_way[name] >= self._most:
            text = f"Too many questions: at most {self._most} of {self._asker} at once, try again."
            raise RequestRefused(text, "too_many_requests", 429)
        self._under_way[name] += 1
        try:
            async with asyncio.timeout(self.seconds):
                yield
        except TimeoutError:
            raise RequestRefused("The answer takes too long, try again.", "too_slow", 503) from None
        finally:
            self._under_way[name] -= 1
            if not self._under_way[name]:
                del self._under_way[name]
