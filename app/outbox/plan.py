"""The order within one claim: a message is sent when the earlier ones of its rooms are over. The code is pure."""

from collections import deque
from collections.abc import Sequence

from msgspec import Struct, field

from app.outbox.row import CommittedMessage, Meaning, Verdict


class Results(Struct):
    """The ends of the messages of a claim, by their positions; the others wait. Lives as long as the claim."""

    sent: list[int] = field(default_factory=list)
    #: With the reasons.
    parked: list[tuple[int, str]] = field(default_factory=list)
    #: With the seconds until they are due, and the reasons.
    later: list[tuple[int, float, str]] = field(default_factory=list)
    #: How many of `sent` an earlier request had stored.
    replayed: int = 0


class SendPlan:
    """The messages of one claim, in the order of their positions. Lives as long as the claim.

    Of two messages with a room in common the later one is taken after the earlier one was sent or parked. A message
    that waits holds those behind it.
    """

    def __init__(self, rows: Sequence[CommittedMessage], results: Results) -> None:
        """Fills in the results."""
        self.results = results
        #: Sites that wait, and "" for the server, with the verdict.
        self.waits: dict[str, Verdict] = {}
        #: Position -> the messages right behind it in a room, and how many are before one.
        self._behind: dict[int, list[CommittedMessage]] = {row.position: [] for row in rows}
        self._before: dict[int, int] = {}
        self._ready: deque[CommittedMessage] = deque()
        last: dict[str, int] = {}
        for row in rows:
            before = {last[key] for key in row.keys if key in last}
            for position in before:
                self._behind[position].append(row)
            self._before[row.position] = len(before)
            if not before:
                self._ready.append(row)
            last |= dict.fromkeys(row.keys, row.position)

    def take(self) -> CommittedMessage | None:
        """The next message to send; None while there is none, and for good when none is under way."""
        while self._ready and "" not in self.waits:
            row = self._ready.popleft()
            if row.site not in self.waits:
                return row
        return None

    def settle(self, row: CommittedMessage, verdict: Verdict) -> None:
        """Takes what became of a message that was taken."""
        match verdict.meaning:
            case Meaning.SENT:
                self.results.sent.append(row.position)
                self.results.replayed += verdict.is_replayed
                self._release(row)
            case Meaning.PARKED:
                self.results.parked.append((row.position, verdict.reason))
                self._release(row)
            case Meaning.LATER:
                self.results.later.append((row.position, verdict.wait_seconds, verdict.reason))
            case Meaning.SITE_WAITS:
                self.waits.setdefault(row.site, verdict)
            case Meaning.SERVER_WAITS:
                self.waits.setdefault("", verdict)

    def _release(self, row: CommittedMessage) -> None:
        for behind in self._behind[row.position]:
            self._before[behind.position] -= 1
            if not self._before[behind.position]:
                self._ready.append(behind)
