"""A light device that keeps what it saw of each numbered message, as evidence beside the journal.

Messages are `["n", number]`. The device acknowledges after a time of its own, or never.
"""

from __future__ import annotations

import asyncio
import json
import time
from collections import defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from tests.support.receipts import Receipts
from tests.support.swarm import Swarm
from tests.support.swarm_client import Identity, SwarmClient, Wire
from tests.support.tenant import User

#: Returns the seconds between a message and its ack; None: there is no ack.
Patience = Callable[[], float | None]

#: A node has applied an ack, or has it in a command to Redis, after this time.
REACHES_WITHIN_SECONDS = 1.0


@dataclass(frozen=True)
class SentAck:
    """One ack packet that was written to a connection."""

    numbers: Sequence[int]
    at: float
    connection: int


@dataclass(frozen=True)
class Downtime:
    """A time in which Redis was away: acks wait on their nodes meanwhile."""

    since: float
    until: float


class Witness(SwarmClient):
    """One device, from its creation to `leave`. Times are those of `time.time`."""

    def __init__(self, identity: Identity, room: str, node_url: Callable[[], str], patience: Patience) -> None:
        """`room` is the user's room; `patience` is called for each packet."""
        super().__init__(identity, node_url, Receipts(f"{room} {identity.device}", {}))
        self.room = room
        self.patience = patience
        self.received: set[int] = set()
        self.acks: list[SentAck] = []
        #: The id that each withdrawal names.
        self.withdrawn: list[str] = []
        self._ended_at: dict[int, float] = defaultdict(lambda: float("inf"))

    def packet_received(self, packet: bytes) -> None:
        """Called by the wire; see the superclass."""
        array_at = packet.index(b"[")
        event, *arguments = json.loads(packet[array_at:])
        ack_id = packet[:array_at]
        numbers: list[int] = []
        if event == "_settings":
            self._become_ready()
        elif event == "_batch":
            numbers = [entry[1] for entry in arguments[0] if entry[0] == "n"]
        elif event == "_resync":
            self.receipts.resyncs += 1
        elif event == "_withdraw":
            self.withdrawn.append(arguments[0]["id"])
        elif event == "n":
            numbers = [arguments[0]]
        self.received.update(numbers)
        if ack_id:
            self._acknowledge_later(ack_id, numbers)

    def certain_acks(self, downtimes: Sequence[Downtime]) -> dict[int, float]:
        """The messages whose ack certainly counts, with the time of the ack: its connection, and Redis, lived on for
        longer than the node needs to pass it on."""
        found: dict[int, float] = {}
        for ack in self.acks:
            by = ack.at + REACHES_WITHIN_SECONDS
            is_certain = self._ended_at[ack.connection] > by
            if is_certain and not any(down.since < by and ack.at < down.until for down in downtimes):
                for number in ack.numbers:
                    found.setdefault(number, ack.at)
        return found

    def ended_near(self, at: float) -> bool:
        """Whether a connection ended about this time, so that a written message may have been lost on its way."""
        return any(abs(ended - at) < REACHES_WITHIN_SECONDS for ended in self._ended_at.values())

    def _acknowledge_later(self, ack_id: bytes, numbers: list[int]) -> None:
        seconds = self.patience()
        wire = self._wire
        if seconds is None or wire is None:
            return
        if seconds:
            asyncio.get_running_loop().call_later(seconds, self._acknowledge, wire, ack_id, numbers)
        else:
            self._acknowledge(wire, ack_id, numbers)

    def _acknowledge(self, wire: Wire, ack_id: bytes, numbers: list[int]) -> None:
        if wire is self._wire:
            self.acks.append(SentAck(numbers, time.time(), self.connects))
            wire.write(b"43/" + self.identity.site.encode() + b"," + ack_id + b"[]")

    def _drop(self) -> None:
        if self.is_ready:
            self._ended_at[self.connects] = time.time()
        super()._drop()


def add_witness(
    swarm: Swarm, site: str, user: User, device: str, patience: Patience, node_url: Callable[[], str]
) -> Witness:
    """Add a device to a swarm, which connects it with the others."""
    witness = Witness(Identity(site, user.token, device), user.room, node_url, patience)
    swarm.clients.append(witness)
    return witness
