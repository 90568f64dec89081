"""The one path of every publish, and the life of every connection: brings store, bus, hub and acks together."""

import asyncio
import itertools
from collections.abc import Awaitable, Callable, Iterable, Sequence
from functools import partial

import structlog

from app.config.settings import Site
from app.core.acks import AckBuffer
from app.core.address import room_names
from app.core.audiences import Audiences
from app.core.binds import extend
from app.core.connection import Connection, ConnectionPhase
from app.core.errands import Errands
from app.core.follow_up import FollowUp
from app.core.hub import Hub, SiteConnections
from app.core.leavings import Leavings
from app.core.limits import check_message
from app.core.loop_turn import LoopTurn
from app.core.message import LiveMessage, Message, Waiting
from app.core.openings import OpeningTurns
from app.core.ports import (
    AckGroup,
    AudienceListener,
    BuriedConnection,
    ConnectNotes,
    QueueStore,
    Receiver,
    Registration,
    Replay,
    Stored,
)
from app.errors import LimitReached, StoreAway, StoreError
from app.observe.counts import Counts

#: Rooms told to Redis in one command after a gap: one for all would not end within its time-out.
_ROOMS_PER_COMMAND = 1_000

_log = structlog.get_logger(__name__)


class Delivery:
    """Publishes messages, and opens, feeds and closes connections. Lives as long as the node; `drain` ends its work.

    Implements `BusListener`: the bus hands it each message that was published.
    """

    def __init__(self, sites: Iterable[Site], store: QueueStore, counts: Counts | None = None) -> None:
        self._store = store
        self._counts = counts or Counts()
        self.hub = Hub((), lambda connection, seq: self._send_resync(connection, "queue full", seq), self._counts)
        self._acks: dict[str, AckBuffer] = {}
        #: Called when Redis may not know, or no longer know, which connections this node has.
        self.on_interrupted: list[Callable[[], None]] = []
        #: Events of a protocol itself: a message with such an event reaches no room through `binds`.
        self.reserved_events: frozenset[str] = frozenset()
        #: Called with each connection of a dead node that this node has taken out of Redis.
        self.on_buried: Callable[[BuriedConnection], None] = lambda connection: None
        #: Called with acks that the store has applied.
        self.on_acked: Callable[[Site, Sequence[AckGroup]], None] = lambda site, groups: None
        # One bound method for all connections: a new one for each would cost 64 bytes a connection.
        self._on_batch_ack = self._continue_replay
        self._numbers, self._turns = itertools.count(1), OpeningTurns()
        self._bus_turn = LoopTurn()
        self._errands = Errands(store.is_away)
        self._leavings: dict[str, Leavings] = {}
        self._audiences: dict[str, Audiences] = {}
        self._listeners: dict[str, AudienceListener] = {}
        self.follow_up = FollowUp(self.publish, store, self._errands)
        for site in sites:
            self.add(site)

    def add(self, site: Site) -> None:
        """Takes messages and connections of one more site."""
        self.hub.add(site)
        counts = self._counts.of(site.name)
        acks = AckBuffer(site, self._store, partial(self._ack_out_of_turn, site), counts, self.hub[site].has_written)
        acks.on_applied = lambda groups: self.on_acked(site, groups)
        self._acks[site.name], leave = acks, partial(self._store.leave, site)
        self._leavings[site.name] = Leavings(self._errands, site.name, leave, self.hub[site].rooms.__contains__)

    async def settle(self, site: Site) -> None:
        """Waits until the collected acks of one site have reached Redis, or were put back because Redis is away."""
        await self._acks[site.name].drain()

    def audiences(self, protocol: str, listener: AudienceListener) -> Audiences:
        """The audiences of a protocol, asked for once; `listener` hears the messages that are published to them."""
        self._listeners[protocol] = listener
        audiences = self._audiences[protocol] = Audiences(protocol, listener, self._store, self._errands)
        audiences.faults = self._counts.faults
        return audiences

    def is_away(self, site: Site) -> bool:
        """Whether there is no link to the site's Redis: whoever connects now is to come again later."""
        return self._store.is_away(site.name)

    def new_errands(self) -> Errands:
        """Errands of a part of this node: they wait for the same Redis, and are woken when it is back."""
        errands = Errands(self._store.is_away)
        self.on_interrupted.append(errands.wake)
        return errands

    async def publish(self, message: Message) -> Stored:
        """Stores the message for every addressed device and sends it on its way; all or none, see `QueueStore.send`.

        The site's `binds` may add rooms and audiences. Raises StoreUnavailable when Redis is away, LimitReached when
        the site may not send the message, or not now.
        """
        if message.site.binds:
            message = extend(message, self._listeners, self.reserved_events)
        send = self._store.send if message.site.has_queues else self._store.publish
        counts = self._counts.of(message.site.name)
        try:
            check_message(message)
            stored = await send(message)
        except LimitReached as reached:
            counts.limited[reached.limit] += 1
            raise
        counts.sends += not stored.earlier_id
        counts.stored += stored.recipients if message.site.has_queues else 0
        counts.overflows += stored.overflowed
        counts.nodes_told += stored.tells
        _log.info(
            "message stored" if message.site.has_queues else "message published",
            site=message.site.name,
            message=message.id,
            event_name=message.event,
            recipients=stored.recipients,
            overflowed=stored.overflowed,
        )
        return stored

    def new_connection(self, site: Site, receiver: Receiver, note: str = "") -> Connection:
        """A connection that `open` is to register; `close` ends it, whether or not `open` has returned.

        If this node dies, another node is given `note` when it takes the connection out of the store.
        """
        self._counts.of(site.name).connections += 1
        return Connection(site, next(self._numbers), receiver, self._acks[site.name], self._on_batch_ack, note)

    async def open(
        self, connection: Connection, device_id: str, rooms: Sequence[str], greet: Callable[[], None]
    ) -> None:
        """Registers a connection of a user with these rooms.

        `greet` is called when it is registered, to write whatever is first on the wire. Raises StoreUnavailable, with
        nothing left behind, and RoomsChanged (see `Connection.rooms_at`): it may be opened again."""
        if self.is_away(connection.site):
            self._end(connection)
            raise StoreAway
        if connection.site.has_queues:
            async with self._turns.of(connection, self._end):
                await self._open_device(connection, device_id, rooms, greet)
        else:
            await self._open_in_rooms(connection, rooms, greet)

    def close(self, connection: Connection, report: Callable[[list[bool]], None] | None = None) -> None:
        """The connection is gone: unacknowledged messages wait for the next one. Idempotent, returns at once.

        `report` is called when the store knows of the end, with a flag for each device: whether this node is to report
        its end (see `QueueStore.disconnect`). It is never called for a connection that was not registered yet.
        """
        if connection.phase is ConnectionPhase.CLOSED:
            return
        self._end(connection)
        connections = self.hub[connection.site]
        if not connection.site.has_queues:
            self._leavings[connection.site.name].add(connections.leave_rooms(connection))
            return
        connections.remove(connection)
        if connection.handles:
            self._errands.start(self._disconnect(connection, report))

    def message_published(self, site: str, counter: int, message: LiveMessage) -> None:
        """From the bus: a message for connections of this node."""
        if (connections := self.hub.sites.get(site)) is None:
            return
        if not connections.count(counter):
            self._counts.of(site).bus_gaps += 1
            _log.warning("bus gap", site=site, counter=counter)
            self._refill(connections.site)
        if message.notice:
            self._notice(connections, message)
        elif message.audience is None:
            message.is_first = self._bus_turn.take_first()
            connections.deliver(message)
            self._acks[site].note_live(message)
        elif audiences := self._audiences.get(message.audience.protocol):
            self._counts.of(site).bus_messages += 1
            audiences.hear(connections.site, message)

    def bus_interrupted(self) -> None:
        """From the bus: messages may be missing, so every connection is filled from its queues."""
        self._counts.bus_interruptions += 1
        self._errands.wake()
        for connections in self.hub.sites.values():
            connections.forget_counter()
            self._refill(connections.site)
        for listener in self.on_interrupted:
            try:
                listener()
            except Exception:
                self._counts.faults["interruption"] += 1
                _log.exception("listener failed")

    async def drain(self) -> None:
        """Waits until all acks and ends of connections have reached Redis. Called at the end, with a time-out."""
        for acks in list(self._acks.values()):
            await acks.drain()
        await self._errands.drain()

    def _notice(self, connections: SiteConnections, message: LiveMessage) -> None:
        """From the bus: something has happened to an earlier message, or to a device."""
        if message.notice == "withdraw":
            connections.withdraw(message)
        elif message.notice == "whisper":
            connections.whisper(message)
        elif message.notice == "close":
            connections.close_devices(message)
        else:
            self.follow_up.note(message)

    # Opening and closing

    async def _open_device(
        self, connection: Connection, device_id: str, rooms: Sequence[str], greet: Callable[[], None]
    ) -> None:
        connections = self.hub[site := connection.site]
        # The acks of the device's last connection go first: otherwise the batch brings their messages again.
        self._acks[site.name].flush()
        connection.epoch = connections.epoch
        with connections.strays.kept() as kept:
            registration = await self._register(connection, device_id, rooms)
            devices = registration.devices
            connection.handles = tuple([device.handle for device in devices])
            if connection.phase is not ConnectionPhase.CLOSED:
                connection.fetch()
                is_lost = connections.add(connection) or True in [device.is_lost for device in devices]
                if kept.has_gap:
                    connection.miss()
                withdrawn = connections.withdrawn_meanwhile(connection)
        if connection.phase is ConnectionPhase.CLOSED:
            self._errands.start(self._disconnect(connection))
            return
        greet()
        for device in devices:
            for id in device.withdrawn:
                connection.receiver.send_withdrawn(id)
        if is_lost:
            self._send_resync(connection, "due", registration.last_seq)
        # Writing may have closed the connection.
        if connection.phase is ConnectionPhase.FETCHING:
            self._count_batches(site, [device.waiting for device in devices])
            parts = [(device.handle, device.waiting) for device in devices]
            connection.begin(registration.last_seq, parts)
            for seq, id, handle in withdrawn:
                connection.withdraw(seq, id, handle)
            self._refill_if_missed(connection)

    async def _register(self, connection: Connection, device_id: str, rooms: Sequence[str]) -> Registration:
        notes = ConnectNotes(connection.note, connection.client, connection.rooms_at)
        try:
            return await self._store.connect(connection.site, connection.number, device_id, rooms, notes)
        except StoreAway:
            self._end(connection)
            raise
        except (StoreError, asyncio.CancelledError):
            self._end(connection)
            # Redis may have registered the connection before the failure: it must not stay registered.
            withdraw = partial(self._store.withdraw, connection.site, connection.number, device_id, rooms)
            self._errands.start(self._errands.until_stored(withdraw, connection.site.name))
            raise

    async def _open_in_rooms(self, connection: Connection, rooms: Sequence[str], greet: Callable[[], None]) -> None:
        connections = self.hub[connection.site]
        connection.rooms = tuple(room_names(rooms))
        connections.enter_rooms(connection)
        try:
            # Also the rooms with other connections: their join may be under way, and fail.
            await self._store.join(connection.site, connection.rooms)
        except (StoreError, asyncio.CancelledError):
            self.close(connection)
            raise
        if connection.phase is not ConnectionPhase.CLOSED:
            greet()
        connection.go_live(0)

    def _end(self, connection: Connection) -> None:
        if connection.phase is not ConnectionPhase.CLOSED:
            connection.close()
            self._counts.of(connection.site.name).connections -= 1

    async def _disconnect(self, connection: Connection, report: Callable[[list[bool]], None] | None = None) -> None:
        self._acks[connection.site.name].flush()
        is_ours = await self._errands.until_stored(
            lambda: self._store.disconnect(connection.site, connection.number, connection.written_until()),
            connection.site.name,
        )
        if report is not None:
            report(is_ours)

    # Replay and refill

    def _continue_replay(self, connection: Connection) -> None:
        """Reads the queues of a connection that is FETCHING until it is live, or waits for the ack of a batch."""
        self._errands.start(self._replay(connection))

    async def _replay(self, connection: Connection) -> None:
        has_more = True
        while has_more:
            replay = await self._errands.until_stored(partial(self._ask_replay, connection), connection.site.name)
            if connection.phase is not ConnectionPhase.FETCHING or not self._is_still_registered(connection, replay):
                return
            waitings = [device.waiting for device in replay.devices]
            if connection.is_replaying_batches:
                self._count_batches(connection.site, waitings)
                connection.continue_replay(replay.last_seq, list(zip(connection.handles, waitings, strict=True)))
                has_more = False
            else:
                self._counts.of(connection.site.name).refilled += sum(len(waiting.entries) for waiting in waitings)
                has_more = not connection.refill(replay.last_seq, waitings)
        self._refill_if_missed(connection)

    def _ask_replay(self, connection: Connection) -> Awaitable[Replay]:
        # The answer covers every message and every gap that the node knows at the moment of the command.
        connection.fetch()
        connection.epoch = self.hub[connection.site].epoch
        return self._store.replay(connection.site, connection.number, connection.fetch_from())

    def _count_batches(self, site: Site, waitings: Iterable[Waiting]) -> None:
        counts = self._counts.of(site.name)
        for waiting in waitings:
            counts.batches += bool(waiting.entries)
            counts.batched += len(waiting.entries)

    def _refill(self, site: Site) -> None:
        """Fills every connection of a site from its queues, because messages from the bus are missing."""
        connections = self.hub[site]
        connections.miss()
        for audiences in self._audiences.values():
            audiences.refill(site)
        if site.has_queues:
            for connection in list(connections):
                connection.miss()
                if self._must_refill(connection):
                    self._errands.start_in_turns(partial(self._replay, connection))
        elif rooms := list(connections.rooms):
            connections.restart()
            for start in range(0, len(rooms), _ROOMS_PER_COMMAND):
                part = rooms[start : start + _ROOMS_PER_COMMAND]
                join = partial(self._store.join, site, part)
                self._errands.start_in_turns(partial(self._errands.until_stored, join, site.name))

    def _refill_if_missed(self, connection: Connection) -> None:
        """Asks the store again for a connection that is live, and asked the store before the last gap."""
        if self._must_refill(connection):
            self._continue_replay(connection)

    def _must_refill(self, connection: Connection) -> bool:
        """Whether this is so; then the connection holds live messages from here on."""
        if connection.phase is not ConnectionPhase.LIVE or connection.epoch == self.hub[connection.site].epoch:
            return False
        connection.fetch()
        return True

    def _is_still_registered(self, connection: Connection, replay: Replay) -> bool:
        states = {device.state for device in replay.devices}
        lost_seq = max(device.lost_seq for device in replay.devices)
        if "lost" in states or replay.last_seq < connection.last_seq:
            # (The site's seq went back: this Redis lacks the newest messages.)
            connection.last_seq = min(connection.last_seq, replay.last_seq)
            self._send_resync(connection, "redis lost data", replay.last_seq)
        elif lost_seq > connection.told_seq:
            self._send_resync(connection, "due", lost_seq)
        if "lost" in states or "gone" in states:
            # The node was taken for dead, or Redis has lost its data: the client has to connect again.
            connection.receiver.close("registration lost")
            return False
        return True

    # Resync

    def _send_resync(self, connection: Connection, reason: str, last_seq: int) -> None:
        """Tells the client to fetch everything, because messages up to `last_seq` were lost."""
        connection.told_seq = max(connection.told_seq, last_seq)
        connection.receiver.send_resync(lambda: self._settle(connection, last_seq), is_repeat=reason == "due")
        self._counts.of(connection.site.name).resyncs[reason] += 1
        _log.info("resync sent", site=connection.site.name, number=connection.number, reason=reason)

    def _ack_out_of_turn(self, site: Site, handle: bytes) -> None:
        for connection in self.hub[site].connections_of(handle):
            self._send_resync(connection, "ack out of turn", connection.last_seq)

    def _settle(self, connection: Connection, last_seq: int) -> None:
        """The `_resync` has arrived: the next connect does not repeat it."""
        settle = partial(self._store.settle, connection.site, last_seq, connection.handles)
        self._errands.start(self._errands.until_stored(settle, connection.site.name))
