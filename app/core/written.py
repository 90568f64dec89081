"""When this node has written messages to connections: the journal is told of those that are not acknowledged at once.

An ack carries the time of its message's writing, so most messages cost one entry for all their devices here and none in
the journal. A message that waits for its acks for longer is reported, in steps.
"""

from collections import deque
from collections.abc import Callable, Iterator, Sequence

from msgspec import Struct

from app.clock import now_ms

#: After this time without an ack a message is reported as written.
REPORT_AFTER_MS = 250
#: The devices of one report: some 2 ms of a turn.
MOST_REPORTED = 2_000
#: The messages of a site whose time of writing is remembered for late acks.
MOST_REMEMBERED = 1_000


class Written(Struct, frozen=True):
    """A message that was written to devices and not acknowledged at once."""

    seq: int
    at_ms: int
    handles: Sequence[bytes]


class Batch:
    """Messages that were written to one device at once. Lives until the ack of the `_batch`."""

    __slots__ = ("at_ms", "handle", "has_more", "is_acked", "seqs")

    def __init__(self, handle: bytes, seqs: list[int], has_more: bool) -> None:
        self.handle = handle
        self.seqs = seqs
        #: Whether more of the queue follows its ack.
        self.has_more = has_more
        self.is_acked = False
        #: When it was written, in ms since the epoch.
        self.at_ms = now_ms()


class _Handed:
    """A message that was written to the connections of this node. Lives until its acks are here, or it is reported."""

    __slots__ = ("at_ms", "missing", "recipients")

    def __init__(self, at_ms: int, recipients: Sequence[bytes]) -> None:
        self.at_ms = at_ms
        self.recipients = recipients
        #: The acks that are missing.
        self.missing = len(recipients)


class WrittenTimes:
    """The messages of one site that this node has written lately. Lives as long as the node."""

    def __init__(self, was_written: Callable[[bytes, int], bool] = lambda handle, seq: True) -> None:
        """`was_written` tells whether a message with this seq was written to a device, or is still held for it."""
        self._was_written = was_written
        self._live: dict[int, _Handed] = {}
        #: Times of messages that are reported.
        self._late: dict[int, int] = {}
        self._batches: deque[Batch] = deque()

    def note(self, seq: int, recipients: Sequence[bytes]) -> None:
        """A live message was handed to its connections."""
        self._live[seq] = _Handed(now_ms(), recipients)

    def note_batch(self, batch: Batch) -> None:
        """Messages were written to one device."""
        self._batches.append(batch)

    def acked(self, seq: int, count: int) -> int:
        """Takes so many acks of a message; answers when it was written in ms since the epoch, 0 where it is unknown."""
        live = self._live.get(seq)
        if live is None:
            return self._late.get(seq, 0)
        live.missing -= count
        if live.missing <= 0:
            del self._live[seq]
        return live.at_ms

    @property
    def is_empty(self) -> bool:
        """Whether nothing is left to report."""
        return not self._live and not self._batches

    def due(self, now: int) -> list[Written]:
        """Takes out what was written for long enough without its acks, at most MOST_REPORTED devices."""
        found: list[Written] = []
        count = 0
        for part in self._due(now - REPORT_AFTER_MS):
            found += part
            count += sum(len(written.handles) for written in part)
            if count >= MOST_REPORTED:
                break
        return found

    def _due(self, before_ms: int) -> Iterator[list[Written]]:
        while self._batches and self._batches[0].at_ms <= before_ms:
            batch = self._batches.popleft()
            if not batch.is_acked:
                yield [Written(seq, batch.at_ms, (batch.handle,)) for seq in batch.seqs]
        while self._live:
            seq, live = next(iter(self._live.items()))
            if live.at_ms > before_ms:
                return
            del self._live[seq]
            self._remember(seq, live.at_ms)
            handles = [handle for handle in live.recipients if self._was_written(handle, seq)]
            yield [Written(seq, live.at_ms, handles)] if handles else []

    def _remember(self, seq: int, at_ms: int) -> None:
        self._late[seq] = at_ms
        if len(self._late) > MOST_REMEMBERED:
            del self._late[next(iter(self._late))]
