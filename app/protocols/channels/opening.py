"""How a subscriber begins: as a new one, as a new resumable one, or as the resumption of an earlier one.

A resumed subscriber gets back its channels and its missed pushes. They are read page by page from the site's history,
starting behind its position and as far as the history reaches, and are written before any new push.
"""

import asyncio
import secrets
from collections.abc import Mapping

from msgspec import Struct

from app.core.audiences import Audiences
from app.core.message import History, LiveMessage
from app.digests import digest
from app.observe.counts import SiteCounts
from app.protocols.channels.board import Board
from app.protocols.channels.channel_store import ChannelStore, KeptSubscription, Resumed
from app.protocols.channels.detail import decode_detail
from app.protocols.channels.figures import ChannelsCounts
from app.protocols.channels.messages import MISSED, UNSUBSCRIBED, Push, pushed_text
from app.protocols.channels.sockets import Ending
from app.protocols.channels.subscriber import Resumption, Subscriber, SubscriberPhase

_SECRET_BYTES = 32
#: The size of a page of the history. A page fits in the outbox, so a slow reader is waited for and not closed.
_PAGE_MESSAGES = 500
_UUID_CHARACTERS = 36


class OpeningRequest(Struct, frozen=True):
    """The wishes of a client, from its query. Its repr holds no secret."""

    #: `resumable=1`: the client asks for a secret with which it can resume later.
    is_resumable: bool
    #: `resume=` and `secret=`: the subscriber to resume.
    uuid: str
    secret: str

    @classmethod
    def of(cls, query: Mapping[str, str]) -> "OpeningRequest":
        """The request that the query contains."""
        is_resumable = query.get("resumable") in ("1", "true")
        # Capitals make no other uuid.
        return cls(is_resumable, query.get("resume", "").lower(), query.get("secret", ""))

    @property
    def is_plain(self) -> bool:
        """Whether the client uses the original contract only."""
        return not self.is_resumable and not self.uuid

    def __repr__(self) -> str:
        return f"OpeningRequest({self.is_resumable}, {self.uuid!r})"


class Opening:
    """Opens the subscribers of one site. Lives as long as the node."""

    def __init__(self, board: Board, audiences: Audiences, store: ChannelStore, counts: SiteCounts) -> None:
        self._board = board
        self._site = board.site
        self._audiences = audiences
        self._store = store
        self._figures = counts.part(ChannelsCounts)

    def open_plain(self, subscriber: Subscriber) -> None:
        """Opens a new subscriber as in the original: its state is in this process only."""
        self._board.add(subscriber)
        subscriber.acknowledge()
        subscriber.go_live(0)

    async def open(self, subscriber: Subscriber, wish: OpeningRequest) -> None:
        """Resumes the requested subscriber, or else opens a new one. Raises StoreUnavailable."""
        resumed = await self._resume(wish)
        if wish.uuid:
            self._figures.resumes["resumed" if resumed else "refused"] += 1
        if subscriber.phase is SubscriberPhase.CLOSED:
            pass
        elif resumed is not None:
            await self._open_again(subscriber, wish, resumed)
        elif wish.is_resumable:
            await self._open_resumable(subscriber)
        else:
            self.open_plain(subscriber)

    async def _resume(self, wish: OpeningRequest) -> Resumed | None:
        if len(wish.uuid) != _UUID_CHARACTERS:
            return None
        return await self._store.resume_subscriber(self._site, wish.uuid, digest(wish.secret))

    async def _open_resumable(self, subscriber: Subscriber) -> None:
        secret = secrets.token_urlsafe(_SECRET_BYTES)
        position = await self._store.register_subscriber(self._site, subscriber.uuid, digest(secret))
        if subscriber.phase is SubscriberPhase.CLOSED:
            # The client has gone meanwhile. It never got the secret, and the keys in Redis expire.
            return
        subscriber.resumption = Resumption(position)
        self._board.add(subscriber)
        subscriber.acknowledge({"secret": secret})
        subscriber.go_live(position.seq)

    async def _open_again(self, subscriber: Subscriber, wish: OpeningRequest, resumed: Resumed) -> None:
        subscriber.uuid = wish.uuid
        subscriber.resumption = Resumption(resumed.position)
        before = self._board.subscribers.get(wish.uuid)
        if before is not None:
            # Either the old connection is dead unnoticed, or the client has two: the newer one counts.
            before.close(Ending.TAKEN_OVER)
            self._board.remove(before)
        self._board.add(subscriber)
        await self._enter_again(subscriber, [kept for kept in resumed.subscriptions if kept.deleted_seq is None])
        await self._replay(subscriber, resumed, {"secret": wish.secret} if wish.is_resumable else {})

    async def _enter_again(self, subscriber: Subscriber, subscriptions: list[KeptSubscription]) -> None:
        # All channels at once. Commands keep the order of their calls, so the order of subscribing stays.
        digests = await asyncio.gather(*(self._board.enter(subscriber, kept.channel) for kept in subscriptions))
        for kept, found in zip(subscriptions, digests, strict=True):
            if found != kept.digest:
                self._board.leave(subscriber, kept.channel)
        subscriber.channels = {kept.channel: None for kept in subscriptions if kept.channel in subscriber.channels}

    async def _replay(self, subscriber: Subscriber, resumed: Resumed, extra: dict[str, str | bool]) -> None:
        wanted = {kept.channel: kept for kept in resumed.subscriptions}
        history = await self._read(subscriber, resumed.position.seq)
        told = list(subscriber.channels)
        subscriber.acknowledge(extra | _missed(history) if wanted else extra)
        while subscriber.phase is not SubscriberPhase.CLOSED:
            for message in history.messages:
                self._write_missed(subscriber, wanted, message)
            if not history.has_more and not subscriber.has_gap:
                break
            seq = history.messages[-1].seq if history.has_more else history.last_seq
            await subscriber.confirm(seq)
            history = await self._read(subscriber, seq)
            if not history.is_complete:
                subscriber.acknowledge(_missed(history), MISSED)
        subscriber.go_live(history.last_seq)
        if subscriber.phase is not SubscriberPhase.LIVE:
            return
        if told != list(subscriber.channels):
            # A channel was deleted meanwhile: the client's list is out of date.
            subscriber.acknowledge(message=UNSUBSCRIBED)
        if len(subscriber.channels) == len(resumed.subscriptions):
            subscriber.ping()
        else:
            # A push from before a channel's deletion can be matched to this subscriber only until it subscribes to the
            # next channel of that name. So its receipt is awaited here.
            await subscriber.confirm(history.last_seq)

    async def _read(self, subscriber: Subscriber, after_seq: int) -> History:
        """The next page of the history; pushes that arrive from here on are held."""
        subscriber.forget_held()
        max_bytes = max(1, self._site.outbox_limit_bytes // 2)
        return await self._audiences.history(self._site, after_seq, _PAGE_MESSAGES, max_bytes)

    def _write_missed(self, subscriber: Subscriber, wanted: dict[str, KeptSubscription], message: LiveMessage) -> None:
        assert message.audience is not None, "only messages for audiences are in a history"
        detail = decode_detail(message.audience.detail)
        for name in message.audience.names:
            kept = wanted.get(name)
            if kept is None:
                continue
            if detail.deleted == kept.digest.hex():
                # Later pushes belong to another channel of the same name.
                del wanted[name]
            elif not detail.deleted and _is_for(subscriber, kept, message.seq, detail.recipients):
                subscriber.write_push(Push(message.seq, name, pushed_text(message.body)))
                self._figures.replayed += 1


def _is_for(subscriber: Subscriber, kept: KeptSubscription, seq: int, recipients: list[str]) -> bool:
    is_of_the_time = kept.since_seq < seq and (kept.deleted_seq is None or seq < kept.deleted_seq)
    return is_of_the_time and (not recipients or subscriber.uuid in recipients)


def _missed(history: History) -> dict[str, str | bool]:
    """The mark for a client whose missed pushes are no longer all in the history."""
    return {} if history.is_complete else {"missed": True}
