"""The rules of devices and queues in plain lists and dictionaries, as a model for comparison with the store."""

from __future__ import annotations

from dataclasses import dataclass, field

from app.config.settings import Site
from app.core.address import is_user_room
from app.core.ports import RoomsChange
from tests.store.queue_fates import Fates

#: (user room, device id)
Key = tuple[str, str]
#: (node, number)
ConnectionKey = tuple[str, int]
Entry = tuple[int, bytes]


@dataclass
class Sent:
    """A message that the store has accepted."""

    seq: int
    event: str
    body: bytes
    resync: bool
    accepted_ms: int
    id: str = ""
    rooms: tuple[str, ...] = ()
    #: Its options as JSON.
    options: bytes = b""
    collapse: str = ""
    settles_user: bool = False
    #: When it leaves every queue; 0: never.
    ends_at: int = 0
    #: The device that does not get it.
    but: Key | None = None
    #: The handles of the devices that got it.
    recipients: set[bytes] = field(default_factory=set)


@dataclass
class Device:
    """One device: its queue oldest first, its connections, and when it is forgotten (0: never) while it has none."""

    handle: bytes
    rooms: list[str] = field(default_factory=list)
    queue: list[Sent] = field(default_factory=list)
    connections: set[ConnectionKey] = field(default_factory=set)
    deadline: int = 0
    #: The seq at which its queue was dropped, while a `_resync` is due, else 0.
    lost_at: int = 0
    #: The highest seq that may have been written to it before its node died.
    written: int = 0
    #: The ids of messages that were withdrawn while it was away.
    withdrawn: list[str] = field(default_factory=list)

    @property
    def is_lost(self) -> bool:
        """Whether a `_resync` is due."""
        return self.lost_at > 0

    def is_expired(self, now: int) -> bool:
        """Whether its time to live is over."""
        return not self.connections and 0 < self.deadline <= now

    @property
    def nodes(self) -> set[str]:
        """The nodes to which it is connected."""
        return {node for node, _ in self.connections}


@dataclass
class Told:
    """The bus message of one node for one message."""

    node: str
    counter: int
    seq: int
    body: bytes
    recipients: set[bytes]
    resync_recipients: set[bytes]


class SiteModel:
    """The expected content of one site in the store. Lives as long as the machine."""

    def __init__(self, site: Site) -> None:
        """Begins empty."""
        self.site = site
        self.devices: dict[Key, Device] = {}
        self.last_seq = 0
        self.last_handle = 0
        #: The number of the last change of rooms.
        self.rooms_at = 0
        self.counters: dict[str, int] = {}
        #: Every message that was ever accepted, by seq: an ack may name any of them.
        self.sent: dict[int, Sent] = {}
        #: The state of each message at each device, by seq and handle.
        self.fates: Fates = {}
        #: The bus messages of withdrawals that nobody has heard yet.
        self.notices: list[Told] = []

    def device(self, handle: bytes) -> Device | None:
        """The device of a handle."""
        return next((device for device in self.devices.values() if device.handle == handle), None)

    def connect(self, connection: ConnectionKey, device_id: str, rooms: list[str], now: int) -> list[Device]:
        """The connection's devices, registered, in the order of its user rooms."""
        found = []
        for user in dict.fromkeys(room for room in rooms if is_user_room(self.site, room)):
            key = (user, device_id)
            if key in self.devices and self.devices[key].is_expired(now):
                self._end(self.devices.pop(key), "expired")
            if key not in self.devices:
                self.last_handle += 1
                self.devices[key] = Device(str(self.last_handle).encode())
            self.devices[key].connections.add(connection)
            self._move(user, key, sorted({room.lower() for room in rooms}))
            found.append(self.devices[key])
        return found

    def change_rooms(self, change: RoomsChange) -> int:
        """How many devices have moved."""
        if change.number <= self.rooms_at:
            return 0
        self.rooms_at = change.number
        mine = [device for (user, _), device in self.devices.items() if user == change.user_room]
        joins, leaves = ({room.lower() for room in rooms} for rooms in (change.joins, change.leaves))
        for device in mine:
            rooms = (set(device.rooms) | joins) - leaves | {change.user_room}
            device.rooms = sorted(rooms)
        return len(mine)

    def send(self, rooms: list[str], sent: Sent, now: int) -> tuple[int, int, list[Told]]:
        """The devices that store it, the devices whose queue ran over, and the bus message of each node."""
        self.sent[sent.seq] = sent
        self.last_seq = sent.seq
        stored: list[Device] = []
        dropped: list[Device] = []
        for device in self._addressed(rooms, now):
            if sent.but is not None and device is self.devices.get(sent.but):
                continue
            self.fates[sent.seq, device.handle.decode()] = "waiting"
            for older in [one for one in device.queue if sent.collapse and one.collapse == sent.collapse]:
                self._take(device, older, "replaced")
            device.queue.append(sent)
            limit = self.site.queue_limit
            if len(device.queue) > limit.messages or sum(len(one.body) for one in device.queue) > limit.bytes:
                self._end(device, "resynced")
                device.lost_at = sent.seq
                dropped.append(device)
            else:
                stored.append(device)
                sent.recipients.add(device.handle)
        nodes = sorted({node for device in stored + dropped for node in device.nodes})
        return len(stored), len(dropped), [self._tell(node, sent, stored, dropped) for node in nodes]

    def disconnect(self, connection: ConnectionKey, devices: list[Device], now: int) -> None:
        """Takes a connection out; with its last connection a device's time to live begins."""
        for device in devices:
            if connection in device.connections:
                device.connections.remove(connection)
                if not device.connections:
                    ttl_ms = self.site.device_ttl_seconds * 1000
                    device.deadline = now + ttl_ms if ttl_ms else 0

    def ack(self, is_batch: bool, seq: int, handles: list[bytes]) -> list[bytes]:
        """The handles whose ack calls for a `_resync`."""
        calls = []
        for handle in handles:
            device = self.device(handle)
            sent = self.sent.get(seq)
            if device is None or sent is None or sent not in device.queue:
                continue
            oldest = next(one for one in device.queue if one.event == sent.event)
            if sent.resync and not is_batch and oldest is not sent:
                for one in [one for one in device.queue if one.event == sent.event]:
                    self._take(device, one, "resynced")
                device.lost_at = max(device.lost_at, seq)
                calls.append(handle)
            else:
                self._take(device, sent, "acked")
                if sent.settles_user:
                    self._settle(device, sent)
        return calls

    def end_messages(self, now: int) -> int:
        """Takes the messages whose ttl is over out of all queues; answers how many."""
        ended = set()
        for device in self.devices.values():
            for sent in [one for one in device.queue if 0 < one.ends_at <= now]:
                self._take(device, sent, "expired")
                ended.add(sent.seq)
        return len(ended)

    def withdraw(self, sent: Sent) -> int:
        """Takes a message out of all queues; answers how many held it."""
        holders = [device for device in self.devices.values() if sent in device.queue]
        for device in holders:
            self._take(device, sent, "withdrawn")
        self._tell_withdrawn(sent, holders)
        return len(holders)

    def _settle(self, acked: Device, sent: Sent) -> None:
        user = next(user for (user, _), device in self.devices.items() if device is acked)
        # The devices of a public channel belong to many users.
        mine = [one for (other, _), one in self.devices.items() if other == user != self.site.public_channel]
        holders = [one for one in mine if sent in one.queue]
        for device in holders:
            self._take(device, sent, "settled")
        self._tell_withdrawn(sent, holders)

    def _tell_withdrawn(self, sent: Sent, devices: list[Device]) -> None:
        for device in devices:
            if not device.nodes and device.written >= sent.seq:
                device.withdrawn.append(sent.id)
        for node in sorted({node for device in devices for node in device.nodes}):
            self.counters[node] = self.counters.get(node, 0) + 1
            handles = {device.handle for device in devices if node in device.nodes}
            self.notices.append(Told(node, self.counters[node], sent.seq, b"", handles, set()))

    def _take(self, device: Device, sent: Sent, state: str) -> None:
        device.queue.remove(sent)
        self.fates[sent.seq, device.handle.decode()] = state

    def _end(self, device: Device, state: str) -> None:
        for sent in list(device.queue):
            self._take(device, sent, state)

    def waiting(self, device: Device, after: int) -> tuple[list[Entry], bool]:
        """The next part of a queue after a seq, and whether more follows."""
        entries: list[Entry] = []
        limit = self.site.batch_limit
        behind = [(sent.seq, sent.body) for sent in device.queue if sent.seq > after]
        for entry in behind:
            size = sum(len(body) for _, body in [*entries, entry])
            if entries and (len(entries) == limit.messages or size > limit.bytes):
                return entries, True
            entries.append(entry)
        return entries, False

    def expire(self, now: int) -> int:
        """Forgets the devices whose time is over; answers how many."""
        expired = [key for key, device in self.devices.items() if device.is_expired(now)]
        for key in expired:
            self._end(self.devices.pop(key), "expired")
        return len(expired)

    def bury(self, node: str, since: int) -> list[str]:
        """Takes out a node's connections; answers the user room of each."""
        users = []
        for (user, _), device in self.devices.items():
            for connection in [one for one in device.connections if one[0] == node]:
                device.written = max(device.written, self.last_seq)
                self.disconnect(connection, [device], since)
                users.append(user)
        self.counters.pop(node, None)
        return sorted(users)

    def _move(self, user: str, key: Key, rooms: list[str]) -> None:
        # A user's devices are all in the rooms of the newest connection; who shares a public channel shares no more.
        for other, device in self.devices.items():
            if other == key or (other[0] == user and user != self.site.public_channel):
                device.rooms = rooms

    def _addressed(self, rooms: list[str], now: int) -> list[Device]:
        def is_meant(user: str, device: Device) -> bool:
            return any(
                room == user if is_user_room(self.site, room) else room.lower() in device.rooms for room in rooms
            )

        return [
            device
            for (user, _), device in self.devices.items()
            if is_meant(user, device) and not device.is_expired(now)
        ]

    def _tell(self, node: str, sent: Sent, stored: list[Device], dropped: list[Device]) -> Told:
        self.counters[node] = self.counters.get(node, 0) + 1
        recipients, resync_recipients = (
            {device.handle for device in devices if node in device.nodes} for devices in (stored, dropped)
        )
        return Told(node, self.counters[node], sent.seq, sent.body, recipients, resync_recipients)
