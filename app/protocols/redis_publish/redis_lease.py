"""Which node owns a site's subscription to Redis PUBLISH, and which nodes are dead: each beat asks for both."""

import asyncio
import contextlib
from time import monotonic

import structlog
from msgspec import Struct

from app.config.settings import RedisPublish, Site
from app.errors import StoreError
from app.protocols.redis_publish.mailbox_ports import PublishReader
from app.protocols.redis_publish.redis_feed import PublishFeed
from app.protocols.redis_publish.redis_mailboxes import RedisMailboxes
from app.redis.beat import Beat
from app.redis.client import Commands
from app.store.keys import publish_prefix

BEAT_SECONDS = 0.5
#: The contract has another node own the subscription within 5 s of the owner's death.
LEASE_SECONDS = 3.0
#: A node without a beat for this long counts as dead: messages told to its connections wait again.
DEAD_AFTER_SECONDS = 4.0
#: An owner that is about to end waits this long for another node to be ready.
_HAND_OVER_SECONDS = 1.0
_HANDED = -2

_log = structlog.get_logger(__name__)


class _LeaseAnswer(Struct, frozen=True):
    """The answer of `publish_beat.lua`."""

    is_new: bool
    is_mine: bool
    gap_ms: int
    until_ms: int
    until: float
    others: int
    #: Dead nodes with their last beats, as `Beat.bury` takes them.
    dead: list[bytes]


class PublishLease:
    """One node's part in the lease of one site. Lives as long as the node: `start` begins, `give_up` hands the lease
    on, `close` ends it. Implements `BeatOwner`."""

    def __init__(self, redis: Commands, node: str, site: Site, settings: RedisPublish) -> None:
        self._redis = redis
        self._node = node
        self._site = site.name
        self._key = publish_prefix(settings.prefix)
        self._beat = Beat(redis, node, self._key + "nodes", self, site=site.name)
        self._is_mine = False
        self._wants = True
        #: How long the lease that is about to be taken had no holder.
        self._gap_ms = 0
        #: When this node, then the owner, became deaf to the application.
        self._deaf_since: float | None = None
        #: Set when this node knows for the first time which node owns the subscription: itself, or another.
        self.is_settled = asyncio.Event()
        #: To be set before `start`.
        self.feed: PublishFeed
        self.reader: PublishReader
        self.mailboxes: RedisMailboxes

    @property
    def is_mine(self) -> bool:
        """Whether this node owns the subscription, as far as it knows."""
        return self._is_mine

    def start(self) -> None:
        """Begins to beat, at once."""
        self.feed.may_ask.set()
        self._beat.start(BEAT_SECONDS, self.feed.may_ask)

    async def give_up(self) -> None:
        """Hands the lease to another node, if there is one; this one goes on serving its connections. Idempotent."""
        self._wants = False
        if not self._is_mine:
            return
        await self.reader.stop_reading()
        self.feed.handed.clear()
        with contextlib.suppress(StoreError, TimeoutError):
            if (await self._ask("offer")).others:
                await asyncio.wait_for(self.feed.handed.wait(), _HAND_OVER_SECONDS)
        await self._lose()
        with contextlib.suppress(StoreError):
            await self._ask("release")

    async def close(self) -> None:
        """Beats no more, and takes this node and its connections out."""
        await self.give_up()
        await self._beat.close()
        with contextlib.suppress(StoreError):
            # The last beat may have been under way, and have taken the lease.
            await self._ask("release")
            await self.mailboxes.bury(self._node)

    async def beat(self) -> None:
        """Shows that this node lives, and asks for the lease or gives it back, as things stand; see `BeatOwner`."""
        deaf_since, self.feed.deaf_since = self.feed.deaf_since, None
        if deaf_since is not None and self._is_mine:
            self._deaf_since = deaf_since
            await self._lose()
        if not self._wants:
            await self._act_on(await self._ask("offer" if self._is_mine else "release"))
            return
        if not self.feed.is_hearing:
            await self._act_on(await self._ask("release"))
            return
        is_offered, self.feed.is_offered = self.feed.is_offered, False
        if is_offered and not self._is_mine:
            # Listen before the lease is ours: no message that is PUBLISHed meanwhile is lost.
            self.feed.handed.clear()
            try:
                await self.feed.listen()
                await self._act_on(await self._ask("follow"))
            finally:
                await self._turn_away_unless_mine()
        else:
            answer = await self._ask("take")
            if not answer.is_mine:
                # Another node hears the application, and counts the gap.
                self._deaf_since = None
            await self._act_on(answer)
        self.is_settled.set()

    def taken_for_dead(self) -> None:
        """Other nodes have buried this one: its connections join again; see `BeatOwner`."""
        self.feed.listener.subscription_interrupted()

    async def bury(self, node: str, last_beat_ms: int) -> None:
        """Lets messages that were told to a dead node's connections wait again; see `BeatOwner`."""
        connections = await self.mailboxes.bury(node)
        _log.warning("node buried", site=self._site, node=node, connections=connections)

    async def _ask(self, wish: str) -> _LeaseAnswer:
        lease_ms, dead_ms = int(LEASE_SECONDS * 1000), int(DEAD_AFTER_SECONDS * 1000)
        asked_at = monotonic()
        is_new, is_mine, gap_ms, until_ms, others, *dead = await self._redis.run(
            "publish_beat", self._key, self._node, lease_ms, dead_ms, wish, int(not self._redis.is_sharded)
        )
        return _LeaseAnswer(bool(is_new), bool(is_mine), gap_ms, until_ms, asked_at + LEASE_SECONDS, others, dead)

    async def _act_on(self, answer: _LeaseAnswer) -> None:
        self._beat.answered(answer.is_new)
        if self._is_mine and (not answer.is_mine or answer.gap_ms >= 0):
            # Also when it is ours again: another node may have owned it in between.
            await self._lose()
        if answer.is_mine and self._wants:
            self.reader.lease_renewed(answer.until_ms, answer.until)
            deaf_ms = int((monotonic() - self._deaf_since) * 1000) + 1 if self._deaf_since else 0
            self._gap_ms = max(self._gap_ms, answer.gap_ms, deaf_ms)
            if not self._is_mine:
                await self._take(is_handed=answer.gap_ms == _HANDED)
            self._beat.bury(answer.dead)

    async def _take(self, is_handed: bool) -> None:
        try:
            await self.feed.listen()
            if is_handed:
                # Messages that arrived before the marker are the last owner's.
                with contextlib.suppress(TimeoutError):
                    await asyncio.wait_for(self.feed.handed.wait(), _HAND_OVER_SECONDS)
            self._is_mine = True
        finally:
            # When this node cannot subscribe, the next beat tries again.
            await self._turn_away_unless_mine()
        gap_ms, self._gap_ms, self._deaf_since = self._gap_ms, 0, None
        self.reader.lease_taken(gap_ms)
        _log.info("redis publish lease taken", site=self._site, node=self._node, gap_ms=gap_ms)

    async def _turn_away_unless_mine(self) -> None:
        if not self._is_mine:
            with contextlib.suppress(StoreError):
                await self.feed.turn_away()
            self.reader.forget_published()

    async def _lose(self) -> None:
        self._is_mine = False
        with contextlib.suppress(StoreError):
            await self.feed.turn_away()
        await self.reader.lease_lost()
        _log.info("redis publish lease lost", site=self._site, node=self._node)
