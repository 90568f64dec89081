"""When this node has written messages to connections: the journal is told of those that are not acknowledged at once.

An ack carries the time of its message's writing, so most messages cost one entry for all their devices here and none in
the journal. A message that waits for its acks for longer is reported, in steps.
"""

from collections import deque
from collections.abc import Callable, Iterator, Sequence

from app.clock import now_ms
from app.core.ports import AckGroup
from app.core.written import Batch, Written

#: After this time without an ack a message is reported as written.
REPORT_AFTER_MS = 250
#: The devices of one report: some 2 ms of a turn.
MOST_REPORTED = 2_000
#: The messages of a site whose time of writing is remembered for late acks.
MOST_REMEMBERED = 1_000
#: The places of a message's devices are remembered for this time, until the message has landed.
PLACES_MS = 2_500


class _Handed:
    """A message that was written to the connections of this node. Lives until its acks are here, or it is reported."""

    __slots__ = ("_places", "at_ms", "missing", "recipients")

    def __init__(self, at_ms: int, recipients: Sequence[bytes]) -> None:
        self.at_ms = at_ms
        self.recipients = recipients
        #: The acks that are missing.
        self.missing = len(recipients)
        self._places: dict[bytes, int] | None = None

    def mark(self, group: AckGroup) -> list[bytes]:
        """Notes the places of the handles in a group. Takes out those without a place of their own: the answer."""
        if len(self.recipients) < 2:
            return []
        places = self._places
        if places is None:
            places = self._places = {handle: place for place, handle in enumerate(self.recipients)}
        bits = bytearray(len(self.recipients) + 7 >> 3)
        others = []
        for handle in group.handles:
            place = places.get(handle, -1)
            if place < 0 or bits[place >> 3] >> (place & 7) & 1:
                others.append(handle)
            else:
                bits[place >> 3] |= 1 << (place & 7)
        if len(others) == len(group.handles):
            return []
        if others:
            group.handles = [handle for handle in dict.fromkeys(group.handles) if handle in places]
        group.places = bytes(bits.rstrip(b"\0"))
        return others

    def forget_places(self) -> None:
        """The message is not in flight any more."""
        self.recipients, self._places = (), None


class WrittenTimes:
    """The messages of one site that this node has written lately. Lives as long as the node."""

    def __init__(self, was_written: Callable[[bytes, int], bool] = lambda handle, seq: True) -> None:
        """`was_written` tells whether a message with this seq was written to a device, or is still held for it."""
        self._was_written = was_written
        self._live: dict[int, _Handed] = {}
        #: Messages that are reported.
        self._late: dict[int, _Handed] = {}
        #: The reported messages whose places are remembered.
        self._placed: deque[_Handed] = deque()
        self._batches: deque[Batch] = deque()

    def note(self, seq: int, recipients: Sequence[bytes]) -> None:
        """A live message was handed to its connections."""
        self._live[seq] = _Handed(now_ms(), recipients)

    def note_batch(self, batch: Batch) -> None:
        """Messages were written to one device."""
        self._batches.append(batch)

    def mark(self, group: AckGroup) -> list[bytes]:
        """Takes acks of one message: notes in their group when it was written, and their places. Handles without a
        place of their own are taken out and answered: they need a group of their own."""
        handed = self._live.get(group.seq) or self._late.get(group.seq)
        if handed is None:
            return []
        group.written_ms = handed.at_ms
        handed.missing -= len(group.handles)
        others = handed.mark(group)
        if handed.missing <= 0:
            self._live.pop(group.seq, None)
        return others

    @property
    def is_empty(self) -> bool:
        """Whether nothing is left to report."""
        return not self._live and not self._batches and not self._placed

    def due(self, now: int) -> list[Written]:
        """Takes out what was written for long enough without its acks, at most MOST_REPORTED devices."""
        while self._placed and self._placed[0].at_ms <= now - PLACES_MS:
            self._placed.popleft().forget_places()
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
            self._remember(seq, live)
            handles = [handle for handle in live.recipients if self._was_written(handle, seq)]
            yield [Written(seq, live.at_ms, handles)] if handles else []

    def _remember(self, seq: int, handed: _Handed) -> None:
        self._late[seq] = handed
        self._placed.append(handed)
        if len(self._late) > MOST_REMEMBERED:
            oldest = self._late.pop(next(iter(self._late)))
            if self._placed[0] is oldest:
                self._placed.popleft()
