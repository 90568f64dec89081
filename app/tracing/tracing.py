"""The tracing of one node: brings the beginnings of traces, the announcements of other nodes and the arrivals together.

Knows no Redis and no library of tracing.
"""

import asyncio
from collections.abc import Iterable
from time import monotonic, time_ns

from app.tracing.arrivals import AckedGroup, Arrivals, HandedOn
from app.tracing.context import read_announcement
from app.tracing.counts import TracingCounts
from app.tracing.known import KnownTrace, KnownTraces
from app.tracing.sends import SendTraces
from app.tracing.spans import Spans


class Tracing:
    """Lives as long as the node, which calls `close`. Without the setting there is none."""

    def __init__(self, share: float, spans: Spans, counts: TracingCounts) -> None:
        self.sends = SendTraces(share, spans, counts)
        self._spans = spans
        self._known = KnownTraces()
        self._arrivals = Arrivals(spans, self._known)
        self._timer: asyncio.TimerHandle | None = None

    def announced(self, data: bytes) -> None:
        """From the bus: a message that is about to come, or that is stored, is traced."""
        if (announced := read_announcement(data)) is not None:
            self._known.add(announced)

    def trace_of(self, site: str, id: str) -> KnownTrace | None:
        """The trace of a message; None: it is not traced, or that was too long ago."""
        return self._known.of_id(site, id)

    @property
    def knows_any(self) -> bool:
        """Whether an ack may belong to a trace."""
        return bool(self._known)

    def heard(self, known: KnownTrace, handed: HandedOn) -> None:
        """This node has heard a traced message, and handed it to its connections."""
        self._arrivals.heard(known, handed, monotonic())
        self._end_later()

    def acked(self, site: str, groups: Iterable[AckedGroup]) -> None:
        """The store has applied acks."""
        self._arrivals.acked(site, groups, time_ns())

    async def close(self) -> None:
        """Ends all spans and hands them on, within some seconds."""
        if self._timer is not None:
            self._timer.cancel()
        self._arrivals.end_all(time_ns())
        await self._spans.close()

    def _end_later(self) -> None:
        if self._timer is None and not self._arrivals.is_empty:
            self._end_due()

    def _end_due(self) -> None:
        self._timer = None
        now = monotonic()
        due = self._arrivals.end_due(now, time_ns())
        if due is not None:
            self._timer = asyncio.get_running_loop().call_later(due - now, self._end_due)
