"""The stage of a run: starts the contenders, measures them in turns, keeps every sample. Knows no scenario."""

from __future__ import annotations

import contextlib
import json
import statistics
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

from bench.contenders import CONTENDERS, Cores, Place, Running, sites, start
from bench.processes import BenchError, Child
from bench.scale import Scale

# Figures of one measurement by name; the unit is the name's ending.
Sample = dict[str, float]
Measure = Callable[[Running], Sample]

_SETTLE_SLICE_SECONDS = 0.1
_SETTLE_MAX_SECONDS = 3.0
_QUIET_CPU_SHARE = 0.05


class Named(Protocol):
    """The subject of a measurement."""

    @property
    def name(self) -> str:
        """The contender's name."""


@dataclass
class Results:
    """The samples of a run, for which they live: measurement -> contender -> samples in order of the rounds."""

    samples: dict[str, dict[str, list[Sample]]] = field(default_factory=dict)
    # The first round of servers that have just started; no part of any median.
    warm_ups: dict[str, dict[str, list[Sample]]] = field(default_factory=dict)

    def add(self, measurement: str, contender: str, sample: Sample) -> None:
        """Keep one sample of a measured round."""
        self.samples.setdefault(measurement, {}).setdefault(contender, []).append(sample)

    def add_warm_up(self, measurement: str, contender: str, sample: Sample) -> None:
        """Keep one sample of a first round."""
        self.warm_ups.setdefault(measurement, {}).setdefault(contender, []).append(sample)

    def median(self, measurement: str, contender: str, figure: str) -> float | None:
        """Return the median of a figure over the rounds; None when it was not measured."""
        values = [sample[figure] for sample in self.samples.get(measurement, {}).get(contender, []) if figure in sample]
        return statistics.median(values) if values else None


@dataclass(frozen=True)
class Stage:
    """The stage, which lives as long as the run; `open_stage` starts and ends the tenant backend around it."""

    place: Place
    scale: Scale
    contenders: list[str]
    results: Results

    @contextlib.contextmanager
    def running(self, scenario: str, others: Sequence[str] = ()) -> Iterator[list[Running]]:
        """Start all contenders that can play `scenario`, and `others` where one of them can; stop all afterwards in
        every case."""
        names = [name for name in self.contenders if scenario not in CONTENDERS[name].skips]
        with self.started([*names, *(others if names else ())]) as runnings:
            yield runnings

    @contextlib.contextmanager
    def started(self, names: Sequence[str]) -> Iterator[list[Running]]:
        """Start these contenders, whoever else plays."""
        with contextlib.ExitStack() as stops:
            runnings = []
            for name in names:
                running = start(CONTENDERS[name], self.place)
                stops.callback(running.stop)
                runnings.append(running)
            try:
                yield runnings
            except BenchError as error:
                logs = [f"{running.name}: {running.server.log_tail()}" for running in runnings]
                raise BenchError("\n".join([str(error), *logs])) from error

    def interleave(self, measurement: str, runnings: list[Running], measure: Measure) -> None:
        """Let the contenders play in turns, A B C A B C. The first turn of each warms it up and is not kept."""
        self.play(runnings, {measurement: measure}, self.scale.rounds)

    def play(self, runnings: list[Running], measures: Mapping[str, Measure], rounds: int) -> None:
        """Do as `interleave` does, with several measurements in each round, so that they can be compared too."""
        for turn in range(rounds + 1):
            for measurement, measure in measures.items():
                for running in runnings:
                    self.keep(turn, measurement, running, measure(running))

    def keep(self, turn: int, measurement: str, running: Running, sample: Sample) -> None:
        """Keep the sample of a turn, the first of which has the number 0 and warms up."""
        keep = self.results.add if turn else self.results.add_warm_up
        keep(measurement, running.name, sample)
        _tell(measurement, running, sample, "" if turn else "(warms up)")

    def record(self, measurement: str, running: Named, sample: Sample) -> None:
        """Keep a sample of a scenario that has its own order."""
        self.results.add(measurement, running.name, sample)
        _tell(measurement, running, sample)


@contextlib.contextmanager
def open_stage(folder: Path, scale: Scale, contenders: list[str], is_pinned: bool = True) -> Iterator[Stage]:
    """Start the tenant backend, yield the stage, end the backend."""
    cores = Cores.choose(is_pinned)
    backend = Child([sys.executable, "-m", "bench.backend"], folder / "backend.log", cores.others)
    try:
        port = int(backend.wait_for(r"^listening (\d+)").group(1))
        sites_file = folder / "sites.yml"
        sites_file.write_text(json.dumps(sites(port)))  # JSON is YAML
        yield Stage(Place(folder, cores, sites_file), scale, contenders, Results())
    finally:
        backend.stop()


def measured(running: Running, operations: int, action: Callable[[], dict[str, Any]]) -> Sample:
    """Run `action` and return its CPU per operation, its rate and its delays.

    The window ends when the server has become quiet again, so that its later work (acknowledgements, Redis) is counted.
    """
    before = running.usage()
    answer = action()
    settle(running)
    spent = running.usage().since(before)
    return {
        "server_us": spent.server_seconds / operations * 1e6,
        "redis_us": spent.redis_seconds / operations * 1e6,
        "per_second": operations / answer["seconds"],
        "p50_ms": answer["p50_ms"],
        "p99_ms": answer["p99_ms"],
        "generator_busy": answer["generator_cpu_seconds"] / answer["seconds"],
    }


def settle(running: Running) -> None:
    """Wait until the server and its Redis have next to nothing to do."""
    deadline = time.monotonic() + _SETTLE_MAX_SECONDS
    before = running.usage()
    while time.monotonic() < deadline:
        time.sleep(_SETTLE_SLICE_SECONDS)
        now = running.usage()
        spent = now.since(before)
        if spent.server_seconds + spent.redis_seconds < _QUIET_CPU_SHARE * _SETTLE_SLICE_SECONDS:
            return
        before = now


def _tell(measurement: str, running: Named, sample: Sample, remark: str = "") -> None:
    """Show a sample to the person who waits for the run."""
    figures = "  ".join(f"{name} {value:,.2f}" for name, value in sample.items())
    print(f"  {measurement:24} {running.name:8} {figures}  {remark}", file=sys.stderr, flush=True)
