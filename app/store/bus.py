"""How this node hears of messages: a subscription to its own channels, watched by a probe and made anew."""

import asyncio
from collections.abc import Callable, Iterable
from time import monotonic
from typing import Any

import msgspec
import structlog

from app.config.settings import Site
from app.core.message import LiveMessage
from app.core.ports import BusListener
from app.errors import StoreUnavailable
from app.observe.counts import Durations
from app.redis.address import Address
from app.redis.client import Commands, Redis, retry
from app.redis.link import Link
from app.store.audience import parse_head
from app.store.keys import bus_channel, prefix, shard_channel

PROBE_SECONDS = 1.0
_PROBE = b"probe "
_MESSAGES = frozenset((b"message", b"smessage"))
#: Without a probe's echo for so long the subscription is given up: a node must not stay deaf.
DEAF_AFTER_SECONDS = 3.0

_log = structlog.get_logger(__name__)
_rooms_decoder = msgspec.json.Decoder(list[str])


class Bus:
    """What one node hears: a subscription at each primary. Lives as long as the node: `start` subscribes, `close` ends
    it."""

    def __init__(
        self,
        redis: Commands,
        node: str,
        listener: BusListener,
        probe_seconds: Durations | None = None,
        sites: Iterable[Site] = (),
    ) -> None:
        """`probe_seconds` is told how long each probe took. In a Cluster the node hears of these `sites`."""
        self._redis = redis
        self._node = node
        self._listener = listener
        self._probe_seconds = probe_seconds or Durations()
        #: Told the site and the seq of each message that is heard.
        self.on_seq: Callable[[str, int], None] = lambda site, seq: None
        self._sites = [site.name for site in sites]
        self._subscriptions: dict[Redis, BusSubscription] = {}
        self._prober: asyncio.Task[None] | None = None
        self._closing: set[asyncio.Task[None]] = set()

    async def start(self) -> None:
        """Subscribes. Raises StoreUnavailable when Redis is away; a shard of a Cluster that is away is heard later."""
        for shard in self._redis.shards:
            subscription = self._subscription(shard)
            try:
                await subscription.start()
            except StoreUnavailable:
                if not self._redis.is_sharded:
                    raise
                subscription.begin()
        self._redis.on_shards_changed = self._rearrange
        self._rearrange()
        self._prober = asyncio.create_task(self._probe(), name="bus probe")

    async def close(self) -> None:
        """Ends the subscriptions."""
        self._redis.on_shards_changed = None
        if self._prober is not None:
            self._prober.cancel()
            await asyncio.gather(self._prober, return_exceptions=True)
        await asyncio.gather(*(one.close() for one in self._subscriptions.values()), *self._closing)

    @property
    def is_hearing(self) -> bool:
        """Whether a probe came back lately from wherever there is a link to. May be asked from any thread."""
        subscriptions = list(self._subscriptions.values())
        return any(one.is_hearing for one in subscriptions) and all(
            one.is_hearing for one in subscriptions if one.shard.is_available
        )

    def channels_of(self, shard: Redis) -> list[str]:
        """Where this node hears of what is published at a shard."""
        if not self._redis.is_sharded:
            return [bus_channel(self._node)]
        return [shard_channel(self._node, site) for site in self._sites if self._redis.shard_of(prefix(site)) is shard]

    def received(self, data: bytes) -> None:
        """From a subscription: a message, or the echo of a probe."""
        if data.startswith(_PROBE):
            self._probe_seconds.observe(monotonic() - float(data[len(_PROBE) :]))
        else:
            site, counter, message = parse(data)
            self.on_seq(site, message.seq)
            self._listener.message_published(site, counter, message)

    def subscribed_anew(self) -> None:
        """From a subscription: what was published while there was none is missing."""
        _log.warning("bus subscribed anew")
        self._listener.bus_interrupted()

    def _subscription(self, shard: Redis) -> "BusSubscription":
        subscription = self._subscriptions[shard] = BusSubscription(self, shard)
        return subscription

    def _rearrange(self) -> None:
        """The shards, or what they hold, have changed."""
        shards = self._redis.shards
        for shard in [shard for shard in self._subscriptions if shard not in shards]:
            task = asyncio.ensure_future(self._subscriptions.pop(shard).close())
            self._closing.add(task)
            task.add_done_callback(self._closing.discard)
        for shard in shards:
            if shard in self._subscriptions:
                self._subscriptions[shard].renew()
            else:
                self._subscription(shard).begin()

    async def _probe(self) -> None:
        while True:
            await asyncio.sleep(PROBE_SECONDS)
            for subscription in self._subscriptions.values():
                subscription.probe()


class BusSubscription:
    """The subscription of a node at one primary. Lives as long as the primary is one: `close` ends it."""

    def __init__(self, bus: Bus, shard: Redis) -> None:
        self.shard = shard
        self._bus = bus
        #: What is subscribed to, and where.
        self._channels: list[str] = []
        self._address: Address | None = None
        self._link: Link | None = None
        self._broken = asyncio.Event()
        self._heard_at = 0.0
        #: What a new subscription has brought before the listener knew of it: else it would take the first message
        #: behind the interruption for the next one, and never ask for those in between.
        self._early: list[bytes] | None = None
        self._keeper: asyncio.Task[None] | None = None

    async def start(self) -> None:
        """Subscribes. Raises StoreUnavailable when Redis is away."""
        await self._subscribe()
        self._hear_early()
        self._keep()

    def begin(self) -> None:
        """Subscribes in the background, if need be again and again."""
        self._broken.set()
        self._keep()

    async def close(self) -> None:
        """Ends the subscription."""
        if self._keeper is not None:
            self._keeper.cancel()
            await asyncio.gather(self._keeper, return_exceptions=True)
        if self._link is not None:
            self._link.abort()

    @property
    def is_hearing(self) -> bool:
        """Whether a probe came back lately, or there is nothing to hear of."""
        if self._link is None:
            return not self._bus.channels_of(self.shard)
        return monotonic() - self._heard_at < DEAF_AFTER_SECONDS

    def renew(self) -> None:
        """Subscribes anew if it is to other channels than before, or if the primary is elsewhere now."""
        is_elsewhere = self._link is not None and self._address != self.shard.address
        if is_elsewhere or self._channels != self._bus.channels_of(self.shard):
            if self._link is not None:
                self._link.abort()
            else:
                self._broken.set()

    def probe(self) -> None:
        """Sends the node a message from itself; gives up the subscription if the last ones did not come."""
        self.renew()
        if not self._channels:
            return
        command = "SPUBLISH" if self.shard.is_sharded else "PUBLISH"
        text = _PROBE + str(monotonic()).encode()
        self.shard.command(command, self._channels[0], text).add_done_callback(_ignore)
        if self._link is not None and monotonic() - self._heard_at > DEAF_AFTER_SECONDS:
            _log.error("bus deaf", address=str(self._address), seconds=DEAF_AFTER_SECONDS)
            self._link.abort()

    def _keep(self) -> None:
        self._keeper = asyncio.create_task(self._keep_subscribed(), name="bus subscribe")

    async def _subscribe(self) -> None:
        channels = self._bus.channels_of(self.shard)
        if self._link is not None:
            # Asked to subscribe to other channels while it was subscribing.
            link, self._link = self._link, None
            link.abort()
        if channels:
            address = self.shard.address
            self._early = []
            opened = await self._open(address, channels)
            self._heard_at = monotonic()
            self._link, self._address = opened, address
        self._channels = channels

    async def _open(self, address: Address, channels: list[str]) -> Link:
        timeout_seconds = self.shard.timeout_seconds
        link = await Link.open(address, timeout_seconds, on_lost=self._link_lost, on_push=self._receive)
        link.on_refusal = self.shard.refused
        command = "SSUBSCRIBE" if self.shard.is_sharded else "SUBSCRIBE"
        try:
            async with asyncio.timeout(timeout_seconds):
                # One by one: a command may name channels of one slot.
                await asyncio.gather(*(link.command(command, channel) for channel in channels))
        except TimeoutError as error:
            link.abort()
            raise StoreUnavailable(f"Redis at {address} does not answer") from error
        except BaseException:  # refused, or given up by who waits for it
            link.abort()
            raise
        if not link.is_open:
            # It broke behind the answer, before anybody watched it.
            raise StoreUnavailable(f"Redis at {address} has closed the connection")
        return link

    def _link_lost(self, link: Link) -> None:
        if link is self._link:
            self._link = None
            self._broken.set()

    async def _keep_subscribed(self) -> None:
        while True:
            await self._broken.wait()
            self._broken.clear()
            await retry(self._subscribe)
            if self._channels:
                self._bus.subscribed_anew()
                self._hear_early()

    def _hear_early(self) -> None:
        early, self._early = self._early, None
        for data in early or ():
            self._bus.received(data)

    def _receive(self, push: list[Any]) -> None:
        if push[0] in _MESSAGES:
            self._heard_at = monotonic()
            if self._early is None:
                self._bus.received(push[2])
            else:
                self._early.append(push[2])
        elif push[0] == b"sunsubscribe" and self._link is not None:
            # A slot has left this primary, and with it what is said of its sites.
            self._link.abort()


def parse(data: bytes) -> tuple[str, int, LiveMessage]:
    """A bus message (see `tell` in lua/_shared.lua): its site, its counter and what it carries."""
    kind, site, counter, seq, id_, recipients, resync, body = data.split(b"\n", 7)
    message = LiveMessage(int(seq), id_.decode(), body)
    if kind == b"audience":
        message.audience = parse_head(recipients)
    elif kind == b"rooms":
        message.rooms = _rooms_decoder.decode(recipients)
    else:
        message.recipients = recipients.split(b",") if recipients else ()
        message.resync_recipients = resync.split(b",") if resync else ()
    return site.decode(), int(counter), message


def _ignore(answer: "asyncio.Future[Any]") -> None:
    if not answer.cancelled():
        answer.exception()
