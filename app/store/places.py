"""Where each node listens for the others. Redis holds it, renewed every few seconds; a place once found is cached."""

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
#: A node that has not announced its place for this long cannot be found any more.
_EXPIRY_MS = 15_000
#: More nodes than ever live at once; the place that was found first is forgotten first.
_MAX_REMEMBERED = 1024

_decoder = msgspec.json.Decoder(Place)


class RedisPlaces:
    """Announces this node's place and finds the others'. Lives as long as the node: `start` begins, `close` ends it."""

    def __init__(self, redis: Commands, node: str, place: Place) -> None:
        self._redis = redis
        self._key = node_place(node)
        self._announced = msgspec.json.encode(place)
        # A place stays right while its node lives, so no entry expires, and all serve while Redis is away.
        self._found: dict[str, Place] = {}
        self._task: asyncio.Task[None] | None = None

    async def start(self) -> None:
        """Announces the node. Raises StoreUnavailable when Redis is away."""
        await self._announce()
        self._task = start_watched(self._keep_announcing(), "node place")

    async def close(self) -> None:
        """Removes the place: the node cannot be found any more."""
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
        """Forgets a place that was wrong; see `NodePlaces`."""
        self._found.pop(node, None)

    async def _announce(self) -> None:
        await self._redis.command("SET", self._key, self._announced, "PX", _EXPIRY_MS)

    async def _keep_announcing(self) -> None:
        while True:
            await asyncio.sleep(_ANNOUNCE_SECONDS)
            # While Redis is away the others use what they have found; the next announcement soon follows its return.
            with contextlib.suppress(StoreError):
                await self._announce()


def _as_seen_from_here(place: Place) -> Place:
    """The place without its socket when this machine has no such file: the node is elsewhere, or in a container."""
    return place if place.socket and Path(place.socket).is_socket() else Place(url=place.url)
