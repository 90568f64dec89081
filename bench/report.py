"""Turns the results of a run into markdown tables and JSON. Measures nothing, judges nothing."""

from __future__ import annotations

from typing import Any

from bench.scale import Scale
from bench.stage import Results, Sample
from bench.targets import Verdict, judge, judge_further

_HEADINGS = {
    "server_us": "server µs",
    "redis_us": "Redis µs",
    "per_second": "per second",
    "p50_ms": "p50 ms",
    "p99_ms": "p99 ms",
    "last_p50_ms": "last device, p50 ms",
    "p50_without_ms": "p50 ms without them",
    "p99_without_ms": "p99 ms without them",
    "mb_per_slow_reader": "MB per slow reader, peak",
    "closed": "closed by the server",
    "lost": "lost",
    "delivered_percent": "delivered %",
    "once_percent": "exactly once %",
    "repeats": "came again",
    "out_of_order": "out of order",
    "recovered_percent": "reconnects recovered %",
    "back_p99_ms": "reconnect p99 ms",
    "kb_per_device": "KB per device",
    "redis_kb_per_device": "Redis KB per device",
    "core_percent_per_1000": "% of a core per 1,000",
    "generator_busy": "generator busy",
    "core_percent": "% of a core",
    "deliveries_per_second": "deliveries a second",
    "kb_of_a_process": "KB of a process",
    "processes": "processes",
    "own_p50_ms": "own send meanwhile, p50 ms",
    "unavailable": "sends answered 503",
    "longest_run_ms": "longest run of Redis, ms",
    "longest_turn_ms": "loop late by at most, ms",
    "most_ms": "most ms",
    "listens_seconds": "listens again, s",
    "half_back_seconds": "half are back, s",
    "all_back_seconds": "all are back, s",
    "tries": "tries of a device",
    "refusals": "refusals",
    "missing": "devices without a message",
    "events": "events of live pages",
}
# The contenders that the others are compared with, in a column each, by the first figure of the measurement.
_YARDSTICKS = ("node", "floor")


def tables(results: Results, targets: list[Verdict], facts: dict[str, str], scale: Scale) -> str:
    """Return the whole report as markdown, with the verdicts on `targets` first."""
    parts = [_facts_line(facts, scale)]
    cold = Results(samples=results.warm_ups)
    if targets:
        parts.append(_verdict_table("target", targets, judge(cold)))
    if further := judge_further(results, scale):
        parts.append(_verdict_table("further limit", further, judge_further(cold, scale)))
    groups: dict[tuple[str, ...], list[str]] = {}
    for measurement, contenders in results.samples.items():
        groups.setdefault(tuple(next(iter(contenders.values()))[0]), []).append(measurement)
    parts += [_figure_table(results, figures, measurements) for figures, measurements in groups.items()]
    return "\n\n".join(parts) + "\n"


def as_json(results: Results, targets: list[Verdict], facts: dict[str, str], scale: Scale) -> dict[str, Any]:
    """Return all that was measured, every round included."""
    return {
        "facts": facts,
        "scale": scale.name,
        "targets": [
            {
                "name": verdict.name,
                "at_most": verdict.requirement,
                "value": verdict.value,
                "limit": verdict.limit,
                "is_reached": verdict.is_reached,
            }
            for verdict in [*targets, *judge_further(results, scale)]
        ],
        "medians": {
            measurement: {contender: _medians(results, measurement, contender) for contender in contenders}
            for measurement, contenders in results.samples.items()
        },
        "rounds": results.samples,
        "warm_up_rounds": results.warm_ups,
    }


def _medians(results: Results, measurement: str, contender: str) -> Sample:
    figures = results.samples[measurement][contender][0]
    return {figure: results.median(measurement, contender, figure) or 0.0 for figure in figures}


def _facts_line(facts: dict[str, str], scale: Scale) -> str:
    return f"Scale {scale.name}; " + "; ".join(f"{name} {value}" for name, value in facts.items()) + "."


def _verdict_table(what: str, verdicts: list[Verdict], first_round: list[Verdict]) -> str:
    """The last column shows how much a figure depends on warm servers: it is no part of the verdict."""
    cold = {(verdict.name, verdict.requirement): verdict.text for verdict in first_round}
    rows = [
        [
            verdict.name,
            verdict.requirement,
            number(verdict.limit),
            number(verdict.value),
            verdict.text,
            cold.get((verdict.name, verdict.requirement), ""),
        ]
        for verdict in verdicts
    ]
    return markdown([what, "at most", "that is", "Recado", "verdict", "in the first round, cold"], rows)


def _figure_table(results: Results, figures: tuple[str, ...], measurements: list[str]) -> str:
    heading = ["what", "who", *(_HEADINGS[figure] for figure in figures), *(f"x {name}" for name in _YARDSTICKS)]
    rows = []
    for measurement in measurements:
        for contender in results.samples[measurement]:
            medians = _medians(results, measurement, contender)
            ratios = [_ratio(results, measurement, contender, yardstick, figures[0]) for yardstick in _YARDSTICKS]
            rows.append([measurement, contender, *(_figure(name, medians[name]) for name in figures), *ratios])
    return markdown(heading, rows)


def _ratio(results: Results, measurement: str, contender: str, yardstick: str, figure: str) -> str:
    value = results.median(measurement, contender, figure)
    base = results.median(measurement, yardstick, figure)
    return f"{value / base:.2f}" if value is not None and base else ""


def _figure(name: str, value: float) -> str:
    return f"{100 * value:.0f} %" if name == "generator_busy" else number(value)


def number(value: float) -> str:
    """Return three significant digits, no fewer than the whole part."""
    if abs(value) >= 100:
        return f"{value:,.0f}"
    return f"{value:.1f}" if abs(value) >= 10 else f"{value:.2f}"


def markdown(heading: list[str], rows: list[list[str]]) -> str:
    """Return a table."""
    widths = [max(len(row[column]) for row in [heading, *rows]) for column in range(len(heading))]
    lines = [heading, ["-" * width for width in widths], *rows]
    return "\n".join(
        "| " + " | ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)) + " |" for line in lines
    )
