"""Who is here: site → device → connections, or site → room → connections where nothing is queued.

    bus ──▶ Hub ──▶ SiteConnections (one a site) ──▶ Connection ──▶ Receiver

Plain look-ups and calls; the hub does not know where messages come from or what a receiver writes to.
"""

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager

from app.config.settings import Site
from app.core.connection import Connection, ConnectionPhase
from app.core.message import LiveMessage
from app.observe.counts import Counts, SiteCounts


class Strays:
    """Messages kept while connections are being registered that they may be for: each until the registrations that
    had begun before it have ended. Lives as long as its presence.

    Also those for devices that are known here: their older connection may be dead without anybody knowing.
    """

    def __init__(self) -> None:
        self._messages: deque[LiveMessage] = deque()
        self._dropped = 0
        #: Registrations under way, oldest first: how many messages had been kept in all when each began.
        self._begun: dict[object, int] = {}

    def __iter__(self) -> Iterator[LiveMessage]:
        """What is kept, oldest first."""
        return iter(self._messages)

    def keep(self, message: LiveMessage) -> None:
        """Keeps the message if somebody may ask for it."""
        if self._begun:
            self._messages.append(message)

    @contextmanager
    def kept(self) -> Iterator[None]:
        """Within this, what comes is kept."""
        registration = object()
        self._begun[registration] = self._dropped + len(self._messages)
        try:
            yield
        finally:
            del self._begun[registration]
            oldest = next(iter(self._begun.values()), self._dropped + len(self._messages))
            while self._dropped < oldest:
                self._messages.popleft()
                self._dropped += 1


class SiteConnections:
    """The connections of one site on this node. Lives as long as the node."""

    def __init__(self, site: Site, resync: Callable[[Connection, int], None], counts: SiteCounts | None = None) -> None:
        """`resync` is called for each connection whose device's queue was dropped by a message, with its seq."""
        self.site = site
        #: Grows with every gap on the bus: what the store answered in an earlier epoch may have a hole behind it.
        self.epoch = 0
        self._resync = resync
        self._counts = counts or SiteCounts()
        # Tuples: writing to one connection may end it while the others are still to be written to.
        self._devices: dict[bytes, tuple[Connection, ...]] = {}
        self._rooms: dict[str, dict[Connection, None]] = {}
        self._counter: int | None = None
        self.strays = Strays()

    def __iter__(self) -> Iterator[Connection]:
        """The connections of devices, each once."""
        return iter({connection: None for connections in self._devices.values() for connection in connections})

    def count(self, counter: int) -> bool:
        """Takes the site's counter of a bus message; False when one before it is missing."""
        expected, self._counter = self._counter, counter
        return expected is None or counter == expected + 1

    def forget_counter(self) -> None:
        """The next bus message may carry any counter."""
        self._counter = None

    def deliver(self, message: LiveMessage) -> None:
        """Hands a message to the connections it is for. The hot path: once per message, a few steps per recipient."""
        if message.rooms is not None:
            self._deliver_to_rooms(message)
            return
        self._counts.bus_messages += 1
        self._counts.deliveries += len(message.recipients)
        self.strays.keep(message)
        devices = self._devices
        for handle in message.recipients:
            for connection in devices.get(handle, ()):
                connection.deliver(message)
        for handle in message.resync_recipients:
            for connection in devices.get(handle, ()):
                self._resync(connection, message.seq)

    def add(self, connection: Connection) -> bool:
        """Adds the connection of one or more devices, called while it is FETCHING; whether a `_resync` is due because
        of what came while it was being registered."""
        for handle in connection.handles:
            self._devices[handle] = (*self._devices.get(handle, ()), connection)
        mine = set(connection.handles)
        # The answer of the registration and the bus are two streams: the bus may have been faster.
        is_lost = False
        for message in self.strays:
            if not mine.isdisjoint(message.recipients):
                connection.deliver(message)
            is_lost = is_lost or not mine.isdisjoint(message.resync_recipients)
        return is_lost

    def remove(self, connection: Connection) -> None:
        """Takes the connection out of its devices."""
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
        """Takes it out again; answers the rooms that have none any more."""
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
    def rooms(self) -> Iterable[str]:
        """The rooms with connections on this node, in a site without queues."""
        return self._rooms.keys()

    def restart(self) -> None:
        """Redis may count messages anew, in a site without queues: no connection compares with an older seq."""
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
        for connection in connections:
            if connection.phase is ConnectionPhase.LIVE:
                connection.deliver(message)


class Hub:
    """All presences of this node. Lives as long as the node."""

    def __init__(
        self, sites: Iterable[Site], resync: Callable[[Connection, int], None], counts: Counts | None = None
    ) -> None:
        counts = counts or Counts()
        self.presences = {site.name: SiteConnections(site, resync, counts.of(site.name)) for site in sites}

    def __getitem__(self, site: Site) -> SiteConnections:
        return self.presences[site.name]
