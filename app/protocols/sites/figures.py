"""The figures of the sites' protocol: /send, Pusher's HTTP API, tickets and tokens."""

from collections import Counter

from app.observe.metric import BY_RESULT, SITE, Kind, Metric, of_node, of_part, of_part_and


class SitesCounts:
    """The numbers of one site. Lives as long as the site's counts."""

    __slots__ = ("kicked", "pusher", "sends", "tickets", "tokens")

    def __init__(self) -> None:
        #: Requests to /send by result.
        self.sends: Counter[str] = Counter()
        #: Resume tickets by result.
        self.tickets: Counter[str] = Counter()
        #: Tokens of the site's issuers by result.
        self.tokens: Counter[str] = Counter()
        #: Requests to Pusher's HTTP API by result.
        self.pusher: Counter[str] = Counter()
        #: Connections of this node that the site's backend has ended.
        self.kicked = 0


class StrangerCounts:
    """The numbers of callers without a site's key. Lives as long as the node's counts."""

    __slots__ = ("pusher", "sends")

    def __init__(self) -> None:
        #: Requests to /send without a known site and its key.
        self.sends = 0
        #: Requests to Pusher's HTTP API without a right signature.
        self.pusher = 0


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
    Metric(
        Kind.COUNTER,
        "recado_pusher_requests",
        "Requests to Pusher's HTTP API with a right signature.",
        BY_RESULT,
        of_part_and(SitesCounts, lambda s: s.pusher),
    ),
    Metric(
        Kind.COUNTER,
        "recado_pusher_unauthorized",
        "Requests to Pusher's HTTP API without a right signature.",
        (),
        of_node(lambda c: c.part(StrangerCounts).pusher),
    ),
    Metric(Kind.COUNTER, "recado_tickets", "Resume tickets.", BY_RESULT, of_part_and(SitesCounts, lambda s: s.tickets)),
    Metric(
        Kind.COUNTER,
        "recado_tokens",
        "Tokens that were checked without authUrl.",
        BY_RESULT,
        of_part_and(SitesCounts, lambda s: s.tokens),
    ),
    Metric(
        Kind.COUNTER,
        "recado_kicked",
        "Connections that the site's backend or an operator has ended.",
        SITE,
        of_part(SitesCounts, lambda s: s.kicked),
    ),
)
