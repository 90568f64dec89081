"""The figures of the sites' protocol: /send and resume tickets."""

from collections import Counter

from app.observe.metric import BY_RESULT, Kind, Metric, of_node, of_part_and


class SitesCounts:
    """The numbers of one site. Lives as long as the site's counts."""

    __slots__ = ("sends", "tickets")

    def __init__(self) -> None:
        #: Requests to /send by result.
        self.sends: Counter[str] = Counter()
        #: Resume tickets by result.
        self.tickets: Counter[str] = Counter()


class StrangerCounts:
    """The numbers of callers without a site's key. Lives as long as the node's counts."""

    __slots__ = ("sends",)

    def __init__(self) -> None:
        #: Requests to /send without a known site and its key.
        self.sends = 0


METRICS = (
    Metric(
        Kind.COUNTER,
        "recado_sends",
        "Requests to /send with a site's key.",
        BY_RESULT,
        of_part_and(SitesCounts, lambda s: s.sends),
    ),
    Metric(
        Kind.COUNTER,
        "recado_sends_unauthorized",
        "Requests to /send without a known site and its key.",
        (),
        of_node(lambda c: c.part(StrangerCounts).sends),
    ),
    Metric(Kind.COUNTER, "recado_tickets", "Resume tickets.", BY_RESULT, of_part_and(SitesCounts, lambda s: s.tickets)),
)
