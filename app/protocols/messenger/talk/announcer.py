"""`Announcer` through the core: events to connected users that are kept nowhere."""

from collections.abc import Sequence
from typing import Any

import msgspec

from app.config.settings import Site
from app.core.delivery import Delivery
from app.protocols.messenger.chat_names import ChatNames

#: Users of one command: with all their devices they are fewer than a whisper reaches.
_PART = 50


class CoreAnnouncer:
    """Lives as long as the node."""

    def __init__(self, delivery: Delivery, names: ChatNames) -> None:
        self._delivery = delivery
        self._names = names

    async def tell(self, site: Site, users: Sequence[int], event: str, data: Any) -> None:
        """Sends an event; see `Announcer`. Raises StoreUnavailable."""
        body = msgspec.json.encode([event, await self._names.told(site, event, data)])
        rooms = await self._names.user_rooms(site, users)
        for start in range(0, len(rooms), _PART):
            await self._delivery.follow_up.whisper(site, rooms[start : start + _PART], body)
