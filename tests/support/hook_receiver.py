"""A tenant's receiver of webhooks: verifies each POST with the package standardwebhooks, and answers as a test says."""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections import defaultdict
from collections.abc import Callable, Iterator
from typing import Any

from aiohttp import web
from standardwebhooks import Webhook

from tests.support.background import BackgroundLoop

SECRET = "whsec_cHV0LTI0LXJhbmRvbS1ieXRlcy1oZXJlISEh"


class HookReceiver:
    """The receiver, on the loop of the code that starts it, or on none yet. `stop` ends its listener."""

    def __init__(self) -> None:
        """Answers 200 until the test says otherwise."""
        #: The status for the POST of this number.
        self.status: Callable[[int], int] = lambda number: 200
        self.answer = b"thanks"
        self.headers: dict[str, str] = {}
        #: While it is cleared, answers wait.
        self.gate = asyncio.Event()
        self.gate.set()
        #: Every POST: its id, and the events in it.
        self.posts: list[tuple[str, list[dict[str, Any]]]] = []
        #: The events of POSTs that were answered with 2xx.
        self.accepted: list[dict[str, Any]] = []
        self.at_once = self.most_at_once = 0
        self.port = 0
        self._runner: web.AppRunner | None = None

    @property
    def url(self) -> str:
        """Where it listens, or did."""
        return f"http://127.0.0.1:{self.port}/hook"

    async def start(self) -> None:
        """Listens, after a stop on the same port."""
        application = web.Application()
        application.router.add_post("/hook", self._receive)
        self._runner = web.AppRunner(application, access_log=None, shutdown_timeout=0.1)
        await self._runner.setup()
        site = web.TCPSite(self._runner, "127.0.0.1", self.port, reuse_address=True)
        await site.start()
        assert site._server is not None
        self.port = site._server.sockets[0].getsockname()[1]  # type: ignore[attr-defined]

    async def stop(self) -> None:
        """Ends the listener, as a receiver that was killed; requests without an answer break off."""
        if self._runner is not None:
            await self._runner.cleanup()
            self._runner = None

    @property
    def seqs(self) -> list[int]:
        """The seqs of the accepted events, in the order of their POSTs."""
        return [event["seq"] for event in self.accepted]

    def first_seqs_by_user(self) -> dict[str, list[int]]:
        """Of each user the seqs of accepted events, each where it came first."""
        found: dict[str, dict[int, None]] = defaultdict(dict)
        for event in self.accepted:
            found[event["user"]].setdefault(event["seq"])
        return {user: list(seqs) for user, seqs in found.items()}

    async def _receive(self, request: web.Request) -> web.Response:
        self.at_once += 1
        self.most_at_once = max(self.most_at_once, self.at_once)
        try:
            body = await request.text()
            # Raises for a wrong signature, which answers 500 and fails the test that counts accepted events.
            Webhook(SECRET).verify(body, dict(request.headers))
            told = json.loads(body)
            assert told["type"] == "events"
            number = len(self.posts)
            self.posts.append((request.headers["webhook-id"], told["data"]["events"]))
            status = self.status(number)
            await self.gate.wait()
            if 200 <= status < 300:
                self.accepted += told["data"]["events"]
            return web.Response(status=status, body=self.answer, headers=self.headers)
        finally:
            self.at_once -= 1


@contextlib.contextmanager
def running_receiver(background: BackgroundLoop) -> Iterator[HookReceiver]:
    """A receiver on a loop in the background during the block."""

    async def start() -> HookReceiver:
        receiver = HookReceiver()
        await receiver.start()
        return receiver

    receiver = background.run(start())
    yield receiver
    background.run(receiver.stop())
