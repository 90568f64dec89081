"""One burst of messages: posts them, counts every receipt, notes the delay of each. Knows no list of devices."""

from __future__ import annotations

import time
from array import array
from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

from bench.generator.poller import GeneratorError, Poller
from bench.generator.publisher import FIRST_NUMBER, NUMBER_DIGITS, Publisher, Requests


@dataclass(frozen=True)
class Plan:
    """The messages of a burst: `rooms_of` and `receivers_of` answer for a message's number."""

    messages: int
    publishers: int
    # True: a publisher posts its next message when all devices have its last one; False: when /send has answered.
    waits_for_receipts: bool
    gap_seconds: float
    rooms_of: Callable[[int], list[str]]
    receivers: int
    timeout_seconds: float = 120.0


class Receipts(Protocol):
    """The keeper of what devices receive."""

    def receive(self, payload: bytes, number_at: int, previous: int) -> int:
        """Count a message whose number begins at `number_at`; takes and returns what the device has received."""


class Burst:
    """One burst, for one command; `run()` opens and closes its publishers."""

    def __init__(self, plan: Plan, endpoint: Requests, poller: Poller) -> None:
        self.delays_seconds = array("d")
        self.last_delays_seconds = array("d")
        self.duplicates = 0
        self._plan = plan
        self._endpoint = endpoint
        self._poller = poller
        self._started = [0.0] * plan.messages
        self._remaining = [plan.receivers] * plan.messages
        self._posted = 0
        self._incomplete = plan.messages if plan.receivers else 0
        self._next_post_at = 0.0
        self._free: list[Publisher] = []
        self._owners: dict[int, Publisher] = {}

    def run(self) -> float:
        """Send and receive everything; returns the seconds it took."""
        plan = self._plan
        publishers = [Publisher(self._endpoint, self._poller, self._answered) for _ in range(plan.publishers)]
        self._free = publishers.copy()
        started = time.perf_counter()
        try:
            while self._is_running(publishers):
                self._post_what_is_due()
                self._poller.turn(0.002)
                if time.perf_counter() - started > plan.timeout_seconds:
                    raise GeneratorError(
                        f"{self._incomplete} of {plan.messages} messages are incomplete: {self._gaps()}"
                    )
        finally:
            for publisher in publishers:
                publisher.close()
        return time.perf_counter() - started

    def receive(self, payload: bytes, number_at: int, previous: int) -> int:
        """Count one receipt; returns the message's number, given the one that the device received before."""
        now = time.perf_counter()
        number = int(payload[number_at : number_at + NUMBER_DIGITS]) - FIRST_NUMBER
        if number <= previous and self._plan.publishers == 1:
            self.duplicates += 1
            return previous
        delay = now - self._started[number]
        self.delays_seconds.append(delay)
        self._remaining[number] -= 1
        if self._remaining[number] == 0:
            self.last_delays_seconds.append(delay)
            self._complete(number)
        return number

    def _is_running(self, publishers: list[Publisher]) -> bool:
        if self._incomplete or self._posted < self._plan.messages:
            return True
        return not all(publisher.is_idle for publisher in publishers)

    def _post_what_is_due(self) -> None:
        while self._free and self._posted < self._plan.messages and time.perf_counter() >= self._next_post_at:
            publisher, number = self._free.pop(), self._posted
            self._posted += 1
            request = self._endpoint.request(self._plan.rooms_of(number), number)
            if self._plan.waits_for_receipts:
                self._owners[number] = publisher
            self._started[number] = publisher.post(request)

    def _answered(self, publisher: Publisher) -> None:
        if publisher not in self._owners.values():
            self._free.append(publisher)

    def _complete(self, number: int) -> None:
        self._incomplete -= 1
        self._next_post_at = time.perf_counter() + self._plan.gap_seconds
        publisher = self._owners.pop(number, None)
        if publisher is not None and publisher.is_idle:
            self._free.append(publisher)

    def _gaps(self) -> str:
        gaps = {number: left for number, left in enumerate(self._remaining[: self._posted]) if left}
        return f"{len(gaps)} posted without all receipts, the first: {dict(list(gaps.items())[:3])}"
