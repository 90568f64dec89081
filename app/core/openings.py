"""The turns of connections at the store: so many are registered at a time, the others wait. Knows no store.

When a node dies all of its clients come back at once. Registered at once, most of them would wait in Redis for longer
than a command may take, be closed, and come again: Redis would work for clients that nobody serves any more.
"""

import asyncio
from collections.abc import Callable
from types import TracebackType

from app.core.connection import Connection
from app.errors import StoreUnavailable

#: Registrations of one site that are under way at a time, on a node.
MOST_OF_SITE = 32
#: And of all sites together.
MOST_OF_NODE = 64
#: Connections of one site that wait, on a node.
MOST_WAITING = 20_000
WAIT_SECONDS = 30.0


class _Places(asyncio.Semaphore):
    """The turns of one site. Lives as long as the node."""

    def __init__(self, count: int) -> None:
        super().__init__(count)
        self.waiting = 0


class _OpeningTurn:
    """The turn of one connection, for one `async with`."""

    __slots__ = ("_connection", "_end", "_turns")

    def __init__(self, turns: "OpeningTurns", connection: Connection, end: Callable[[Connection], None]) -> None:
        self._turns = turns
        self._connection = connection
        self._end = end

    async def __aenter__(self) -> None:
        try:
            await self._turns.take(self._connection.site.name)
        except (StoreUnavailable, asyncio.CancelledError):
            self._end(self._connection)
            raise

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None
    ) -> None:
        self._turns.release(self._connection.site.name)


class OpeningTurns:
    """The turns on one node. Lives as long as the node."""

    def __init__(
        self, of_site: int = MOST_OF_SITE, of_node: int = MOST_OF_NODE, wait_seconds: float = WAIT_SECONDS
    ) -> None:
        self._of_site = of_site
        self._node = asyncio.Semaphore(of_node)
        self._wait_seconds = wait_seconds
        self._sites: dict[str, _Places] = {}

    def of(self, connection: Connection, end: Callable[[Connection], None]) -> _OpeningTurn:
        """The context in which a connection is registered. Raises StoreUnavailable when its turn does not come in time;
        then it has called `end`."""
        return _OpeningTurn(self, connection, end)

    async def take(self, site: str) -> None:
        """Waits for a turn of the site, which ends with `release`. Raises StoreUnavailable when it does not come."""
        places = self._sites.get(site)
        if places is None:
            places = self._sites[site] = _Places(self._of_site)
        if not places.locked() and not self._node.locked():
            await places.acquire()
            await self._node.acquire()
            return
        if places.waiting >= MOST_WAITING:
            raise StoreUnavailable("Too many are connecting, try again.")
        places.waiting += 1
        try:
            async with asyncio.timeout(self._wait_seconds):
                await self._wait(places)
        except TimeoutError:
            raise StoreUnavailable("Too many are connecting, try again.") from None
        finally:
            places.waiting -= 1

    def release(self, site: str) -> None:
        """Ends a turn of the site."""
        self._sites[site].release()
        self._node.release()

    async def _wait(self, places: _Places) -> None:
        # First the site's turn: so no site has more than its own number in the queue for the node's.
        await places.acquire()
        try:
            await self._node.acquire()
        except BaseException:
            places.release()
            raise
