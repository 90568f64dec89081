"""Hears the bus in front of `Delivery` on a node whose tracing is on, and tells tracing what became of a message."""

from time import time_ns

from app.core.delivery import Delivery
from app.core.message import LiveMessage
from app.tracing.arrivals import MOST_DEVICE_SPANS, HandedOn
from app.tracing.tracing import Tracing


class TracedListener:
    """A `BusListener`. Lives as long as the node."""

    def __init__(self, delivery: Delivery, tracing: Tracing) -> None:
        self._delivery = delivery
        self._tracing = tracing

    def message_published(self, site: str, counter: int, message: LiveMessage) -> None:
        """See `BusListener`."""
        known = None if message.notice else self._tracing.trace_of(site, message.id)
        if known is None:
            self._delivery.message_published(site, counter, message)
            return
        began_ns = time_ns()
        self._delivery.message_published(site, counter, message)
        connections = self._delivery.hub.sites.get(site)
        if connections is None:
            return
        is_queued = message.rooms is None and message.audience is None
        sample = [(one, connections.has_written(one, message.seq)) for one in message.recipients[:MOST_DEVICE_SPANS]]
        devices = len(message.recipients) if is_queued else None
        self._tracing.heard(known, HandedOn(message.seq, devices, sample, began_ns, time_ns()))

    def bus_interrupted(self) -> None:
        """See `BusListener`."""
        self._delivery.bus_interrupted()
