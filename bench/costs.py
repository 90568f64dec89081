"""The measured costs that the model of a large installation takes: read from the results of the scenario `large`."""

from __future__ import annotations

import math
import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

_SUBJECT = "recado"
_LARGE = "large: "
CONNECTS, UNICASTS, FAN_OUTS = r"connect, (\d+) connected", r"unicast, (\d+) connected", r"fan-out to (\d+)"


class CostsError(Exception):
    """The results do not have what the model needs."""


@dataclass(frozen=True)
class Pair:
    """The CPU of one operation."""

    server_us: float
    redis_us: float


@dataclass(frozen=True)
class Costs:
    """The costs of one run. `deliveries` is the curve of a delivery's cost by the devices that a message reaches."""

    workers: int
    connect: Pair
    comes_back: Pair
    unicast: Pair
    # The cost of a message for each process that it wakes.
    wake: Pair
    deliveries: tuple[tuple[int, Pair], ...]
    # The share of a core of one idle connection, its memory, and that of its device in Redis.
    idle_share: float
    idle_kb: float
    idle_redis_kb: float
    # The memory of a process without connections.
    process_kb: float

    @classmethod
    def read(cls, results: dict[str, Any]) -> Costs:
        """Take the medians of a run's JSON. Raises CostsError naming what is missing."""
        medians, found = of_large(results), curves(results)
        connects, unicasts, fan_outs = found[CONNECTS], found[UNICASTS], found[FAN_OUTS]
        if len(fan_outs) < 2 or not connects or not unicasts or "idle" not in medians:
            raise CostsError(
                "the results have no whole scenario `large`: expected connects, unicasts, fan-outs and idle"
            )
        idle = medians["idle"]
        workers = round(idle["processes"])
        smallest, marginal = fan_outs[0], fan_outs[1][1]
        wakes = woken(smallest[0], workers)
        back = medians.get("all come back, with tickets")
        return cls(
            workers=workers,
            connect=connects[-1][1],
            comes_back=_pair(back) if back else connects[-1][1],
            unicast=unicasts[-1][1],
            wake=_each(lambda few, many: max(0.0, few - many) * smallest[0] / wakes, smallest[1], marginal),
            deliveries=tuple(fan_outs[1:]),
            idle_share=idle["core_percent_per_1000"] / 100_000,
            idle_kb=idle["kb_per_device"],
            idle_redis_kb=idle["redis_kb_per_device"],
            process_kb=idle["kb_of_a_process"],
        )

    @property
    def largest_fan_out(self) -> int:
        """The most devices that a measured message reached."""
        return self.deliveries[-1][0]

    def delivery(self, size: int) -> Pair:
        """Return the cost of one delivery of a message to `size` devices: on a line between two measured sizes, over
        their logarithms; outside them the cost of the nearest one."""
        (below, least), *_ = self.deliveries
        if size <= below:
            return least
        for above, cost in self.deliveries:
            if size <= above:
                share = math.log(size / below) / math.log(above / below) if above > below else 0.0
                return _each(lambda low, high: low + share * (high - low), least, cost)  # noqa: B023
            below, least = above, cost
        return least

    def message(self, size: int, processes: int) -> Pair:
        """Return the cost of one message to `size` devices spread over so many processes."""
        each, wakes = self.delivery(size), woken(size, processes)
        # The measured deliveries have the processes of their own server in them.
        extra = max(0.0, wakes - woken(size, self.workers)) if size >= self.deliveries[0][0] else wakes
        return _each(lambda wake, one: wake * extra + one * size, self.wake, each)


def woken(devices: int, processes: int) -> float:
    """Return how many of the processes hold one of these devices, on average."""
    return processes * (1 - (1 - 1 / processes) ** devices)


def _each(combine: Callable[[float, float], float], one: Pair, other: Pair) -> Pair:
    return Pair(combine(one.server_us, other.server_us), combine(one.redis_us, other.redis_us))


def _pair(figures: dict[str, float]) -> Pair:
    return Pair(figures["server_us"], figures["redis_us"])


def of_large(results: dict[str, Any]) -> dict[str, dict[str, float]]:
    """Return the medians of the scenario by the name of the measurement, from a run's JSON."""
    return {
        name[len(_LARGE) :]: contenders[_SUBJECT]
        for name, contenders in results.get("medians", {}).items()
        if name.startswith(_LARGE) and _SUBJECT in contenders
    }


def curves(results: dict[str, Any]) -> dict[str, list[tuple[int, Pair]]]:
    """Return what grows, by its pattern: numbers and costs, in order of the numbers."""
    found: dict[str, list[tuple[int, Pair]]] = {pattern: [] for pattern in (CONNECTS, UNICASTS, FAN_OUTS)}
    for name, figures in of_large(results).items():
        for pattern, points in found.items():
            match = re.fullmatch(pattern, name)
            if match:
                points.append((int(match.group(1)), _pair(figures)))
    return {pattern: sorted(points, key=lambda point: point[0]) for pattern, points in found.items()}
