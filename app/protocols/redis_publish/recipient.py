"""One client of a user and the order in which it gets its messages.

    NEW ──registered──▶ FETCHING ──all that waited is written──▶ LIVE ──something is missing──▶ FETCHING
                           │  ▲
        more waits ────────▼  │ the client has the part before
                          WAITING                                    any ──gone──▶ CLOSED

Decides without I/O: `mailroom.py` asks the mailboxes and passes their answers to this class.
"""

from collections.abc import Iterator, Sequence
from enum import Enum
from hashlib import sha1

from app.core.catch_up import CatchUp
from app.protocols.redis_publish.envelope import event_of
from app.protocols.redis_publish.mailbox_ports import Part, Told
from app.protocols.redis_publish.ports import ClientConnection


class RecipientPhase(Enum):
    """The phases of a recipient, by its way with messages that are announced to its node ("told")."""

    #: The mailbox was not asked yet.
    NEW = "new"
    #: The mailbox was asked for a part. A told message is held until the answer shows whether the part covers it.
    FETCHING = "fetching"
    #: A part was written and more waits. Told messages wait behind it in the list.
    WAITING = "waiting"
    #: Told messages are written at once.
    LIVE = "live"
    #: Nothing is written any more.
    CLOSED = "closed"


class Recipient:
    """Lives as long as its connection; `close` ends it.

    `pending` are the entries that were written and have no receipt yet. In a site with acks the client's ack is the
    receipt of one entry. In other sites the answers to two pings, one after the other, are the receipt of all entries
    before the pings.
    """

    def __init__(
        self, connection: ClientConnection, number: int, with_acks: bool, max_pending: int, ack_ids: Iterator[int]
    ) -> None:
        """`number` is unique on this node. At most `max_pending` entries await their receipt. `ack_ids` are new ids
        of the connection."""
        self.connection = connection
        self.number = number
        self.with_acks = with_acks
        self.phase = RecipientPhase.NEW
        self.user = ""
        #: The messages that were written.
        self.messages = 0
        #: A message was missed, so the mailbox has to be asked again.
        self.is_stale = False
        #: Entries with a receipt, to be taken out of the mailbox.
        self.confirmed: list[bytes] = []
        #: Whether a ping for a receipt is on its way, and whether a task is updating the mailbox.
        self.is_asked = False
        self.is_settling = False
        self._max_pending = max_pending
        self._last_told = 0
        #: Both are set while FETCHING: messages that were told, and digests of entries that another connection has
        #: acknowledged.
        self._held: CatchUp[Told] | None = None
        self._done: CatchUp[str] | None = None
        #: Entry -> its ack id, oldest first.
        self._pending: dict[bytes, int] = {}
        self._entries_by_ack: dict[int, bytes] = {}
        #: Hashes of written entries that stay in the list for connections that fetch, oldest first.
        self._listed: dict[int, None] = {}
        self._ack_ids = ack_ids

    def fetch(self) -> None:
        """The mailbox is about to be asked: messages that are told from here on are held."""
        if self.phase is not RecipientPhase.CLOSED:
            self.phase = RecipientPhase.FETCHING
            self._held = CatchUp()
            self._done = CatchUp()

    def receive_part(self, part: Part, node: str) -> None:
        """Writes the part that the mailbox has answered, and goes live if nothing more waits."""
        if part.has_more and self.with_acks:
            self._forget_older(part.entries)
        for entry in part.entries:
            # After a gap the mailbox also returns entries that were written before, and entries whose confirmation has
            # not reached it yet.
            if entry in self._pending or entry in self.confirmed:
                continue
            if hash(entry) not in self._listed:
                self._write(entry, part.is_first)
            elif part.has_more:
                # The connection whose receipt would take it out may be gone. Without a receipt the next part would be
                # this one again.
                self._pending[entry] = 0
        if self.phase is RecipientPhase.CLOSED:
            return
        held, done, self._held, self._done = self._held, self._done, None, None
        assert held is not None, "FETCHING always holds"
        assert done is not None, "FETCHING always holds"
        self._last_told = part.last_told
        self.phase = RecipientPhase.WAITING if part.has_more else RecipientPhase.LIVE
        # If more waits, a later part contains the held messages. If nothing waits, the acks of other connections do not
        # matter.
        if (done if part.has_more else held).has_gap:
            self.is_stale = True
        elif part.has_more:
            for digest in done.release(-1):
                self.receive_done(digest)
        else:
            for told in held.release(part.last_told):
                if not self.receive_told(told, node):
                    self.is_stale = True

    def receive_told(self, told: Told, node: str) -> bool:
        """A message for this user was told to this node, named `node`. False when a message before it is missing."""
        if self.phase is RecipientPhase.FETCHING:
            assert self._held is not None, "FETCHING always holds"
            self._held.hold(told.number, len(told.entry), told)
        elif self.phase is RecipientPhase.LIVE and told.number > self._last_told:
            if told.number != self._last_told + 1:
                return False
            self._last_told = told.number
            self._write(told.entry, told.first == (node, self.number), is_owned=self.with_acks or not told.is_listed)
        return True

    def receive_ack(self, ack_id: int) -> None:
        """The client has acknowledged one message."""
        entry = self._entries_by_ack.pop(ack_id, None)
        if entry is not None:
            self._pending.pop(entry, None)
            self.confirmed.append(entry)

    def receive_done(self, digest: str) -> None:
        """Another connection has acknowledged the entry with this SHA-1: this one no longer waits for its own ack."""
        if self.phase is RecipientPhase.FETCHING:
            assert self._done is not None, "FETCHING always holds"
            self._done.hold(0, len(digest), digest)
        elif self.phase is RecipientPhase.WAITING:
            for entry in self.pending:
                if sha1(entry, usedforsecurity=False).hexdigest() == digest:
                    self._forget(entry)

    def receive_receipt(self, entries: Sequence[bytes]) -> None:
        """The client has these entries, which were written before a ping."""
        self.is_asked = False
        for entry in entries:
            if entry in self._pending:
                del self._pending[entry]
                self.confirmed.append(entry)

    @property
    def pending(self) -> list[bytes]:
        """The written entries without a receipt, oldest first."""
        return list(self._pending)

    @property
    def wants_part(self) -> bool:
        """Whether the mailbox is to be asked: the client has the previous part, or a message was missed."""
        if self.phase is RecipientPhase.WAITING:
            return self.is_stale or not self._pending
        return self.phase is RecipientPhase.LIVE and self.is_stale

    def take_confirmed(self) -> list[bytes]:
        """The entries to take out of the mailbox. Each is returned once."""
        taken, self.confirmed = self.confirmed, []
        return taken

    def close(self) -> None:
        """Nothing is written from here on; pending entries still wait in the mailbox."""
        self.phase = RecipientPhase.CLOSED
        self._held = self._done = None
        self._pending = {}
        self._entries_by_ack = {}

    def _forget_older(self, oldest: Sequence[bytes]) -> None:
        """`oldest` are the oldest entries left in the mailbox: another connection has acknowledged all before them."""
        left = set(oldest)
        older = self.pending
        if all(entry in self._pending or entry in self.confirmed for entry in oldest):
            while older and older[-1] not in left:
                older.pop()
        for entry in older:
            if entry not in left:
                self._forget(entry)

    def _forget(self, entry: bytes) -> None:
        self._entries_by_ack.pop(self._pending.pop(entry), None)

    def _write(self, entry: bytes, is_first: bool, is_owned: bool = True) -> None:
        """`is_owned`: this client's receipt takes the entry out of the mailbox. Otherwise the receipt of a connection
        that fetches the entry from the mailbox does."""
        if self.phase is RecipientPhase.CLOSED or self.connection.is_closed:
            return
        ack_id = next(self._ack_ids)
        self.messages += 1
        if not is_owned:
            self._listed[hash(entry)] = None
            if len(self._listed) > self._max_pending:
                del self._listed[next(iter(self._listed))]
        else:
            self._pending[entry] = ack_id
            if self.with_acks:
                self._entries_by_ack[ack_id] = entry
                if len(self._pending) > self._max_pending:
                    # The client never acknowledges: its next connection gets the entries in the list.
                    self._forget(next(iter(self._pending)))
        self.connection.send_body(event_of(entry, is_first), ack_id if self.with_acks else None)
