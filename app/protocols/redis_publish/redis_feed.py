"""A node's subscription for one site: always to the node's own channel, and to the application's with the lease."""

import asyncio
from time import monotonic

import structlog

from app.config.settings import Site
from app.protocols.redis_publish.mailbox_ports import MailListener, PublishReader, Told
from app.protocols.redis_publish.redis_keys import publish_prefix
from app.protocols.redis_publish.settings import RedisPublish
from app.redis.client import Commands
from app.redis.subscription import Subscription

_log = structlog.get_logger(__name__)


class PublishFeed:
    """The subscription of one node for one site. Lives as long as the node: `start` subscribes, `close` ends it.

    In a Cluster it may be made at any server: each server passes on messages published at any other.
    """

    def __init__(self, redis: Commands, node: str, site: Site, settings: RedisPublish) -> None:
        self._site = site.name
        self._prefix = settings.prefix
        self._patterns = [f"{settings.prefix}.{kind}.*" for kind in ("users", "channels")]
        channels = [publish_prefix(settings.prefix) + node]
        self.subscription = Subscription("redis publish", redis, lambda: channels, self._receive_own)
        self.subscription.on_made = self._subscribed
        self.subscription.on_lost = self._interrupted
        self.subscription.on_matched = self._receive_published
        self._is_first = True
        self._is_listening = False
        #: Both have to be set before `start`.
        self.listener: MailListener
        self.reader: PublishReader
        #: The time when this node stopped hearing the application; the lease reads it.
        self.deaf_since: float | None = None
        #: Set when this node should ask for the lease at once: its owner offers it, or this node can hear again.
        self.may_ask = asyncio.Event()
        self.is_offered = False
        #: Set when the lease has passed from one owner to the next. The mark for it is ordered with the application's
        #: messages.
        self.handed = asyncio.Event()
        #: Set when the last owner has delivered all that it heard before the mark.
        self.drained = asyncio.Event()

    def start(self) -> None:
        """Subscribes when Redis can be reached; returns at once."""
        self.subscription.begin()

    async def close(self) -> None:
        """Ends the subscription."""
        await self.subscription.close()

    @property
    def is_hearing(self) -> bool:
        """Whether a recent probe has come back."""
        return self.subscription.is_hearing

    async def listen(self) -> None:
        """Listens to the application's messages from here on, until the link breaks. Raises StoreUnavailable."""
        self._is_listening = True
        await self.subscription.command("PSUBSCRIBE", *self._patterns)

    async def turn_away(self) -> None:
        """Stops listening to the application. When this returns, none of its messages is on its way. Raises
        StoreUnavailable."""
        self._is_listening = False
        await self.subscription.command("PUNSUBSCRIBE", *self._patterns)

    def _subscribed(self) -> None:
        # This node may ask for the lease again.
        self.may_ask.set()
        if not self._is_first:
            _log.warning("redis publish subscribed anew", site=self._site)
            self.listener.subscription_interrupted()
        self._is_first = False

    def _interrupted(self) -> None:
        if self._is_listening:
            # Another node may take over the subscription before this node is subscribed again.
            self._is_listening = False
            self.reader.lease_renewed(0, 0.0)
            self.deaf_since = monotonic()
            self.may_ask.set()

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
        elif kind == b"drained":
            self.drained.set()
