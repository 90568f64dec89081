"""The confirmed positions of a site's resumable subscribers on this node:
collected, and sent to Redis once a second."""

import asyncio
from functools import partial

import structlog

from app.core.errands import Errands
from app.errors import StoreUnavailable
from app.protocols.channels.board import Board
from app.protocols.channels.channel_store import ChannelStore, Position
from app.protocols.channels.detail import MARK
from app.protocols.channels.sockets import Ending

#: The bound on repeats: a killed node has not sent its last positions, so pushes since then are replayed.
FLUSH_AFTER_SECONDS = 1.0
_POSITIONS_PER_COMMAND = 500

_log = structlog.get_logger(__name__)


class Positions:
    """The positions of one site's subscribers. Lives as long as the node."""

    def __init__(self, board: Board, store: ChannelStore, errands: Errands) -> None:
        self._board = board
        self._store = store
        self._errands = errands
        #: The positions that are confirmed and not yet sent to Redis, by uuid.
        self._confirmed: dict[str, Position] = {}

    def confirmed(self, position: Position) -> None:
        """Records that a subscriber has everything up to this position, and is connected."""
        if not self._confirmed:
            asyncio.get_running_loop().call_later(FLUSH_AFTER_SECONDS, self._flush)
        self._confirmed[position.claim.uuid] = position

    def release(self, position: Position) -> None:
        """Records that a subscriber's connection is gone."""
        self._confirmed.pop(position.claim.uuid, None)
        release, site = self._store.release_subscriber, self._board.site
        self._errands.start(self._errands.until_stored(partial(release, site, position), site.name))

    def _flush(self) -> None:
        confirmed, self._confirmed = list(self._confirmed.values()), {}
        for start in range(0, len(confirmed), _POSITIONS_PER_COMMAND):
            self._errands.start(self._confirm(confirmed[start : start + _POSITIONS_PER_COMMAND]))

    async def _confirm(self, positions: list[Position]) -> None:
        try:
            # The mark follows every published message: a node that hears it has heard everything up to the site's last
            # seq. So a position moves on without pushes to its subscriber, and stays within the history.
            gone = await self._store.confirm_positions(self._board.site, positions, MARK)
        except StoreUnavailable:
            # The next pongs confirm these positions again; an outdated position only means more repeats.
            return
        claims = {position.claim.uuid: position.claim for position in positions}
        for uuid in gone:
            subscriber = self._board.subscribers.get(uuid)
            # A subscriber that has been resumed on this node meanwhile keeps its new connection.
            if subscriber is not None and subscriber.resumption and subscriber.resumption.claim == claims[uuid]:
                _log.info("subscriber taken over", site=self._board.site.name, uuid=uuid)
                subscriber.close(Ending.GONE)
