"""The figures of this node since its start, as plain numbers that the components add to.

Knows nothing of Prometheus: `metrics` reads these at a scrape. The hot path may only add, once a message or a flush,
never once a delivery or an ack. The numbers of one protocol, or of the backends, are a class in its own folder: a
*part*, made at its first use.
"""

from bisect import bisect_left
from collections import Counter
from collections.abc import Callable, Iterable
from typing import Any, TypeVar, cast

from msgspec import Struct

from app.config.settings import CANARY_SITE
from app.observe.records import NodeRecords

#: Upper bounds in seconds. A longer duration counts in one more bucket.
BOUNDS_SECONDS = (0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0)

#: The buckets of `AckTimes`: the last one is for more than a minute.
ACK_BUCKETS = 18

_Part = TypeVar("_Part")


class Durations:
    """Durations by bucket. Lives as long as the counts that it is part of."""

    __slots__ = ("buckets", "total_seconds")

    def __init__(self) -> None:
        #: A bucket for each of BOUNDS_SECONDS, then one for longer durations; not cumulative.
        self.buckets = [0] * (len(BOUNDS_SECONDS) + 1)
        self.total_seconds = 0.0

    def observe(self, seconds: float) -> None:
        """Adds a duration."""
        self.buckets[bisect_left(BOUNDS_SECONDS, seconds)] += 1
        self.total_seconds += seconds


class AckTimes:
    """How many acks came how long after the writing of their message. Lives as long as the counts it is part of."""

    __slots__ = ("buckets",)

    def __init__(self) -> None:
        #: By the number of binary digits of the milliseconds: 0, 1, 2-3, 4-7 and so on; the last one has no bound.
        self.buckets = [0] * ACK_BUCKETS

    def note(self, ms: int, count: int) -> None:
        """Adds acks of one message: once for all that came together."""
        self.buckets[min(max(ms, 0).bit_length(), ACK_BUCKETS - 1)] += count


class QueueSample(Struct, frozen=True):
    """The backlog of a bounded random choice of a site's devices at one moment."""

    #: All devices of the site in Redis, connected or away.
    devices: int
    #: The devices of the sample.
    sampled: int
    #: The messages in their queues together, and in the longest of them.
    messages: int
    longest: int
    #: The age of the oldest message in those queues.
    oldest_seconds: float


class SiteCounts:
    """The numbers of one site that every protocol shares. Lives as long as the node's counts."""

    __slots__ = (
        "_parts",
        "ack_times",
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
        "errors",
        "limited",
        "nodes_told",
        "overflows",
        "queues",
        "refilled",
        "resyncs",
        "sends",
        "stored",
    )

    def __init__(self) -> None:
        #: Open now.
        self.connections = 0
        #: By result.
        self.connects: Counter[str] = Counter()
        #: By reason.
        self.closes: Counter[str] = Counter()
        #: Messages that this node accepted.
        self.sends = 0
        #: Queue entries of the messages that this node accepted, and queues that these entries made overflow.
        self.stored = 0
        self.overflows = 0
        #: Nodes that those messages were handed to.
        self.nodes_told = 0
        #: Messages that the bus brought to this node, and their devices here (connections, on a site without queues).
        self.bus_messages = 0
        self.deliveries = 0
        self.bus_gaps = 0
        #: Acks that Redis has applied, and acks that were given up because too many waited for Redis.
        self.acks = 0
        self.acks_dropped = 0
        self.ack_times = AckTimes()
        #: `_batch`es, the messages in them, and the messages written one by one after a gap.
        self.batches = 0
        self.batched = 0
        self.refilled = 0
        #: By reason.
        self.resyncs: Counter[str] = Counter()
        #: Refusals because of a limit of the site, by limit.
        self.limited: Counter[str] = Counter()
        #: The latest sample; None before the first one.
        self.queues: QueueSample | None = None
        #: Errors in the log that name the site, where there is a journal.
        self.errors = 0
        self._parts: dict[type, Any] = {}

    def part(self, kind: type[_Part]) -> _Part:
        """The site's numbers of one protocol. May be called from any thread."""
        return cast("_Part", self._parts.get(kind) or self._parts.setdefault(kind, kind()))


class Counts:
    """The numbers of one node. Lives as long as the node. A component that is given none makes its own."""

    def __init__(self, sites: Iterable[str] = ()) -> None:
        """Makes the numbers of `sites`, so that each is shown with its zeros from the start."""
        self.sites = {name: SiteCounts() for name in sites if name != CANARY_SITE}
        #: Sockets that the transport closed, by reason.
        self.transport_closings: Counter[str] = Counter()
        #: Requests and connections that were refused because of a bound of the node, by reason.
        self.refused: Counter[str] = Counter()
        #: Requests for sessions of other nodes, by result.
        self.passed_requests: Counter[str] = Counter()
        #: Engine.IO sessions now, with those that have not joined a site.
        self.sessions: Callable[[], int] = int
        #: How often the subscription to the bus was made again.
        self.bus_interruptions = 0
        self.probe_seconds = Durations()
        #: By script.
        self.redis_seconds: dict[str, Durations] = {}
        #: Errors that Redis answered, by their first word.
        self.redis_errors: Counter[str] = Counter()
        #: Errors of our own that one listener, connection or message has met, by place. Nobody else was hurt.
        self.faults: Counter[str] = Counter()
        #: How often the link to Redis broke or was given up.
        self.redis_losses = 0
        self.loop_lag_seconds = Durations()
        #: Errors in the log of this node, where there is a journal.
        self.errors = 0
        #: When each key of a site was used since the last look, in ms: by the site's name and the key's digest.
        self.key_uses: dict[tuple[str, bytes], int] = {}
        #: Rows for the journal.
        self.records = NodeRecords()
        self._parts: dict[type, Any] = {}
        #: The numbers of the hidden site, which no metric shows.
        self._hidden = SiteCounts()

    def of(self, site: str) -> SiteCounts:
        """The numbers of a site, made at the first call."""
        counts = self.sites.get(site)
        if counts is None:
            if site == CANARY_SITE:
                return self._hidden
            counts = self.sites[site] = SiteCounts()
        return counts

    def forget(self, site: str) -> None:
        """Shows the numbers of a site no more, which is served no longer."""
        self.sites.pop(site, None)

    def part(self, kind: type[_Part]) -> _Part:
        """The node's numbers of one protocol that belong to no site. May be called from any thread."""
        return cast("_Part", self._parts.get(kind) or self._parts.setdefault(kind, kind()))

    def redis_answered(self, script: str, seconds: float) -> None:
        """Adds the time after which a script has run, or failed."""
        durations = self.redis_seconds.get(script)
        if durations is None:
            durations = self.redis_seconds[script] = Durations()
        durations.observe(seconds)
