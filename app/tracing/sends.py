"""The begin of traces: which messages of requests to /send are traced, and their spans.

A request that is refused before its message reaches the store leaves no span, so a stranger without a key costs
nothing here.
"""

from collections import Counter
from time import monotonic, time_ns

from app.tracing.context import Announcement
from app.tracing.counts import OVER_RATE, TracingCounts
from app.tracing.send_request import SendRequest, current_request
from app.tracing.spans import Attributes, Begin, OpenSpan, Spans

#: The messages that are traced in a second, of one site and of all sites, on one node.
MOST_TRACED_OF_SITE = 50
MOST_TRACED = 500


class TraceRate:
    """The messages that were traced in this second. Lives as long as the node."""

    def __init__(self) -> None:
        self._second = 0
        self._all = 0
        self._of_site: Counter[str] = Counter()

    def admits(self, site: str, now: float) -> bool:
        """Whether one more message of the site may be traced; counts it then."""
        if int(now) != self._second:
            self._second, self._all = int(now), 0
            self._of_site.clear()
        if self._all >= MOST_TRACED or self._of_site[site] >= MOST_TRACED_OF_SITE:
            return False
        self._all += 1
        self._of_site[site] += 1
        return True


class MessageTrace:
    """The trace of one message on its way into the store. Lives until the store has answered."""

    __slots__ = ("_span", "id", "site")

    def __init__(self, site: str, id: str, span: OpenSpan) -> None:
        self.site = site
        self.id = id
        self._span = span

    def announcement(self, seq: int = 0) -> bytes:
        """The text for the other nodes: before the message is stored without its seq, and behind that with it."""
        return Announcement(self.site, self.id, self._span.context, seq).encode()

    def end(self, attributes: Attributes | None = None, error: str = "") -> None:
        """The store has answered, or failed."""
        self._span.end(time_ns(), attributes, error)


class SendTraces:
    """The beginning of all traces on one node. Lives as long as the node."""

    def __init__(self, share: float, spans: Spans, counts: TracingCounts) -> None:
        self._share = share
        self._spans = spans
        self._counts = counts
        self._rate = TraceRate()

    def begin(self, site: str, id: str, attributes: Attributes) -> MessageTrace | None:
        """The trace of a message that is about to be stored; None: it is not traced."""
        request = current_request.get()
        if request is None or not request.is_sampled(self._share):
            return None
        if not self._rate.admits(site, monotonic()):
            self._counts.spans[OVER_RATE] += 1
            return None
        if request.span is None:
            request.span = self._spans.begin(_begin_of(request, site))
        parent = request.span.context
        about = {**messaging(site, "send"), "messaging.message.id": id, **attributes}
        return MessageTrace(site, id, self._spans.begin(Begin(f"send {site}", "producer", time_ns(), parent, about)))


def messaging(site: str, operation: str) -> dict[str, str]:
    """The attributes that OpenTelemetry's conventions for messaging give an operation."""
    return {
        "messaging.system": "recado",
        "messaging.operation.name": operation,
        "messaging.operation.type": "send" if operation == "send" else "process",
        "messaging.destination.name": site,
    }


def _begin_of(request: SendRequest, site: str) -> Begin:
    attributes = {"http.request.method": "POST", "http.route": request.route, "recado.site": site}
    return Begin(f"POST {request.route}", "server", request.began_ns, request.context, attributes)
