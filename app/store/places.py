"""Where each node listens for the others, in Redis beside its beat: told every few seconds, remembered once found."""

import asyncio
import contextlib
from pathlib import Path

import msgspec

from app.errors import StoreError
from app.redis.client import Commands
from app.socketio.ports import Place
from app.store.keys import node_place
from app.watched_tasks import start_watched

_ANNOUNCE_SECONDS = 2.0
#: A node that has not said for so long where it is cannot be found any more.
_EXPIRY_MS = 15_000
#: More nodes than ever live at once; the ones that were found first are forgotten first.
_MAX_REMEMBERED = 1024

_decoder = msgspec.json.Decoder(Place)


class RedisPlaces:
    """Tells where this node is, finds the others. Lives as long as the node: `start` announces, `close` ends it."""

    def __init__(self, redis: Commands, node: str, place: Place) -> None:
        self._redis = redis
        self._key = node_place(node)
        self._announced = msgspec.json.encode(place)
        # A place stays right while its node lives, so nothing here grows old; also while Redis is away.
        self._found: dict[str, Place] = {}
        self._task: asyncio.Task[None] | None = None

    async def start(self) -> None:
        """Announces the node. Raises StoreUnavailable when Redis is away."""
        await self._announce()
        self._task = start_watched(self._keep_announcing(), "node place")

    async def close(self) -> None:
        """The node cannot be found any more."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)
        with contextlib.suppress(StoreError):
            await self._redis.command("DEL", self._key)

    async def find(self, node: str) -> Place | None:
        """The place of a node; see `NodePlaces`."""
        place = self._found.get(node)
        if place is not None:
            return place
        try:
            told: bytes | None = await self._redis.command("GET", node_place(node))
        except StoreError:
            return None
        if told is None:
            return None
        place = _as_seen_from_here(_decoder.decode(told))
        if len(self._found) >= _MAX_REMEMBERED:
            del self._found[next(iter(self._found))]
        self._found[node] = place
        return place

    def forget(self, node: str) -> None:
        """The place was wrong; see `NodePlaces`."""
        self._found.pop(node, None)

    async def _announce(self) -> None:
        await self._redis.command("SET", self._key, self._announced, "PX", _EXPIRY_MS)

    async def _keep_announcing(self) -> None:
        while True:
            await asyncio.sleep(_ANNOUNCE_SECONDS)
            # Away: what others have found they remember; the next announcement comes soon after it is back.
            with contextlib.suppress(StoreError):
                await self._announce()


def _as_seen_from_here(place: Place) -> Place:
    """Without the socket where no such file is: the node is on another machine, or in another container."""
    return place if place.socket and Path(place.socket).is_socket() else Place(url=place.url)
