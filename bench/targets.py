"""The limits that Recado has to keep, judged from the medians of a run."""

from __future__ import annotations

import functools
from collections.abc import Callable
from dataclasses import dataclass

from bench.console import ALL, FIVE, NOBODY
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


# Of many connections: the cost of a delivery, "fan-out 50,000 to 500", and the memory of a device.
_FEW, _LARGE_LIMIT, _LARGE_KB = 500, 1.3, 6.0


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
        return "reached" if self.is_reached else f"missed by {100 * (self.value / self.limit - 1):.0f} %"


@dataclass(frozen=True)
class _Rule:
    name: str
    requirement: str
    measurement: str
    figure: str
    # Takes the median of a contender's figure in the same measurement; None: that contender was not measured.
    limit: Callable[[Callable[[str], float | None]], float | None]


def _times(factor: float, contender: str) -> Callable[[Callable[[str], float | None]], float | None]:
    def limit(median_of: Callable[[str], float | None]) -> float | None:
        median = median_of(contender)
        return None if median is None else factor * median

    return limit


_RULES = (
    _Rule("fan-out, stored and acknowledged", "0.45 x Node", "fan-out acked", "server_us", _times(0.45, "node")),
    _Rule("fan-out, stored and acknowledged", "2 x floor", "fan-out acked", "server_us", _times(2, "floor")),
    _Rule("fan-out, stored and acknowledged", "Redis 3 µs", "fan-out acked", "redis_us", lambda _: 3.0),
    _Rule("fan-out, plain site", "0.7 x Node", "fan-out plain", "server_us", _times(0.7, "node")),
    _Rule("fan-out, plain site", "1.5 x floor", "fan-out plain", "server_us", _times(1.5, "floor")),
    _Rule("connect", "0.7 x Node", "connect", "server_us", _times(0.7, "node")),
    _Rule("unicast, 32 publishers", "1.2 x Node", "unicast", "server_us", _times(1.2, "node")),
    _Rule("replay, per message", "0.8 x Node", "replay", "server_us", _times(0.8, "node")),
    _Rule("idle device, memory", "0.5 x Node", "idle", "kb_per_device", _times(0.5, "node")),
    _Rule("idle device, memory", "14 KB", "idle", "kb_per_device", lambda _: 14.0),
    _Rule("idle, per 1,000 devices", "0.25 % of a core", "idle", "core_percent_per_1000", lambda _: 0.25),
    _Rule("latency p50 of one message to all", "Node", "latency", "p50_ms", _times(1, "node")),
    _Rule("latency p99 of one message to all", "Node", "latency", "p99_ms", _times(1, "node")),
)


def judge(results: Results, scale: Scale) -> list[Verdict]:
    """Return the verdicts on all that was measured."""
    verdicts = []
    for rule in _RULES:
        value = results.median(rule.measurement, _SUBJECT, rule.figure)
        limit = rule.limit(functools.partial(results.median, rule.measurement, figure=rule.figure))
        if value is not None and limit is not None:
            verdicts.append(Verdict(rule.name, rule.requirement, value, limit))
    return (
        verdicts
        + _judge_journal(results)
        + _judge_console(results)
        + _judge_fairness(results)
        + _judge_growth(results, scale)
        + _judge_doors(results)
        + _judge_large(results, scale)
    )


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


def _judge_large(results: Results, scale: Scale) -> list[Verdict]:
    """Fifty thousand connections to one server of several processes."""
    verdicts = []
    largest, few = scale.large_fan_outs[-1], min(_FEW, scale.large_fan_outs[-2])
    cost, least = (results.median(FAN_OUT.format(size), _SUBJECT, "server_us") for size in (largest, few))
    if cost and least:
        name = f"cost of a delivery, {largest:,} connected, fan-out {largest:,} to {few}"
        verdicts.append(Verdict(name, f"ratio {_LARGE_LIMIT}", cost / least, _LARGE_LIMIT))
    memory = results.median(IDLE, _SUBJECT, "kb_per_device")
    if memory is not None:
        name = f"idle device of {scale.large_connections[-1]:,}, memory"
        verdicts.append(Verdict(name, f"{_LARGE_KB:g} KB", memory, _LARGE_KB))
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


def _judge_growth(results: Results, scale: Scale) -> list[Verdict]:
    largest = scale.growth_fan_outs[-1]
    fewest, most = scale.growth_connections[0], scale.growth_connections[-1]
    few, many = scale.topic_subscriptions
    pairs = (
        (f"cost of a delivery, fan-out {largest:,} to 500", "fan-out to 500", f"fan-out to {largest}"),
        (
            f"cost of a unicast, {most:,} to {fewest} connected",
            f"unicast, {fewest} connected",
            f"unicast, {most} connected",
        ),
        (
            f"cost of a topic event, {many:,} to {few} subscriptions",
            f"topic event, {few} subscriptions",
            f"topic event, {many} subscriptions",
        ),
    )
    verdicts = []
    for name, small, large in pairs:
        cost_small = results.median(small, _SUBJECT, "server_us")
        cost_large = results.median(large, _SUBJECT, "server_us")
        if cost_small is not None and cost_large is not None:
            verdicts.append(Verdict(name, f"ratio {_GROWTH_LIMIT}", cost_large / cost_small, _GROWTH_LIMIT))
    return verdicts
