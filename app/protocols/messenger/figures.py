"""The figures of the messenger."""

from collections import Counter

from app.observe.metric import BY_RESULT, Kind, Metric, of_part_and


class MessengerCounts:
    """The numbers of one site's messenger. Lives as long as the site's counts."""

    __slots__ = ("events", "logins")

    def __init__(self) -> None:
        #: Logins by result: accepted, session, wrong, blocked, void, late.
        self.logins: Counter[str] = Counter()
        #: Events of clients by the code of the answer, `ok` for those that were done.
        self.events: Counter[str] = Counter()


METRICS = (
    Metric(
        Kind.COUNTER,
        "recado_messenger_logins",
        "Logins of users.",
        BY_RESULT,
        of_part_and(MessengerCounts, lambda p: p.logins),
    ),
    Metric(
        Kind.COUNTER,
        "recado_messenger_events",
        "Events of clients.",
        BY_RESULT,
        of_part_and(MessengerCounts, lambda p: p.events),
    ),
)
