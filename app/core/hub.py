"""The connections of this node: site → device → connections, or site → room → connections in a site without queues.

    bus ──▶ Hub ──▶ SiteConnections (one a site) ──▶ Connection ──▶ Receiver

Plain look-ups and calls; the hub knows neither the source of a message nor the socket of a receiver.
"""

import contextlib
from collections import Counter, deque
from collections.abc import Callable, Iterable, Iterator, KeysView
from contextlib import contextmanager
from itertools import chain

import structlog

from app.clock import now_ms
from app.config.settings import Site
from app.core.catch_up import is_within_bounds
from app.core.connection import Connection, ConnectionPhase, deliver_to
from app.core.message import LiveMessage
from app.observe.counts import Counts, SiteCounts

#: How long a device that has left is remembered: for longer than a message waits for its report as written.
REMEMBERED_MS = 1_000

_log = structlog.get_logger(__name__)


class PendingRegistration:
    """One registration that is under way. Lives from the question to the store until its answer is handled."""

    __slots__ = ("begun", "has_gap")

    def __init__(self, begun: int) -> None:
        #: How many messages had been kept in all when it began.
        self.begun = begun
        #: Whether a message that arrived since was lost: the store is to be asked again.
        self.has_gap = False


class Strays:
    """Messages kept for connections whose registration is under way: each message until all registrations that had
    begun before it have ended. Lives as long as its site's connections.

    Messages for devices that are known here are kept too: the older connection of such a device may be dead without
    anybody knowing. The bounds are those of `catch_up.py`; past them every registration under way has a gap.
    """

    def __init__(self) -> None:
        self._messages: deque[LiveMessage] = deque()
        self._bytes = 0
        self._dropped = 0
        #: Registrations under way, oldest first.
        self._under_way: dict[PendingRegistration, None] = {}

    def __iter__(self) -> Iterator[LiveMessage]:
        """The kept messages, oldest first."""
        return iter(self._messages)

    def keep(self, message: LiveMessage) -> None:
        """Keeps the message while a registration is under way."""
        if self._under_way:
            self._messages.append(message)
            self._bytes += len(message.body)
            if not is_within_bounds(len(self._messages), self._bytes):
                self.lose()

    @contextmanager
    def kept(self) -> Iterator[PendingRegistration]:
        """Messages that arrive within this block are kept."""
        registration = PendingRegistration(self._dropped + len(self._messages))
        self._under_way[registration] = None
        try:
            yield registration
        finally:
            del self._under_way[registration]
            oldest = next(iter(self._under_way), None)
            self._drop(len(self._messages) if oldest is None else oldest.begun - self._dropped)

    def lose(self) -> None:
        """Messages are missing: every registration under way has a gap, and needs no kept message."""
        for registration in self._under_way:
            registration.has_gap = True
        self._drop(len(self._messages))

    def _drop(self, count: int) -> None:
        for _ in range(count):
            self._bytes -= len(self._messages.popleft().body)
            self._dropped += 1


class Departed:
    """The devices that have left this node lately, each with the highest seq that was written to it. Lives as long as
    the connections of its site.

    A report of written messages is late by some hundred milliseconds, and a node without Redis may get messages for a
    device that has left.
    """

    def __init__(self) -> None:
        #: Handle -> seq, and when it left in ms, oldest first.
        self._devices: dict[bytes, tuple[int, int]] = {}

    def note(self, handle: bytes, seq: int, now: int) -> None:
        """A device has left."""
        devices = self._devices
        while devices and devices[oldest := next(iter(devices))][1] < now - REMEMBERED_MS:
            del devices[oldest]
        before, _ = devices.pop(handle, (0, 0))
        devices[handle] = (max(before, seq), now)

    def had(self, handle: bytes, seq: int) -> bool:
        """Whether a message was written to the device before it left."""
        return seq <= self._devices.get(handle, (0, 0))[0]


class SiteConnections:
    """The connections of one site on this node. Lives as long as the node."""

    def __init__(self, site: Site, resync: Callable[[Connection, int], None], counts: SiteCounts | None = None) -> None:
        """`resync` is called for each connection of a device whose queue a message has dropped, with the message's
        seq."""
        self.site = site
        #: Grows with every gap on the bus: an answer of the store from an earlier epoch may have the gap behind it.
        self.epoch = 0
        self._resync = resync
        self._counts = counts or SiteCounts()
        # Tuples: writing to one connection may end it while the others are still to be written to.
        self._devices: dict[bytes, tuple[Connection, ...]] = {}
        self._rooms: dict[str, dict[Connection, None]] = {}
        self._counter: int | None = None
        self.strays = Strays()
        self._departed = Departed()
        #: Counts the errors of receivers.
        self.faults: Counter[str] = Counter()

    def __iter__(self) -> Iterator[Connection]:
        """The connections of devices, each once."""
        return iter({connection: None for connections in self._devices.values() for connection in connections})

    def all_of_site(self) -> Iterator[Connection]:
        """All connections that were there at the call, each once, also in a site without queues. Others may come and go
        while they are looked at."""
        return chain(_of_first(list(self._devices.items())), _in_first(list(self._rooms.items())))

    def count(self, counter: int) -> bool:
        """Takes the site's counter of a bus message; False when a message before it is missing."""
        expected, self._counter = self._counter, counter
        return expected is None or counter == expected + 1

    def forget_counter(self) -> None:
        """The next bus message may carry any counter."""
        self._counter = None

    def miss(self) -> None:
        """The bus has lost messages, and answers of the store that are on their way may not cover them."""
        self.epoch += 1
        self.strays.lose()

    def deliver(self, message: LiveMessage) -> None:
        """Hands a message to its connections. The hot path: once per message, a few steps per recipient."""
        if message.rooms is not None:
            self._deliver_to_rooms(message)
            return
        self._counts.bus_messages += 1
        self._counts.deliveries += len(message.recipients)
        self.strays.keep(message)
        devices = self._devices
        found = filter(None, map(devices.get, message.recipients))
        deliver_to(chain.from_iterable(found), message, self._fault)
        for handle in message.resync_recipients:
            for connection in devices.get(handle, ()):
                self._resync(connection, message.seq)

    def has_written(self, handle: bytes, seq: int) -> bool:
        """Whether a message was written to a connection of this device, which may have ended since."""
        connections = self._devices.get(handle, ())
        return self._departed.had(handle, seq) or any(one.has_written(seq, handle) for one in connections)

    def withdraw(self, message: LiveMessage) -> None:
        """Tells the connections of the message's devices that it was withdrawn."""
        self.strays.keep(message)
        for handle in message.recipients:
            for connection in self._devices.get(handle, ()):
                connection.withdraw(message.seq, message.id, handle)

    def whisper(self, message: LiveMessage) -> None:
        """Writes an event that is kept nowhere to the live connections of its devices."""
        for handle in message.recipients:
            for connection in self._devices.get(handle, ()):
                if connection.phase is ConnectionPhase.LIVE:
                    try:
                        connection.receiver.send_whisper(message.body)
                    except Exception:
                        self._fault(connection)

    def close_devices(self, message: LiveMessage) -> None:
        """Ends the connections of devices that were forgotten."""
        for handle in message.recipients:
            for connection in self._devices.get(handle, ()):
                connection.receiver.close("device forgotten")

    def withdrawn_meanwhile(self, connection: Connection) -> list[tuple[int, str, bytes]]:
        """The withdrawals of messages of this connection during its registration: seq, id and device of each."""
        notices = [message for message in self.strays if message.notice]
        return [
            (one.seq, one.id, handle) for one in notices for handle in connection.handles if handle in one.recipients
        ]

    def add(self, connection: Connection) -> bool:
        """Adds the connection of one or more devices while it is FETCHING. True when a `_resync` is due, because a
        message that arrived during the registration has dropped the queue of a device."""
        for handle in connection.handles:
            self._devices[handle] = (*self._devices.get(handle, ()), connection)
        mine = set(connection.handles)
        # The answer to the registration and the bus travel on two links: the bus may have been faster.
        is_lost = False
        for message in self.strays:
            if not message.notice and not mine.isdisjoint(message.recipients):
                connection.deliver(message)
            is_lost = is_lost or not mine.isdisjoint(message.resync_recipients)
        return is_lost

    def remove(self, connection: Connection) -> None:
        """Removes the connection from its devices."""
        now = now_ms()
        for handle, seq in connection.written_until():
            self._departed.note(handle, seq, now)
        for handle in connection.handles:
            others = tuple(other for other in self._devices.get(handle, ()) if other is not connection)
            if others:
                self._devices[handle] = others
            else:
                self._devices.pop(handle, None)

    def connections_of(self, handle: bytes) -> tuple[Connection, ...]:
        """The connections of one device."""
        return self._devices.get(handle, ())

    def enter_rooms(self, connection: Connection) -> None:
        """Adds a connection of a site without queues to its rooms."""
        for room in connection.rooms:
            self._rooms.setdefault(room, {})[connection] = None

    def leave_rooms(self, connection: Connection) -> list[str]:
        """Removes the connection from its rooms; answers the rooms that have no connection any more."""
        deserted = []
        for room in connection.rooms:
            members = self._rooms.get(room)
            if members is not None and connection in members:
                del members[connection]
                if not members:
                    del self._rooms[room]
                    deserted.append(room)
        return deserted

    @property
    def rooms(self) -> KeysView[str]:
        """The rooms with connections on this node, in a site without queues."""
        return self._rooms.keys()

    def restart(self) -> None:
        """In a site without queues: Redis may count messages from the start again, so forget the older seqs."""
        for members in self._rooms.values():
            for connection in members:
                connection.last_seq = 0

    def _deliver_to_rooms(self, message: LiveMessage) -> None:
        rooms = [self._rooms[room] for room in message.rooms or () if room in self._rooms]
        if len(rooms) == 1:
            recipients: Iterable[Connection] = rooms[0]
        else:
            recipients = {connection: None for members in rooms for connection in members}
        connections = list(recipients)
        self._counts.bus_messages += 1
        self._counts.deliveries += len(connections)
        deliver_to(connections, message, self._fault)

    def _fault(self, connection: Connection) -> None:
        """A receiver has failed. The other recipients get the message; this client connects again and replays it."""
        self.faults["receiver"] += 1
        _log.exception("receiver failed", site=self.site.name, number=connection.number)
        with contextlib.suppress(Exception):
            connection.receiver.close("internal error")


def _of_first(devices: Iterable[tuple[bytes, tuple[Connection, ...]]]) -> Iterator[Connection]:
    """The connections of devices, each with the first of its devices."""
    return (one for handle, connections in devices for one in connections if one.handles[:1] == (handle,))


def _in_first(rooms: Iterable[tuple[str, dict[Connection, None]]]) -> Iterator[Connection]:
    """The connections in rooms, each in the first of its rooms."""
    return (one for room, members in rooms for one in list(members) if one.rooms[:1] == (room,))


class Hub:
    """The connections of all sites on this node. Lives as long as the node."""

    def __init__(
        self, sites: Iterable[Site], resync: Callable[[Connection, int], None], counts: Counts | None = None
    ) -> None:
        self._resync = resync
        self._counts = counts or Counts()
        self.sites: dict[str, SiteConnections] = {}
        for site in sites:
            self.add(site)

    def add(self, site: Site) -> None:
        """Takes connections of one more site."""
        connections = self.sites[site.name] = SiteConnections(site, self._resync, self._counts.of(site.name))
        connections.faults = self._counts.faults

    def __getitem__(self, site: Site) -> SiteConnections:
        return self.sites[site.name]
