"""The spans of one node for the messages that it hears: one a message with the number of its devices, and some of
single devices from the write to the ack. Their number is bounded whatever the number of devices.

Plain calls with the time passed in; the owner calls `end_due`.
"""

from collections.abc import Iterable, Sequence
from typing import Protocol

from msgspec import Struct

from app.tracing.known import KnownTrace, KnownTraces
from app.tracing.sends import messaging
from app.tracing.spans import Attributes, Begin, OpenSpan, Spans

#: Devices of a message with a span of their own, on one node: of those that are connected, and again as many that
#: acknowledge later.
MOST_DEVICE_SPANS = 10
#: Spans of a message on one node. It comes to very many devices in parts, and the acks of one may all be here before
#: the next one is.
MOST_ARRIVALS = 5
#: Messages of a node that wait for their acks in a span. Past it the span of the oldest ends.
MOST_OPEN = 1_000
#: A span waits this long for the acks of its devices.
PATIENCE_SECONDS = 30.0
_NS_IN_MS = 1_000_000


class AckedGroup(Protocol):
    """Acks of one message, as the store has applied them."""

    @property
    def is_batch(self) -> bool:
        """Whether they came as the ack of a `_batch`."""

    @property
    def seq(self) -> int:
        """The number of the message."""

    @property
    def handles(self) -> Sequence[bytes]:
        """The devices."""

    @property
    def written_ms(self) -> int:
        """When the message was written; 0: that is not known."""

    @property
    def acked_ms(self) -> int:
        """When the first of the acks came."""


class HandedOn(Struct, frozen=True):
    """A message that a node has heard and handed on."""

    seq: int
    #: Its devices on this node whose queue holds it; None: its listeners have no queue, and send no acks.
    devices: int | None
    #: Some of the devices, each with whether it was written to at once.
    sample: Sequence[tuple[bytes, bool]]
    #: When the node has heard it, and when it was handed to all connections, in ns.
    began_ns: int
    ended_ns: int


class OpenArrival:
    """A message that waits for its acks. Lives until they are here, or until it has waited for long enough."""

    __slots__ = ("acked", "devices", "known", "sample", "span", "until")

    def __init__(self, known: KnownTrace, span: OpenSpan, until: float) -> None:
        self.known = known
        self.span = span
        self.until = until
        self.devices = self.acked = 0
        #: The spans of single devices, by handle.
        self.sample: dict[bytes, OpenSpan] = {}

    @property
    def is_over(self) -> bool:
        """Whether all devices have acknowledged. (A device with two connections acknowledges twice.)"""
        return self.acked >= self.devices and not self.sample

    def end(self, at_ns: int) -> None:
        """Ends its spans."""
        for span in self.sample.values():
            span.end(at_ns, {"recado.acked": False})
        self.span.end(at_ns, {"recado.devices": self.devices, "recado.acks": self.acked})


class Arrivals:
    """The traced messages that one node has heard. Lives as long as the node."""

    def __init__(self, spans: Spans, known: KnownTraces) -> None:
        self._spans = spans
        self._known = known
        #: By site and seq, oldest first.
        self._open: dict[tuple[str, int], OpenArrival] = {}

    @property
    def is_empty(self) -> bool:
        """Whether nothing waits."""
        return not self._open

    def heard(self, known: KnownTrace, handed: HandedOn, now: float) -> None:
        """The node has heard a message, and handed it to its connections."""
        self._known.note_seq(known, handed.seq)
        key = (known.site, handed.seq)
        arrival = self._open.get(key)
        if arrival is None:
            if known.arrivals >= MOST_ARRIVALS:
                return
            known.arrivals += 1
            span = self._begin("deliver", known, handed.began_ns)
            if not handed.devices:
                span.end(handed.ended_ns)
                return
            self._make_room(handed.ended_ns)
            arrival = self._open[key] = OpenArrival(known, span, now + PATIENCE_SECONDS)
        # A message to very many devices comes in parts.
        arrival.devices += handed.devices or 0
        for handle, is_written in handed.sample[: MOST_DEVICE_SPANS - known.device_spans]:
            known.device_spans += 1
            about: Attributes = {"recado.device": handle.decode("latin-1"), "recado.written": is_written}
            begin_device = Begin("device", "internal", handed.ended_ns, arrival.span.context, about)
            arrival.sample[handle] = self._spans.begin(begin_device)

    def acked(self, site: str, groups: Iterable[AckedGroup], now_ns: int) -> None:
        """The store has applied acks."""
        for group in groups:
            known = self._known.of_seq(site, group.seq)
            if known is None:
                continue
            arrival = self._open.get((site, group.seq))
            if arrival is None:
                self._acked_late(known, group)
            else:
                self._acked(arrival, group, now_ns)

    def end_due(self, now: float, now_ns: int) -> float | None:
        """Ends the spans that have waited for long enough. Answers when the next one has; None: nothing waits."""
        while self._open:
            key, oldest = next(iter(self._open.items()))
            if oldest.until > now:
                return oldest.until
            self._end(key, now_ns)
        return None

    def _acked(self, arrival: OpenArrival, group: AckedGroup, now_ns: int) -> None:
        arrival.acked += len(group.handles)
        if arrival.sample:
            for handle in group.handles:
                if (span := arrival.sample.pop(handle, None)) is not None:
                    # The time is that of the first ack of its group: they came within 2 ms.
                    span.end(group.acked_ms * _NS_IN_MS, {"recado.acked": True})
        if arrival.is_over:
            self._end((arrival.known.site, group.seq), now_ns)

    def _acked_late(self, known: KnownTrace, group: AckedGroup) -> None:
        """A later connection has acknowledged, or an ack came behind the end of the span."""
        if known.late_spans >= MOST_DEVICE_SPANS:
            return
        known.late_spans += 1
        acked_ns = group.acked_ms * _NS_IN_MS
        began_ns = group.written_ms * _NS_IN_MS or acked_ns
        about = {"recado.acks": len(group.handles), "recado.batch": group.is_batch, "recado.acked": True}
        self._begin("replay", known, began_ns, about).end(acked_ns)

    def _begin(self, operation: str, known: KnownTrace, at_ns: int, more: Attributes | None = None) -> OpenSpan:
        about = {**messaging(known.site, operation), "messaging.message.id": known.id, **(more or {})}
        return self._spans.begin(Begin(f"{operation} {known.site}", "consumer", at_ns, known.context, about))

    def _make_room(self, now_ns: int) -> None:
        if len(self._open) >= MOST_OPEN:
            self._end(next(iter(self._open)), now_ns)

    def _end(self, key: tuple[str, int], now_ns: int) -> None:
        self._open.pop(key).end(now_ns)

    def end_all(self, now_ns: int) -> None:
        """The node ends."""
        for key in list(self._open):
            self._end(key, now_ns)
