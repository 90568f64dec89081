"""The reports that messages were written to devices, on their way to the journal; see `written_times.py`."""

from collections.abc import Sequence

from msgspec import Struct

from app.clock import now_ms


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
