"""The ground of the scenario `large`: one server of several processes, its Redis, and the generators of its crowd.

One process may have only so many open files, often 20,000 or fewer: the server and the generators are several.
"""

from __future__ import annotations

import contextlib
import json
import math
import os
import re
import signal
import time
import urllib.request
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from redis import Redis

from bench.contenders import API_KEY, Cores, Place, start_recado, start_redis
from bench.posting import Bystander, Poster
from bench.processes import BenchError, Child, GeneratorProcess
from bench.usage import Usage, cpu_seconds, resident_kb

CROWD_SITE, PLAIN_SITE, OTHER_SITE = "crowd", "plain", "other"
_SLOW_MICROSECONDS = 1000
_STARTS = 3
_LAG = re.compile(r'^recado_loop_lag_seconds_bucket\{.*?le="([^"]+)".*?\} (\S+)$', re.MULTILINE)


@dataclass(frozen=True)
class Window:
    """The CPU of server and Redis in a piece of work, its time, and the number of connections meanwhile."""

    server_seconds: float
    redis_seconds: float
    seconds: float
    connected: float

    def costs_us(self, operations: int, idle_share: float = 0.0) -> dict[str, float]:
        """Return the CPU of one operation; `idle_share` is that of a core which one idle connection takes anyway."""
        idle = idle_share * self.connected * self.seconds
        return {
            "server_us": (self.server_seconds - idle) / operations * 1e6,
            "redis_us": self.redis_seconds / operations * 1e6,
        }


@dataclass
class Ground:
    """The running processes. Lives within `open_ground`."""

    place: Place
    workers: int
    redis: Child
    server: Child
    port: int
    generators: list[GeneratorProcess]
    # The CPU of a start of the server.
    start_seconds: float
    connected: int = 0
    # The numbers of the devices of each generator, first and count, for each time of boarding.
    _runs: list[list[tuple[int, int]]] = field(default_factory=list)
    _stops: contextlib.ExitStack = field(default_factory=contextlib.ExitStack, repr=False)

    @property
    def name(self) -> str:
        """The contender's name."""
        return "recado"

    @property
    def redis_client(self) -> Redis:
        """A client of its Redis."""
        return Redis(unix_socket_path=str(_redis_socket(self.place)))

    @property
    def address(self) -> tuple[str, int]:
        """The address of clients and backends."""
        return "127.0.0.1", self.port

    def usage(self) -> Usage:
        """Return the CPU time spent so far."""
        return Usage(cpu_seconds(self.server.pid), cpu_seconds(self.redis.pid))

    def memory_kb(self) -> tuple[float, float]:
        """Return the resident memory of the server and of Redis."""
        return resident_kb(self.server.pid), resident_kb(self.redis.pid)

    @contextlib.contextmanager
    def window(self, into: list[Window]) -> Iterator[None]:
        """Append the block's `Window`, with what the server does at once behind it."""
        before, began, connected = self.usage(), time.monotonic(), self.connected
        yield
        time.sleep(0.3)
        spent, seconds = self.usage().since(before), time.monotonic() - began
        middle = (connected + self.connected) / 2
        into.append(Window(spent.server_seconds, spent.redis_seconds, seconds, middle))

    def poster(self, site: str) -> Poster:
        """Return a backend of a site."""
        return Poster(self.address, site, API_KEY)

    def bystander(self) -> Bystander:
        """Return the backend of the other site, with a connection to most of the processes by chance."""
        return Bystander(lambda: self.poster(OTHER_SITE), connections=8, per_second=80)

    def board(self, site: str, count: int, room_sizes: list[int], concurrency: int) -> dict[str, Any]:
        """Connect devices until `count` are connected; returns the percentiles of a connect."""
        shares = _shares(self.connected, count, len(self.generators))
        target = {"address": self.address, "namespace": site, "engine_version": 4, "acknowledges": site == CROWD_SITE}
        for generator, (first, number) in zip(self.generators, shares, strict=True):
            boarding = {"first": first, "count": number, "room_sizes": room_sizes}
            boarding["concurrency"] = max(1, concurrency // len(self.generators))
            generator.begin("connect", target=target, boarding=boarding)
        answers = [generator.finish("connect") for generator in self.generators]
        self.connected, self._runs = count, [*self._runs, shares]
        return {name: max(answer[name] for answer in answers) for name in ("seconds", "p50_ms", "p99_ms")}

    def all(self, do: str, **arguments: Any) -> list[dict[str, Any]]:
        """Run a command in all generators at once."""
        for generator in self.generators:
            generator.begin(do, **arguments)
        return [generator.finish(do) for generator in self.generators]

    def disembark(self) -> None:
        """Close all devices."""
        self.all("disconnect")
        self.connected, self._runs = 0, []

    def heard(self, number: int, size: int, began: float, may_repeat: bool = False) -> list[float]:
        """Wait until the first `size` devices have a message; returns percentiles of the delays in seconds, ranked."""
        for index, generator in enumerate(self.generators):
            count = sum(max(0, min(size, first + many) - first) for first, many in (run[index] for run in self._runs))
            generator.begin("heard", number=number, receivers=count)
        answers = [generator.finish("heard") for generator in self.generators]
        if not may_repeat and any(answer["duplicates"] for answer in answers):
            raise BenchError("a device got a message twice")
        return sorted(at - began for answer in answers for at in answer["times"])

    def kill(self) -> None:
        """End the server as a failing machine would: all its processes, at once."""
        os.kill(self.server.pid, signal.SIGKILL)
        self.server.stop()

    def restart(self) -> None:
        """Start the server again on its port, as a supervisor of services does: once more when that fails."""
        for left in reversed(range(_STARTS)):
            log = self.place.folder / f"again-{time.monotonic_ns()}.log"
            try:
                self.server = _start_server(self.place, self.workers, log, self.port)[0]
                break
            except BenchError:
                if not left:
                    raise
        self._stops.callback(self.server.stop)

    @contextlib.contextmanager
    def door(self) -> Iterator[Poster]:
        """Start a second node without devices, for sends while the server is gone."""
        door, port = _start_server(self.place, 1, self.place.folder / "door.log", 0)
        try:
            poster = Poster(("127.0.0.1", port), CROWD_SITE, API_KEY)
            yield poster
            poster.close()
        finally:
            door.stop()

    def forget_slow_runs(self) -> None:
        """Have Redis note long commands from now on."""
        client = self.redis_client
        client.config_set("slowlog-log-slower-than", _SLOW_MICROSECONDS)
        client.config_set("slowlog-max-len", 10_000)
        client.slowlog_reset()

    def longest_run_ms(self) -> float:
        """Return how long the longest command of Redis since then took; 0 when none was long."""
        entries = self.redis_client.slowlog_get(10_000)
        return max((entry["duration"] for entry in entries), default=0) / 1000

    def loop_lags(self) -> Counter[float]:
        """Return how often a timer of the server was late by at most so many seconds."""
        with urllib.request.urlopen(f"http://127.0.0.1:{self.port}/metrics", timeout=10) as answer:
            found = _LAG.findall(answer.read().decode())
        counts: Counter[float] = Counter()
        for limit, count in found:
            counts[float(limit)] += int(float(count))
        return counts

    def longest_lag_ms(self, before: Counter[float]) -> float:
        """Return the least bound of the histogram that no timer was late beyond since `before`."""
        since = self.loop_lags()
        since.subtract(before)
        return 1000 * min(limit for limit, count in since.items() if count == since[math.inf])


@contextlib.contextmanager
def open_ground(place: Place, workers: int, generators: int) -> Iterator[Ground]:
    """Start Redis, server and generators; end them in every case."""
    place = _with_own_sites(place)
    with contextlib.ExitStack() as stops:
        # Not on the core of so many generators: they would starve it.
        anywhere = replace(place, cores=Cores(place.cores.server, None))
        stored = start_redis(anywhere, "large", _redis_socket(place))
        stops.callback(stored.stop)
        server, port = _start_server(place, workers, place.folder / "large.log", 0)
        stops.callback(server.stop)
        made = []
        for number in range(generators):
            log = place.folder / f"large-{number}.generator.log"
            made.append(GeneratorProcess(log, place.cores.others, "bench.generator.crowd"))
            stops.callback(made[-1].stop)
        yield Ground(place, workers, stored, server, port, made, cpu_seconds(server.pid), _stops=stops)


def _start_server(place: Place, workers: int, log: Path, port: int) -> tuple[Child, int]:
    child, (port, _) = start_recado(place, f"unix://{_redis_socket(place)}", log, port=port, workers=workers)
    return child, port


def _with_own_sites(place: Place) -> Place:
    known = json.loads(place.sites.read_text())
    site = next({key: known[name][key] for key in ("authUrl", "authScheme", "apiKey")} for name in known)
    stored = {**site, "userRoomPrefix": "user_"}
    path = place.folder / "large.sites.yml"
    path.write_text(json.dumps({CROWD_SITE: {**stored, "resume_ticket": {}}, PLAIN_SITE: site, OTHER_SITE: stored}))
    return Place(place.folder, place.cores, path)


def _redis_socket(place: Place) -> Path:
    return place.folder / "large.redis.sock"


def _shares(first: int, end: int, parts: int) -> list[tuple[int, int]]:
    """Split the numbers from `first` to `end` into runs; few go to the first part."""
    count = end - first
    sizes = [count // parts] * parts if count >= 100 * parts else [0] * parts
    sizes[0] += count - sum(sizes)
    starts = [first + sum(sizes[:part]) for part in range(parts)]
    return list(zip(starts, sizes, strict=True))
