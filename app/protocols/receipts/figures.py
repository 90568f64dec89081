"""The figures of this protocol: questions by result, and questions of strangers."""

from collections import Counter

from app.observe.metric import BY_RESULT, Kind, Metric, of_node, of_part_and


class ReceiptsCounts:
    """The numbers of one site. Lives as long as the site's counts."""

    __slots__ = ("requests",)

    def __init__(self) -> None:
        #: Requests with the site's key, by result.
        self.requests: Counter[str] = Counter()


class UnknownAskers:
    """The numbers of callers without a site's key. Lives as long as the node's counts."""

    __slots__ = ("requests",)

    def __init__(self) -> None:
        #: Requests without a known site and its key.
        self.requests = 0


METRICS = (
    Metric(
        Kind.COUNTER,
        "recado_receipts",
        "Requests to /messages, /devices and /trace with a site's key.",
        BY_RESULT,
        of_part_and(ReceiptsCounts, lambda s: s.requests),
    ),
    Metric(
        Kind.COUNTER,
        "recado_receipts_unauthorized",
        "Requests to /messages, /devices and /trace without a known site and its key.",
        (),
        of_node(lambda c: c.part(UnknownAskers).requests),
    ),
)
