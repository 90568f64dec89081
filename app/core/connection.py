"""One connection of a device (or several devices, one per user room) and the order in which it gets its messages.

    JOINING ──▶ REPLAYING ⇄ FETCHING ──▶ LIVE ⇄ FETCHING (after a gap on the bus)
       │            │           │          │
       └────────────┴───────────┴──────────┴──▶ CLOSED

Decides without I/O: `delivery.py` asks the store and tells this class what came of it.
"""

from collections.abc import Sequence
from enum import Enum

from app.config.settings import Site
from app.core.message import LiveMessage, Waiting
from app.core.ports import Receiver


class ConnectionPhase(Enum):
    """What a connection does with live messages."""

    #: Not registered yet; the presence keeps what arrives for devices it does not know.
    JOINING = "joining"
    #: More of the queue follows the ack of a batch: live messages are in the queue and come with it.
    REPLAYING = "replaying"
    #: The store was asked what waits: live messages are held until it is clear which of them that covers.
    FETCHING = "fetching"
    #: Live messages are written at once.
    LIVE = "live"
    #: Nothing is written any more.
    CLOSED = "closed"


_LIVE = ConnectionPhase.LIVE
_FETCHING = ConnectionPhase.FETCHING


class Batch:
    """A `_batch` that the client has not acknowledged. Lives until its ack or the connection's end."""

    __slots__ = ("handle", "has_more", "seqs")

    def __init__(self, handle: bytes, seqs: list[int], has_more: bool) -> None:
        self.handle = handle
        self.seqs = seqs
        self.has_more = has_more


class Connection:
    """One live transport session of a user's device on this node; `Delivery` opens and closes it.

    `receiver` writes to the client. Batch ids count from 1, far below the first seq of a site (see send.lua), so an
    ack id tells by itself whether a message or a batch was acknowledged.
    """

    __slots__ = (
        "_batch_count",
        "_batches",
        "_held",
        "_sent_until",
        "epoch",
        "handles",
        "last_seq",
        "note",
        "number",
        "phase",
        "receiver",
        "rooms",
        "site",
        "told_seq",
    )

    def __init__(self, site: Site, number: int, receiver: Receiver, note: str = "") -> None:
        self.site = site
        #: Kept beside it in the store; see `QueueStore.connect`. It may be secret.
        self.note = note
        #: Unique on this node.
        self.number = number
        self.receiver = receiver
        self.phase = ConnectionPhase.JOINING
        #: Its devices.
        self.handles: tuple[bytes, ...] = ()
        #: Its rooms, in a site without queues.
        self.rooms: tuple[str, ...] = ()
        #: The newest message written to it, or covered by what the store answered.
        self.last_seq = 0
        #: What was lost up to here it was told with a `_resync`.
        self.told_seq = 0
        #: The presence's epoch when the store was last asked what waits.
        self.epoch = 0
        self._held: list[LiveMessage] | None = None
        self._batch_count = 0
        self._batches: dict[int, Batch] | None = None
        self._sent_until: dict[bytes, int] | None = None

    def deliver(self, message: LiveMessage) -> None:
        """Writes a live message, holds it, or leaves it to the queue, as the phase says. The hot path."""
        if self.phase is _LIVE:
            # A device in several user rooms of one connection, or a refill after a gap, meets a message twice.
            if message.seq > self.last_seq:
                self.last_seq = message.seq
                self._write(message)
        elif self.phase is _FETCHING:
            assert self._held is not None, "FETCHING always holds"
            self._held.append(message)

    def begin(self, last_seq: int, parts: Sequence[tuple[bytes, Waiting]]) -> None:
        """Writes the first batches of a new connection (registered at `last_seq`) and goes on live if that is all."""
        self._sent_until = {handle: 0 for handle, _ in parts}
        self.continue_replay(last_seq, parts)

    def fetch(self) -> None:
        """The store is being asked what waits: live messages are held from here on."""
        self.phase = ConnectionPhase.FETCHING
        self._held = self._held or []

    def fetch_from(self) -> list[tuple[bytes, int]]:
        """The devices with the seq behind which the store is to look."""
        sent = self._sent_until
        return [(handle, self.last_seq if sent is None else sent[handle]) for handle in self.handles]

    @property
    def is_replaying_batches(self) -> bool:
        """Whether what waits goes out as `_batch`; after a gap it goes out message by message."""
        return self._sent_until is not None

    def continue_replay(self, last_seq: int, parts: Sequence[tuple[bytes, Waiting]]) -> None:
        """The next parts of the queues go out as batches; when nothing is left behind them, live goes on."""
        assert self._sent_until is not None, "only a connection that replays batches gets here"
        for handle, waiting in parts:
            # Writing may end the connection, here and below: its outbox is full.
            if waiting.entries and self.phase is not ConnectionPhase.CLOSED:
                self._sent_until[handle] = waiting.entries[-1][0]
                self._send_batch(handle, waiting)
        if self.phase is ConnectionPhase.CLOSED:
            return
        if any(waiting.has_more for _, waiting in parts):
            self.phase = ConnectionPhase.REPLAYING
            self._held = None
        else:
            self._sent_until = None
            self.go_live(last_seq)

    def refill(self, last_seq: int, waitings: Sequence[Waiting]) -> bool:
        """Writes what a gap hid, in order; False when more waits and the store is to be asked again."""
        entries = sorted({entry for waiting in waitings for entry in waiting.entries})
        incomplete = [waiting.entries[-1][0] for waiting in waitings if waiting.has_more]
        # Where one device's queue was cut off, what another device got after that point is left to the next round.
        until = min(incomplete, default=None)
        for seq, body in entries:
            if self.phase is ConnectionPhase.CLOSED:
                return True
            if seq > self.last_seq and (until is None or seq <= until):
                self.last_seq = seq
                self._write(LiveMessage(seq, "", body))
        if until is not None:
            return False
        self.go_live(last_seq)
        return True

    def go_live(self, last_seq: int) -> None:
        """Everything up to `last_seq` is written: what was held beyond it follows, then live messages."""
        if self.phase is ConnectionPhase.CLOSED:
            return
        self.last_seq = max(self.last_seq, last_seq)
        self.phase = ConnectionPhase.LIVE
        held, self._held = self._held, None
        for message in held or ():
            self.deliver(message)

    def take_batch(self, ack_id: int) -> Batch | None:
        """The batch that was acknowledged, once; None for any other ack."""
        return self._batches.pop(ack_id, None) if self._batches else None

    def close(self) -> None:
        """Nothing is written from here on."""
        self.phase = ConnectionPhase.CLOSED
        self._held = self._batches = self._sent_until = None

    def _write(self, message: LiveMessage) -> None:
        receiver = self.receiver
        key = receiver.encoding_key
        encoded = message.encoded.get(key)
        if encoded is None:
            encoded = message.encoded[key] = receiver.encode(message)
        receiver.send(encoded)

    def _send_batch(self, handle: bytes, waiting: Waiting) -> None:
        if self._batches is None:
            self._batches = {}
        self._batch_count += 1
        self._batches[self._batch_count] = Batch(handle, [seq for seq, _ in waiting.entries], waiting.has_more)
        self.receiver.send_batch(self._batch_count, [body for _, body in waiting.entries])
