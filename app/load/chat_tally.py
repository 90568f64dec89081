"""The counts of a run over a messenger's room, in the terms of push0k's load test. Plain code without I/O.

A message to a room of three users at devices of three processes is thirteen operations:

    received 1 · stored 1 · forwarded 3 · sent 2 · receipts received 2 · receipts stored 2 · receipts told 2
"""

from typing import Any

from app.load.plan import LoadPlan
from app.load.tally import Tally, per_second


class ChatTally(Tally):
    """The counts of one run. Lives as long as the run. The sender of a message is none of its addressees."""

    def __init__(self, plan: LoadPlan, nodes: int) -> None:
        super().__init__(plan, nodes)
        self.addressees = plan.devices - 1
        #: States `delivered` that senders were told of.
        self.told = 0

    @property
    def missing(self) -> int:
        """The receipts of accepted messages that their senders have not heard of."""
        return self.received * self.addressees - self.told

    def totals(self, seconds: float) -> dict[str, Any]:
        """The totals of a run; see `Tally.totals`."""
        found = super().totals(seconds)
        counts = {
            "received": self.received,
            "stored": self.received,
            "forwarded": self.received * self._nodes,
            "sent": len(self._delivery),
            "receipts_received": self.receipts,
            # A sender is told of a state by the transaction that stores it.
            "receipts_stored": self.told,
            "receipts_told": self.told,
        }
        counts["operations"] = sum(counts.values())
        lost = self.received * self.addressees - len(self._delivery)
        return {**found, "lost": lost, "counts": counts, "per_second": per_second(counts, seconds)}
