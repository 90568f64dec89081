"""The lease on a site's subscription to Redis PUBLISH, and the search for dead nodes: each beat does both."""

import asyncio
import contextlib
from time import monotonic

import structlog
from msgspec import Struct

from app.config.settings import Site
from app.errors import StoreError
from app.protocols.redis_publish.mailbox_ports import PublishReader
from app.protocols.redis_publish.redis_feed import PublishFeed
from app.protocols.redis_publish.redis_keys import nodes_key, publish_prefix
from app.protocols.redis_publish.redis_mailboxes import RedisMailboxes
from app.protocols.redis_publish.settings import RedisPublish
from app.redis.beat import Beat
from app.redis.client import Commands

BEAT_SECONDS = 0.5
#: The contract promises that another node owns the subscription within 5 s of the owner's death.
LEASE_SECONDS = 3.0
#: A node without a beat for this time counts as dead: messages told to its connections wait again.
DEAD_AFTER_SECONDS = 4.0
#: The time that an ending owner waits for another node to be ready.
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
    """One node's view of the lease of one site. Lives as long as the node: `start` begins, `give_up` hands the lease
    on, `close` ends it. Implements `BeatOwner`."""

    def __init__(self, redis: Commands, node: str, site: Site, settings: RedisPublish) -> None:
        self._redis = redis
        self._node = node
        self._site = site.name
        self._key = publish_prefix(settings.prefix)
        self._beat = Beat(redis, node, nodes_key(settings.prefix), self, site=site.name)
        self._is_mine = False
        self._wants = True
        #: The time without an owner before the take-over that is under way.
        self._gap_ms = 0
        #: The time when this node, then the owner, stopped hearing the application.
        self._deaf_since: float | None = None
        #: Held while the reader ends: who gives the lease up waits for it, whoever began it.
        self._losing = asyncio.Lock()
        #: Set after the first beat that shows the owner of the subscription: this node or another.
        self.is_settled = asyncio.Event()
        #: All three have to be set before `start`.
        self.feed: PublishFeed
        self.reader: PublishReader
        self.mailboxes: RedisMailboxes

    @property
    def is_mine(self) -> bool:
        """Whether this node owns the subscription, to its knowledge."""
        return self._is_mine

    def start(self) -> None:
        """Sends the first beat at once, and further ones from then on."""
        self.feed.may_ask.set()
        self._beat.start(BEAT_SECONDS, self.feed.may_ask)

    async def give_up(self) -> None:
        """Hands the lease to another node, if there is one, and still serves this node's connections. Idempotent."""
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
        """Stops the beats, and takes this node and its connections out of Redis."""
        await self.give_up()
        await self._beat.close()
        # A beat that was still under way may have taken the lease, or may not have let it go yet.
        self._is_mine = False
        await self.reader.lease_lost()
        with contextlib.suppress(StoreError):
            await self._ask("release")
            await self.mailboxes.bury(self._node)

    async def beat(self) -> None:
        """Shows that this node lives, and takes, keeps or releases the lease as its state requires; see `BeatOwner`."""
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
            # Listen before owning the lease, so that no message published meanwhile is lost.
            self.feed.handed.clear()
            self.feed.drained.clear()
            try:
                await self.feed.listen()
                await self._act_on(await self._ask("follow"))
            finally:
                await self._turn_away_unless_mine()
        else:
            answer = await self._ask("take")
            if not answer.is_mine:
                # Another node listens to the application and counts the gap.
                self._deaf_since = None
            await self._act_on(answer)
        self.is_settled.set()

    def taken_for_dead(self) -> None:
        """Another node has buried this one: its connections join again; see `BeatOwner`."""
        self.feed.listener.subscription_interrupted()

    async def bury(self, node: str, last_beat_ms: int) -> None:
        """Makes the messages told to a dead node's connections wait again; see `BeatOwner`."""
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
            # This includes a lease that is ours again: another node may have owned it in between.
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
                # Messages from before the hand-over belong to the last owner.
                with contextlib.suppress(TimeoutError):
                    await asyncio.wait_for(self.feed.handed.wait(), _HAND_OVER_SECONDS)
                # It may still be delivering them: later ones wait, so that a user's messages stay in order. An owner
                # that dies meanwhile never says that it is done.
                with contextlib.suppress(TimeoutError):
                    await asyncio.wait_for(self.feed.drained.wait(), _HAND_OVER_SECONDS)
            self._is_mine = True
        finally:
            # If the subscription fails, the next beat tries again.
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
        async with self._losing:
            with contextlib.suppress(StoreError):
                await self.feed.turn_away()
            await self.reader.lease_lost()
        _log.info("redis publish lease lost", site=self._site, node=self._node)
