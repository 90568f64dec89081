"""The messages that devices must have received in the end, and those that each received:
the promise of "at least once, in order".

Publishers number their messages: `["n", publisher, number, sent_at]`. A device that gets a `_resync` fetches
everything, as a website does: all messages that publishers have begun to send until then.
"""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

Message = tuple[str, int]


@dataclass
class Sent:
    """The messages of one publisher; numbers count from 0 and are never used twice."""

    name: str
    #: How many messages it has begun to send.
    begun: int = 0
    #: Answered 200: each of them must arrive.
    answered: list[int] = field(default_factory=list)
    #: Answered 503: none of them may arrive more than once.
    refused: list[int] = field(default_factory=list)
    #: Not answered: the rule is that of `refused`.
    unknown: list[int] = field(default_factory=list)

    @property
    def is_waiting(self) -> bool:
        """Whether the last one has no answer yet."""
        return self.begun > len(self.answered) + len(self.refused) + len(self.unknown)


class Receipts:
    """The messages that one device has received. Lives as long as the test; plain
    bookkeeping, with faults as sentences."""

    def __init__(self, name: str, sent: Mapping[str, Sent]) -> None:
        """`sent` is shared with the publishers."""
        self.name = name
        self.faults: list[str] = []
        self.resyncs = 0
        self.batches = 0
        self.live = 0
        #: How often a message arrived that had arrived before, on an earlier connection.
        self.repeated = 0
        #: For live messages, the seconds since the moment of sending.
        self.delays_seconds: list[float] = []
        #: The messages of each connection, in order, with the seq where it is known.
        self.connections: list[list[tuple[Message, int]]] = []
        self._sent = sent
        self._seen: set[Message] = set()
        #: The highest number seen, by publisher.
        self._highest: dict[str, int] = {}
        self._in_connection: dict[str, int] = {}
        self._mark: dict[str, int] = {}

    def begin_connection(self) -> None:
        """Begin a new connection: messages not acknowledged on the one before may arrive again."""
        self._in_connection = {}
        self.connections.append([])

    def receive(self, seq: int, message: Sequence[Any]) -> None:
        """Note a live message; `seq` is its ack id."""
        if message[0] == "n":
            self.live += 1
            self.delays_seconds.append(time.monotonic() - message[3])
            self._take((message[1], message[2]), seq)

    def receive_batch(self, entries: Sequence[Sequence[Any]]) -> None:
        """Note the messages of a `_batch`."""
        self.batches += 1
        for entry in entries:
            if entry[0] == "n":
                self._take((entry[1], entry[2]), 0)

    def receive_resync(self) -> None:
        """Note a `_resync`: the device fetches everything."""
        self.resyncs += 1
        for name, sent in self._sent.items():
            self._seen.update((name, number) for number in range(sent.begun))
            self._highest[name] = max(self._highest.get(name, -1), sent.begun - 1)

    def mark(self) -> None:
        """Remember the messages answered 200 so far, for `is_past_mark`."""
        self._mark = {name: sent.answered[-1] for name, sent in self._sent.items() if sent.answered}

    def is_past_mark(self) -> bool:
        """Whether all marked messages have arrived (messages arrive in order, so the last one decides)."""
        return all(self._highest.get(name, -1) >= number for name, number in self._mark.items())

    def missing(self) -> list[Message]:
        """The messages that were answered 200 and did not arrive."""
        return [(s.name, n) for s in self._sent.values() for n in s.answered if (s.name, n) not in self._seen]

    def has_everything(self) -> bool:
        """Whether `missing` is empty, without building the list."""
        return all((s.name, n) in self._seen for s in self._sent.values() for n in reversed(s.answered))

    def _take(self, message: Message, seq: int) -> None:
        publisher, number = message
        self.connections[-1].append((message, seq))
        if number <= self._in_connection.get(publisher, -1):
            self.faults.append(f"{self.name}: {message} behind {self._in_connection[publisher]} on one connection")
        self._in_connection[publisher] = number
        if message in self._seen:
            self.repeated += 1
        elif number < self._highest.get(publisher, -1):
            self.faults.append(f"{self.name}: {message} came only after {self._highest[publisher]}")
        self._seen.add(message)
        self._highest[publisher] = max(number, self._highest.get(publisher, -1))


def order_faults(all_receipts: Sequence[Receipts]) -> list[str]:
    """Compare the messages of every connection of every device with the order of acceptance, which the seqs give."""
    seqs = {
        message: seq for receipts in all_receipts for brought in receipts.connections for message, seq in brought if seq
    }
    faults = []
    for receipts in all_receipts:
        for brought in receipts.connections:
            order = [seqs[message] for message, _ in brought if message in seqs]
            if order != sorted(set(order)):
                faults.append(f"{receipts.name}: a connection brought messages out of order or twice: {order[:50]}")
    return faults


def percentile(values: Sequence[float], percent: float) -> float:
    """The value below which `percent` of the values lie; nan without values."""
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, int(len(ordered) * percent / 100))] if ordered else float("nan")
