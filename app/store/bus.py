"""The bus: this node's subscription at each primary, and the form of a message on it."""

import asyncio
from collections import Counter
from collections.abc import Callable, Iterable
from functools import partial

import msgspec
import structlog

from app.config.settings import Site
from app.core.message import LiveMessage
from app.core.ports import BusListener
from app.errors import StoreUnavailable
from app.observe.counts import Durations
from app.redis.client import Commands, Redis
from app.redis.subscription import Subscription
from app.store.audience import parse_head
from app.store.keys import bus_channel, prefix, shard_channel
from app.store.node_calls import ANSWER, CALL

_log = structlog.get_logger(__name__)
#: The begin of a bus message that is no message, and has no counter.
_HOOKS = b"hooks\n"
#: The same: a change in a room that this node watches; see lua/_inside.lua.
_PRESENCE = b"presence\n"
#: The begins of all of them; those of calls between nodes are in `node_calls.py`.
_ASIDE = (_HOOKS, _PRESENCE, CALL, ANSWER)
_rooms_decoder = msgspec.json.Decoder(list[str])


class Bus:
    """The subscriptions of one node. Lives as long as the node: `start` subscribes, `close` ends them."""

    def __init__(
        self,
        redis: Commands,
        node: str,
        listener: BusListener,
        probe_seconds: Durations | None = None,
        sites: Iterable[Site] = (),
    ) -> None:
        """`probe_seconds` counts how long each probe takes. In a Cluster the node hears the messages of `sites`."""
        self._redis = redis
        self._node = node
        self._listener = listener
        self._probe_seconds = probe_seconds or Durations()
        #: Counts messages whose listeners have failed.
        self.faults: Counter[str] = Counter()
        #: Called with the site and the seq of each message that arrives.
        self.on_seq: Callable[[str, int], None] = lambda site, seq: None
        #: Called with the name of a site whose outbox has events, see lua/_wake.lua.
        self.hook_wakes: list[Callable[[str], None]] = []
        #: Called with each change in a watched room.
        self.presence_changes: list[Callable[[bytes], None]] = []
        #: Called with each call of another node, and with each answer.
        self.on_call: Callable[[bytes], None] = lambda data: None
        self._sites = [site.name for site in sites]
        self._subscriptions: dict[Redis, Subscription] = {}
        self._closing: set[asyncio.Task[None]] = set()

    async def start(self) -> None:
        """Subscribes. Raises StoreUnavailable when Redis is away.

        In a Cluster the subscription at a shard that is away is retried in the background.
        """
        for shard in self._redis.shards:
            subscription = self._new_subscription(shard)
            try:
                await subscription.start()
            except StoreUnavailable:
                if not self._redis.is_sharded:
                    raise
                subscription.begin()
        self._redis.on_shards_changed = self._rearrange
        self._rearrange()

    async def add(self, sites: Iterable[Site]) -> None:
        """Hears the messages of more sites, too. A subscription that cannot take their channels is made again."""
        self._sites += [site.name for site in sites if site.name not in self._sites]
        await asyncio.gather(*(subscription.extend() for subscription in self._subscriptions.values()))

    def remove(self, site: str) -> None:
        """Needs no messages of a site any more. The channel of a Cluster is left with the next subscription."""
        self._sites = [name for name in self._sites if name != site]

    async def close(self) -> None:
        """Ends the subscriptions."""
        self._redis.on_shards_changed = None
        await asyncio.gather(*(one.close() for one in self._subscriptions.values()), *self._closing)

    @property
    def is_hearing(self) -> bool:
        """Whether probes came back lately from every primary that has a link. May be read from any thread."""
        subscriptions = list(self._subscriptions.items())
        return any(one.is_hearing for _, one in subscriptions) and all(
            one.is_hearing for shard, one in subscriptions if shard.is_available
        )

    def channels_of(self, shard: Redis) -> list[str]:
        """The channels of this node at a primary."""
        own = bus_channel(self._node)
        if not self._redis.is_sharded:
            return [own]
        channels = [
            shard_channel(self._node, site) for site in self._sites if self._redis.shard_of(prefix(site)) is shard
        ]
        return [own, *channels] if self._redis.shard_of(own) is shard else channels

    def _new_subscription(self, shard: Redis) -> Subscription:
        channels = partial(self.channels_of, shard)
        subscription = Subscription("bus", shard, channels, self.receive, self._probe_seconds, shard.is_sharded)
        subscription.on_made = self._subscribed_again
        subscription.faults = self.faults
        self._subscriptions[shard] = subscription
        return subscription

    def receive(self, data: bytes) -> None:
        """From a subscription: whatever was published to this node."""
        if data.startswith(_ASIDE):
            self._receive_aside(data)
            return
        site, counter, message = parse(data)
        self.on_seq(site, message.seq)
        self._listener.message_published(site, counter, message)

    def _receive_aside(self, data: bytes) -> None:
        """A call, a wake or a change in a room: these are no messages, and have no counter."""
        if data.startswith(_PRESENCE):
            for hear in self.presence_changes:
                hear(data.removeprefix(_PRESENCE))
            return
        if not data.startswith(_HOOKS):
            self.on_call(data)
            return
        for wake in self.hook_wakes:
            wake(data.removeprefix(_HOOKS).decode())

    def _subscribed_again(self) -> None:
        """Messages that were published while there was no subscription are missing."""
        _log.warning("bus subscribed anew")
        self._listener.bus_interrupted()

    def _rearrange(self) -> None:
        """The primaries, or the slots that they hold, have changed."""
        shards = self._redis.shards
        for shard in [shard for shard in self._subscriptions if shard not in shards]:
            task = asyncio.ensure_future(self._subscriptions.pop(shard).close())
            self._closing.add(task)
            task.add_done_callback(self._closing.discard)
        for shard in shards:
            if shard in self._subscriptions:
                self._subscriptions[shard].renew()
            else:
                self._new_subscription(shard).begin()


#: The kinds of a bus message that are about an earlier message or a device, or are kept nowhere.
_NOTICES = {b"withdraw": "withdraw", b"acked": "acked", b"left": "left", b"close": "close", b"whisper": "whisper"}


def parse(data: bytes) -> tuple[str, int, LiveMessage]:
    """Reads a bus message (see `tell` in lua/_tell.lua): its site, its counter and the message in it."""
    kind, site, counter, seq, id_, recipients, resync, body = data.split(b"\n", 7)
    message = LiveMessage(int(seq), id_.decode(), body)
    if kind == b"audience":
        message.audience = parse_head(recipients)
    elif kind == b"rooms":
        message.rooms = _rooms_decoder.decode(recipients)
    else:
        message.notice = _NOTICES.get(kind, "")
        message.recipients = recipients.split(b",") if recipients else ()
        message.resync_recipients = resync.split(b",") if resync else ()
    return site.decode(), int(counter), message
