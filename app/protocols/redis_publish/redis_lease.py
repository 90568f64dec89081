"""Which node owns a site's subscription to Redis PUBLISH, and which nodes are dead. One beat says and asks both."""

import asyncio
import contextlib
from time import monotonic

import structlog
from msgspec import Struct

from app.config.settings import Site
from app.core.errands import Errands
from app.errors import StoreError, StoreUnavailable
from app.protocols.redis_publish.mailbox_ports import PublishReader
from app.protocols.redis_publish.redis_feed import PublishFeed
from app.protocols.redis_publish.redis_mailboxes import RedisMailboxes
from app.protocols.redis_publish.settings import RedisPublish
from app.redis.client import Commands
from app.store.keys import publish_prefix

BEAT_SECONDS = 0.5
#: The contract has another node own the subscription within 5 s of the owner's death.
LEASE_SECONDS = 3.0
#: A node without a beat for so long counts as dead: messages told to its connections wait again.
DEAD_AFTER_SECONDS = 4.0
#: What the owner that is about to end waits for another to be ready.
_HAND_OVER_SECONDS = 1.0
_HANDED = -2

_log = structlog.get_logger(__name__)


class _Beat(Struct, frozen=True):
    """What `publish_beat.lua` answers."""

    is_new: bool
    is_mine: bool
    gap_ms: int
    until_ms: int
    until: float
    others: int
    dead: list[str]


class PublishLease:
    """The beat of one node for one site. Lives as long as the node: `start` begins, `give_up` hands the lease on."""

    def __init__(self, redis: Commands, node: str, site: Site, settings: RedisPublish) -> None:
        self._redis = redis
        self._node = node
        self._site = site.name
        self._key = publish_prefix(settings.prefix)
        self._is_known = False
        self._is_mine = False
        self._wants = True
        #: For how long nobody held the lease that is about to be taken.
        self._gap_ms = 0
        #: Since when this node, the owner, has not heard the application.
        self._deaf_since: float | None = None
        #: Set when this node has heard once who owns the subscription: itself, or another.
        self.is_settled = asyncio.Event()
        self._task: asyncio.Task[None] | None = None
        self._errands = Errands()
        self._burying: set[str] = set()
        #: To be set before `start`.
        self.feed: PublishFeed
        self.reader: PublishReader
        self.mailboxes: RedisMailboxes

    @property
    def is_mine(self) -> bool:
        """Whether this node owns the subscription, as far as it knows."""
        return self._is_mine

    def start(self) -> None:
        """Begins to beat."""
        self._task = asyncio.create_task(self._keep_beating(), name="redis publish lease")

    async def give_up(self) -> None:
        """Hands the lease to another node, if there is one; this one goes on serving its connections. Idempotent."""
        self._wants = False
        if not self._is_mine:
            return
        await self.reader.stop_reading()
        self.feed.handed.clear()
        with contextlib.suppress(StoreError, TimeoutError):
            if (await self._beat("offer")).others:
                await asyncio.wait_for(self.feed.handed.wait(), _HAND_OVER_SECONDS)
        await self._lose()
        with contextlib.suppress(StoreError):
            await self._beat("release")

    async def close(self) -> None:
        """Beats no more, and is nobody's node any more."""
        await self.give_up()
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)
        with contextlib.suppress(StoreError):
            # A beat may have been under way that took the lease.
            await self._beat("release")
            await self.mailboxes.bury(self._node)

    async def _keep_beating(self) -> None:
        while True:
            try:
                await self._ask()
            except StoreUnavailable:
                pass
            except StoreError as error:
                _log.error("redis publish beat failed", site=self._site, reason=str(error))
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self.feed.may_ask.wait(), BEAT_SECONDS)
            self.feed.may_ask.clear()

    async def _ask(self) -> None:
        deaf_since, self.feed.deaf_since = self.feed.deaf_since, None
        if deaf_since is not None and self._is_mine:
            self._deaf_since = deaf_since
            await self._lose()
        if not self._wants:
            await self._act_on(await self._beat("offer" if self._is_mine else "release"))
            return
        if not self.feed.is_hearing:
            await self._act_on(await self._beat("release"))
            return
        is_offered, self.feed.is_offered = self.feed.is_offered, False
        if is_offered and not self._is_mine:
            # Listening before it is owned: nothing that is PUBLISHed meanwhile is lost.
            self.feed.handed.clear()
            try:
                await self.feed.listen()
                await self._act_on(await self._beat("follow"))
            finally:
                await self._turn_away_unless_mine()
        else:
            beat = await self._beat("take")
            if not beat.is_mine:
                # Somebody else heard the application, and counts the gap.
                self._deaf_since = None
            await self._act_on(beat)
        self.is_settled.set()

    async def _beat(self, wish: str) -> _Beat:
        lease_ms, dead_ms = int(LEASE_SECONDS * 1000), int(DEAD_AFTER_SECONDS * 1000)
        asked_at = monotonic()
        is_new, is_mine, gap_ms, until_ms, others, *dead = await self._redis.run(
            "publish_beat", self._key, self._node, lease_ms, dead_ms, wish, int(not self._redis.is_sharded)
        )
        until = asked_at + LEASE_SECONDS
        names = [node.decode() for node in dead]
        return _Beat(bool(is_new), bool(is_mine), gap_ms, until_ms, until, others, names)

    async def _act_on(self, beat: _Beat) -> None:
        if beat.is_new and self._is_known:
            _log.warning("node was taken for dead", site=self._site, node=self._node)
            self.feed.listener.subscription_interrupted()
        self._is_known = True
        if self._is_mine and (not beat.is_mine or beat.gap_ms >= 0):
            # Also where it is ours again: somebody else may have owned it in between.
            await self._lose()
        if beat.is_mine and self._wants:
            self.reader.lease_renewed(beat.until_ms, beat.until)
            deaf_ms = int((monotonic() - self._deaf_since) * 1000) + 1 if self._deaf_since else 0
            self._gap_ms = max(self._gap_ms, beat.gap_ms, deaf_ms)
            if not self._is_mine:
                await self._take(is_handed=beat.gap_ms == _HANDED)
            for node in beat.dead:
                if node not in self._burying:
                    # Beside the beats: it may have had many users.
                    self._burying.add(node)
                    self._errands.start(self._bury(node))

    async def _take(self, is_handed: bool) -> None:
        try:
            await self.feed.listen()
            if is_handed:
                # What was heard before is the last owner's.
                with contextlib.suppress(TimeoutError):
                    await asyncio.wait_for(self.feed.handed.wait(), _HAND_OVER_SECONDS)
            self._is_mine = True
        finally:
            # If it cannot subscribe, the next beat tries again.
            await self._turn_away_unless_mine()
        gap_ms, self._gap_ms, self._deaf_since = self._gap_ms, 0, None
        self.reader.lease_taken(gap_ms)
        _log.info("redis publish lease taken", site=self._site, node=self._node, gap_ms=gap_ms)

    async def _turn_away_unless_mine(self) -> None:
        if not self._is_mine:
            with contextlib.suppress(StoreError):
                await self.feed.turn_away()
            self.reader.forget_published()

    async def _bury(self, node: str) -> None:
        try:
            connections = await self._errands.until_stored(lambda: self.mailboxes.bury(node))
            _log.warning("node buried", site=self._site, node=node, connections=connections)
        finally:
            self._burying.discard(node)

    async def _lose(self) -> None:
        self._is_mine = False
        with contextlib.suppress(StoreError):
            await self.feed.turn_away()
        await self.reader.lease_lost()
        _log.info("redis publish lease lost", site=self._site, node=self._node)
