"""The needs of the directory: to tell connected users on every node, and to wake the relay."""

from collections.abc import Callable, Collection
from typing import Any, Protocol

from app.config.settings import Site


class UserCalls(Protocol):
    """Events to connected users on every node, kept nowhere. Best effort: raises nothing, and may lose some."""

    async def tell(
        self, site: Site, users: Collection[int] | None, event: str, data: Any, *, but: Collection[int] = ()
    ) -> None:
        """Sends an event to every connection of these users (None: of all), but not to those."""

    async def tell_nodes(self, site: Site, kind: str, data: Any) -> None:
        """Tells every node that has users of the site, this one too."""


#: Wakes the relay of a site after a commit.
WakeCore = Callable[[Site], None]
