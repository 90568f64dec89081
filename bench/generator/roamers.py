"""Devices whose connections are cut while messages are sent at fixed times; counts what each has received, and when."""

from __future__ import annotations

import functools
import heapq
import itertools
import json
import random
import time
from array import array
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass

from bench.generator.device import Device, Target
from bench.generator.fleet import Fleet
from bench.generator.poller import GeneratorError, Poller
from bench.generator.publisher import FIRST_NUMBER, NUMBER_DIGITS, Publisher, Requests
from bench.generator.roamer import Roamer
from bench.generator.tally import Tally

_ROOMS = ["all"]
# The same cuts for every server.
_SEED = 1
_TURN_SECONDS = 0.01


@dataclass(frozen=True)
class Jitter:
    """The messages of a run, and the cuts of each device."""

    messages: int
    gap_seconds: float
    # From one cut of a device to its next; the first comes at a random moment of this time.
    every_seconds: float
    # The time without a network; then the device connects again.
    cut_seconds: float
    # Whether the server does not hear of a cut.
    is_silent: bool
    # The run ends when all devices are connected and no receipt has come for this time; while a message is missing, for
    # the other time.
    quiet_seconds: float
    patience_seconds: float
    start_after_seconds: float = 0.0
    timeout_seconds: float = 240.0


class Roamers(Fleet):
    """The devices of a run; lives as long as the generator."""

    def __init__(self, poller: Poller) -> None:
        super().__init__(poller)
        self.tally = Tally(0, 0)
        self.recoveries = 0
        self.back_delays_seconds = array("d")
        self._jitter: Jitter | None = None
        self._due: list[tuple[float, int, Callable[[], None]]] = []
        self._orders = itertools.count()
        self._posted: list[float] = []
        self._heard_at = 0.0

    def roam(self, endpoint: Requests, jitter: Jitter) -> float:
        """Send and cut, until nothing more comes; returns the seconds from the first message to the last receipt."""
        self.tally, self.recoveries = Tally(len(self.devices), jitter.messages), 0
        self.back_delays_seconds, self._posted, self._jitter = array("d"), [], jitter
        publisher = Publisher(endpoint, self._poller, lambda _: None)
        started = self._heard_at = time.perf_counter() + jitter.start_after_seconds
        self._plan(jitter, started)
        waiting = deque[bytes]()
        for number in range(jitter.messages):
            post = functools.partial(waiting.append, endpoint.request(_ROOMS, number))
            self._at(started + number * jitter.gap_seconds, post)
        try:
            while waiting or not self._is_over(jitter):
                self._do_what_is_due()
                if waiting and publisher.is_idle:
                    self._posted.append(publisher.post(waiting.popleft()))
                self._poller.turn(_TURN_SECONDS)
                if time.perf_counter() - started > jitter.timeout_seconds:
                    raise GeneratorError(f"{len(self._waiting)} devices are still connecting, {self.losses[-3:]}")
        finally:
            publisher.close()
            self._jitter = None
            self._due.clear()
        return self._heard_at - started

    def ready(self, device: Device) -> None:
        """Note how long a device took to come back."""
        super().ready(device)
        if self._jitter is not None and isinstance(device, Roamer):
            self.back_delays_seconds.append(self._ready_delays_seconds[-1])
            self.recoveries += device.is_recovered

    def message(self, device: Device, payload: bytes, arguments_at: int) -> None:
        """Note a message."""
        self._receive(device, int(payload[arguments_at : arguments_at + NUMBER_DIGITS]) - FIRST_NUMBER)

    def batch(self, device: Device, payload: bytes) -> None:
        """Note the messages of a `_batch`."""
        for _, number, *_ in json.loads(payload[payload.index(b"[") :])[1]:
            self._receive(device, number - FIRST_NUMBER)

    def lost(self, device: Device, reason: str) -> None:
        """The server has closed a connection: the device comes back as after a cut."""
        super().lost(device, reason)
        if self._jitter is not None:
            self._at(time.perf_counter() + self._jitter.cut_seconds, functools.partial(self._reopen, device))

    def _kind(self, target: Target) -> type[Device]:
        return Roamer

    def _receive(self, device: Device, number: int) -> None:
        self._heard_at = time.perf_counter()
        self.tally.add(device.number, number, self._heard_at - self._posted[number])

    def _plan(self, jitter: Jitter, started: float) -> None:
        """Cut each device at the same distance from its last cut, as long as messages are sent."""
        chance = random.Random(_SEED)
        end = jitter.messages * jitter.gap_seconds
        for device in self.devices:
            after = chance.uniform(0, jitter.every_seconds)
            while after < end:
                self._at(started + after, functools.partial(self._cut, device, jitter))
                after += jitter.every_seconds

    def _at(self, moment: float, action: Callable[[], None]) -> None:
        heapq.heappush(self._due, (moment, next(self._orders), action))

    def _do_what_is_due(self) -> None:
        while self._due and self._due[0][0] <= time.perf_counter():
            heapq.heappop(self._due)[2]()

    def _cut(self, device: Device, jitter: Jitter) -> None:
        if isinstance(device, Roamer) and not device.is_cut:
            device.cut(jitter.is_silent)
            self._waiting.pop(device, None)
            self._at(time.perf_counter() + jitter.cut_seconds, functools.partial(self._reopen, device))

    def _reopen(self, device: Device) -> None:
        if isinstance(device, Roamer) and device.is_cut:
            self._open(device, device.number)

    def _is_over(self, jitter: Jitter) -> bool:
        quiet_seconds = time.perf_counter() - self._heard_at
        if self._due or self._waiting or quiet_seconds < jitter.quiet_seconds:
            return False
        return quiet_seconds > jitter.patience_seconds or not self.tally.lost
