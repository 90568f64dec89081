"""The counts of tracing on one node."""

#: The results of a span: it was handed to the collector; the queue was full; the collector did not take it in time.
EXPORTED = "exported"
QUEUE_FULL = "queue full"
NOT_EXPORTED = "not exported"
#: A message that was not traced, because its site or the node traces too many already.
OVER_RATE = "over the rate"


class TracingCounts:
    """The numbers of tracing on one node. Lives as long as the node's counts. The thread of the exporter adds, too: all
    keys are there from the begin, and each has one writer."""

    def __init__(self) -> None:
        self.spans = dict.fromkeys((EXPORTED, QUEUE_FULL, NOT_EXPORTED, OVER_RATE), 0)
