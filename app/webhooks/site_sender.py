"""The sending of one site's events: the lease, the gathering, the attempts. One node at a time does it for a site.

waiting ──beat takes the lease──▶ sending ──a beat finds another holder, or none came in time──▶ waiting
"""

import asyncio
import contextlib
import secrets
import time
from time import monotonic

import structlog

from app.backends.hook_answer import HookAnswer
from app.backends.hook_poster import HookPoster
from app.config.settings import Site
from app.errors import StoreError
from app.observe.counted_lines import CountedLines
from app.observe.counts import Counts
from app.watched_tasks import start_logged, start_watched
from app.webhooks.attempt import Attempt, outcome_of, pause_ms, record_of
from app.webhooks.event import HookPost, OutboxEvent, new_post, post_body
from app.webhooks.figures import WebhookCounts
from app.webhooks.lanes import Lanes
from app.webhooks.redis_outbox import HookOutbox
from app.webhooks.signature import signed_headers

#: The beats of the node that sends, and of the others.
BEAT_SECONDS = 1.0
_OTHERS_BEAT_SECONDS = 2.0
#: Another node takes over when the last one was killed, within this time and one beat.
LEASE_SECONDS = 4.0
#: The pause between two looks at the outbox, and the time for which events are gathered: 100 ms together.
_PAUSE_SECONDS = 0.05
_GATHER_SECONDS = 0.05
#: POSTs of a site under way.
MAX_UNDER_WAY = 4
#: Events that one look reads.
_MOST_READ = 1_000
#: A node that holds as many events as it may begins again so often, because the outbox drops its oldest ones.
_RELOAD_SECONDS = 10.0

_log = structlog.get_logger(__name__)


class SiteSender:
    """The sender of one site on one node. Lives as long as the node: `start` begins, `close` ends it."""

    def __init__(self, site: Site, outbox: HookOutbox, poster: HookPoster, counts: Counts) -> None:
        self._site = site
        self._outbox = outbox
        self._poster = poster
        self._counts = counts.of(site.name).part(WebhookCounts)
        self._faults = counts.faults
        self._lanes: Lanes | None = None
        #: This node sends until then; 0: it does not.
        self._lease_until = 0.0
        self._beat_at = 0.0
        self._read_at = 0.0
        self._loaded_at = 0.0
        self._is_off = False
        self._has_news = self._has_beaten = True
        self._is_ending = False
        self._dropped: int | None = None
        #: The log lines of attempts by outcome. A dead endpoint must not fill the log.
        self._failures = {
            "retry": CountedLines(_log, "warning", "webhook failed"),
            "parked": CountedLines(_log, "warning", "webhook parked"),
            "off": CountedLines(_log, "error", "webhook turned off"),
        }
        self._woken = asyncio.Event()
        self._task: asyncio.Task[None] | None = None
        #: The posts under way, by their attempt. They outlive a lease that was lost, and are not begun twice.
        self._attempts: dict[asyncio.Task[None], HookPost] = {}

    def start(self) -> None:
        """Begins to beat, and to send while this node has the lease."""
        self._task = start_watched(self._keep_sending(), f"webhook of {self._site.name}")

    async def close(self) -> None:
        """Ends it, with the attempts under way, and gives the lease back. Another node repeats these attempts."""
        tasks = [*self._attempts, *([self._task] if self._task else [])]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        if self._lease_until:
            with contextlib.suppress(StoreError):
                await self._outbox.release()

    async def finish(self) -> None:
        """Begins no further attempt, and waits for those under way."""
        self._is_ending = True
        if self._attempts:
            await asyncio.wait(list(self._attempts))

    def wake(self) -> None:
        """The outbox may hold something new."""
        self._has_news = True
        self._woken.set()

    async def _keep_sending(self) -> None:
        while True:
            self._woken.clear()
            try:
                until = await self._turn()
            except StoreError as error:
                _log.info("webhook waits for redis", site=self._site.name, reason=str(error))
                until = self._beat_at = monotonic() + _OTHERS_BEAT_SECONDS
            except Exception:
                # An error of the server itself costs this site a pause, and no other site anything.
                self._faults["webhook"] += 1
                _log.exception("webhook turn failed", site=self._site.name)
                self._reload()
                await asyncio.sleep(_OTHERS_BEAT_SECONDS)
                until = monotonic()
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout_at(asyncio.get_running_loop().time() + max(0, until - monotonic())):
                    await self._woken.wait()
            # However often it is woken, a look at the outbox follows only now and then.
            if (pause := self._read_at + _PAUSE_SECONDS - monotonic()) > 0:
                await asyncio.sleep(pause)

    async def _turn(self) -> float:
        """Does what is due. Answers when the next turn is, on the monotonic clock, unless it is woken."""
        if monotonic() >= self._beat_at:
            await self._beat()
        if self._is_off or self._is_ending or monotonic() >= self._lease_until:
            return self._beat_at
        if self._lanes is None:
            posts = await self._outbox.posts({})
            current = {post.id: post for post in self._attempts.values()}
            self._lanes = Lanes([current.get(post.id, post) for post in posts])
            self._loaded_at = monotonic()
        await self._read(self._lanes)
        return min(self._beat_at, await self._send(self._lanes))

    # The lease

    async def _beat(self) -> None:
        asked_at = monotonic()
        state = await self._outbox.beat(int(LEASE_SECONDS * 1000))
        if state is None:
            self._lose()
            self._beat_at = asked_at + _OTHERS_BEAT_SECONDS
            return
        if not self._lease_until:
            _log.info("webhook lease taken", site=self._site.name)
        self._lease_until = asked_at + LEASE_SECONDS
        self._beat_at = asked_at + (0 if state.has_more else BEAT_SECONDS)
        self._has_news = self._has_beaten = True
        self._is_off = state.is_off
        self._counts.waiting, self._counts.parked = state.waiting, state.parked
        if self._dropped is not None:
            self._counts.dropped += max(0, state.dropped - self._dropped)
        self._dropped = state.dropped

    def _lose(self) -> None:
        """Another node sends: what this one knows is of no use any more. Attempts under way end by themselves."""
        self._lease_until = 0.0
        self._lanes = None
        self._dropped = None
        self._counts.waiting = self._counts.parked = 0

    # Events

    async def _read(self, lanes: Lanes) -> None:
        """Reads what is new, and the posts that an operator has sent again."""
        if not self._has_news:
            return
        self._has_news = False
        self._read_at = monotonic()
        if lanes.is_full and monotonic() > self._loaded_at + _RELOAD_SECONDS:
            self._reload()
            return
        if self._has_beaten:
            self._has_beaten = False
            for post in await self._outbox.posts(lanes.posts):
                lanes.open(post)
        while not lanes.is_full:
            events = await self._outbox.read(lanes.cursor, _MOST_READ)
            lanes.add(events, monotonic())
            if len(events) < _MOST_READ:
                return
        self._has_news = True

    def _reload(self) -> None:
        """The outbox is not as this node knows it: the next turn reads it again."""
        self._lanes = None
        self._has_news = True
        self._woken.set()

    async def _send(self, lanes: Lanes) -> float:
        """Begins attempts while there is room for them. Answers when the next one may be due."""
        now_ms = _wall_ms()
        for post in lanes.due_posts(now_ms):
            if len(self._attempts) >= MAX_UNDER_WAY:
                return self._beat_at
            self._begin(post, None)
        while len(self._attempts) < MAX_UNDER_WAY and (since := lanes.ready_since()) is not None:
            if since + _GATHER_SECONDS > monotonic():
                return since + _GATHER_SECONDS
            if not await self._post(lanes, lanes.choose()):
                break
        next_ms = lanes.next_due_ms()
        return self._beat_at if next_ms is None else monotonic() + max(0, next_ms - now_ms) / 1000

    async def _post(self, lanes: Lanes, events: list[OutboxEvent]) -> bool:
        """Makes the events a post, and begins its first attempt. Answers whether it could."""
        if not events:
            return False
        now_ms = _wall_ms()
        post = new_post(f"msg_{secrets.token_hex(12)}", events, now_ms)
        post.is_under_way = True
        lanes.open(post)
        body = post_body(events, now_ms)
        taken = await self._outbox.take(post, body, events)
        if taken == 1:
            self._begin(post, body)
            return True
        # The outbox is not as this node has read it: the lease was lost, or the bound has dropped events.
        if taken == 0:
            self._lose()
        else:
            self._reload()
        return False

    # Attempts

    def _begin(self, post: HookPost, body: bytes | None) -> None:
        post.is_under_way = True
        task = start_logged(self._attempt(post, body), f"webhook of {self._site.name}")
        self._attempts[task] = post
        task.add_done_callback(self._ended)

    def _ended(self, task: asyncio.Task[None]) -> None:
        self._attempts.pop(task).is_under_way = False
        self._woken.set()

    async def _attempt(self, post: HookPost, body: bytes | None) -> None:
        try:
            if body is None:
                body = await self._outbox.body_of(post.id)
            if body is None:
                self._close(post)
                return
            at_ms = _wall_ms()
            answer = await self.exchange(post.id, at_ms, body)
            outcome = outcome_of(answer, post.tries)
            post.due_ms = _wall_ms() + (pause_ms(post.tries) if outcome == "retry" else 0)
            await self._note(post, record_of(self._site.name, post, at_ms, answer, outcome))
        except StoreError:
            # Whether Redis knows the outcome is unknown: the post is read again, and perhaps sent twice.
            self._reload()
        except Exception:
            # An error of the server itself must not have the post sent without a pause.
            post.due_ms = _wall_ms() + pause_ms(0)
            _log.exception("webhook attempt failed", site=self._site.name)

    async def exchange(self, post: str, at_ms: int, body: bytes) -> HookAnswer:
        """Sends a body, signed, to the site's URL."""
        webhook = self._site.webhook
        headers = signed_headers(post, at_ms // 1000, body, webhook.secrets)
        return await self._poster.post(webhook.url or "", headers, body, may_be_private=webhook.allow_private)

    async def _note(self, post: HookPost, attempt: Attempt) -> None:
        self._counts.posts[attempt.outcome] += 1
        self._counts.seconds.observe(attempt.ms / 1000)
        if (lines := self._failures.get(attempt.outcome)) is not None:
            reason = attempt.error or f"status {attempt.status}"
            lines.tell(site=attempt.site, reason=reason, shown={"webhook": post.id, "attempt": attempt.attempt})
        if not await self._outbox.answered(post, _wall_ms(), attempt):
            self._lose()
            return
        if attempt.outcome == "retry":
            post.tries += 1
        else:
            self._close(post)
        if attempt.outcome == "off":
            self._is_off = True

    def _close(self, post: HookPost) -> None:
        if self._lanes is not None:
            self._lanes.close(post)


def _wall_ms() -> int:
    return int(time.time() * 1000)
