"""Events to those users who are online, kept nowhere; the loss of one is mended by the next `sync`."""

from collections.abc import Collection
from typing import Any

import structlog

from app.config.settings import Site
from app.errors import StoreError
from app.observe.counted_lines import CountedLines
from app.protocols.messenger.directory.ports import OnlineStore, UserAnnouncer

_log = structlog.get_logger(__name__)


class UserCalls:
    """The calls of one node. Lives as long as the node."""

    def __init__(self, announcer: UserAnnouncer, online: OnlineStore) -> None:
        self._announcer = announcer
        self._online = online
        self._lost = CountedLines(_log, "warning", "event not told")

    async def tell(
        self, site: Site, users: Collection[int] | None, event: str, data: Any, but: Collection[int] = ()
    ) -> None:
        """Sends an event to these users (None: all), but not to those. Raises nothing."""
        try:
            # A list of a few is shorter than that of all who are online.
            told = await self._online.online(site) if users is None else set(users)
            if told - set(but):
                await self._announcer.tell(site, sorted(told - set(but)), event, data)
        except StoreError as error:
            self._lost.tell(site=site.name, shown={"event_name": event, "reason": str(error)})
