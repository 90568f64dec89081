"""What a node hears of a site's Redis PUBLISH: its own channel always, the application's while it holds the lease."""

import asyncio
from time import monotonic
from typing import Any

import structlog

from app.config.settings import Site
from app.errors import StoreUnavailable
from app.protocols.redis_publish.mailbox_ports import MailListener, PublishReader, Told
from app.protocols.redis_publish.settings import RedisPublish
from app.redis.client import Commands, retry
from app.redis.link import Link
from app.store.keys import publish_prefix

PROBE_SECONDS = 1.0
#: Without a probe's echo for so long the subscription is given up.
DEAF_AFTER_SECONDS = 3.0
_PROBE = b"probe"

_log = structlog.get_logger(__name__)


class PublishFeed:
    """The subscription of one node for one site. Lives as long as the node: `start` subscribes, `close` ends it."""

    def __init__(self, redis: Commands, node: str, site: Site, settings: RedisPublish) -> None:
        self._redis = redis
        self._site = site.name
        self._channel = publish_prefix(settings.prefix) + node
        self._prefix = settings.prefix
        self._patterns = [f"{settings.prefix}.{kind}.*" for kind in ("users", "channels")]
        self._link: Link | None = None
        self._is_listening = False
        self._heard_at = 0.0
        self._broken = asyncio.Event()
        self._tasks: list[asyncio.Task[None]] = []
        #: To be set before `start`.
        self.listener: MailListener
        self.reader: PublishReader
        #: When it became deaf to the application; the lease takes note of it.
        self.deaf_since: float | None = None
        #: Set when there is a reason to ask for the lease at once: its owner offers it, or this node can hear again.
        self.may_ask = asyncio.Event()
        self.is_offered = False
        #: Set when the lease has gone from one owner to the next, in the order of what the application PUBLISHes.
        self.handed = asyncio.Event()

    def start(self) -> None:
        """Subscribes as soon as Redis can be reached; returns at once."""
        self._broken.set()
        self._tasks = [
            asyncio.create_task(self._keep_subscribed(), name="redis publish subscribe"),
            asyncio.create_task(self._probe(), name="redis publish probe"),
        ]

    async def close(self) -> None:
        """Ends the subscription."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        if self._link is not None:
            self._link.abort()

    @property
    def is_hearing(self) -> bool:
        """Whether a probe came back lately."""
        return self._link is not None and monotonic() - self._heard_at < DEAF_AFTER_SECONDS

    async def listen(self) -> None:
        """Hears what the application PUBLISHes from here on, until it breaks. Raises StoreUnavailable."""
        self._is_listening = True
        await self._command("PSUBSCRIBE", *self._patterns)

    async def turn_away(self) -> None:
        """Hears the application no more: when this returns, nothing of it is under way. Raises StoreUnavailable."""
        self._is_listening = False
        await self._command("PUNSUBSCRIBE", *self._patterns)

    async def _command(self, name: str, *patterns: str) -> None:
        if self._link is None:
            raise StoreUnavailable()
        # One command each: Redis answers each pattern by itself.
        await self._in_time(self._link, *(self._link.command(name, pattern) for pattern in patterns))

    async def _in_time(self, link: Link, *answers: "asyncio.Future[Any]") -> None:
        try:
            async with asyncio.timeout(self._redis.timeout_seconds):
                await asyncio.gather(*answers)
        except TimeoutError as error:
            link.abort()
            raise StoreUnavailable("Redis does not answer") from error

    async def _subscribe(self) -> None:
        # Any server of a Cluster hears what was published at any other.
        shard = next(iter(self._redis.shards), None)
        if shard is None:
            raise StoreUnavailable()
        link = await Link.open(
            shard.address, self._redis.timeout_seconds, on_lost=self._link_lost, on_push=self._receive
        )
        try:
            await self._in_time(link, link.command("SUBSCRIBE", self._channel))
        except BaseException:  # refused, or given up by who waits for it
            link.abort()
            raise
        if not link.is_open:
            raise StoreUnavailable("Redis has closed the connection")
        self._heard_at = monotonic()
        self._link = link

    def _link_lost(self, link: Link) -> None:
        if link is self._link:
            self._link = None
            self._broken.set()
            if self._is_listening:
                # Another node may own the subscription before this one hears again.
                self._is_listening = False
                self.reader.lease_renewed(0, 0.0)
                self.deaf_since = monotonic()
                self.may_ask.set()

    async def _keep_subscribed(self) -> None:
        is_first = True
        while True:
            await self._broken.wait()
            self._broken.clear()
            await retry(self._subscribe)
            # Whoever waits for the lease may try.
            self.may_ask.set()
            if not is_first:
                _log.warning("redis publish subscribed anew", site=self._site)
                self.listener.subscription_interrupted()
            is_first = False

    async def _probe(self) -> None:
        while True:
            await asyncio.sleep(PROBE_SECONDS)
            self._redis.command("PUBLISH", self._channel, _PROBE).add_done_callback(_ignore)
            if self._link is not None and monotonic() - self._heard_at > DEAF_AFTER_SECONDS:
                _log.error("redis publish deaf", site=self._site, seconds=DEAF_AFTER_SECONDS)
                self._link.abort()

    def _receive(self, push: list[Any]) -> None:
        if push[0] == b"pmessage":
            self._receive_published(push[2], push[3])
        elif push[0] == b"message":
            self._heard_at = monotonic()
            self._receive_own(push[2])

    def _receive_published(self, channel: bytes, payload: bytes) -> None:
        if self._is_listening:
            name = channel.decode("utf-8", "replace")
            self.reader.message_published(name.removeprefix(self._prefix + "."), payload)

    def _receive_own(self, data: bytes) -> None:
        kind, _, rest = data.partition(b"\n")
        if kind == b"message":
            user, number, first, is_listed, entry = rest.split(b"\n", 4)
            node, _, connection = first.partition(b".")
            owner = (node.decode(), int(connection))
            self.listener.message_told(Told(user.decode(), int(number), owner, is_listed == b"1", entry))
        elif kind == b"drop":
            name, _, connection = rest.partition(b"\n")
            self.listener.connection_dropped(name.decode(), int(connection))
        elif kind == b"done":
            name, _, digest = rest.partition(b"\n")
            self.listener.message_done(name.decode(), digest.decode())
        elif kind == b"offer":
            self.is_offered = True
            self.may_ask.set()
        elif kind == b"handed":
            if rest == b"from":
                self._is_listening = False
            else:
                self.reader.forget_published()
            self.handed.set()


def _ignore(answer: "asyncio.Future[Any]") -> None:
    if not answer.cancelled():
        answer.exception()
