"""The generator of the scenario `large`: devices that come back by themselves, and messages that another process posts.

Several of these processes hold the devices together, because one process may have only so many open files. A message's
times are those of the machine's monotonic clock, which all processes share.
"""

from __future__ import annotations

import contextlib
import heapq
import itertools
import json
import os
import random
import re
import socket
import time
from array import array
from collections import defaultdict
from typing import Any

from bench.generator.__main__ import Generator, run
from bench.generator.device import Device, State, Target
from bench.generator.fleet import Boarding, Fleet
from bench.generator.frames import upgrade_request
from bench.generator.poller import Poller
from bench.generator.publisher import FIRST_NUMBER, NUMBER_DIGITS

# The defaults of socket.io-client: reconnectionDelay, reconnectionDelayMax, randomizationFactor, timeout.
_FIRST_DELAY_SECONDS, _LONGEST_DELAY_SECONDS, _RANDOM_SHARE = 1.0, 5.0, 0.5
_OPEN_SECONDS = 20.0
_SWEEP_SECONDS = 0.5
_ASK_SECONDS = 0.1
# In `_settings` and in `_resume_ticket`.
_TICKET = re.compile(rb'resume_ticket"[:,]"([^"]+)"')


def back_off_seconds(tries: int, chance: float) -> float:
    """Return the pause of socket.io-client before its next try, `tries` failed ones behind it; `chance` is 0 to 1."""
    delay = _FIRST_DELAY_SECONDS * 2.0 ** min(tries, 10)
    deviation = chance * _RANDOM_SHARE * delay
    return min(_LONGEST_DELAY_SECONDS, delay + (deviation if int(chance * 10) & 1 else -deviation))


class Hearing:
    """The receipts of messages that another process posts; lives until the next `hear`. Implements Receipts: what a
    device has received is a number with one bit for each message."""

    def __init__(self) -> None:
        self.times: dict[int, array[float]] = defaultdict(lambda: array("d"))
        self.duplicates = 0

    def receive(self, payload: bytes, number_at: int, previous: int) -> int:
        """Count one live message."""
        return self.note(int(payload[number_at : number_at + NUMBER_DIGITS]) - FIRST_NUMBER, previous)

    def note(self, number: int, previous: int) -> int:
        """Count one message, live or from a `_batch`."""
        bit = 1 << number
        if previous & bit:
            self.duplicates += 1
        else:
            self.times[number].append(time.perf_counter())
        return previous | bit


class Returner(Device):
    """A device that comes back with its resume ticket; lives as its fleet. No connect of it waits for another's."""

    __slots__ = ("opened_at", "ticket", "tries")

    def __init__(self, number: int, rooms: list[str], target: Target, poller: Poller, recorder: Crowd) -> None:
        super().__init__(number, rooms, target, poller, recorder)
        self.ticket = ""
        self.tries = 0
        self.opened_at = 0.0

    @property
    def is_opening(self) -> bool:
        """True until the server has opened the session."""
        return self._state in (State.UPGRADING, State.OPENING)

    def connect(self, source_address: str, receive_buffer_bytes: int | None = None) -> None:
        """Begin to connect; `Recorder.ready` or `Recorder.lost` follows."""
        sock = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
        sock.setblocking(False)
        sock.setsockopt(socket.IPPROTO_IP, getattr(socket, "IP_BIND_ADDRESS_NO_PORT", 24), 1)
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        sock.bind((source_address, 0))
        self._sock, self.descriptor = sock, sock.fileno()
        self._state, self._rest, self.opened_at = State.UPGRADING, b"", time.perf_counter()
        with contextlib.suppress(BlockingIOError, ConnectionError):
            sock.connect(self.target.address)
        self._poller.add_connecting(self.descriptor, self._decided)

    def give_up(self) -> None:
        """Close the socket of a session that the server does not open."""
        self._lose("not opened in time")

    @property
    def _identity(self) -> dict[str, str]:
        return super()._identity | ({"ticket": self.ticket} if self.ticket else {})

    def _check_upgrade(self, answer: bytes) -> None:
        if answer.startswith(b"HTTP/1.1 101"):
            super()._check_upgrade(answer)
        else:
            self._lose(f"refused: {answer[:60]!r}")

    def _read_frame(self, opcode: int, packet: bytes) -> None:
        if self._state is not State.CLOSED:
            super()._read_frame(opcode, packet)
        if packet.startswith(b"41") and self._state is not State.CLOSED:
            # The page's code connects again after a disconnect by the server.
            self._lose("disconnected by the server")

    def _decided(self) -> None:
        assert self._sock is not None
        error = self._sock.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)
        if error:
            self._lose(os.strerror(error))
            return
        self._poller.remove(self.descriptor)
        host, port = self.target.address
        self._sock.send(upgrade_request(f"{host}:{port}", self._path))
        self._poller.add(self.descriptor, self._readable)

    def _join(self) -> None:
        self.tries = 0
        super()._join()

    def _read_event(self, packet: bytes) -> None:
        ticket = _TICKET.search(packet)
        if ticket:
            self.ticket = ticket.group(1).decode()
        super()._read_event(packet)


class Crowd(Fleet):
    """The fleet whose lost devices come back with the back-off of socket.io-client. Lives as long as the generator."""

    devices: list[Returner]  # type: ignore[assignment]

    def __init__(self, poller: Poller) -> None:
        super().__init__(poller)
        self.hearing = Hearing()
        self.refusals: list[str] = []
        self.back_at = array("d")
        self._away: list[tuple[float, int, Returner]] = []
        self._order = itertools.count()
        self._boarding = Boarding(0, 0, 1, [])
        self._swept_at = 0.0
        self._ask_at, self._was_listening = 0.0, False

    def hear(self) -> None:
        """Forget what was received, and count from now on."""
        self.burst = self.hearing = Hearing()
        for device in self.devices:
            device.received = 0

    def board(self, target: Target, boarding: Boarding) -> tuple[float, array[float]]:
        """Connect devices; those that the server loses meanwhile come back."""
        answer = super().board(target, boarding)
        self._poller.run_until(self.are_all_there, boarding.timeout_seconds, "lost devices are not back")
        return answer

    def are_all_there(self) -> bool:
        """Whether no device is lost; brings back those whose time has come."""
        self.bring_back()
        return not self._away and not self._waiting

    def bring_back(self) -> None:
        """Connect the lost devices whose time has come, and give up those that the server does not open."""
        now = time.perf_counter()
        is_listening = bool(self._away) and self._away[0][0] <= now and self._is_listening(self._away[0][2], now)
        while self._away and self._away[0][0] <= now:
            device = heapq.heappop(self._away)[2]
            if is_listening:
                self._open(device, device.number, self._boarding.receive_buffer_bytes)
            else:
                self.lost(device, "nobody listens")
        if now - self._swept_at > _SWEEP_SECONDS:
            self._swept_at = now
            for waiting in list(self._waiting):
                if isinstance(waiting, Returner) and waiting.is_opening and now - waiting.opened_at > _OPEN_SECONDS:
                    waiting.give_up()

    def _is_listening(self, device: Returner, now: float) -> bool:
        """Whether the port of the server accepts a connection, asked once in a while: tens of thousands of refused ones
        would take the machine from the server that starts."""
        if now >= self._ask_at:
            self._ask_at = now + _ASK_SECONDS
            with socket.socket() as probe:
                probe.settimeout(1.0)
                self._was_listening = probe.connect_ex(device.target.address) == 0
        return self._was_listening

    def ping_when_due(self) -> None:
        """Do what is due between commands."""
        super().ping_when_due()
        self.bring_back()

    def ready(self, device: Device) -> None:
        """Note when a device is there."""
        super().ready(device)
        self.back_at.append(time.perf_counter())

    def batch(self, device: Device, payload: bytes) -> None:
        """Count the messages of a `_batch`."""
        for message in json.loads(payload[payload.index(b"[") :])[1]:
            device.received = self.hearing.note(message[1] - FIRST_NUMBER, device.received)

    def lost(self, device: Device, reason: str) -> None:
        """Have the device come back."""
        super().lost(device, reason)
        assert isinstance(device, Returner)
        if reason.startswith("refused"):
            self.refusals.append(reason)
        due = time.perf_counter() + back_off_seconds(device.tries, random.random())
        device.tries += 1
        heapq.heappush(self._away, (due, next(self._order), device))

    def disembark(self) -> None:
        """Close all devices for good."""
        self._away.clear()
        super().disembark()

    def _check(self, losses_before: int, started: float, boarding: Boarding) -> None:
        self.bring_back()
        super()._check(len(self.losses), started, boarding)

    def _device(self, number: int, target: Target, boarding: Boarding) -> Returner:
        return Returner(number, super()._device(number, target, boarding).rooms, target, self._poller, self)


class CrowdGenerator(Generator):
    """The generator of one part of the crowd; further commands."""

    def __init__(self) -> None:
        super().__init__()
        self.fleet = self.crowd = Crowd(self.poller)

    def hear(self) -> dict[str, Any]:
        """Count messages from zero."""
        self.crowd.hear()
        return {}

    def heard(self, number: int, receivers: int, timeout_seconds: float = 120.0) -> dict[str, Any]:
        """Wait until so many devices have message `number`; answers the percentiles of the times of their receipts."""
        times = self.crowd.hearing.times[number]
        what = f"fewer than {receivers} devices have message {number}"
        self.poller.run_until(lambda: len(times) >= receivers, timeout_seconds, what)
        return {"times": percentiles(times), "duplicates": self.crowd.hearing.duplicates}

    def expect_losses(self) -> dict[str, Any]:
        """Begin to count who comes back."""
        self.crowd.back_at, self.crowd.losses, self.crowd.refusals = array("d"), [], []
        return {}

    def come_back(self, timeout_seconds: float = 280.0) -> dict[str, Any]:
        """Wait until all devices were lost and are there again; answers the percentiles of the times of that."""
        crowd = self.crowd
        count = len(crowd.devices)

        def is_back() -> bool:
            return crowd.are_all_there() and len(crowd.back_at) >= count

        self.poller.run_until(is_back, timeout_seconds, f"of {count} devices not all are back")
        return {
            "times": percentiles(crowd.back_at),
            "tries": len(crowd.losses),
            "refusals": len(crowd.refusals),
            "refusal": crowd.refusals[0] if crowd.refusals else "",
        }

    def missing(self, messages: int) -> dict[str, Any]:
        """Answer how many devices do not have all of these messages."""
        whole = (1 << messages) - 1
        without = [device.number for device in self.crowd.devices if device.received & whole != whole]
        return {"missing": len(without), "first": without[:3]}

    def forget_tickets(self) -> dict[str, Any]:
        """Have the devices come back without tickets."""
        for device in self.crowd.devices:
            device.ticket = ""
        return {}


def percentiles(times: array[float]) -> list[float]:
    """Return 101 values of `times`, from the least to the greatest; none when there are none."""
    ranked = sorted(times)
    return [ranked[round((len(ranked) - 1) * share / 100)] for share in range(101)] if ranked else []


if __name__ == "__main__":
    run(CrowdGenerator)
