"""The metrics of channels."""

from collections import Counter

from app.observe.metric import BY_RESULT, SITE, Kind, Metric, of_part, of_part_and


class ChannelsCounts:
    """The counters of one site's channels. Live as long as the site's counts."""

    __slots__ = ("replayed", "requests", "resumes")

    def __init__(self) -> None:
        #: Requests of publishers by action and status.
        self.requests: Counter[str] = Counter()
        #: Subscribers that asked to resume, by result, and the pushes replayed to them.
        self.resumes: Counter[str] = Counter()
        self.replayed = 0


METRICS = (
    Metric(
        Kind.COUNTER,
        "recado_channel_requests",
        "Requests of channels' publishers.",
        BY_RESULT,
        of_part_and(ChannelsCounts, lambda s: s.requests),
    ),
    Metric(
        Kind.COUNTER,
        "recado_channel_resumes",
        "Subscribers that came back.",
        BY_RESULT,
        of_part_and(ChannelsCounts, lambda s: s.resumes),
    ),
    Metric(
        Kind.COUNTER, "recado_channel_replayed", "Pushes replayed.", SITE, of_part(ChannelsCounts, lambda s: s.replayed)
    ),
)
