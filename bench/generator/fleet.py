"""The devices of one generator: connects them a few at a time, counts their receipts, closes them."""

from __future__ import annotations

import json
import time
from array import array
from dataclasses import dataclass

from bench.generator.burst import Receipts
from bench.generator.device import Device, Target
from bench.generator.poller import GeneratorError, Poller
from bench.generator.publisher import FIRST_NUMBER
from bench.generator.subscriber import Subscriber

_SOURCE_ADDRESSES = [f"127.0.0.{last}" for last in range(2, 252)]
# socket.io 3.x and 4.x clients are pinged; older ones ping, every `pingInterval` (25 s).
_ENGINE_3_PING_SECONDS = 20.0


@dataclass(frozen=True)
class Boarding:
    """The way in which devices connect."""

    first: int
    count: int
    concurrency: int
    # Device n is in room `first_<size>` for every size above n, besides `all` and its own `user_<n>`.
    room_sizes: list[int]
    # How many messages each device's `_batch` must bring; 0: none may come.
    batch_messages: int = 0
    receive_buffer_bytes: int | None = None
    timeout_seconds: float = 180.0


class Fleet:
    """Lives as long as the generator; implements device.Recorder."""

    def __init__(self, poller: Poller) -> None:
        self.devices: list[Device] = []
        self.burst: Receipts | None = None
        self.losses: list[str] = []
        self.batches = 0
        self._poller = poller
        self._batch_messages = 0
        self._waiting: dict[Device, float] = {}
        self._ready_delays_seconds = array("d")
        self._pinged_at = time.monotonic()

    def board(self, target: Target, boarding: Boarding) -> tuple[float, array[float]]:
        """Connect devices, wait for their `_settings` and `_batch`; returns the seconds in total and for each."""
        new = [
            self._device(number, target, boarding) for number in range(boarding.first, boarding.first + boarding.count)
        ]
        self.devices += new
        self.batches, self._batch_messages, self._ready_delays_seconds = 0, boarding.batch_messages, array("d")
        losses_before = len(self.losses)
        queue = iter(new)
        started = time.perf_counter()
        opened = 0
        while opened < boarding.count:
            while opened < boarding.count and len(self._waiting) < boarding.concurrency:
                self._open(next(queue), opened, boarding.receive_buffer_bytes)
                opened += 1
            self._poller.turn(0.05)
            self._check(losses_before, started, boarding)
        expected_batches = boarding.count if boarding.batch_messages else 0
        self._poller.run_until(
            lambda: not self._waiting and self.batches >= expected_batches,
            boarding.timeout_seconds,
            f"{len(self._waiting)} devices without _settings, {self.batches} of {expected_batches} batches",
        )
        self._check(losses_before, started, boarding)
        return time.perf_counter() - started, self._ready_delays_seconds

    def disembark(self) -> None:
        """Close all devices."""
        for device in self.devices:
            device.close()
        self.devices.clear()

    def ping_when_due(self) -> None:
        """Send the pings that Engine.IO 3 devices owe."""
        if time.monotonic() - self._pinged_at < _ENGINE_3_PING_SECONDS:
            return
        self._pinged_at = time.monotonic()
        for device in self.devices:
            if device.target.engine_version == 3 and device.is_ready:
                device.ping()

    def ready(self, device: Device) -> None:
        """Note the time that `device` took to connect."""
        self._ready_delays_seconds.append(time.perf_counter() - self._waiting.pop(device))

    def message(self, device: Device, payload: bytes, arguments_at: int) -> None:
        """Hand a receipt to the burst that is running."""
        if self.burst is None:
            raise GeneratorError(f"a message that nobody sent: {payload!r}")
        device.received = self.burst.receive(payload, arguments_at, device.received)

    def batch(self, device: Device, payload: bytes) -> None:
        """Check that a `_batch` brings the expected messages, in order."""
        messages = json.loads(payload[payload.index(b"[") :])[1]
        numbers = [message[1] - FIRST_NUMBER for message in messages]
        if numbers != list(range(self._batch_messages)):
            raise GeneratorError(
                f"device {device.number}: a _batch of {numbers}, expected {self._batch_messages} messages"
            )
        self.batches += 1

    def lost(self, device: Device, reason: str) -> None:
        """Note that the server refused or closed `device`."""
        self._waiting.pop(device, None)
        self.losses.append(f"device {device.number}: {reason}")

    def _device(self, number: int, target: Target, boarding: Boarding) -> Device:
        rooms = [f"user_{number}", "all", *(f"first_{size}" for size in boarding.room_sizes if number < size)]
        return self._kind(target)(number, rooms, target, self._poller, self)

    def _kind(self, target: Target) -> type[Device]:
        return Subscriber if target.channel else Device

    def _open(self, device: Device, index: int, receive_buffer_bytes: int | None = None) -> None:
        self._waiting[device] = time.perf_counter()
        device.connect(_SOURCE_ADDRESSES[index % len(_SOURCE_ADDRESSES)], receive_buffer_bytes)

    def _check(self, losses_before: int, started: float, boarding: Boarding) -> None:
        if len(self.losses) > losses_before:
            raise GeneratorError(f"a device was lost while connecting: {self.losses[-1]}")
        if time.perf_counter() - started > boarding.timeout_seconds:
            raise GeneratorError(f"time-out: {len(self._waiting)} devices are still connecting")
