"""The counts of a run and their totals, in the terms of push0k's load test. Plain code without I/O."""

import math
from typing import Any

from app.load.plan import LoadPlan


class Tally:
    """The counts of one run. Lives as long as the run. Times are seconds of one clock."""

    def __init__(self, plan: LoadPlan, nodes: int) -> None:
        """`nodes` is the number of processes that hold devices."""
        self._plan = plan
        self._nodes = nodes
        self._missing: dict[int, int] = {}
        self._sent_at: dict[int, float] = {}
        self._stored_at: dict[int, float] = {}
        self._seen = [bytearray(plan.total) for _ in range(plan.devices)]
        self._delivery: list[float] = []
        self._store: list[float] = []
        self._notify: list[float] = []
        #: The devices that get each message.
        self.addressees = plan.devices
        self.received = self.refused = self.stored = 0
        self.receipts = self.receipts_stored = 0

    def begin(self, message: int, now: float) -> None:
        """A message is about to be sent."""
        self._sent_at[message] = now
        self._missing[message] = self.addressees

    def accepted(self, message: int, recipients: int, now: float) -> None:
        """The server has stored it for so many devices."""
        self.received += 1
        self.stored += recipients
        self._stored_at[message] = now
        self._store.append(now - self._sent_at[message])

    def arrived(self, device: int, message: int, now: float) -> bool:
        """It has arrived at a device; True when it is everywhere. A repeat does not count."""
        if not 0 <= message < self._plan.total or self._seen[device][message] or message not in self._sent_at:
            return False
        self._seen[device][message] = 1
        self._delivery.append(now - self._sent_at[message])
        # The message may arrive before the answer to its sender.
        self._notify.append(max(0.0, now - self._stored_at.get(message, now)))
        self._missing[message] -= 1
        return not self._missing[message]

    def totals(self, seconds: float) -> dict[str, Any]:
        """The totals of a run that took this time; times in milliseconds."""
        counts = {
            "received": self.received,
            "forwarded": self.received * self._nodes,
            "sent": len(self._delivery),
            "stored": self.stored,
            "receipts_received": self.receipts,
            "receipts_stored": self.receipts_stored,
        }
        counts["operations"] = sum(counts.values())
        return {
            "seconds": round(seconds, 3),
            "refused": self.refused,
            "lost": self.stored - len(self._delivery),
            "counts": counts,
            "per_second": per_second(counts, seconds),
            "delivery_ms": spread(self._delivery),
            "store_ms": spread(self._store),
            "notify_ms": spread(self._notify),
        }


def per_second(counts: dict[str, int], seconds: float) -> dict[str, float]:
    """The counts of each second."""
    return {name: round(count / seconds, 1) if seconds else 0.0 for name, count in counts.items()}


def spread(times: list[float]) -> dict[str, float] | None:
    """The average, the least, the most and the percentiles, in milliseconds; None: there is no time."""
    if not times:
        return None
    found = sorted(times)
    picked = {
        "average": sum(found) / len(found),
        "least": found[0],
        "most": found[-1],
        "p50": found[math.ceil(len(found) * 0.5) - 1],
        "p99": found[math.ceil(len(found) * 0.99) - 1],
    }
    return {name: round(1000 * value, 3) for name, value in picked.items()}
