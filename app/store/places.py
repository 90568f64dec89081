"""Where each node listens for the others. Redis holds it, renewed every few seconds; a place once found is cached."""

import asyncio
import contextlib
import re
from pathlib import Path
from time import monotonic
from typing import TypeVar
from urllib.parse import urlsplit

import msgspec
import structlog

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

#: A node that was not found is not looked for again within this time. Anybody can ask for a node by an id made up.
_MISSING_SECONDS = 2.0
_MAX_MISSING = 1024
#: The most unknown nodes that are looked for in a second, of whatever names. Each is looked for once in its life.
_LOOKUPS_A_SECOND = 50

_Value = TypeVar("_Value")
_SOCKET = re.compile(r"/(?:[^/\0]+/)*recado-[^/\0]*/[0-9]+\.sock")
_decoder = msgspec.json.Decoder(Place)
_log = structlog.get_logger(__name__)


class RedisPlaces:
    """Announces this node's place and finds the others'. Lives as long as the node: `start` begins, `close` ends it."""

    def __init__(self, redis: Commands, node: str, place: Place) -> None:
        self._redis = redis
        self._key = node_place(node)
        self._announced = msgspec.json.encode(place)
        # A place stays right while its node lives, so no entry expires, and all serve while Redis is away.
        self._found: dict[str, Place] = {}
        self._missing: dict[str, float] = {}
        self._asking: dict[str, asyncio.Task[Place | None]] = {}
        self._second = 0.0
        self._lookups = 0
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
        asking = self._asking.get(node)
        if asking is None:
            if self._missing.get(node, 0.0) > monotonic() or not self._may_look_up():
                return None
            asking = self._asking[node] = asyncio.create_task(self._look_up(node), name="node lookup")
            asking.add_done_callback(lambda _: self._asking.pop(node, None))
        return await asyncio.shield(asking)

    async def _look_up(self, node: str) -> Place | None:
        try:
            told: bytes | None = await self._redis.command("GET", node_place(node))
        except StoreError:
            return None
        place = None if told is None else _read(told, node)
        if place is None:
            _remember(self._missing, _MAX_MISSING, node, monotonic() + _MISSING_SECONDS)
        else:
            _remember(self._found, _MAX_REMEMBERED, node, place)
        return place

    def _may_look_up(self) -> bool:
        now = monotonic()
        if now - self._second >= 1:
            self._second, self._lookups = now, 0
        self._lookups += 1
        return self._lookups <= _LOOKUPS_A_SECOND

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


def _read(told: bytes, node: str) -> Place | None:
    """The place as seen from here; None for one that no node has written: no request goes there."""
    try:
        place = _decoder.decode(told)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
        place = None
    if place is None or not (_is_socket_path(place.socket) and _is_node_url(place.url)):
        _log.warning("node place malformed", node=node)
        return None
    return _as_seen_from_here(place)


def _is_socket_path(path: str | None) -> bool:
    return path is None or _SOCKET.fullmatch(path) is not None


def _is_node_url(url: str | None) -> bool:
    if url is None:
        return True
    try:
        parts = urlsplit(url)
        has_host = bool(parts.hostname) and parts.port != 0
    except ValueError:
        return False
    is_bare = parts.path in ("", "/") and not parts.query and not parts.fragment and parts.username is None
    return parts.scheme in ("http", "https") and has_host and is_bare and url.isprintable() and url.isascii()


def _remember(cache: dict[str, _Value], most: int, node: str, value: _Value) -> None:
    cache.pop(node, None)
    if len(cache) >= most:
        del cache[next(iter(cache))]
    cache[node] = value


def _as_seen_from_here(place: Place) -> Place:
    """The place without its socket when this machine has no such file: the node is elsewhere, or in a container."""
    return place if place.socket and Path(place.socket).is_socket() else Place(url=place.url)
