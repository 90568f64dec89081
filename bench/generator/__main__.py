"""The generator's process: reads commands as JSON lines on stdin, answers each with one JSON line on stdout."""

from __future__ import annotations

import gc
import json
import os
import resource
import sys
import time
from array import array
from collections.abc import Callable, Sequence
from typing import Any

from bench.generator.burst import Burst, Plan, Receipts
from bench.generator.device import Target
from bench.generator.fleet import Boarding, Fleet
from bench.generator.poller import GeneratorError, Poller
from bench.generator.publisher import Endpoint
from bench.generator.roamers import Jitter, Roamers
from bench.generator.streams import EventEndpoint, Stream, subscription


def milliseconds(delays_seconds: Sequence[float], percentile: float) -> float:
    """Return the percentile (0-100) of `delays_seconds` in milliseconds; 0 when there are none."""
    if not delays_seconds:
        return 0.0
    ranked = sorted(delays_seconds)
    return 1000 * ranked[min(len(ranked) - 1, int(len(ranked) * percentile / 100))]


class Generator:
    """The generator. Lives as long as its process; each public method is a command with its fields as arguments."""

    def __init__(self) -> None:
        self.poller = Poller()
        self.fleet = Fleet(self.poller)
        self.roamers = Roamers(self.poller)
        self.streams: list[Stream] = []

    def connect(self, target: dict[str, Any], boarding: dict[str, Any]) -> dict[str, Any]:
        """Connect devices until each has its `_settings` and, if messages wait for it, has acknowledged `_batch`."""
        target["address"] = tuple(target["address"])
        seconds, delays = self.fleet.board(Target(**target), Boarding(**boarding))
        return {"seconds": seconds, "batches": self.fleet.batches, **_percentiles(delays)}

    def disconnect(self) -> dict[str, Any]:
        """Close all devices."""
        self.fleet.disembark()
        return {}

    def fan_out(self, endpoint: dict[str, Any], room: str, receivers: int, plan: dict[str, Any]) -> dict[str, Any]:
        """Send messages to one room; a publisher waits until all `receivers` devices have its message."""
        rooms = [room]
        return self._run(endpoint, Plan(rooms_of=lambda _: rooms, receivers=receivers, waits_for_receipts=True, **plan))

    def unicast(self, endpoint: dict[str, Any], users: int, plan: dict[str, Any]) -> dict[str, Any]:
        """Send each message to one of the first `users` user rooms, in turn; a publisher waits for its answer only."""
        return self._run(
            endpoint,
            Plan(rooms_of=lambda number: [f"user_{number % users}"], receivers=1, waits_for_receipts=False, **plan),
        )

    def queue(self, endpoint: dict[str, Any], users: int, messages: int) -> dict[str, Any]:
        """Send messages to the first `users` user rooms while their devices are away."""
        rooms = [f"user_{number}" for number in range(users)]
        plan = Plan(messages, 1, False, 0.0, lambda _: rooms, receivers=0)
        return self._run(endpoint, plan)

    def pause(self, count: int) -> dict[str, Any]:
        """Stop reading the last `count` devices for good."""
        for device in self.fleet.devices[-count:]:
            device.pause()
        return {}

    def board_roamers(self, target: dict[str, Any], boarding: dict[str, Any]) -> dict[str, Any]:
        """Connect devices whose connections `roam` will cut."""
        target["address"] = tuple(target["address"])
        seconds, delays = self.roamers.board(Target(**target), Boarding(**boarding))
        return {"seconds": seconds, **_percentiles(delays)}

    def roam(self, endpoint: dict[str, Any], jitter: dict[str, Any]) -> dict[str, Any]:
        """Send messages at fixed times, while the connections of devices are cut and made again."""
        endpoint["address"] = tuple(endpoint["address"])
        seconds = self.roamers.roam(Endpoint(**endpoint), Jitter(**jitter))
        tally = self.roamers.tally
        self.roamers.disembark()
        return {
            "seconds": seconds,
            "expected": tally.expected,
            "lost": tally.lost,
            "once": tally.once,
            "repeats": tally.repeats,
            "out_of_order": tally.out_of_order,
            "reconnects": len(self.roamers.back_delays_seconds),
            "recoveries": self.roamers.recoveries,
            "back_p99_ms": milliseconds(self.roamers.back_delays_seconds, 99),
            **_percentiles(tally.delays_seconds),
        }

    def losses(self) -> dict[str, Any]:
        """Return the devices that the server has closed."""
        return {"losses": self.fleet.losses[:10], "count": len(self.fleet.losses)}

    def open_streams(self, address: list[Any], site: str, streams: list[list[str]]) -> dict[str, Any]:
        """Subscribe to topics, one stream for each list of them, until all have their first frame."""
        host, port = address
        for topics in streams:
            request = subscription((host, port), site, topics)
            stream = Stream((host, port), request, self.poller, self._running_burst)
            self.streams.append(stream)
            self.poller.run_until(lambda stream=stream: stream.is_ready, 30.0, "a stream")  # type: ignore[misc]
        return {}

    def close_streams(self) -> dict[str, Any]:
        """Close all streams."""
        for stream in self.streams:
            stream.close()
        self.streams.clear()
        return {}

    def emit(self, endpoint: dict[str, Any], topics: list[str], receivers: int, plan: dict[str, Any]) -> dict[str, Any]:
        """Emit each event to one of these topics in turn; a publisher waits until `receivers` streams have it."""
        return self._run(
            endpoint,
            Plan(
                rooms_of=lambda number: [topics[number % len(topics)]],
                receivers=receivers,
                waits_for_receipts=True,
                **plan,
            ),
            EventEndpoint,
        )

    def _running_burst(self) -> Receipts:
        if self.fleet.burst is None:
            raise GeneratorError("an event that nobody emitted")
        return self.fleet.burst

    def _run(
        self, endpoint: dict[str, Any], plan: Plan, kind: type[Endpoint] | type[EventEndpoint] = Endpoint
    ) -> dict[str, Any]:
        endpoint["address"] = tuple(endpoint["address"])
        for device in self.fleet.devices:
            device.received = -1
        for stream in self.streams:
            stream.received = -1
        burst = self.fleet.burst = Burst(plan, kind(**endpoint), self.poller)
        seconds = burst.run()
        return {
            "seconds": seconds,
            "receipts": len(burst.delays_seconds),
            "duplicates": burst.duplicates,
            "last_p50_ms": milliseconds(burst.last_delays_seconds, 50),
            **_percentiles(burst.delays_seconds),
        }


def _percentiles(delays_seconds: array[float]) -> dict[str, float]:
    return {"p50_ms": milliseconds(delays_seconds, 50), "p99_ms": milliseconds(delays_seconds, 99)}


def serve(generator: Generator) -> None:
    """Execute commands until stdin is closed; devices answer pings in between."""
    lines: list[bytes] = []
    partial = b""

    def read_commands() -> None:
        nonlocal partial
        data = os.read(0, 1 << 16)
        if not data:
            raise SystemExit
        *whole, partial = (partial + data).split(b"\n")
        lines.extend(whole)

    generator.poller.add(0, read_commands)
    while True:
        generator.poller.turn(0.25)
        generator.fleet.ping_when_due()
        while lines:
            _answer(execute(generator, json.loads(lines.pop(0))))


def execute(generator: Generator, command: dict[str, Any]) -> dict[str, Any]:
    """Run one command; an error of the measurement becomes an answer that names it."""
    method: Callable[..., dict[str, Any]] = getattr(generator, command.pop("do"))
    cpu = time.process_time()
    try:
        answer = method(**command)
    except (GeneratorError, OSError) as error:
        losses = f"; devices lost: {generator.fleet.losses[:3]}" if generator.fleet.losses else ""
        return {"error": f"{type(error).__name__}: {error}{losses}"}
    return {**answer, "generator_cpu_seconds": time.process_time() - cpu}


def _answer(answer: dict[str, Any]) -> None:
    sys.stdout.write(json.dumps(answer) + "\n")
    sys.stdout.flush()


def run(new: Callable[[], Generator]) -> None:
    """Raise the limit of open files, switch the cyclic collector off (its pauses would be read as latency), serve."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    gc.disable()
    serve(new())


if __name__ == "__main__":
    run(Generator)
