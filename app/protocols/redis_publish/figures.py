"""The figures of Redis PUBLISH."""

from collections import Counter

from app.observe.metric import BY_RESULT, SITE, Kind, Metric, of_part, of_part_and


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
        #: How often the lease had no holder before this node took it, and for how long in all.
        self.lease_gaps = 0
        self.lease_gap_seconds = 0.0
        #: Messages by form: publish, stream.
        self.received: Counter[str] = Counter()
        #: Entries of the stream that another node had read and not finished.
        self.claimed = 0
        #: Mailboxes by the outcome of a message in them.
        self.outcomes: Counter[str] = Counter()
        #: Identifications of clients by result.
        self.identifications: Counter[str] = Counter()
        #: Renewed subscriptions, and connections that missed a message: the connections read their mailboxes again.
        self.gaps = 0


METRICS = (
    Metric(
        Kind.GAUGE,
        "recado_publish_lease",
        "1 while this node owns the subscription.",
        SITE,
        of_part(RedisPublishCounts, lambda p: p.holds_lease),
    ),
    Metric(
        Kind.COUNTER,
        "recado_publish_lease_gaps",
        "Leases that nobody held.",
        SITE,
        of_part(RedisPublishCounts, lambda p: p.lease_gaps),
    ),
    Metric(
        Kind.COUNTER,
        "recado_publish_lease_gap_seconds",
        "For how long nobody held them.",
        SITE,
        of_part(RedisPublishCounts, lambda p: p.lease_gap_seconds),
    ),
    Metric(
        Kind.COUNTER,
        "recado_publish_received",
        "Messages from applications.",
        ("site", "form"),
        of_part_and(RedisPublishCounts, lambda p: p.received),
    ),
    Metric(
        Kind.COUNTER,
        "recado_publish_claimed",
        "Entries taken over from another node.",
        SITE,
        of_part(RedisPublishCounts, lambda p: p.claimed),
    ),
    Metric(
        Kind.COUNTER,
        "recado_publish_outcomes",
        "What became of messages, by user.",
        BY_RESULT,
        of_part_and(RedisPublishCounts, lambda p: p.outcomes),
    ),
    Metric(
        Kind.COUNTER,
        "recado_publish_identifications",
        "What clients said they were.",
        BY_RESULT,
        of_part_and(RedisPublishCounts, lambda p: p.identifications),
    ),
    Metric(
        Kind.COUNTER, "recado_publish_gaps", "Mailboxes read anew.", SITE, of_part(RedisPublishCounts, lambda p: p.gaps)
    ),
)
