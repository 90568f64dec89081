"""The messages whose trace this node knows, because another node, or this one, has announced them on the bus."""

from app.tracing.context import Announcement, TraceContext

#: The newest traced messages that a node knows. An ack of an older one leaves no span.
MOST_KNOWN = 10_000


class KnownTrace:
    """A message that is traced. Lives until newer ones take its place."""

    __slots__ = ("arrivals", "context", "device_spans", "id", "late_spans", "seq", "site")

    def __init__(self, announced: Announcement) -> None:
        self.site = announced.site
        self.id = announced.id
        #: The span of the store's step, the parent of all that follow.
        self.context: TraceContext = announced.context
        #: 0: it is not stored yet, as far as this node knows.
        self.seq = 0
        #: The spans of its arrival on this node.
        self.arrivals = 0
        #: The spans of single devices on this node: of those that were connected, and of later acks.
        self.device_spans = 0
        self.late_spans = 0


class KnownTraces:
    """The traced messages of one node, the newest. Lives as long as the node."""

    def __init__(self) -> None:
        self._by_id: dict[tuple[str, str], KnownTrace] = {}
        self._by_seq: dict[tuple[str, int], KnownTrace] = {}

    def __len__(self) -> int:
        return len(self._by_id)

    def add(self, announced: Announcement) -> None:
        """Takes an announcement: the first of a message, or the second, with its seq."""
        key = (announced.site, announced.id)
        known = self._by_id.get(key)
        if known is None:
            if len(self._by_id) >= MOST_KNOWN:
                self._drop_oldest()
            known = self._by_id[key] = KnownTrace(announced)
        if announced.seq:
            self.note_seq(known, announced.seq)

    def note_seq(self, known: KnownTrace, seq: int) -> None:
        """The message has this seq."""
        if known.seq != seq:
            self._by_seq.pop((known.site, known.seq), None)
            known.seq = seq
            self._by_seq[known.site, seq] = known

    def of_id(self, site: str, id: str) -> KnownTrace | None:
        """The traced message with this id."""
        return self._by_id.get((site, id))

    def of_seq(self, site: str, seq: int) -> KnownTrace | None:
        """The traced message with this seq."""
        return self._by_seq.get((site, seq))

    def _drop_oldest(self) -> None:
        oldest = self._by_id.pop(next(iter(self._by_id)))
        self._by_seq.pop((oldest.site, oldest.seq), None)
