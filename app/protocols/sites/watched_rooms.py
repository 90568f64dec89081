"""The rooms of one site that connections of this node watch: reads them, and tells their watchers of changes.

    ask ──▶ reading (Redis) ──▶ watching ──changes, at most so many events a second──▶ watchers

`RoomPicture` decides about the events.
"""

import asyncio
from collections.abc import Callable, Iterable, Sequence
from typing import Any, Protocol

import structlog

from app.config.settings import Site
from app.errors import StoreError
from app.protocols.sites.presence_store import PresenceStore
from app.protocols.sites.room_picture import LEAVE, STATE, PresenceChange, RoomPicture, RoomSnapshot
from app.socketio.engine_packet import EncodedPacket
from app.surrogates import encode_json
from app.watched_tasks import start_watched

#: The rooms of a site that one node watches, and the users in them, past which no more are watched.
MOST_WATCHED_ROOMS = 10_000
MOST_KNOWN_MEMBERS = 200_000
#: The changes of a room that are held while it is read. Past them it is read once more.
MOST_HELD_CHANGES = 1_000
#: The events to watchers of one site in a second, on one node, and those of one turn of the event loop.
EVENTS_PER_SECOND = 5_000
_EVENTS_A_TURN = 100
#: The time between a change and its event, and between two events with the number of users in a room with many.
TELL_SECONDS = 0.1
RECOUNT_SECONDS = 2.0
#: The time for which a room without watchers stays read.
LINGER_SECONDS = 30.0
#: The rooms that one command leaves.
_LEFT_AT_ONCE = 500
_RETRY_SECONDS = 1.0
_ASKED_AT_ONCE = 200

NOT_INSIDE = "You are not in this room."
TOO_MANY_ROOMS = "Too many rooms of this site are watched, try again later."
AWAY = "Redis is away, try again."

_log = structlog.get_logger(__name__)


class RoomWatcher(Protocol):
    """A connection that watches rooms."""

    @property
    def send(self) -> Callable[[EncodedPacket], None]:
        """Writes a packet."""

    @property
    def is_over(self) -> bool:
        """Whether it has ended."""

    def close(self, reason: str) -> None:
        """Ends it."""


class WatchRequest:
    """A connection that wants to watch a room. Lives until it is answered."""

    def __init__(self, watcher: RoomWatcher, users: Sequence[str], answer: Callable[[bytes | None, str], None]) -> None:
        """`users` are those of the connection, in a list of its own. `answer` takes the state as JSON, or None and the
        reason."""
        self.watcher = watcher
        self.users = users
        self.answer = answer


class WatchedRoom:
    """One room. Lives from the first watcher until none has come for a while."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.picture: RoomPicture | None = None
        #: Watchers with their users.
        self.watchers: dict[RoomWatcher, Sequence[str]] = {}
        self.asking: list[WatchRequest] = []
        #: The changes that come while it is read; None: it is not.
        self.held: list[PresenceChange] | None = None
        #: When its watchers were told, and when its last watcher left.
        self.told_at, self.deserted_at = 0.0, _now()
        #: Whether it is being read, or connections are being answered.
        self.is_served = False
        #: Whether its number of users is to be asked for.
        self.must_count = False
        self._state: bytes | None = None

    def hear(self, change: PresenceChange) -> bool:
        """Takes a change. False: the room is to be read again."""
        if self.held is not None:
            if len(self.held) <= MOST_HELD_CHANGES:
                self.held.append(change)
            return True
        self.must_count = True
        return self.picture is None or self.picture.hear(change)

    def load(self, snapshot: RoomSnapshot) -> bool:
        """Takes what was read, and the changes since. False: it is to be read again."""
        held, self.held, self._state = self.held or [], None, None
        if self.picture is None or not self.watchers:
            self.picture = RoomPicture(snapshot)
        else:
            self.picture.load(snapshot)
        if len(held) > MOST_HELD_CHANGES:
            return False
        # Each is heard.
        return False not in [self.picture.hear(change) for change in held]

    def take_news(self) -> list[tuple[str, dict[str, Any]]]:
        """See `RoomPicture`."""
        assert self.picture is not None, "only a room that was read has news"
        self._state = None
        return self.picture.take_news()

    def state(self) -> bytes:
        """The state that its watchers have, as JSON."""
        assert self.picture is not None, "only a room that was read is shown"
        if self._state is None:
            self._state = encode_json({"room": self.name, **self.picture.state()})
        return self._state

    @property
    def is_deserted(self) -> bool:
        """Whether nobody watches it, and nobody is about to."""
        return not self.watchers and not self.asking and not self.is_served

    def pause_seconds(self) -> float:
        """The time between two events to all its watchers."""
        is_listed = self.picture is None or self.picture.is_listed
        return max(TELL_SECONDS if is_listed else RECOUNT_SECONDS, len(self.watchers) / EVENTS_PER_SECOND)


class WatchedRooms:
    """The watched rooms of one site on this node. Lives from the first watcher until the node ends or the site goes."""

    def __init__(self, site: Site, store: PresenceStore, ended: Callable[[Any, str], None]) -> None:
        """`ended` is called with a watcher and the room that it watches no more, unless it has stopped by itself."""
        self._ended = ended
        self.site = site
        self.rooms: dict[str, WatchedRoom] = {}
        self._store = store
        #: The users in its rooms, as of a moment ago.
        self._members = 0
        #: Rooms of whose changes this node hears although it watches them no more.
        self._to_leave: dict[str, None] = {}
        self._prefix = f"42/{site.name},".encode()
        #: The rooms to read, and those with changes by the time when they are told.
        self._to_read: dict[str, None] = {}
        self._to_tell: dict[str, float] = {}
        self._read_wake, self._tell_wake = asyncio.Event(), asyncio.Event()
        self._tasks = [
            start_watched(self._keep_reading(), "presence reading"),
            start_watched(self._keep_telling(), "presence telling"),
        ]

    async def aclose(self) -> None:
        """Ends its work."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    def ask(self, name: str, asking: WatchRequest) -> None:
        """A connection wants to watch a room (in lower case). It is answered in every case."""
        room = self.rooms.get(name)
        if room is None:
            if len(self.rooms) >= MOST_WATCHED_ROOMS or self._members >= MOST_KNOWN_MEMBERS:
                asking.answer(None, TOO_MANY_ROOMS)
                return
            room = self.rooms[name] = WatchedRoom(name)
        room.asking.append(asking)
        self._read_soon(name)

    def stop(self, watcher: RoomWatcher, name: str) -> bool:
        """A connection watches a room no more. Answers whether it did."""
        room = self.rooms.get(name)
        if room is None or watcher not in room.watchers:
            return False
        del room.watchers[watcher]
        if not room.watchers:
            room.deserted_at = _now()
        return True

    def hear(self, name: str, change: PresenceChange) -> None:
        """From the bus: a change in a room."""
        room = self.rooms.get(name)
        if room is None:
            self._to_leave[name] = None
            return
        if not room.hear(change):
            self._read_soon(name, must_read=True)
        self._tell_later(room)

    def read_again(self) -> None:
        """Changes may be missing."""
        for name in self.rooms:
            self._read_soon(name, must_read=True)

    async def leave_deserted(self) -> None:
        """Lets rooms go that nobody has watched for a while. Raises StoreError."""
        until = _now() - LINGER_SECONDS
        for room in list(self.rooms.values()):
            if room.is_deserted and room.deserted_at < until:
                del self.rooms[room.name]
                self._to_leave[room.name] = None
        self._members = sum(room.picture.size for room in self.rooms.values() if room.picture is not None)
        # One command at a time: a room that is watched again meanwhile is watched after it.
        while names := [name for name in list(self._to_leave)[:_LEFT_AT_ONCE] if name not in self.rooms]:
            await self._store.unwatch(self.site, names)
            for name in names:
                del self._to_leave[name]
        self._to_leave.clear()

    def end_all(self, reason: str) -> None:
        """Ends every watch."""
        for room in self.rooms.values():
            self.end(room, list(room.watchers), reason)

    def end(self, room: WatchedRoom, watchers: Iterable[RoomWatcher], reason: str) -> None:
        """Ends watches of a room, and tells the reason."""
        packet = self._packet(STATE, {"room": room.name, "error": reason})
        for watcher in watchers:
            if self.stop(watcher, room.name):
                self._ended(watcher, room.name)
                self._send(watcher, packet)

    # Reading

    def _read_soon(self, name: str, *, must_read: bool = False) -> None:
        room = self.rooms[name]
        if must_read and room.held is None:
            room.held = []
        self._to_read[name] = None
        self._read_wake.set()

    async def _keep_reading(self) -> None:
        while True:
            await self._read_wake.wait()
            self._read_wake.clear()
            while self._to_read:
                name = next(iter(self._to_read))
                del self._to_read[name]
                room = self.rooms.get(name)
                if room is not None:
                    await self._serve(room)

    async def _serve(self, room: WatchedRoom) -> None:
        """Reads a room where that is due, and answers connections that ask for it."""
        room.is_served = True
        try:
            if room.picture is None or room.held is not None:
                await self._read(room)
            await self._answer(room)
        except StoreError as error:
            _log.warning("presence not read", site=self.site.name, reason=str(error))
            asking, room.asking = room.asking, []
            for one in asking:
                one.answer(None, AWAY)
            if room.watchers:
                await asyncio.sleep(_RETRY_SECONDS)
                self._read_soon(room.name, must_read=True)
            else:
                # The node may be known as a watcher: as such it is left later.
                room.deserted_at = _now()
        finally:
            room.is_served = False

    async def _read(self, room: WatchedRoom) -> None:
        room.held = []
        if not room.load(await self._store.watch(self.site, room.name)):
            self._read_soon(room.name, must_read=True)
        if room.picture is not None:
            self._members += room.picture.size
        self._tell_later(room)

    async def _answer(self, room: WatchedRoom) -> None:
        asking, room.asking = room.asking[:_ASKED_AT_ONCE], room.asking[_ASKED_AT_ONCE:]
        try:
            are_inside = await asyncio.gather(*(self._is_inside(room, one) for one in asking))
        except StoreError:
            room.asking = asking + room.asking
            raise
        for one, is_inside in zip(asking, are_inside, strict=True):
            if one.watcher.is_over:
                continue
            if is_inside:
                room.watchers[one.watcher] = one.users
                one.answer(room.state(), "")
            else:
                one.answer(None, NOT_INSIDE)
        if not room.watchers:
            room.deserted_at = _now()
        if room.asking:
            self._read_soon(room.name)

    async def _is_inside(self, room: WatchedRoom, asking: WatchRequest) -> bool:
        return await self._store.is_inside(self.site, room.name, asking.users)

    # Telling

    def _tell_later(self, room: WatchedRoom) -> None:
        if room.name not in self._to_tell:
            self._to_tell[room.name] = max(_now() + TELL_SECONDS, room.told_at + room.pause_seconds())
            self._tell_wake.set()

    async def _keep_telling(self) -> None:
        while True:
            self._tell_wake.clear()
            name = min(self._to_tell, key=self._to_tell.__getitem__, default=None)
            pause = None if name is None else self._to_tell[name] - _now()
            if name is None or (pause is not None and pause > 0):
                await _wait(self._tell_wake, pause)
                continue
            del self._to_tell[name]
            room = self.rooms.get(name)
            if room is not None and room.picture is not None:
                try:
                    await self._tell(room, room.picture)
                except StoreError:
                    self._tell_later(room)

    async def _tell(self, room: WatchedRoom, picture: RoomPicture) -> None:
        room.told_at = _now()
        if not picture.is_listed and room.must_count and room.held is None:
            room.must_count = False
            version, count, must_ask_again = await self._store.count(self.site, room.name)
            if not picture.recount(version, count):
                self._read_soon(room.name, must_read=True)
            if must_ask_again:
                room.must_count = True
                self._tell_later(room)
        news = room.take_news()
        if not news:
            return
        await self._write(room, [self._packet(event, {"room": room.name, **content}) for event, content in news])
        left = [user for event, content in news if event == LEAVE for user in content["users"]]
        if left:
            await self._end_of(room, picture, frozenset(left))

    async def _end_of(self, room: WatchedRoom, picture: RoomPicture, left: frozenset[str]) -> None:
        """Ends the watches of users that have left, unless Redis knows better by now."""
        for watcher, users in list(room.watchers.items()):
            if left.isdisjoint(users) or any(map(picture.was_told, users)):
                continue
            if not await self._store.is_inside(self.site, room.name, users):
                self.end(room, [watcher], NOT_INSIDE)

    async def _write(self, room: WatchedRoom, packets: Sequence[EncodedPacket]) -> None:
        watchers = list(room.watchers.items())
        for first in range(0, len(watchers), _EVENTS_A_TURN):
            for watcher, users in watchers[first : first + _EVENTS_A_TURN]:
                for packet in packets:
                    # One that has asked once more meanwhile knows it already.
                    if room.watchers.get(watcher) is users:
                        self._send(watcher, packet)
            await asyncio.sleep(_EVENTS_A_TURN / EVENTS_PER_SECOND if len(watchers) > _EVENTS_A_TURN else 0)

    def _send(self, watcher: RoomWatcher, packet: EncodedPacket) -> None:
        try:
            watcher.send(packet)
        except Exception:
            _log.exception("watcher failed", site=self.site.name)
            watcher.close("internal error")

    def _packet(self, event: str, content: dict[str, Any]) -> EncodedPacket:
        return EncodedPacket(self._prefix + encode_json([event, content]))


def _now() -> float:
    return asyncio.get_running_loop().time()


async def _wait(wake: asyncio.Event, seconds: float | None) -> None:
    try:
        async with asyncio.timeout(seconds):
            await wake.wait()
    except TimeoutError:
        pass
