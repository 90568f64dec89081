"""The names that this node listens to for one protocol, joined in Redis, and a stream of their messages without gaps.

Knows nothing of the connections behind a name: the protocol hands the messages out.
"""

from collections import Counter
from collections.abc import Awaitable, Callable, Iterable, Sequence
from functools import partial

import structlog

from app.config.settings import Site
from app.core.catch_up import CatchUp
from app.core.errands import Errands
from app.core.leavings import Leavings
from app.core.message import History, LiveMessage
from app.core.ports import AudienceListener, QueueStore
from app.errors import StoreAway

_log = structlog.get_logger(__name__)

#: Names in one command when all names are joined again.
_NAMES_PER_COMMAND = 1_000
_MAX_MESSAGES = 500
_MAX_BYTES = 4_000_000


class _Feed:
    """The messages of one site that this node hears for the protocol. Lives as long as the node."""

    __slots__ = ("held", "last_seq", "leavings", "names", "wants_refill")

    def __init__(self, new_leavings: Callable[[Callable[[str], bool]], Leavings]) -> None:
        #: How often each name was joined.
        self.names: Counter[str] = Counter()
        self.leavings = new_leavings(self.names.__contains__)
        #: The seq of the last message handed on; None until there is a seq behind which nothing may be missing.
        self.last_seq: int | None = None
        #: The bus had a gap since the names were last joined.
        self.wants_refill = False
        #: Set while a gap is being filled.
        self.held: CatchUp[LiveMessage] | None = None


class Audiences:
    """The audiences of one protocol on this node, of all sites. Lives as long as the node."""

    def __init__(self, protocol: str, listener: AudienceListener, store: QueueStore, errands: Errands) -> None:
        self.protocol = protocol
        self.listener = listener
        self._store = store
        self._errands = errands
        self.is_away = store.is_away
        #: Awaited before a further page of a history is read, so that a listener that writes slowly is done with the
        #: last one.
        self.before_page: Callable[[Site], Awaitable[None]] = _at_once
        #: Counts messages whose listener has failed.
        self.faults: Counter[str] = Counter()
        self._feeds: dict[str, _Feed] = {}

    async def join(self, site: Site, names: Iterable[str]) -> None:
        """Messages that are published to these names after this has returned are heard; each `join` wants its `leave`.

        Raises StoreUnavailable; nothing is joined then.
        """
        if self._store.is_away(site.name):
            raise StoreAway
        names = list(names)
        feed = self._feed_of(site)
        feed.names.update(names)
        try:
            # Also names that are joined already: the command of that other `join` may be under way, and fail.
            last_seq = await self._store.join_audience(site, self.protocol, names)
        except BaseException:
            self.leave(site, names)
            raise
        if feed.last_seq is None:
            feed.last_seq = last_seq

    def leave(self, site: Site, names: Iterable[str]) -> None:
        """Takes back a `join` of these names; returns at once."""
        feed = self._feeds[site.name]
        deserted = []
        for name in names:
            feed.names[name] -= 1
            if feed.names[name] <= 0:
                del feed.names[name]
                deserted.append(name)
        if not feed.names:
            feed.last_seq = None
        feed.leavings.add(deserted)

    async def history(
        self, site: Site, after_seq: int, max_messages: int = _MAX_MESSAGES, max_bytes: int = _MAX_BYTES
    ) -> History:
        """The protocol's history of the site behind a seq, whatever the names. Raises StoreUnavailable."""
        return await self._store.history(site, self.protocol, after_seq, max_messages, max_bytes)

    def hear(self, site: Site, message: LiveMessage) -> None:
        """From the bus."""
        feed = self._feeds.get(site.name)
        if feed is None:
            return
        if feed.held is not None:
            feed.held.hold(message.seq, len(message.body), message)
        else:
            self._hand_on(site, feed, message)

    def refill(self, site: Site) -> None:
        """Messages may be missing, and names in Redis too: joins the names again and reads the history."""
        feed = self._feeds.get(site.name)
        if feed is None:
            return
        feed.wants_refill = True
        if feed.held is None and feed.names:
            feed.held = CatchUp()
            self._errands.start_in_turns(partial(self._fill, site, feed, feed.held))

    def _hand_on(self, site: Site, feed: _Feed, message: LiveMessage) -> None:
        if feed.last_seq is None or message.seq > feed.last_seq:
            feed.last_seq = message.seq
            try:
                self.listener.published(site, message)
            except Exception:
                # The messages behind this one, and the listeners of other protocols, go on.
                self.faults[self.protocol] += 1
                _log.exception("listener failed", protocol=self.protocol, site=site.name, seq=message.seq)

    async def _fill(self, site: Site, feed: _Feed, held: CatchUp[LiveMessage]) -> None:
        try:
            while feed.wants_refill or (held.has_gap and feed.last_seq is not None):
                if feed.wants_refill:
                    feed.wants_refill = False
                    await self._join_again(site, feed)
                await self._read_missed(site, feed, held)
        finally:
            feed.held = None
            if held.has_gap:
                # Where nothing was heard yet there is no seq to read the history from.
                self.listener.missed(site)
            else:
                for message in held.release(feed.last_seq or 0):
                    self._hand_on(site, feed, message)

    async def _join_again(self, site: Site, feed: _Feed) -> None:
        names = list(feed.names)
        for start in range(0, len(names), _NAMES_PER_COMMAND):
            part = names[start : start + _NAMES_PER_COMMAND]
            await self._errands.until_stored(partial(self._join_names, site, feed, part), site.name)

    def _join_names(self, site: Site, feed: _Feed, names: Sequence[str]) -> Awaitable[int]:
        """Joins those of the names that were not left meanwhile."""
        return self._store.join_audience(site, self.protocol, [name for name in names if name in feed.names])

    async def _read_missed(self, site: Site, feed: _Feed, held: CatchUp[LiveMessage]) -> None:
        has_more = True
        while has_more and feed.last_seq is not None:
            after_seq = feed.last_seq
            if held.has_gap:
                held.restart()
            history = await self._errands.until_stored(partial(self.history, site, after_seq), site.name)
            if not history.is_complete or history.last_seq < after_seq:
                self.listener.missed(site)
            for message in history.messages:
                assert message.audience is not None, "only messages for audiences are in a history"
                if any(name in feed.names for name in message.audience.names):
                    self._hand_on(site, feed, message)
            has_more = history.has_more or held.has_gap
            if history.has_more:
                feed.last_seq = max(after_seq, history.messages[-1].seq)
            elif history.last_seq < after_seq:
                # This Redis counts from the start again.
                feed.last_seq = None
            elif history.is_complete or held.has_gap:
                feed.last_seq = history.last_seq
            if has_more:
                await self.before_page(site)

    def _feed_of(self, site: Site) -> _Feed:
        if site.name not in self._feeds:
            leave = partial(self._store.leave_audience, site, self.protocol)
            self._feeds[site.name] = _Feed(partial(Leavings, self._errands, site.name, leave))
        return self._feeds[site.name]


async def _at_once(site: Site) -> None:
    """A listener that does not write slowly."""
