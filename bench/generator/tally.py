"""The numbered messages that devices have received over several connections. Knows no connection."""

from __future__ import annotations

from array import array


class Tally:
    """The receipts of all devices; lives for one run."""

    def __init__(self, devices: int, messages: int) -> None:
        self.delays_seconds = array("d")
        # Receipts of messages that the device had already.
        self.repeats = 0
        # First receipts of messages after a later one.
        self.out_of_order = 0
        self._counts = [bytearray(messages) for _ in range(devices)]
        self._latest = [-1] * devices

    def add(self, device: int, number: int, delay_seconds: float) -> None:
        """Note that a device has received a message."""
        counts = self._counts[device]
        counts[number] = min(255, counts[number] + 1)
        if counts[number] > 1:
            self.repeats += 1
            return
        self.delays_seconds.append(delay_seconds)
        if number < self._latest[device]:
            self.out_of_order += 1
        self._latest[device] = max(self._latest[device], number)

    @property
    def expected(self) -> int:
        """The number of deliveries when nothing is lost."""
        return sum(len(counts) for counts in self._counts)

    @property
    def lost(self) -> int:
        """The number of deliveries that are missing."""
        return sum(counts.count(0) for counts in self._counts)

    @property
    def once(self) -> int:
        """The number of messages that a device has received exactly once."""
        return sum(counts.count(1) for counts in self._counts)
