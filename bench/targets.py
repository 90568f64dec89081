"""The limits that Recado has to keep, judged from the medians of a run."""

from __future__ import annotations

import functools
import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from bench.console import ALL, FIVE, NOBODY
from bench.jitter import RESET, SILENT
from bench.large import FAN_OUT, IDLE
from bench.scale import Scale
from bench.stage import Results

_SUBJECT = "recado"
# A unicast has to cost "the same" with 10 or 10,000 connected: the tolerance is that of the fan-out.
_GROWTH_LIMIT = 1.15
# "One site at its limit costs others less than 10 %."
_FAIRNESS_LIMIT = 1.1

# The most that the journal may cost the server and Redis at a fan-out of 1,000, beside the same server without it.
_JOURNAL_LIMITS = (("server_us", "server", 1.1), ("redis_us", "Redis", 1.15))

# "With five viewers at most 3 % of a core"; without any the console may cost as much as the noise of a machine.
_VIEWERS_LIMIT, _NOBODY_LIMIT = 3.0, 0.5

# Name, measurement, and the fan-out beside it.
_DOORS = (
    ("channel push, per delivery", "channel push", "fan-out beside channels"),
    ("topic event, per delivery", "topic event", "fan-out beside topics"),
)
_DOOR_FACTOR = 1.3


# Of 50,000 connections, the scenario `large`: the cost of a delivery, and the memory of a device.
_FEW, _MANY, _LARGE_LIMIT, _LARGE_KB = 500, 50_000, 1.3, 6.0


@dataclass(frozen=True)
class Verdict:
    """One line of the table: `value` may be at most `limit`."""

    name: str
    requirement: str
    value: float
    limit: float

    @property
    def is_reached(self) -> bool:
        """True when the value is within its limit."""
        return self.value <= self.limit

    @property
    def text(self) -> str:
        """Return "reached", or "missed" with the distance."""
        if self.is_reached:
            return "reached"
        return f"missed by {100 * (self.value / self.limit - 1):.0f} %" if self.limit else f"missed by {self.value:g}"


@dataclass(frozen=True)
class _Rule:
    name: str
    requirement: str
    measurement: str
    figure: str
    # Takes the median of a contender's figure in the same measurement; None: that contender was not measured.
    limit: Callable[[Callable[[str], float | None]], float | None]


@dataclass(frozen=True)
class _Growth:
    name: str
    # Two measurements.
    begin: str
    end: str
    limit: float = _GROWTH_LIMIT


def _times(factor: float, contender: str) -> Callable[[Callable[[str], float | None]], float | None]:
    def limit(median_of: Callable[[str], float | None]) -> float | None:
        median = median_of(contender)
        return None if median is None else factor * median

    return limit


# The table of the issue "Speed", line by line.
_RULES = (
    _Rule("fan-out, stored and acknowledged", "0.45 x Node", "fan-out acked", "server_us", _times(0.45, "node")),
    _Rule("fan-out, stored and acknowledged", "1.25 x floor", "fan-out acked", "server_us", _times(1.25, "floor")),
    _Rule("fan-out, plain site", "0.7 x Node", "fan-out plain", "server_us", _times(0.7, "node")),
    _Rule("fan-out, plain site", "1.3 x floor", "fan-out plain", "server_us", _times(1.3, "floor")),
    _Rule("connect, with authUrl", "0.8 x Node", "connect", "server_us", _times(0.8, "node")),
    _Rule("unicast, stored and acknowledged", "1.0 x Node", "unicast", "server_us", _times(1, "node")),
    _Rule("replay, per message", "0.6 x Node", "replay", "server_us", _times(0.6, "node")),
    _Rule("idle device, memory", "6 KB", "idle", "kb_per_device", lambda _: 6.0),
    _Rule("idle, per 1,000 devices", "0.15 % of a core", "idle", "core_percent_per_1000", lambda _: 0.15),
    _Rule("latency p50 of one message to all", "0.9 x Node", "latency", "p50_ms", _times(0.9, "node")),
    _Rule("latency p99 of one message to all", "0.5 x Node", "latency", "p99_ms", _times(0.5, "node")),
    _Rule("a delivery, stored and acknowledged, Redis", "0.5 µs", "fan-out acked", "redis_us", lambda _: 0.5),
)
_GROWTH_OF_LARGE = _Growth(
    f"cost of a delivery, fan-out {_MANY:,} to {_FEW}", FAN_OUT.format(_FEW), FAN_OUT.format(_MANY), _LARGE_LIMIT
)
# Limits of other issues, which still hold.
_FURTHER_RULES = (
    _Rule(f"idle device of {_MANY:,}, memory", f"{_LARGE_KB:g} KB", IDLE, "kb_per_device", lambda _: _LARGE_KB),
    _Rule("unicast with its acknowledgement, Redis", "15 µs", "unicast", "redis_us", lambda _: 15.0),
    *(_Rule(f"lost in {name}", "none", name, "lost", lambda _: 0.0) for name in (RESET, SILENT)),
)


def judge(results: Results) -> list[Verdict]:
    """Return the verdicts on the targets that were measured."""
    return _judge_rules(_RULES, results) + _ratios(results, [_GROWTH_OF_LARGE])


def judge_kept(file: Path, results: Results) -> list[Verdict]:
    """Return the verdicts on measurements that are not in `results`, but in the file of another run, if there is one;
    their names tell its date."""
    if not file.exists():
        return []
    kept = json.loads(file.read_text())
    others = {name: rounds for name, rounds in kept["rounds"].items() if name not in results.samples}
    day = kept["facts"]["date"].partition(" ")[0]
    return [replace(verdict, name=f"{verdict.name} (run of {day})") for verdict in judge(Results(samples=others))]


def judge_further(results: Results, scale: Scale) -> list[Verdict]:
    """Return the verdicts on the further limits that were measured."""
    return (
        _judge_rules(_FURTHER_RULES, results)
        + _judge_journal(results)
        + _judge_console(results)
        + _judge_fairness(results)
        + _ratios(results, _growth(scale))
        + _judge_doors(results)
    )


def _judge_rules(rules: Sequence[_Rule], results: Results) -> list[Verdict]:
    verdicts = []
    for rule in rules:
        value = results.median(rule.measurement, _SUBJECT, rule.figure)
        limit = rule.limit(functools.partial(results.median, rule.measurement, figure=rule.figure))
        if value is not None and limit is not None:
            verdicts.append(Verdict(rule.name, rule.requirement, value, limit))
    return verdicts


def _judge_journal(results: Results) -> list[Verdict]:
    """The same server with the journal on and off, in turns."""
    verdicts = []
    for figure, name, limit in _JOURNAL_LIMITS:
        off, on = (results.median("journal", contender, figure) for contender in (_SUBJECT, "recado-journal"))
        if off and on:
            verdicts.append(Verdict(f"a delivery with the journal, {name}", f"ratio {limit}", on / off, limit))
    return verdicts


def _judge_console(results: Results) -> list[Verdict]:
    """The share of a core beyond that of the deliveries alone, which is taken for the rate of each measurement."""

    def figures(measurement: str, contender: str) -> tuple[float, float] | None:
        core = results.median(measurement, contender, "core_percent")
        rate = results.median(measurement, contender, "deliveries_per_second")
        return (core, rate) if core and rate else None

    quiet = figures(NOBODY, "recado-console")
    pairs = (
        ("console that nobody looks at", _NOBODY_LIMIT, quiet, figures(NOBODY, "recado-no-console")),
        ("five viewers of the console, one page each", _VIEWERS_LIMIT, figures(FIVE, "recado-console"), quiet),
        ("five viewers of the console, five pages each", _VIEWERS_LIMIT, figures(ALL, "recado-console"), quiet),
    )
    return [
        Verdict(name, f"{limit:g} % of a core", found[0] - beside[0] * found[1] / beside[1], limit)
        for name, limit, found, beside in pairs
        if found is not None and beside is not None
    ]


def _judge_doors(results: Results) -> list[Verdict]:
    """The other protocols, measured in turns with the plain fan-out on the same server."""
    verdicts = []
    for name, measurement, beside in _DOORS:
        cost = results.median(measurement, _SUBJECT, "server_us")
        fan_out = results.median(beside, _SUBJECT, "server_us")
        if cost is not None and fan_out is not None:
            verdicts.append(Verdict(name, f"{_DOOR_FACTOR} x plain fan-out", cost, _DOOR_FACTOR * fan_out))
    return verdicts


def _judge_fairness(results: Results) -> list[Verdict]:
    calm, flooded = "fan-out, others calm", "fan-out, another floods"
    verdicts = []
    for figure, name in (("server_us", "cost of a delivery"), ("p50_ms", "p50 of a delivery")):
        before, meanwhile = (results.median(measurement, _SUBJECT, figure) for measurement in (calm, flooded))
        if before and meanwhile:
            name = f"{name}, another site at ten times its limit"
            verdicts.append(Verdict(name, f"ratio {_FAIRNESS_LIMIT}", meanwhile / before, _FAIRNESS_LIMIT))
    return verdicts


def _growth(scale: Scale) -> list[_Growth]:
    largest = scale.growth_fan_outs[-1]
    fewest, most = scale.growth_connections[0], scale.growth_connections[-1]
    few, many = scale.topic_subscriptions
    return [
        _Growth(f"cost of a delivery, fan-out {largest:,} to 500", "fan-out to 500", f"fan-out to {largest}"),
        _Growth(
            f"cost of a unicast, {most:,} to {fewest} connected",
            f"unicast, {fewest} connected",
            f"unicast, {most} connected",
        ),
        _Growth(
            f"cost of a topic event, {many:,} to {few} subscriptions",
            f"topic event, {few} subscriptions",
            f"topic event, {many} subscriptions",
        ),
    ]


def _ratios(results: Results, growths: Sequence[_Growth]) -> list[Verdict]:
    """The cost at the end of each curve, divided by that at its begin."""
    verdicts = []
    for growth in growths:
        begin, end = (results.median(name, _SUBJECT, "server_us") for name in (growth.begin, growth.end))
        if begin and end:
            verdicts.append(Verdict(growth.name, f"ratio {growth.limit}", end / begin, growth.limit))
    return verdicts
