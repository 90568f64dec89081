"""The channels of one site that have subscribers on this node, and the delivery of pushes to these subscribers.

Of Redis it knows only that a channel exists there as the digest of its token; the core hands it the pushes.
"""

import asyncio

from app.config.settings import Site
from app.core.audiences import Audiences
from app.core.message import LiveMessage
from app.observe.counts import SiteCounts
from app.protocols.channels.channel_store import ChannelStore
from app.protocols.channels.detail import decode_detail
from app.protocols.channels.messages import Push, pushed_text
from app.protocols.channels.subscriber import Subscriber, SubscriberPhase

_NAMES_PER_COMMAND = 1_000


class Channel:
    """One channel with its subscribers on this node. Lives while it has subscribers."""

    __slots__ = ("digest", "subscribers")

    def __init__(self, digest: bytes) -> None:
        #: The digest of the channel's token, which distinguishes it from an earlier channel of the same name.
        self.digest = digest
        self.subscribers: dict[Subscriber, None] = {}


class Board:
    """The channels and subscribers of one site on this node. Lives as long as the node."""

    def __init__(self, site: Site, audiences: Audiences, store: ChannelStore, counts: SiteCounts) -> None:
        self.site = site
        #: The subscribers by uuid.
        self.subscribers: dict[str, Subscriber] = {}
        #: The seq of the last message that was delivered.
        self.last_seq = 0
        #: Resumable subscribers that received the message that is being delivered.
        self.behind: list[Subscriber] = []
        self._audiences = audiences
        self._store = store
        self._counts = counts
        self._channels: dict[str, Channel] = {}
        self._deserted: asyncio.Event | None = None
        #: Deletions heard so far: an answer of Redis about a channel may be out of date after one.
        self._deletions = 0

    # Subscribers

    def add(self, subscriber: Subscriber) -> None:
        """Adds a subscriber, which publishers may address by its uuid."""
        self.subscribers[subscriber.uuid] = subscriber

    def remove(self, subscriber: Subscriber) -> None:
        """Removes a subscriber from the board and from its channels."""
        if self.subscribers.get(subscriber.uuid) is subscriber:
            del self.subscribers[subscriber.uuid]
        for name in list(subscriber.channels):
            self.leave(subscriber, name)
        if not self.subscribers and self._deserted is not None:
            self._deserted.set()

    async def wait_deserted(self) -> None:
        """Waits until the last of the present subscribers has gone."""
        self._deserted = asyncio.Event()
        await self._deserted.wait()

    async def enter(self, subscriber: Subscriber, name: str) -> bytes | None:
        """Subscribes the subscriber to a channel, unless the subscriber is closed by then. Returns the digest of the
        channel's token; None: the channel does not exist. There is no await after the moment at which the subscriber
        begins to get pushes. Raises StoreUnavailable."""
        channel = self._channels.get(name)
        if channel is None:
            digest = await self._join(name)
            if digest is None:
                return None
            channel = self._take_in(name, digest)
        if subscriber.phase is not SubscriberPhase.CLOSED:
            channel.subscribers[subscriber] = None
            subscriber.enter(name)
        self._leave_if_deserted(name)
        return channel.digest

    def leave(self, subscriber: Subscriber, name: str) -> None:
        """Unsubscribes the subscriber: no more pushes of the channel are written to it."""
        subscriber.leave(name)
        channel = self._channels.get(name)
        if channel is not None:
            channel.subscribers.pop(subscriber, None)
            self._leave_if_deserted(name)

    async def exists(self, name: str) -> bool:
        """Whether the channel exists. Raises StoreUnavailable."""
        return name in self._channels or (await self._store.channel_digests(self.site, [name]))[0] is not None

    # Messages

    def published(self, message: LiveMessage) -> None:
        """Delivers a push, or handles a deletion."""
        assert message.audience is not None, "only messages for audiences get here"
        self.last_seq = message.seq
        detail = decode_detail(message.audience.detail)
        if detail.is_mark:
            return
        for name in message.audience.names:
            if detail.deleted:
                self._delete(name, bytes.fromhex(detail.deleted))
            elif name in self._channels:
                self._push(Push(message.seq, name, pushed_text(message.body)), detail.recipients)
        behind, self.behind = self.behind, []
        for subscriber in behind:
            subscriber.ping()

    async def verify(self) -> None:
        """Checks all channels after a loss of messages, because a deletion may be among the lost ones: unsubscribes
        everyone from channels that no longer exist. Raises StoreUnavailable."""
        names = list(self._channels)
        for start in range(0, len(names), _NAMES_PER_COMMAND):
            part = names[start : start + _NAMES_PER_COMMAND]
            for name, digest in zip(part, await self._store.channel_digests(self.site, part), strict=True):
                channel = self._channels.get(name)
                if channel is not None and channel.digest != digest:
                    self._delete(name, channel.digest)

    def _push(self, push: Push, recipients: list[str]) -> None:
        subscribers = self._channels[push.channel].subscribers
        if recipients:
            known = (self.subscribers.get(uuid) for uuid in dict.fromkeys(recipients))
            chosen = tuple(subscriber for subscriber in known if subscriber is not None and subscriber in subscribers)
        else:
            # Iterate over a copy, because a write may remove the subscriber.
            chosen = tuple(subscribers)
        self._counts.deliveries += len(chosen)
        for subscriber in chosen:
            subscriber.push(push)

    def _delete(self, name: str, digest: bytes) -> None:
        self._deletions += 1
        channel = self._channels.get(name)
        if channel is not None and channel.digest == digest:
            for subscriber in list(channel.subscribers):
                subscriber.expel(name)
            channel.subscribers.clear()
            self._leave_if_deserted(name)

    # Joining and leaving

    async def _join(self, name: str) -> bytes | None:
        """Joins a channel that has no subscribers on this node yet. Returns the digest of its token; None: the channel
        does not exist, and the node has not joined it.

        The node joins the name before it asks Redis, so it hears every deletion that follows the answer. A deletion
        heard before the answer makes the answer worthless, so Redis is asked again.
        """
        await self._audiences.join(self.site, [name])
        try:
            deletions = -1
            while deletions != self._deletions:
                deletions = self._deletions
                (digest,) = await self._store.channel_digests(self.site, [name])
        except BaseException:
            self._audiences.leave(self.site, [name])
            raise
        if digest is None:
            self._audiences.leave(self.site, [name])
        return digest

    def _take_in(self, name: str, digest: bytes) -> Channel:
        """Returns the channel, joined once even when several subscribers have asked for it at the same time."""
        channel = self._channels.get(name)
        if channel is not None and channel.digest != digest:
            # Answers arrive in order, so this one is newer and the known channel was deleted.
            self._delete(name, channel.digest)
            channel = None
        if channel is None:
            channel = self._channels[name] = Channel(digest)
        else:
            self._audiences.leave(self.site, [name])
        return channel

    def _leave_if_deserted(self, name: str) -> None:
        channel = self._channels.get(name)
        if channel is not None and not channel.subscribers:
            del self._channels[name]
            self._audiences.leave(self.site, [name])
