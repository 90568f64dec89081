"""The figures of the webhooks of sites. The gauges are those of the node that sends for a site; the others show 0."""

from collections import Counter

from app.observe.counts import Durations
from app.observe.metric import BY_RESULT, SITE, Kind, Metric, of_part, of_part_and


class WebhookCounts:
    """The numbers of one site's webhook. Lives as long as the site's counts."""

    __slots__ = ("dropped", "parked", "posts", "seconds", "waiting")

    def __init__(self) -> None:
        #: Attempts, by outcome.
        self.posts: Counter[str] = Counter()
        self.seconds = Durations()
        #: Events in the outbox, and parked posts.
        self.waiting = 0
        self.parked = 0
        self.dropped = 0


METRICS = (
    Metric(
        Kind.COUNTER,
        "recado_webhook_posts",
        "POSTs of events to a site's backend.",
        BY_RESULT,
        of_part_and(WebhookCounts, lambda s: s.posts),
    ),
    Metric(
        Kind.HISTOGRAM,
        "recado_webhook_seconds",
        "Time of such a POST.",
        SITE,
        of_part(WebhookCounts, lambda s: s.seconds),
    ),
    Metric(
        Kind.GAUGE,
        "recado_webhook_waiting",
        "Events that wait for the site's webhook.",
        SITE,
        of_part(WebhookCounts, lambda s: s.waiting),
    ),
    Metric(
        Kind.GAUGE,
        "recado_webhook_parked",
        "POSTs that were given up and can be sent again.",
        SITE,
        of_part(WebhookCounts, lambda s: s.parked),
    ),
    Metric(
        Kind.COUNTER,
        "recado_webhook_dropped",
        "Events dropped because too many waited, or the backend had answered 410.",
        SITE,
        of_part(WebhookCounts, lambda s: s.dropped),
    ),
)
