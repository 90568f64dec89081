"""The outbox of one site in Redis: events, the posts that carry them, the lease on sending, attempts and parked posts.

The scripts are in `lua/`; every one that changes a post does so only while this node has the lease.
"""

import asyncio
import contextlib
import json
from collections.abc import Awaitable, Mapping, Sequence
from typing import Any

import msgspec
import structlog
from msgspec import Struct

from app.clock import rfc3339
from app.config.settings import Site, WebhookSettings
from app.digests import digest
from app.errors import StoreError
from app.redis.client import Commands
from app.store.keys import prefix
from app.webhooks.attempt import Attempt, row_of
from app.webhooks.event import HookPost, OutboxEvent, read_event, read_post

#: The lifetime of the scripts' set of wanted events without a beat.
_EVENTS_MS = 3_600_000
#: Users that one beat tells of as offline.
_MOST_OFFLINE = 1_000
_RECONCILED_A_RUN = 1_000
#: Parked posts that one command has sent again.
MOST_RETRIED = 1_000

_log = structlog.get_logger(__name__)


class OutboxState(Struct, frozen=True):
    """The answer of a beat that has the lease."""

    is_off: bool
    #: Events that no post has yet.
    waiting: int
    #: Events that the bounds, or a 410, have cost so far.
    dropped: int
    posts: int
    parked: int
    #: Whether more users are due to be told of.
    has_more: bool


class HookOutbox:
    """The outbox of one site, for one node. Lives as long as the node."""

    def __init__(self, redis: Commands, node: str, site: Site) -> None:
        self._redis = redis
        self._node = node
        self._site = site.name
        self._prefix = prefix(site.name)
        self._webhook = site.webhook
        self._digest = digest_of(site.webhook)
        #: The time for scripts in ms; "" is Redis's own clock. Tests set it.
        self.now_ms: int | str = ""
        self._is_set_up = False

    async def set_up(self) -> None:
        """Tells scripts of which events the webhook wants to hear. Raises StoreUnavailable."""
        grace_ms = int(self._webhook.offline_grace_seconds * 1000)
        if await self._run("hooks_set", grace_ms, _EVENTS_MS, *self._webhook.events):
            cursor = b"0"
            while True:
                cursor = await self._run("hooks_reconcile", self.now_ms, cursor, _RECONCILED_A_RUN)
                if cursor == b"0":
                    break
        self._is_set_up = True

    async def turn_off(self) -> None:
        """Tells scripts that nobody wants to hear of events any more. Best effort: they stop by themselves later."""
        with contextlib.suppress(StoreError):
            await self._redis.command("DEL", self._prefix + "hook_events")

    async def beat(self, lease_ms: int) -> OutboxState | None:
        """Takes or keeps the lease, and tells of users that are gone. None: another node has the lease."""
        if not self._is_set_up:
            await self.set_up()
        words = (self.now_ms, self._node, lease_ms, _EVENTS_MS, self._digest, _MOST_OFFLINE)
        is_mine, *state = await self._run("hooks_beat", *words)
        if is_mine < 0:
            await self.set_up()
            is_mine, *state = await self._run("hooks_beat", *words)
        if is_mine != 1:
            return None
        is_off, waiting, dropped, posts, parked, has_more = state
        return OutboxState(is_off == 1, waiting, dropped, posts, parked, has_more == 1)

    async def release(self) -> None:
        """Gives the lease back, if this node has it."""
        await self._run("hooks_beat", self.now_ms, self._node, 0, _EVENTS_MS, self._digest, _MOST_OFFLINE)

    async def read(self, after: bytes, most: int) -> list[OutboxEvent]:
        """Events behind this entry, oldest first."""
        start = b"(" + after if after else "-"
        entries = await self._redis.command("XRANGE", self._prefix + "hooks", start, "+", "COUNT", most)
        events = []
        for entry, fields in entries:
            try:
                events.append(read_event(entry, fields))
            except (ValueError, KeyError, OverflowError):
                # One event that nobody can read must not hold up the others for ever.
                _log.error("webhook event unreadable", site=self._site, entry=entry.decode())
                await self._redis.command("XDEL", self._prefix + "hooks", entry)
        return events

    async def posts(self, known: Mapping[str, HookPost]) -> list[HookPost]:
        """The posts that are to be sent, by time, without the known ones. A known one that an operator has sent again
        meanwhile becomes due."""
        words = await self._redis.command("ZRANGE", self._prefix + "hook_posts", 0, -1, "WITHSCORES")
        dues = [(post.decode(), int(float(due))) for post, due in zip(words[::2], words[1::2], strict=True)]
        for post, due in dues:
            if post in known and not known[post].is_under_way and due < known[post].due_ms:
                known[post].due_ms, known[post].tries = due, 0
        new = [(post, due) for post, due in dues if post not in known]
        fields = await asyncio.gather(*(self._fields(post, "users", "seqs", "types", "tries") for post, _ in new))
        return [read_post(post, due, held) for (post, due), held in zip(new, fields, strict=True) if held[0]]

    def take(self, post: HookPost, body: bytes, events: Sequence[OutboxEvent]) -> Awaitable[int]:
        """Makes events a post; see hooks_take.lua."""
        # (Half a pair in a name is an escape in this JSON.)
        users, seqs = json.dumps(sorted(post.users)), json.dumps(post.seqs)
        entries = [event.entry for event in events]
        return self._run("hooks_take", self._node, post.id, post.due_ms, body, users, seqs, post.types, *entries)

    async def body_of(self, post: str) -> bytes | None:
        """The body of a post; None when the post is gone."""
        body: bytes | None = (await self._fields(post, "body"))[0]
        return body

    def answered(self, post: HookPost, now_ms: int, attempt: Attempt) -> Awaitable[int]:
        """Notes the outcome of an attempt; see hooks_answered.lua. Answers 0 when the lease is another node's."""
        last = self._digest if attempt.outcome == "off" else post.due_ms
        record, row = msgspec.json.encode(attempt), row_of(attempt, post, self._node)
        return self._run("hooks_answered", self._node, post.id, now_ms, record, row, attempt.outcome, last)

    def retry(self, post: str, since_ms: int) -> Awaitable[int]:
        """Has one post sent at once, or with "" all that were parked since a time. Answers how many."""
        return self._run("hooks_retry", self.now_ms, post, since_ms, MOST_RETRIED)

    def note(self, post: HookPost, attempt: Attempt) -> Awaitable[Any]:
        """Keeps the record of an attempt that is no post's in Redis: a test."""
        return self._run("hooks_note", msgspec.json.encode(attempt), row_of(attempt, post, self._node))

    async def overview(self, most: int) -> dict[str, Any]:
        """The webhook's state, its posts, and its last attempts, newest first; at most so many of each."""
        command, key = self._redis.command, self._prefix
        off, waiting, counts, posts, parked, attempts = await asyncio.gather(
            command("GET", key + "hook_off"),
            command("XLEN", key + "hooks"),
            command("HMGET", key + "hook_counts", "dropped"),
            command("ZRANGE", key + "hook_posts", 0, most - 1, "WITHSCORES"),
            command("ZRANGE", key + "hook_parked", -most, -1, "WITHSCORES"),
            command("LRANGE", key + "hook_attempts", 0, most - 1),
        )
        return {
            "state": "off" if off is not None else "on",
            "waiting": waiting,
            "dropped": int(counts[0] or 0),
            "posts": await self._shown(posts, "due"),
            "parked": (await self._shown(parked, "parked_at"))[::-1],
            "attempts": [msgspec.json.decode(attempt, type=Attempt).shown() for attempt in attempts],
        }

    async def _shown(self, words: list[bytes], name: str) -> list[dict[str, Any]]:
        ids = [post.decode() for post in words[::2]]
        fields = await asyncio.gather(*(self._fields(post, "at", "seqs", "types", "tries") for post in ids))
        return [
            {
                "id": post,
                "at": rfc3339(int(at)),
                name: rfc3339(int(float(time))),
                "tries": int(tries),
                "types": (types or b"").decode(),
                "seqs": msgspec.json.decode(seqs),
            }
            for post, time, (at, seqs, types, tries) in zip(ids, words[1::2], fields, strict=True)
            if at is not None
        ]

    def _fields(self, post: str, *names: str) -> Awaitable[list[Any]]:
        return self._redis.command("HMGET", f"{self._prefix}hook_post:{post}", *names)

    def _run(self, script: str, *words: Any) -> Awaitable[Any]:
        return self._redis.run(script, self._prefix, *words)


def digest_of(webhook: WebhookSettings) -> str:
    """The digest of a webhook's settings: another one turns a webhook on that was answered 410."""
    return digest(repr((webhook.url, webhook.secrets, webhook.events))).hex()
