"""Clients that connect by polling and then go over to a WebSocket: the store is told, for receipts.

Most clients do so within a second. The store is told of all of them together, a moment later.
"""

import asyncio
from collections import defaultdict, deque
from collections.abc import Sequence
from time import monotonic

from app.config.settings import Site
from app.core.connection import Connection, ConnectionPhase
from app.errors import StoreError
from app.protocols.sites.ports import TransportStore
from app.socketio.socket_connection import NamespaceConnection
from app.watched_tasks import start_watched

#: A client is looked at once, this time after its connect.
AFTER_SECONDS = 2.0
_PAUSE_SECONDS = 1.0
#: Devices that one command tells of.
_PART = 500


class Upgrades:
    """The polling clients of one node that have just connected. Lives as long as the node: `start` begins, `close`
    ends."""

    def __init__(self, store: TransportStore) -> None:
        self._store = store
        self._waiting: deque[tuple[float, NamespaceConnection, Connection]] = deque()
        self._task: asyncio.Task[None] | None = None

    def start(self) -> None:
        """Begins to look."""
        self._task = start_watched(self._keep_looking(), "upgrades")

    async def close(self) -> None:
        """Ends it."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)

    def connected(self, client: NamespaceConnection, connection: Connection) -> None:
        """A client has connected. It counts if it has devices, and polled when the store was told of it: it may have
        gone over before the store's answer."""
        if connection.client.startswith("polling") and connection.handles:
            self._waiting.append((monotonic() + AFTER_SECONDS, client, connection))

    async def look(self, now: float) -> None:
        """Tells the store of the clients that have gone over. Not being told costs nothing but a word in a receipt."""
        found: defaultdict[str, list[bytes]] = defaultdict(list)
        sites: dict[str, Site] = {}
        while self._waiting and self._waiting[0][0] <= now:
            _, client, connection = self._waiting.popleft()
            if connection.phase is not ConnectionPhase.CLOSED and client.transport != "polling":
                sites[connection.site.name] = connection.site
                found[connection.site.name] += connection.handles
        for name, handles in found.items():
            await self._tell(sites[name], handles)

    async def _tell(self, site: Site, handles: Sequence[bytes]) -> None:
        for start in range(0, len(handles), _PART):
            try:
                await self._store.note_upgrades(site, handles[start : start + _PART])
            except StoreError:
                return

    async def _keep_looking(self) -> None:
        while True:
            await asyncio.sleep(_PAUSE_SECONDS)
            await self.look(monotonic())
