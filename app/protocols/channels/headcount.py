"""The number of a site's subscribers on all nodes: each node notes its own in Redis, soon after it has changed."""

import asyncio
from collections.abc import Awaitable

from app.core.errands import Errands
from app.protocols.channels.board import Board
from app.protocols.channels.channel_store import ChannelStore

#: How long other nodes may see an older number.
NOTE_AFTER_SECONDS = 1.0


class Headcount:
    """The noted number of one site's subscribers on this node. Lives as long as the node, which calls `end`."""

    def __init__(self, board: Board, store: ChannelStore, errands: Errands) -> None:
        self._board = board
        self._store = store
        self._errands = errands
        #: The number that Redis has; None: it may have lost it.
        self._noted: int | None = 0
        self._timer: asyncio.TimerHandle | None = None
        self._is_noting = False
        self._has_ended = False

    @property
    def _count(self) -> int:
        return 0 if self._has_ended else len(self._board.subscribers)

    def changed(self) -> None:
        """A subscriber came or went."""
        if self._timer is None and not self._has_ended:
            self._timer = asyncio.get_running_loop().call_later(NOTE_AFTER_SECONDS, self._flush)

    def restore(self) -> None:
        """Redis may have lost the number. A site without subscribers has none to lose."""
        if self._noted != 0 or self._count:
            self._noted = None
            self.changed()

    def end(self) -> None:
        """Notes that this node has no subscribers any more."""
        self._has_ended = True
        if self._timer is not None:
            self._timer.cancel()
        self._flush()

    def _flush(self) -> None:
        self._timer = None
        if not self._is_noting:
            self._is_noting = True
            self._errands.start(self._note())

    async def _note(self) -> None:
        """One note at a time, so that an outage of Redis leaves one errand, with the number of its end."""
        try:
            if self._noted != self._count:
                await self._errands.until_stored(self._attempt, self._board.site.name)
            if self._has_ended and self._noted:
                await self._errands.until_stored(self._attempt, self._board.site.name)
        finally:
            self._is_noting = False
        if self._noted != self._count:
            self.changed()

    def _attempt(self) -> Awaitable[None]:
        self._noted = self._count
        return self._store.note_subscribers(self._board.site, self._noted)
