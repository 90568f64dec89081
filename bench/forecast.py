"""A model of a large installation: its devices over processes, its sites over the shards of a Redis Cluster.

The costs are measured; the loads are assumptions, in `LOADS`. Processes are alike and share the devices evenly. A shard
is one core that works off its messages second by second. Nothing here starts a server or knows a page.
"""

from __future__ import annotations

import math
import random
from collections.abc import Sequence
from dataclasses import dataclass

from redis.crc import key_slot

from bench.costs import Costs, Pair

_SLOTS = 16384
#: The share of a core that an operator plans with: the rest is for peaks, and for the return of a dead node's devices.
PLANNED_SHARE = 0.6
#: Connections of one process: its share of 50,000 on a machine of four, and below the usual limit of open files.
MOST_CONNECTIONS = 12_500
_SEED = 1
_HOUR = 3600


@dataclass(frozen=True)
class Load:
    """The work of the devices of an installation. `sizes` are those of its sites; the rates are for one device."""

    name: str
    sizes: tuple[int, ...]
    unicasts_an_hour: float = 10.0
    room_messages_an_hour: float = 10.0
    room_size: int = 100
    # Messages to all devices of a site.
    broadcasts_an_hour: float = 1.0
    connects_an_hour: float = 2.0

    @property
    def devices(self) -> int:
        """All devices."""
        return sum(self.sizes)


@dataclass(frozen=True)
class Forecast:
    """The answer of the model for a load on so many shards."""

    load: Load
    shards: int
    processes: int
    process_share: float
    process_megabytes: float
    # Of the busiest shard: the mean share of its core, the most seconds of work that waited in it, and its memory.
    shard_share: float
    shard_backlog_seconds: float
    shard_megabytes: float
    # Of the largest site: how long Redis works for a message to all of it.
    broadcast_seconds: float
    # Until the devices of a dead machine of four processes are back, by the CPU of the others and of the busiest shard.
    return_seconds: float


def zipf_sizes(devices: int, sites: int) -> tuple[int, ...]:
    """Return the sizes of `sites` sites of `devices` devices, the n-th of which has a share of 1/n."""
    total = sum(1 / rank for rank in range(1, sites + 1))
    sizes = [round(devices / total / rank) for rank in range(1, sites + 1)]
    return (sizes[0] + devices - sum(sizes), *sizes[1:])


MILLION = 1_000_000
LOADS = (
    Load("1,000 sites alike", (1_000,) * 1_000),
    Load("1,000 sites, the n-th in proportion to 1/n", zipf_sizes(MILLION, 1_000)),
    Load("one site", (MILLION,)),
    Load("one site, split into 16", (MILLION // 16,) * 16),
    Load("one site, split into 250", (MILLION // 250,) * 250),
)
SHARDS = (1, 4, 16)
# For the first load; sizes beyond the measured one are by the same costs.
PROCESS_SIZES = (5_000, MOST_CONNECTIONS, 25_000, 50_000)


def shard_of(site: str, shards: int) -> int:
    """Return the shard of a site: its name is the hash tag of its keys, and each shard has an equal range of slots."""
    return key_slot(b"recado:{%s}:" % site.encode()) * shards // _SLOTS


def forecast(costs: Costs, load: Load, shards: int, connections: int = MOST_CONNECTIONS) -> Forecast:
    """Return what the costs make of a load on so many shards, with at most so many connections of a process."""
    processes = processes_for(costs, load, connections)
    work = _shard_work(costs, load, shards, processes)
    devices = _shard_devices(load, shards)
    busiest = max(range(shards), key=lambda shard: work[shard])
    fullest = max(devices)
    lost = min(load.devices, 4 * load.devices / processes)
    share = _server_seconds(costs, load, processes) / processes
    spare = (1 - share) * max(1, processes - 4)
    at_shard = lost * devices[busiest] / load.devices * costs.comes_back.redis_us / 1e6 / max(0.05, 1 - work[busiest])
    return Forecast(
        load,
        shards,
        processes,
        share,
        costs.process_kb / 1024 + load.devices / processes * costs.idle_kb / 1024,
        work[busiest],
        _backlog_seconds(costs, load, shards, processes, busiest, random.Random(_SEED)),
        fullest * costs.idle_redis_kb / 1024,
        costs.message(max(load.sizes), processes).redis_us / 1e6,
        max(lost * costs.comes_back.server_us / 1e6 / spare, at_shard),
    )


def processes_for(costs: Costs, load: Load, connections: int = MOST_CONNECTIONS) -> int:
    """Return the least number of processes that carry the load within the planned share, in steps of four."""
    processes = 4 * math.ceil(load.devices / connections / 4)
    while _server_seconds(costs, load, processes) > PLANNED_SHARE * processes and processes < load.devices:
        processes += 4
    return processes


def ceilings(costs: Costs, processes: int) -> dict[str, float]:
    """Return what one shard does in a second at the planned share, of one kind of work alone. This bounds a site."""
    budget_us = PLANNED_SHARE * 1e6
    largest = costs.largest_fan_out
    return {
        "connects": budget_us / costs.connect.redis_us,
        "messages to one user": budget_us / costs.unicast.redis_us,
        **{
            f"deliveries, in messages to {size:,} devices": budget_us / costs.message(size, processes).redis_us * size
            for size in (100, 1_000, largest)
        },
    }


def _server_seconds(costs: Costs, load: Load, processes: int) -> float:
    """The CPU of all processes in a second."""
    idle = load.devices * costs.idle_share
    return idle + sum(rate * cost.server_us for rate, cost in _work(costs, load, load.sizes, processes)) / 1e6


def _work(costs: Costs, load: Load, sizes: Sequence[int], processes: int) -> list[tuple[float, Pair]]:
    """The rates a second of all that happens in these sites, each with its cost."""
    counts = {size: sizes.count(size) for size in set(sizes)}
    return _steady_work(costs, load, sizes, processes) + [
        (count * load.broadcasts_an_hour / _HOUR, costs.message(size, processes)) for size, count in counts.items()
    ]


def _steady_work(costs: Costs, load: Load, sizes: Sequence[int], processes: int) -> list[tuple[float, Pair]]:
    """The same without messages to all devices of a site."""
    devices = sum(sizes)
    room = min(load.room_size, max(sizes, default=1))
    return [
        (devices * load.connects_an_hour / _HOUR, costs.connect),
        (devices * load.unicasts_an_hour / _HOUR, costs.unicast),
        (devices * load.room_messages_an_hour / _HOUR / room, costs.message(room, processes)),
    ]


def _sites_of_shards(load: Load, shards: int) -> list[list[int]]:
    found: list[list[int]] = [[] for _ in range(shards)]
    for place, size in enumerate(load.sizes):
        found[shard_of(f"site-{place}", shards)].append(size)
    return found


def _shard_devices(load: Load, shards: int) -> list[int]:
    return [sum(sizes) for sizes in _sites_of_shards(load, shards)]


def _shard_work(costs: Costs, load: Load, shards: int, processes: int) -> list[float]:
    """The mean share of a core of each shard."""
    return [
        sum(rate * cost.redis_us for rate, cost in _work(costs, load, sizes, processes)) / 1e6
        for sizes in _sites_of_shards(load, shards)
    ]


def _backlog_seconds(costs: Costs, load: Load, shards: int, processes: int, shard: int, chance: random.Random) -> float:
    """Play an hour of one shard, second by second; the most work that waited at the end of one, in seconds. The hour
    begins with a message to all of the shard's largest site."""
    sizes = _sites_of_shards(load, shards)[shard]
    steady = _steady_work(costs, load, sizes, processes)
    first = costs.message(max(sizes), processes).redis_us / 1e6 if load.broadcasts_an_hour else 0.0
    backlog, most = first, 0.0
    for _ in range(_HOUR):
        for rate, cost in steady:
            backlog += _poisson(rate, chance) * cost.redis_us / 1e6
        for _ in range(_poisson(len(sizes) * load.broadcasts_an_hour / _HOUR, chance)):
            backlog += costs.message(chance.choice(sizes), processes).redis_us / 1e6
        backlog = max(0.0, backlog - 1.0)
        most = max(most, backlog)
    return most


def _poisson(mean: float, chance: random.Random) -> int:
    if mean > 50:
        return max(0, round(chance.gauss(mean, math.sqrt(mean))))
    count, product, least = 0, chance.random(), math.exp(-mean)
    while product > least:
        count += 1
        product *= chance.random()
    return count
