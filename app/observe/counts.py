"""What has happened on this node since its start, as plain numbers that the components add to.

Knows nothing of Prometheus: `metrics` reads these when it is asked. On the hot path an addition is all that is allowed,
and that once a message or a flush, never once a delivery or an ack. Numbers of one protocol, or of the backends, are a
class in its own folder: a *part*, made when it is asked for the first time.
"""

from bisect import bisect_left
from collections import Counter
from collections.abc import Callable, Iterable
from typing import Any, TypeVar, cast

from msgspec import Struct

#: Upper bounds in seconds; a longer duration counts in one bucket more.
BOUNDS_SECONDS = (0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0)

_Part = TypeVar("_Part")


class Durations:
    """How long something took, by bucket. Lives as long as the counts that it is part of."""

    __slots__ = ("buckets", "total_seconds")

    def __init__(self) -> None:
        #: One for each of BOUNDS_SECONDS, then one for longer durations; not cumulative.
        self.buckets = [0] * (len(BOUNDS_SECONDS) + 1)
        self.total_seconds = 0.0

    def observe(self, seconds: float) -> None:
        """Counts one more duration."""
        self.buckets[bisect_left(BOUNDS_SECONDS, seconds)] += 1
        self.total_seconds += seconds


class QueueSample(Struct, frozen=True):
    """How much waited for a bounded random choice of a site's devices at one moment."""

    #: All devices that the site has in Redis, connected or away.
    devices: int
    #: The devices of the sample.
    sampled: int
    #: In their queues together, and in the longest of them.
    messages: int
    longest: int
    #: Since the oldest message of those queues was accepted.
    oldest_seconds: float


class SiteCounts:
    """The numbers of one site that every protocol shares. Lives as long as the node's counts."""

    __slots__ = (
        "_parts",
        "acks",
        "acks_dropped",
        "batched",
        "batches",
        "bus_gaps",
        "bus_messages",
        "closes",
        "connections",
        "connects",
        "deliveries",
        "limited",
        "nodes_told",
        "overflows",
        "queues",
        "refilled",
        "resyncs",
        "stored",
    )

    def __init__(self) -> None:
        #: Open now.
        self.connections = 0
        #: By result.
        self.connects: Counter[str] = Counter()
        #: By reason.
        self.closes: Counter[str] = Counter()
        #: Queue entries made by the messages that this node accepted, and queues that overflowed because of them.
        self.stored = 0
        self.overflows = 0
        #: Nodes that were handed those messages.
        self.nodes_told = 0
        #: Messages that the bus brought to this node, and their devices (without queues: connections) here.
        self.bus_messages = 0
        self.deliveries = 0
        self.bus_gaps = 0
        #: Acks that Redis has applied, and acks given up because too many waited for it.
        self.acks = 0
        self.acks_dropped = 0
        #: `_batch`es, the messages in them, and the messages written one by one after a gap.
        self.batches = 0
        self.batched = 0
        self.refilled = 0
        #: By reason.
        self.resyncs: Counter[str] = Counter()
        #: Refusals because of a limit of the site, by limit.
        self.limited: Counter[str] = Counter()
        #: The latest sample, None until there is one.
        self.queues: QueueSample | None = None
        self._parts: dict[type, Any] = {}

    def part(self, kind: type[_Part]) -> _Part:
        """The site's numbers of one protocol. May be asked from any thread."""
        return cast("_Part", self._parts.get(kind) or self._parts.setdefault(kind, kind()))


class Counts:
    """The numbers of one node. Lives as long as the node; a component that is given none makes its own."""

    def __init__(self, sites: Iterable[str] = ()) -> None:
        """`sites` are there from the start, so that each is shown with its zeros."""
        self.sites = {name: SiteCounts() for name in sites}
        #: Sockets that the transport gave up, by reason.
        self.transport_closings: Counter[str] = Counter()
        #: Requests for sessions of other nodes, by result.
        self.passed_requests: Counter[str] = Counter()
        #: Engine.IO sessions now, whether or not they have joined a site.
        self.sessions: Callable[[], int] = int
        #: How often the subscription to the bus was made again.
        self.bus_interruptions = 0
        self.probe_seconds = Durations()
        #: By script.
        self.redis_seconds: dict[str, Durations] = {}
        #: Errors that Redis answered, by their first word.
        self.redis_errors: Counter[str] = Counter()
        #: How often the link to Redis broke or was given up.
        self.redis_losses = 0
        self.loop_lag_seconds = Durations()
        self._parts: dict[type, Any] = {}

    def of(self, site: str) -> SiteCounts:
        """The numbers of a site, made when it is asked for the first time."""
        counts = self.sites.get(site)
        if counts is None:
            counts = self.sites[site] = SiteCounts()
        return counts

    def part(self, kind: type[_Part]) -> _Part:
        """The node's numbers of one protocol that belong to no site. May be asked from any thread."""
        return cast("_Part", self._parts.get(kind) or self._parts.setdefault(kind, kind()))

    def redis_answered(self, script: str, seconds: float) -> None:
        """A script has run, or failed, after this time."""
        durations = self.redis_seconds.get(script)
        if durations is None:
            durations = self.redis_seconds[script] = Durations()
        durations.observe(seconds)
