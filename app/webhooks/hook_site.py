"""The webhook of one site as its backend and operators use it: look, send again, test."""

import asyncio
import secrets
import time
from typing import Protocol

import structlog

from app.backends.hook_answer import HookAnswer
from app.clock import rfc3339
from app.config.settings import Site
from app.errors import RequestRefused
from app.watched_tasks import start_logged
from app.webhooks.attempt import record_of
from app.webhooks.event import HookPost
from app.webhooks.redis_outbox import HookOutbox

#: Posts and attempts of one answer.
MAX_SHOWN = 100
MAX_ID_CHARACTERS = 64
NO_WEBHOOK = "This site has no webhook."

_log = structlog.get_logger(__name__)


class HookSender(Protocol):
    """The sender of the site's events on one node; see `SiteSender`."""

    def start(self) -> None:
        """Begins to send."""

    def wake(self) -> None:
        """The outbox may hold something new."""

    async def finish(self) -> None:
        """Begins no further attempt, and waits for those under way."""

    async def close(self) -> None:
        """Ends it."""

    async def exchange(self, post: str, at_ms: int, body: bytes) -> HookAnswer:
        """Sends a body, signed, to the site's URL."""


class HookSite:
    """One site with a webhook, on one node. Lives as long as the node serves the site; `close` ends it.

    Its methods raise RequestRefused and StoreError.
    """

    def __init__(self, site: Site, outbox: HookOutbox, sender: HookSender) -> None:
        self.site = site
        self.outbox = outbox
        self.sender = sender
        self._test: asyncio.Task[None] | None = None
        self._tested: dict[str, object] | None = None

    async def close(self) -> None:
        """Ends the sender, and a test under way."""
        if self._test is not None:
            self._test.cancel()
            await asyncio.gather(self._test, return_exceptions=True)
        await self.sender.close()

    async def overview(self) -> dict[str, object]:
        """The state, what waits, what is parked, and the last attempts."""
        return await self.outbox.overview(MAX_SHOWN)

    async def send_again(self, post: str, since_ms: int) -> int:
        """Has one post sent at once, or with "" all that were parked since a time. Answers how many."""
        if len(post) > MAX_ID_CHARACTERS:
            raise RequestRefused("id: expected the id of a webhook POST.", "bad_id")
        retried = await self.outbox.retry(post, since_ms)
        if post and not retried:
            raise RequestRefused("No such POST is parked, or waits.", "not_found", 404)
        _log.info("webhook retried", site=self.site.name, posts=retried)
        return retried

    async def test(self, seconds: float | None = None) -> dict[str, object] | None:
        """Sends an event of the type `webhook.test` at once, past the outbox and whether or not the webhook is off.
        Answers the attempt; None: it goes on past these seconds, and is listed when it has ended."""
        if self._test is not None and not self._test.done():
            raise RequestRefused("A test of this webhook is under way.", "busy", 429)
        self._tested = None
        self._test = start_logged(self._send_test(), f"webhook test of {self.site.name}")
        # A caller that leaves does not end it: the backend has the POST, so its attempt is noted.
        await asyncio.wait([self._test], timeout=seconds)
        if self._test.done():
            self._test.result()
        return self._tested

    async def _send_test(self) -> None:
        at_ms = int(time.time() * 1000)
        post = HookPost(f"msg_{secrets.token_hex(12)}", frozenset(), (), "webhook.test", at_ms)
        at = rfc3339(at_ms)
        body = f'{{"type":"events","timestamp":"{at}","data":{{"events":[{{"type":"webhook.test","at":"{at}"}}]}}}}'
        answer = await self.sender.exchange(post.id, at_ms, body.encode())
        attempt = record_of(self.site.name, post, at_ms, answer, "test")
        await self.outbox.note(post, attempt)
        self._tested = attempt.shown()
