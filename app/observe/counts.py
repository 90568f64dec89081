"""What has happened on this node since its start, as plain numbers that the components add to.

Knows nothing of Prometheus: `metrics` reads these when it is asked. On the hot path an addition is all that is allowed,
and that once a message or a flush, never once a delivery or an ack.
"""

from bisect import bisect_left
from collections import Counter
from collections.abc import Callable, Iterable

from msgspec import Struct

#: Upper bounds in seconds; what is longer counts in one bucket more.
BOUNDS_SECONDS = (0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0)


class Durations:
    """How long something took, by bucket. Lives as long as the counts that it is part of."""

    __slots__ = ("buckets", "total_seconds")

    def __init__(self) -> None:
        #: One for each of BOUNDS_SECONDS, then one for what is longer; not cumulative.
        self.buckets = [0] * (len(BOUNDS_SECONDS) + 1)
        self.total_seconds = 0.0

    def observe(self, seconds: float) -> None:
        """It has taken so long once more."""
        self.buckets[bisect_left(BOUNDS_SECONDS, seconds)] += 1
        self.total_seconds += seconds


class QueueSample(Struct, frozen=True):
    """What a bounded random choice of a site's devices had waiting at one moment."""

    #: All devices that the site has in Redis, connected or away.
    devices: int
    #: Those that were looked at.
    sampled: int
    #: In their queues together, and in the longest of them.
    messages: int
    longest: int
    #: Since the oldest message of those queues was accepted.
    oldest_seconds: float


class RedisPublishCounts:
    """The numbers of one site's Redis PUBLISH. Lives as long as the site's counts."""

    __slots__ = (
        "claimed",
        "gaps",
        "holds_lease",
        "identifications",
        "lease_gap_seconds",
        "lease_gaps",
        "outcomes",
        "received",
    )

    def __init__(self) -> None:
        #: 1 while this node owns the subscription.
        self.holds_lease = 0
        #: How often nobody did before this node took it, and for how long in all.
        self.lease_gaps = 0
        self.lease_gap_seconds = 0.0
        #: By form: publish, stream.
        self.received: Counter[str] = Counter()
        #: Entries of the stream that another node had read and not finished.
        self.claimed = 0
        #: Mailboxes by what became of a message in them.
        self.outcomes: Counter[str] = Counter()
        #: By result.
        self.identifications: Counter[str] = Counter()
        #: Subscriptions made anew, and connections that had missed something: they look into their mailboxes again.
        self.gaps = 0


class SiteCounts:
    """The numbers of one site. Lives as long as the node's counts."""

    __slots__ = (
        "acks",
        "acks_dropped",
        "auth_breaker",
        "auth_seconds",
        "auth_wait_seconds",
        "auths",
        "auths_waiting",
        "batched",
        "batches",
        "bind_keys",
        "bus_gaps",
        "bus_messages",
        "channel_replayed",
        "channel_requests",
        "channel_resumes",
        "closes",
        "connections",
        "connects",
        "deliveries",
        "limited",
        "nodes_told",
        "overflows",
        "queues",
        "redis_publish",
        "refilled",
        "resyncs",
        "sends",
        "stored",
        "stream_ends",
        "streams",
        "tickets",
        "topic_deliveries",
        "topic_events",
        "user_updates",
    )

    def __init__(self) -> None:
        #: Open now.
        self.connections = 0
        #: By result.
        self.connects: Counter[str] = Counter()
        #: By reason.
        self.closes: Counter[str] = Counter()
        #: By result.
        self.sends: Counter[str] = Counter()
        #: Queue entries made by the messages that this node accepted, and queues that they made run over.
        self.stored = 0
        self.overflows = 0
        #: Nodes that were handed those messages.
        self.nodes_told = 0
        #: Messages that the bus brought to this node, and the devices (without queues: connections) they were for.
        self.bus_messages = 0
        self.deliveries = 0
        self.bus_gaps = 0
        #: Acks that Redis has applied, and those given up because too many waited for it.
        self.acks = 0
        self.acks_dropped = 0
        #: `_batch`es, the messages in them, and the messages written one by one after a gap.
        self.batches = 0
        self.batched = 0
        self.refilled = 0
        #: By reason.
        self.resyncs: Counter[str] = Counter()
        #: Requests of channels' publishers, by action and status; subscribers that asked to be resumed, by result; the
        #: pushes that these had missed.
        self.channel_requests: Counter[str] = Counter()
        self.channel_resumes: Counter[str] = Counter()
        self.channel_replayed = 0
        #: By result.
        self.auths: Counter[str] = Counter()
        self.auth_seconds = Durations()
        #: Connects that wait for their turn to be asked about now, and how long those waited that had to.
        self.auths_waiting = 0
        self.auth_wait_seconds = Durations()
        #: 0: closed, 1: half-open, 2: open.
        self.auth_breaker = 0
        #: Resume tickets by what became of them.
        self.tickets: Counter[str] = Counter()
        #: What was refused because of a limit of the site, by limit.
        self.limited: Counter[str] = Counter()
        #: Streams of topics open now; those that ended, by reason; events emitted to topics and bind keys, by result;
        #: events written to streams.
        self.streams = 0
        self.stream_ends: Counter[str] = Counter()
        self.topic_events: Counter[str] = Counter()
        self.bind_keys: Counter[str] = Counter()
        self.topic_deliveries = 0
        #: By result.
        self.user_updates: Counter[str] = Counter()
        self.redis_publish = RedisPublishCounts()
        #: The latest, None until there is one.
        self.queues: QueueSample | None = None


class Counts:
    """The numbers of one node. Lives as long as the node; a component that is given none makes its own."""

    def __init__(self, sites: Iterable[str] = ()) -> None:
        """`sites` are there from the start, so that each is shown with its zeros."""
        self.sites = {name: SiteCounts() for name in sites}
        #: Requests to /send without a known site and its key.
        self.sends_unauthorized = 0
        #: Sockets that the transport gave up, by reason.
        self.transport_closings: Counter[str] = Counter()
        #: Requests of other nodes' sessions, by what became of them.
        self.passed_requests: Counter[str] = Counter()
        #: Engine.IO sessions now, whether or not they have joined a site.
        self.sessions: Callable[[], int] = int
        #: How often the subscription to the bus was made anew.
        self.bus_interruptions = 0
        self.probe_seconds = Durations()
        #: By script.
        self.redis_seconds: dict[str, Durations] = {}
        #: Errors that it answered, by their first word.
        self.redis_errors: Counter[str] = Counter()
        #: How often the link to Redis broke or was given up.
        self.redis_losses = 0
        self.loop_lag_seconds = Durations()

    def of(self, site: str) -> SiteCounts:
        """The numbers of a site, made when it is asked for the first time."""
        counts = self.sites.get(site)
        if counts is None:
            counts = self.sites[site] = SiteCounts()
        return counts

    def redis_answered(self, script: str, seconds: float) -> None:
        """A script has run, or failed, after so long."""
        durations = self.redis_seconds.get(script)
        if durations is None:
            durations = self.redis_seconds[script] = Durations()
        durations.observe(seconds)
