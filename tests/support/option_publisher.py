"""Publishers of numbered messages with options; they keep what was accepted, and when. Messages: `["n", number]`."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import aiohttp

from tests.support.swarm import Swarm

_ANSWER_SECONDS = 10.0
_LAST_SECONDS = 30.0


@dataclass(frozen=True)
class Wish:
    """The rooms and options of one message, and whether its publisher takes it back."""

    rooms: tuple[str, ...]
    options: Mapping[str, Any]
    is_withdrawn: bool = False
    #: Whether it is sent with resync=true.
    is_resync: bool = False


@dataclass(frozen=True)
class AcceptedSend:
    """One message that was answered 200. Times are those of `time.time`."""

    number: int
    id: int
    wish: Wish
    began_at: float
    answered_at: float
    answer: Mapping[str, Any]


class OptionPublisher:
    """Publishers on the loop of a swarm. Lives for one test; the block of `publishing` closes what it opened."""

    def __init__(self, swarm: Swarm, site: str, key: str, node_url: Callable[[], str]) -> None:
        """Send to the node that `node_url` returns for each request."""
        self.accepted: dict[int, AcceptedSend] = {}
        #: The numbers of messages that were refused, or not answered.
        self.refused: list[int] = []
        self.unknown: list[int] = []
        self.withdrawals: set[int] = set()
        self.begun = 0
        self._swarm = swarm
        self._query = {"site": site, "apiKey": key}
        self._node_url = node_url
        self._numbers = itertools.count()

    @property
    def is_stuck(self) -> bool:
        """Whether no request is answered at the moment."""
        return self.begun > len(self.accepted) + len(self.refused) + len(self.unknown)

    @contextlib.contextmanager
    def publishing(self, choose: Callable[[], Wish], publishers: int, per_second: float) -> Iterator[None]:
        """Send messages during the block, from this many publishers at this rate per second each."""
        over = asyncio.Event()
        work = self._publish_all(choose, publishers, 1 / per_second, over)
        running = asyncio.run_coroutine_threadsafe(work, self._swarm.loop)
        try:
            yield
        finally:
            self._swarm.loop.call_soon_threadsafe(over.set)
            running.result(_LAST_SECONDS)

    async def _publish_all(
        self, choose: Callable[[], Wish], publishers: int, interval_seconds: float, over: asyncio.Event
    ) -> None:
        timeout = aiohttp.ClientTimeout(_ANSWER_SECONDS)
        async with aiohttp.ClientSession(timeout=timeout, headers={"Accept": "application/json"}) as http:
            await asyncio.gather(*(self._publish(http, choose, interval_seconds, over) for _ in range(publishers)))

    async def _publish(
        self, http: aiohttp.ClientSession, choose: Callable[[], Wish], interval_seconds: float, over: asyncio.Event
    ) -> None:
        while not over.is_set():
            wish = choose()
            sent = await self._send(http, wish)
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(over.wait(), interval_seconds)
            if sent and wish.is_withdrawn:
                await self._withdraw(http, sent)

    async def _send(self, http: aiohttp.ClientSession, wish: Wish) -> AcceptedSend | None:
        number = next(self._numbers)
        self.begun += 1
        began_at = time.time()
        body = {"rooms": list(wish.rooms), "event": "n", "args": [number], **wish.options}
        query = self._query | ({"resync": "true"} if wish.is_resync else {})
        try:
            async with http.post(f"{self._node_url()}/send", params=query, json=body) as answer:
                status, told = answer.status, await answer.json()
        except (aiohttp.ClientError, TimeoutError, OSError):
            self.unknown.append(number)
            return None
        assert status in (200, 502, 503), (status, told)
        if status != 200:
            self.refused.append(number)
            return None
        sent = AcceptedSend(number, int(told["id"]), wish, began_at, time.time(), told)
        self.accepted[number] = sent
        return sent

    async def _withdraw(self, http: aiohttp.ClientSession, sent: AcceptedSend) -> None:
        self.withdrawals.add(sent.number)
        with contextlib.suppress(aiohttp.ClientError, TimeoutError, OSError):
            async with http.delete(f"{self._node_url()}/messages/{sent.id}", params=self._query) as answer:
                assert answer.status in (200, 404, 502, 503), await answer.text()
