"""Hundreds of light devices and the publishers that send to them, on a loop and thread of their own."""

from __future__ import annotations

import asyncio
import contextlib
import random
import time
from collections.abc import Callable, Iterator, Sequence
from typing import Self

import aiohttp

from tests.support.background import BackgroundLoop
from tests.support.endpoint import Endpoint
from tests.support.receipts import Receipts, Sent, order_faults
from tests.support.swarm_client import Identity, SwarmClient
from tests.support.tenant import User
from tests.support.waiting import eventually

_ANSWER_SECONDS = 10.0


class Swarm:
    """A group of light devices. Lives for one test, in a `with`, whose end closes everything."""

    def __init__(self, endpoint: Endpoint, site: str, node_url: Callable[[], str] | None = None) -> None:
        """Connect devices to `site`, at the URL that `node_url` returns for each
        attempt (without it, at the endpoint)."""
        self.clients: list[SwarmClient] = []
        self.sent: dict[str, Sent] = {}
        self._endpoint = endpoint
        self._site = site
        self._node_url = node_url or (lambda: endpoint.url)
        self._background = BackgroundLoop()
        self._http: aiohttp.ClientSession | None = None

    def __enter__(self) -> Self:
        """Enter without any connection."""
        return self

    def __exit__(self, *_: object) -> None:
        """Break every connection and end the loop."""
        self.each(SwarmClient.leave)
        if self._http:
            self._background.run(self._http.close())
        self._background.close()

    def add(self, user: User, device: str = "d1", node_url: Callable[[], str] | None = None) -> SwarmClient:
        """Add a device of the user, with its own `node_url` if given; `board` connects it."""
        receipts = Receipts(f"{user.room} {device}", self.sent)
        client = SwarmClient(Identity(self._site, user.token, device), node_url or self._node_url, receipts)
        self.clients.append(client)
        return client

    def board(self, clients: Sequence[SwarmClient] | None = None, timeout_seconds: float = 60.0) -> None:
        """Connect devices (by default all), all at once, and wait for the `_settings` of each."""
        boarding = list(self.clients if clients is None else clients)
        self.each(SwarmClient.connect, boarding)
        self.wait_ready(boarding, timeout_seconds)

    def wait_ready(self, clients: Sequence[SwarmClient] | None = None, timeout_seconds: float = 60.0) -> None:
        """Wait until devices (by default all) are connected."""
        waiting = list(self.clients if clients is None else clients)

        def is_ready() -> bool:
            return all(client.is_ready for client in waiting)

        try:
            eventually(is_ready, f"{len(waiting)} devices", timeout_seconds, 0.05)
        except AssertionError:
            out = [client.refusal for client in waiting if not client.is_ready]
            raise AssertionError(f"{len(out)} of {len(waiting)} devices are not connected: {out[:5]}") from None

    def each(self, action: Callable[[SwarmClient], None], clients: Sequence[SwarmClient] | None = None) -> None:
        """Call a function with each client (by default all) on the swarm's loop,
        the only place to use them, and wait."""

        async def run() -> None:
            for client in self.clients if clients is None else clients:
                action(client)

        self._background.run(run())

    @contextlib.contextmanager
    def publishing(self, room: str, publishers: int, per_second: float) -> Iterator[None]:
        """Send numbered messages to a room during the block, from this many publishers at this rate per second each."""
        over = asyncio.Event()
        names = [f"p{len(self.sent) + number}" for number in range(publishers)]
        for name in names:
            self.sent[name] = Sent(name)
        running = [
            asyncio.run_coroutine_threadsafe(self._publish(room, self.sent[name], 1 / per_second, over), self.loop)
            for name in names
        ]
        try:
            yield
        finally:
            self.loop.call_soon_threadsafe(over.set)
            for publisher in running:
                publisher.result(_ANSWER_SECONDS + 5)

    def send_all(self, room: str, count: int, publishers: int, payload: str = "") -> None:
        """Send numbered messages to a room as fast as the nodes accept them; each answer must be 200."""

        async def send() -> None:
            names = [f"p{len(self.sent) + number}" for number in range(publishers)]
            self.sent |= {name: Sent(name) for name in names}
            await asyncio.gather(
                *(self._send_all(room, self.sent[name], count // publishers, payload) for name in names)
            )

        asyncio.run_coroutine_threadsafe(send(), self.loop).result()
        assert [sent for sent in self.sent.values() if sent.refused or sent.unknown] == []

    @contextlib.contextmanager
    def jitter(self, every_seconds: float, away_seconds: float, chance: random.Random) -> Iterator[None]:
        """During the block cut each connection at about this interval, for this time."""
        timers: dict[SwarmClient, asyncio.TimerHandle] = {}

        def cut(client: SwarmClient) -> None:
            client.cut(away_seconds)
            plan(client)

        def plan(client: SwarmClient) -> None:
            seconds = away_seconds + every_seconds * chance.uniform(0.5, 1.5)
            timers[client] = self.loop.call_later(seconds, cut, client)

        self.each(plan)
        yield
        self.each(lambda client: timers[client].cancel())

    @property
    def loop(self) -> asyncio.AbstractEventLoop:
        """The swarm's loop."""
        return self._background.loop

    def check(self, timeout_seconds: float = 30.0, clients: Sequence[SwarmClient] | None = None) -> None:
        """Check that every device (by default all) has everything that was answered 200, in
        order, and nothing twice on one connection."""
        everybody = [client.receipts for client in (self.clients if clients is None else clients)]
        with contextlib.suppress(AssertionError):
            eventually(lambda: all(receipts.has_everything() for receipts in everybody), "all", timeout_seconds, 0.1)
        for receipts in everybody:
            missing = receipts.missing()
            assert missing == [], f"{receipts.name} lacks {len(missing)}: {missing[:20]}"
            assert receipts.faults == []
        assert order_faults(everybody) == []

    @property
    def begun(self) -> int:
        """How many messages publishers have begun to send."""
        return sum(sent.begun for sent in self.sent.values())

    @property
    def is_stuck(self) -> bool:
        """Whether every publisher waits for an answer."""
        return all(sent.is_waiting for sent in self.sent.values())

    @property
    def answered(self) -> int:
        """How many messages were answered 200."""
        return sum(len(sent.answered) for sent in self.sent.values())

    @property
    def refused(self) -> int:
        """How many were answered 503."""
        return sum(len(sent.refused) for sent in self.sent.values())

    def story(self) -> str:
        """A one-line account of what happened."""
        receipts = [client.receipts for client in self.clients]
        return (
            f"{self.answered} answered 200, {self.refused} refused, "
            f"{sum(len(s.unknown) for s in self.sent.values())} without an answer; "
            f"{sum(r.live for r in receipts)} live, "
            f"{sum(r.batches for r in receipts)} batches, {sum(r.repeated for r in receipts)} repeated, "
            f"{sum(r.resyncs for r in receipts)} resyncs, {sum(client.connects for client in self.clients)} connects"
        )

    async def _publish(self, room: str, sent: Sent, interval_seconds: float, over: asyncio.Event) -> None:
        next_at = time.monotonic() + random.random() * interval_seconds
        while not over.is_set():
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(over.wait(), max(0.0, next_at - time.monotonic()))
                return
            next_at = max(next_at + interval_seconds, time.monotonic() - 1)
            await self._send(room, sent)

    async def _send_all(self, room: str, sent: Sent, count: int, payload: str) -> None:
        for _ in range(count):
            await self._send(room, sent, payload)

    async def _send(self, room: str, sent: Sent, payload: str = "") -> None:
        self._http = self._http or aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(_ANSWER_SECONDS))
        query = {"site": self._site, "apiKey": self._endpoint.key(self._site)}
        number = sent.begun
        sent.begun += 1
        body = {"rooms": [room], "event": "n", "args": [sent.name, number, time.monotonic(), payload]}
        try:
            async with self._http.post(f"{self._node_url()}/send", params=query, json=body) as answer:
                status, text = answer.status, await answer.text()
        except (aiohttp.ClientError, TimeoutError, OSError):
            sent.unknown.append(number)
            return
        assert status in (200, 502, 503), (status, text)
        (sent.answered if status == 200 else sent.refused).append(number)
