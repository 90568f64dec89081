"""Presence on one node: the requests of clients that watch rooms, and the beats that end the graces of users.

    client ──emit("_presence", room)──▶ RoomPresence ──▶ WatchedRooms (one a site) ──_join, _leave──▶ client

Only sites with `presence` get here. A site whose rooms nobody watches costs one beat in half a minute.
"""

import asyncio
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Protocol

import structlog

from app.config.settings import Site
from app.core.address import MAX_ROOM_BYTES, user_rooms
from app.core.due_sites import DueSites
from app.errors import StoreError
from app.observe.counted_lines import CountedLines
from app.protocols.sites.presence_rooms import has_presence
from app.protocols.sites.presence_store import PresenceStore
from app.protocols.sites.redis_presence import read_change
from app.protocols.sites.room_picture import STATE
from app.protocols.sites.watched_rooms import NOT_INSIDE, RoomWatcher, WatchedRooms, WatchRequest
from app.surrogates import encode_json, encode_text
from app.watched_tasks import start_watched

#: The rooms that one connection watches.
MOST_ROOMS_OF_WATCHER = 20
#: The requests of one connection at once, and how many more in a second.
MOST_REQUESTS = 60
_REQUESTS_PER_SECOND = 2.0
_BEAT_SECONDS = 0.25
#: The pauses between two beats of a site: with watchers at least and at most, and without.
_WATCHED_SECONDS = (0.25, 2.0)
_QUIET_SECONDS = 30.0
#: The sites of one turn, and the time after which sites that have turned presence on are found.
_SITES_A_TURN = 50
_LOOK_SECONDS = 5.0

NO_PRESENCE = "This room has no presence."
OFF = "This site has no presence any more."
_BAD = "Expected the name of a room, and true or false."
_TOO_MANY = f"Expected at most {MOST_ROOMS_OF_WATCHER} rooms."
_TOO_OFTEN = "Too many requests, try again later."
_NO_USER = "This connection has no user."

_log = structlog.get_logger(__name__)

#: Takes an answer as JSON, once.
_Answer = Callable[[bytes], None]


class PresenceClient(RoomWatcher, Protocol):
    """A connection of a site, as this module sees it."""

    #: All its rooms.
    rooms: Sequence[str]
    #: Its `Watches`, once it has asked.
    watches: Any

    def send_whisper(self, body: bytes) -> None:
        """Writes an event."""


class Watches:
    """The rooms that one connection watches, and its requests. Lives as long as the connection."""

    __slots__ = ("_left", "_left_at", "names")

    def __init__(self, now: float) -> None:
        #: In lower case.
        self.names: set[str] = set()
        self._left, self._left_at = float(MOST_REQUESTS), now

    def may_ask(self, now: float) -> bool:
        """Counts a request; False: there were too many."""
        left = min(MOST_REQUESTS, self._left + (now - self._left_at) * _REQUESTS_PER_SECOND)
        self._left, self._left_at = max(left - 1, 0), now
        return left >= 1


class RoomPresence:
    """The presence of all sites, on one node. Lives as long as the node: `start` and `aclose`."""

    def __init__(self, sites: Mapping[str, Site], store: PresenceStore) -> None:
        """`sites` may change."""
        self._sites = sites
        self._store = store
        self._watched: dict[str, WatchedRooms] = {}
        #: The sites of which Redis knows that they have presence.
        self._on: set[str] = set()
        self._due = DueSites()
        self._look_at = 0.0
        self._task: asyncio.Task[None] | None = None
        self._failed = CountedLines(_log, "warning", "presence beat failed")

    async def start(self) -> None:
        """Turns presence on where sites have it, before the first device connects. Raises StoreUnavailable."""
        self._look_for_sites()
        while names := self._due.take(_now(), _SITES_A_TURN):
            await asyncio.gather(*map(self._beat, names))
        self._task = start_watched(self._keep_beating(), "presence")

    async def aclose(self) -> None:
        """Ends it."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)
        await asyncio.gather(*(watched.aclose() for watched in self._watched.values()))

    # Clients

    def request(self, receiver: PresenceClient, site: Site, args: Sequence[Any], ack: _Answer | None) -> None:
        """A client wants to watch a room, or to watch it no more. Without `ack` the answer is an event."""

        def answer(body: bytes) -> None:
            if ack is not None:
                ack(body)
            elif not receiver.is_over:
                receiver.send_whisper(b'["%b",%b]' % (STATE.encode(), body))

        room = args[0] if args else None
        is_on = args[1] if len(args) > 1 and args[1] is not None else True
        name = room.lower() if isinstance(room, str) else ""
        refusal = self._refusal(receiver, site, room, is_on)
        if refusal:
            answer(encode_json({"room": name[:MAX_ROOM_BYTES], "error": refusal}))
        elif is_on:
            self._watch(receiver, site, name, answer)
        else:
            self._stop(receiver, site, name)
            answer(encode_json({"room": name}))

    def left(self, receiver: PresenceClient, site: Site) -> None:
        """A connection has ended that has watched rooms."""
        watches: Watches = receiver.watches
        receiver.watches = None
        watched = self._watched.get(site.name)
        for name in watches.names if watched is not None else ():
            watched.stop(receiver, name)  # type: ignore[union-attr]  # there are no names without it

    def moved(self, receiver: PresenceClient, site: str) -> None:
        """A connection is in other rooms than before."""
        watches: Watches | None = receiver.watches
        watched = self._watched.get(site)
        if watches is None or watched is None:
            return
        for name in watches.names - set(map(str.lower, receiver.rooms)):
            watches.names.discard(name)
            if name in watched.rooms:
                watched.end(watched.rooms[name], [receiver], NOT_INSIDE)

    # Redis and other nodes

    def hear(self, data: bytes) -> None:
        """From the bus: a change in a room."""
        site, room, change = read_change(data)
        watched = self._watched.get(site)
        if watched is not None:
            watched.hear(room, change)

    def interrupted(self) -> None:
        """Redis may not know what this node watches, or changes may be missing."""
        for watched in self._watched.values():
            watched.read_again()

    async def bury(self, site: Site, node: str) -> None:
        """A node has ended: nobody watches for it. Raises StoreUnavailable. See `Node.burials`."""
        if site.presence is not None or site.name in self._watched:
            await self._store.bury(site, node)

    async def remove(self, site: str) -> None:
        """Serves a site no more; its connections have ended."""
        self._on.discard(site)
        watched = self._watched.pop(site, None)
        if watched is not None:
            await watched.aclose()

    def _refusal(self, receiver: PresenceClient, site: Site, room: Any, is_on: Any) -> str:
        """The reason against a request; "": there is none."""
        if not isinstance(room, str) or len(encode_text(room)) > MAX_ROOM_BYTES or not isinstance(is_on, bool):
            return _BAD
        if receiver.watches is None:
            receiver.watches = Watches(_now())
        watches: Watches = receiver.watches
        if not watches.may_ask(_now()):
            return _TOO_OFTEN
        if not is_on:
            return ""
        if room.lower() not in map(str.lower, receiver.rooms):
            return NOT_INSIDE
        if not has_presence(site, room):
            return NO_PRESENCE
        if room.lower() not in watches.names and len(watches.names) >= MOST_ROOMS_OF_WATCHER:
            return _TOO_MANY
        return "" if _users_of(receiver, site) else _NO_USER

    def _watch(self, receiver: PresenceClient, site: Site, name: str, answer: _Answer) -> None:
        watched = self._watched.get(site.name)
        if watched is None:
            watched = self._watched[site.name] = WatchedRooms(site, self._store, _forget_room)
        watches: Watches = receiver.watches
        watches.names.add(name)

        def answered(state: bytes | None, reason: str) -> None:
            if state is None:
                watches.names.discard(name)
            elif name not in watches.names:
                # It has stopped meanwhile.
                watched.stop(receiver, name)
            answer(state if state is not None else encode_json({"room": name, "error": reason}))

        watched.ask(name, WatchRequest(receiver, _users_of(receiver, site), answered))
        self._due.note(site.name, _now())

    def _stop(self, receiver: PresenceClient, site: Site, name: str) -> None:
        watches: Watches = receiver.watches
        watches.names.discard(name)
        watched = self._watched.get(site.name)
        if watched is not None:
            watched.stop(receiver, name)

    # Beats

    async def _keep_beating(self) -> None:
        while True:
            await asyncio.sleep(_BEAT_SECONDS)
            if _now() >= self._look_at:
                self._look_for_sites()
            await asyncio.gather(*map(self._beat_safely, self._due.take(_now(), _SITES_A_TURN)))

    def _look_for_sites(self) -> None:
        self._look_at = _now() + _LOOK_SECONDS
        for site in list(self._sites.values()):
            if (site.presence is not None) is not (site.name in self._on):
                self._due.note(site.name, _now())

    async def _beat_safely(self, name: str) -> None:
        try:
            await self._beat(name)
        except StoreError as error:
            self._failed.tell(site=name, shown={"reason": str(error)})
            self._due.note(name, _now() + _WATCHED_SECONDS[1])

    async def _beat(self, name: str) -> None:
        site = self._sites.get(name)
        if site is None or not site.has_queues:
            return
        watched = self._watched.get(name)
        found = await self._store.beat(site)
        if site.presence is None:
            self._on.discard(name)
            if watched is not None:
                watched.end_all(OFF)
                await watched.leave_deserted()
            return
        self._on.add(name)
        if watched is None or not watched.rooms:
            self._due.note(name, _now() + _QUIET_SECONDS)
            return
        if found.was_off:
            watched.read_again()
        await watched.leave_deserted()
        least, most = _WATCHED_SECONDS
        waits = (found.next_seconds, site.presence.grace_seconds or None, most)
        self._due.note(name, _now() + max(least, min(one for one in waits if one is not None)))


def _forget_room(receiver: PresenceClient, name: str) -> None:
    if receiver.watches is not None:
        receiver.watches.names.discard(name)


def _users_of(receiver: PresenceClient, site: Site) -> list[str]:
    """The users of a connection. The public channel is no user."""
    return [room for room in user_rooms(site, receiver.rooms) if room != site.public_channel]


def _now() -> float:
    return asyncio.get_running_loop().time()
