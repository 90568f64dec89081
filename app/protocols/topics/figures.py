"""The metrics of topics."""

from collections import Counter

from app.observe.metric import BY_REASON, BY_RESULT, SITE, Kind, Metric, of_part, of_part_and


class TopicsCounts:
    """The counters of one site's topics. Live as long as the site's counts."""

    __slots__ = ("bind_keys", "deliveries", "events", "stream_ends", "streams")

    def __init__(self) -> None:
        #: Streams open now, and ended streams by reason.
        self.streams = 0
        self.stream_ends: Counter[str] = Counter()
        #: Emitted events and bind keys by result.
        self.events: Counter[str] = Counter()
        self.bind_keys: Counter[str] = Counter()
        #: Events written to streams.
        self.deliveries = 0


METRICS = (
    Metric(Kind.GAUGE, "recado_streams", "Streams of topics.", SITE, of_part(TopicsCounts, lambda s: s.streams)),
    Metric(
        Kind.COUNTER,
        "recado_stream_ends",
        "Streams that ended.",
        BY_REASON,
        of_part_and(TopicsCounts, lambda s: s.stream_ends),
    ),
    Metric(
        Kind.COUNTER, "recado_topic_events", "Events emitted.", BY_RESULT, of_part_and(TopicsCounts, lambda s: s.events)
    ),
    Metric(
        Kind.COUNTER, "recado_topic_deliveries", "Events written.", SITE, of_part(TopicsCounts, lambda s: s.deliveries)
    ),
    Metric(Kind.COUNTER, "recado_bind_keys", "Bind keys.", BY_RESULT, of_part_and(TopicsCounts, lambda s: s.bind_keys)),
)
