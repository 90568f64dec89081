"""One connection of a device (or several devices, one per user room) and the order in which it gets its messages.

    JOINING ──▶ REPLAYING ⇄ FETCHING ──▶ LIVE ⇄ FETCHING (after a gap)
       │            │           │          │
       └────────────┴───────────┴──────────┴──▶ CLOSED

Decides without I/O: `delivery.py` asks the store and tells this class the answer.
"""

from collections.abc import Callable, Iterable, Sequence
from enum import Enum
from typing import Protocol

from app.clock import now_ms
from app.config.settings import Site
from app.core.catch_up import CatchUp
from app.core.message import LiveMessage, Waiting
from app.core.ports import Receiver
from app.core.written import Batch


class ConnectionPhase(Enum):
    """How a connection treats a live message."""

    #: The connection is not registered yet; `hub.py` keeps messages for devices that it does not know.
    JOINING = "joining"
    #: More of the queue follows the ack of a batch: a live message is in the queue and comes with the next batch.
    REPLAYING = "replaying"
    #: The store was asked for the queue: a live message is held until the answer shows whether it covers the message.
    FETCHING = "fetching"
    #: A live message is written at once.
    LIVE = "live"
    #: Nothing is written any more.
    CLOSED = "closed"


_LIVE = ConnectionPhase.LIVE
_FETCHING = ConnectionPhase.FETCHING
#: No epoch of the hub: the store is to be asked again.
_STALE = -1


class AckCollector(Protocol):
    """Takes the acks of a site's connections on their way to the store; see `AckBuffer`."""

    def add(self, seq: int, handle: bytes) -> None:
        """One device has acknowledged one message."""

    def add_batch(self, seqs: list[int], handle: bytes, written_ms: int) -> None:
        """One device has acknowledged a `_batch` with these messages, which was written at this time."""

    def note_written(self, batch: Batch) -> None:
        """Messages were written to one device: as a batch, or behind a gap."""


class Connection:
    """One live transport session of a user's device on this node; `Delivery` opens and closes it.

    `receiver` writes to the client. Batch ids count from 1, far below the first seq of a site (see send.lua), so an
    ack id tells by itself whether a message or a batch was acknowledged.
    """

    __slots__ = (
        "_acks",
        "_batch_count",
        "_batches",
        "_continue_replay",
        "_held",
        "_sent_until",
        "client",
        "epoch",
        "handles",
        "last_seq",
        "messages",
        "note",
        "number",
        "phase",
        "receiver",
        "replay",
        "rooms",
        "rooms_at",
        "site",
        "sync_ms",
        "told_seq",
    )

    def __init__(
        self,
        site: Site,
        number: int,
        receiver: Receiver,
        acks: AckCollector,
        continue_replay: Callable[["Connection"], None],
        note: str = "",
    ) -> None:
        """`continue_replay` is called when the client has acknowledged a batch that more of the queue follows: the
        connection is FETCHING then, and wants the next part."""
        self.site = site
        #: Stored beside the connection; see `ConnectNotes`. It may be secret.
        self.note = note
        #: The description of its client, and the number of the last change that its rooms hold; see `ConnectNotes`.
        #: Both are set before it is opened.
        self.client = ""
        self.rooms_at = 0
        #: Unique on this node.
        self.number = number
        self.receiver = receiver
        self.phase = ConnectionPhase.JOINING
        #: Its devices.
        self.handles: tuple[bytes, ...] = ()
        #: Its rooms, in a site without queues.
        self.rooms: tuple[str, ...] = ()
        #: The newest message that was written to it, or that an answer of the store covers.
        self.last_seq = 0
        #: A `_resync` has told the client of all losses up to here.
        self.told_seq = 0
        #: The epoch of the hub when the store was last asked for the queue.
        self.epoch = 0
        #: The messages that were written to it, and those among them that had waited in its queue.
        self.messages = self.replay = 0
        #: How long it took to be live; below 0 until it is: less the time of its begin.
        self.sync_ms = -now_ms()
        self._acks = acks
        self._continue_replay = continue_replay
        #: Set while FETCHING.
        self._held: CatchUp[LiveMessage] | None = None
        self._batch_count = 0
        self._batches: dict[int, Batch] | None = None
        #: While the queue goes out as batches: the last seq that was written, by device.
        self._sent_until: dict[bytes, int] | None = None

    def deliver(self, message: LiveMessage) -> None:
        """Writes a live message, holds it, or leaves it to the queue, as the phase says. The hot path."""
        if self.phase is _LIVE:
            # A message comes twice to a device in several user rooms of one connection, and in a refill after a gap.
            if message.seq > self.last_seq:
                self.last_seq = message.seq
                self._write(message)
        elif self.phase is _FETCHING:
            assert self._held is not None, "FETCHING always holds"
            self._held.hold(message.seq, len(message.body), message)

    def receive_ack(self, ack_id: int) -> None:
        """The client has acknowledged a message (`ack_id` is its seq) or a batch. The hot path."""
        if not self._batches or (batch := self._batches.pop(ack_id, None)) is None:
            acks = self._acks
            for handle in self.handles:
                acks.add(ack_id, handle)
            return
        batch.is_acked = True
        self._acks.add_batch(batch.seqs, batch.handle, batch.at_ms)
        if batch.has_more and self.phase is ConnectionPhase.REPLAYING:
            self.fetch()
            self._continue_replay(self)

    def has_written(self, seq: int, handle: bytes) -> bool:
        """Whether a message of this device's queue was written to this connection."""
        if self._sent_until is not None:
            return seq <= self._sent_until.get(handle, 0)
        return seq <= self.last_seq

    def written_until(self) -> list[tuple[bytes, int]]:
        """The devices, each with the highest seq that was written to it."""
        sent = self._sent_until
        return [(handle, self.last_seq if sent is None else sent.get(handle, 0)) for handle in self.handles]

    def withdraw(self, seq: int, id: str, handle: bytes) -> None:
        """A message was withdrawn: the client that has it is told, and one that is held is not written."""
        if self.phase is ConnectionPhase.CLOSED:
            return
        if self.has_written(seq, handle):
            self.receiver.send_withdrawn(id)
        elif self._held is not None:
            self._held.drop(seq)

    def begin(self, last_seq: int, parts: Sequence[tuple[bytes, Waiting]]) -> None:
        """Writes the first batches of a new connection, registered at `last_seq`; goes live if that is all."""
        self._sent_until = {handle: 0 for handle, _ in parts}
        self.continue_replay(last_seq, parts)

    def fetch(self) -> None:
        """The store is about to be asked for the queue: live messages are held from here on."""
        if self.phase is ConnectionPhase.CLOSED:
            return
        self.phase = ConnectionPhase.FETCHING
        if self._held is None:
            self._held = CatchUp()
        else:
            self._held.restart()

    def miss(self) -> None:
        """Live messages are missing. An answer on its way may not cover them: go live no further than that answer."""
        if self._held is not None:
            self._held.lose()

    def fetch_from(self) -> list[tuple[bytes, int]]:
        """The devices, each with the seq behind which the store is to look."""
        sent = self._sent_until
        return [(handle, self.last_seq if sent is None else sent[handle]) for handle in self.handles]

    @property
    def is_replaying_batches(self) -> bool:
        """Whether the queue goes out as `_batch`; after a gap it goes out message by message."""
        return self._sent_until is not None

    def continue_replay(self, last_seq: int, parts: Sequence[tuple[bytes, Waiting]]) -> None:
        """Writes the next parts of the queues as batches; goes live when no part is left behind them."""
        assert self._sent_until is not None, "only a connection that replays batches gets here"
        for handle, waiting in parts:
            # Writing may close the connection, here and below: its outbox is full.
            if waiting.entries and self.phase is not ConnectionPhase.CLOSED:
                self._sent_until[handle] = waiting.entries[-1][0]
                self._send_batch(handle, waiting)
        if self.phase is ConnectionPhase.CLOSED:
            return
        if True in [waiting.has_more for _, waiting in parts]:
            self.phase = ConnectionPhase.REPLAYING
            self._held = None
        else:
            self._sent_until = None
            self.go_live(last_seq)

    def refill(self, last_seq: int, waitings: Sequence[Waiting]) -> bool:
        """Writes messages that a gap hid, in order; False when more is waiting and the store is to be asked again."""
        entries = sorted({entry for waiting in waitings for entry in waiting.entries})
        incomplete = [waiting.entries[-1][0] for waiting in waitings if waiting.has_more]
        # Where the answer for one device was cut off, later messages of the other devices are left to the next round.
        until = min(incomplete, default=None)
        for seq, body in entries:
            if self.phase is ConnectionPhase.CLOSED:
                return True
            if seq > self.last_seq and (until is None or seq <= until):
                self.last_seq = seq
                self._write(LiveMessage(seq, "", body))
                self._note_written(seq)
        if until is not None:
            return False
        self.go_live(last_seq)
        return True

    def go_live(self, last_seq: int) -> None:
        """Everything up to `last_seq` is written: the held messages beyond it follow, then live messages.

        Behind a gap no held message follows, and the epoch is stale: `Delivery` asks the store again before the next
        message from the bus.
        """
        if self.phase is ConnectionPhase.CLOSED:
            return
        self.last_seq = max(self.last_seq, last_seq)
        self.phase = ConnectionPhase.LIVE
        if self.sync_ms < 0:
            self.sync_ms = max(0, self.sync_ms + now_ms())
        held, self._held = self._held, None
        if held is not None and held.has_gap:
            self.epoch = _STALE
        elif held is not None:
            for message in held.release(self.last_seq):
                self.deliver(message)
                if self.site.has_queues:
                    self._note_written(message.seq)

    def close(self) -> None:
        """Nothing is written from here on."""
        self.phase = ConnectionPhase.CLOSED
        self._held = self._batches = None

    def _note_written(self, seq: int) -> None:
        for handle in self.handles:
            self._acks.note_written(Batch(handle, [seq], False))

    def _write(self, message: LiveMessage) -> None:
        receiver = self.receiver
        key = type(receiver)
        encoded = message.encoded.get(key)
        if encoded is None:
            encoded = message.encoded[key] = receiver.encode(message)
        self.messages += 1
        receiver.send(encoded)

    def _send_batch(self, handle: bytes, waiting: Waiting) -> None:
        if self._batches is None:
            self._batches = {}
        self._batch_count += 1
        batch = Batch(handle, [seq for seq, _ in waiting.entries], waiting.has_more)
        self._batches[self._batch_count] = batch
        self.replay += len(batch.seqs)
        self.messages += len(batch.seqs)
        self._acks.note_written(batch)
        self.receiver.send_batch(self._batch_count, waiting.entries)


def deliver_to(connections: Iterable[Connection], message: LiveMessage, failed: Callable[[Connection], None]) -> None:
    """Does `Connection.deliver` for all of them; `failed` is called for each whose receiver raises. The hottest path:
    what most of them need stands here, without a call for each."""
    seq, encodings = message.seq, message.encoded
    for connection in connections:
        try:
            if connection.phase is not _LIVE:
                connection.deliver(message)
            elif seq > connection.last_seq:
                receiver = connection.receiver
                encoded = encodings.get(type(receiver))
                if encoded is None:
                    connection.deliver(message)
                else:
                    connection.last_seq = seq
                    connection.messages += 1
                    receiver.send(encoded)
        except Exception:
            failed(connection)
