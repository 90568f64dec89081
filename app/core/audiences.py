"""What this node listens to for one protocol: the names joined in Redis, and a stream of messages without holes.

Knows nothing of the connections behind a name: the protocol hands out what it hears.
"""

from collections import Counter
from collections.abc import Awaitable, Iterable, Sequence
from functools import partial

from app.config.settings import Site
from app.core.errands import Errands
from app.core.message import History, LiveMessage
from app.core.ports import AudienceListener, QueueStore

#: Names told to Redis in one command when all are joined anew.
_NAMES_PER_COMMAND = 1_000
_MAX_MESSAGES = 500
_MAX_BYTES = 4_000_000


class _Feed:
    """What one site's audience on this node has heard. Lives as long as the node."""

    __slots__ = ("held", "is_filling", "last_seq", "names", "wants_refill")

    def __init__(self) -> None:
        #: How many have joined each name.
        self.names: Counter[str] = Counter()
        #: Of the last message handed on; None until there is a point from which nothing may be missing.
        self.last_seq: int | None = None
        self.is_filling = False
        #: A gap came while one was being filled.
        self.wants_refill = False
        #: What came while a gap was being filled.
        self.held: list[LiveMessage] = []


class Audiences:
    """The audiences of one protocol on this node, of all sites. Lives as long as the node."""

    def __init__(self, protocol: str, listener: AudienceListener, store: QueueStore, errands: Errands) -> None:
        self.protocol = protocol
        self.listener = listener
        self._store = store
        self._errands = errands
        self._feeds: dict[str, _Feed] = {}

    async def join(self, site: Site, names: Iterable[str]) -> None:
        """What is published to these names after this has returned is heard; each `join` wants its `leave`.

        Raises StoreUnavailable; nothing is joined then.
        """
        names = list(names)
        feed = self._feeds.setdefault(site.name, _Feed())
        feed.names.update(names)
        try:
            # Also names that others have joined: theirs may be under way, and fail.
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
        if deserted:
            self._errands.start(self._leave(site, feed, deserted))

    async def history(
        self, site: Site, after_seq: int, max_messages: int = _MAX_MESSAGES, max_bytes: int = _MAX_BYTES
    ) -> History:
        """What the protocol's history of the site holds behind a seq, whatever its names. Raises StoreUnavailable."""
        return await self._store.history(site, self.protocol, after_seq, max_messages, max_bytes)

    def hear(self, site: Site, message: LiveMessage) -> None:
        """From the bus."""
        feed = self._feeds.get(site.name)
        if feed is None:
            return
        if feed.is_filling:
            feed.held.append(message)
        else:
            self._hand_on(site, feed, message)

    def refill(self, site: Site) -> None:
        """Something may be missing, the names in Redis among it: joins them anew and reads the history."""
        feed = self._feeds.get(site.name)
        if feed is None:
            return
        feed.wants_refill = True
        if not feed.is_filling and feed.names:
            feed.is_filling = True
            self._errands.start(self._fill(site, feed))

    def _hand_on(self, site: Site, feed: _Feed, message: LiveMessage) -> None:
        if feed.last_seq is None or message.seq > feed.last_seq:
            feed.last_seq = message.seq
            self.listener.published(site, message)

    async def _fill(self, site: Site, feed: _Feed) -> None:
        try:
            while feed.wants_refill:
                feed.wants_refill = False
                names = list(feed.names)
                for start in range(0, len(names), _NAMES_PER_COMMAND):
                    await self._join_anew(site, feed, names[start : start + _NAMES_PER_COMMAND])
                await self._read_missed(site, feed)
        finally:
            feed.is_filling = False
            held, feed.held = feed.held, []
            for message in held:
                self._hand_on(site, feed, message)

    async def _join_anew(self, site: Site, feed: _Feed, names: Sequence[str]) -> None:
        def join_those_left() -> Awaitable[int]:
            return self._store.join_audience(site, self.protocol, [name for name in names if name in feed.names])

        await self._errands.until_stored(join_those_left)

    async def _read_missed(self, site: Site, feed: _Feed) -> None:
        has_more = True
        while has_more and feed.last_seq is not None:
            after_seq = feed.last_seq
            history = await self._errands.until_stored(partial(self.history, site, after_seq))
            if not history.is_complete or history.last_seq < after_seq:
                self.listener.missed(site)
            for message in history.messages:
                assert message.audience is not None, "only messages for audiences are in a history"
                if any(name in feed.names for name in message.audience.names):
                    self._hand_on(site, feed, message)
            has_more = history.has_more
            if has_more:
                feed.last_seq = max(after_seq, history.messages[-1].seq)
            elif history.last_seq < after_seq:
                # This Redis counts anew.
                feed.last_seq = None
            elif history.is_complete:
                feed.last_seq = history.last_seq

    async def _leave(self, site: Site, feed: _Feed, names: Sequence[str]) -> None:
        # A name that was joined again since is left out; one that is joined later comes after this.
        await self._errands.until_stored(
            lambda: self._store.leave_audience(site, self.protocol, [name for name in names if name not in feed.names])
        )
