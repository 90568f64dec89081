"""A run is judged against the table of limits from its medians."""

import json
from pathlib import Path

from bench.report import tables
from bench.scale import FULL
from bench.stage import Results
from bench.targets import judge, judge_further, judge_kept


def results_with(recado_us: float) -> Results:
    """Return results in which Node spends 20 µs and the floor 6 µs an acknowledged delivery."""
    results = Results()
    for contender, cost in (("recado", recado_us), ("node", 20.0), ("floor", 6.0)):
        for noise in (0.9, 1.0, 1.5):
            results.add("fan-out acked", contender, {"server_us": cost * noise, "redis_us": 0.4})
    return results


def test_a_cost_within_all_limits_is_reached() -> None:
    """7.5 µs reaches both targets: it is below 0.45 times Node's 20, and 1.25 times the floor's 6."""
    verdicts = judge(results_with(7.5))
    assert [verdict.text for verdict in verdicts] == ["reached"] * 3


def test_a_missed_target_says_by_how_much() -> None:
    """13.5 µs misses the target of 0.45 times Node's by one half, and the report's table says so."""
    verdicts = judge(results_with(13.5))
    assert [verdict.text for verdict in verdicts] == ["missed by 50 %", "missed by 80 %", "reached"]
    assert "missed by 50 %" in tables(results_with(13.5), verdicts, {"machine": "m"}, FULL)


def test_the_targets_are_those_of_the_issue() -> None:
    """A run in which every figure of every contender is 1 is judged by the factors and limits of the table."""
    results = Results()
    figures = ("server_us", "redis_us", "kb_per_device", "core_percent_per_1000", "p50_ms", "p99_ms")
    sample = dict.fromkeys(figures, 1.0)
    of_large = [f"large: fan-out to {size}" for size in (500, 50_000)]
    for measurement in ("fan-out acked", "fan-out plain", "connect", "unicast", "replay", "idle", "latency", *of_large):
        for contender in ("recado", "node", "floor"):
            results.add(measurement, contender, sample)
    limits = [verdict.limit for verdict in judge(results)]
    assert limits == [0.45, 1.25, 0.7, 1.3, 0.8, 1, 0.6, 6, 0.15, 0.9, 0.5, 0.5, 1.3]


def test_a_target_of_another_run_is_judged_from_its_file(tmp_path: Path) -> None:
    """The growth to 50,000 devices is in a file of its own; a run that has measured it does not read it there."""
    file = tmp_path / "large.json"
    assert judge_kept(file, Results()) == []
    sizes, costs = (500, 50_000), (10.0, 14.0)
    names = [f"large: fan-out to {size}" for size in sizes]
    rounds = {name: {"recado": [{"server_us": cost}]} for name, cost in zip(names, costs, strict=True)}
    file.write_text(json.dumps({"facts": {"date": "2026-11-28 04:20 UTC"}, "rounds": rounds}))
    (verdict,) = judge_kept(file, Results())
    assert verdict.name == "cost of a delivery, fan-out 50,000 to 500 (run of 2026-11-28)"
    assert verdict.text == "missed by 8 %"
    assert judge_kept(file, Results(samples=rounds)) == []


def test_a_device_may_lose_nothing() -> None:
    """The limit of lost deliveries is none; the verdict on three says how many, and has no per cent."""
    results = Results()
    results.add("jitter, cut in silence", "recado", {"lost": 3.0})
    results.add("jitter, cut with a reset", "recado", {"lost": 0.0})
    verdicts = judge_further(results, FULL)
    assert [(verdict.name, verdict.text) for verdict in verdicts] == [
        ("lost in jitter, cut with a reset", "reached"),
        ("lost in jitter, cut in silence", "missed by 3"),
    ]


def test_growth_compares_the_ends_of_the_curve() -> None:
    """Cost per delivery at fan-out 5,000 is divided by that at 500; 1.2 is beyond the 15 %."""
    results = Results()
    results.add("fan-out to 500", "recado", {"server_us": 10.0})
    results.add("fan-out to 5000", "recado", {"server_us": 12.0})
    (verdict,) = judge_further(results, FULL)
    assert (round(verdict.value, 3), verdict.is_reached) == (1.2, False)


def test_a_channel_push_is_compared_with_the_fan_out_beside_it() -> None:
    """The limit is 1.3 times the cost of Socket.IO on the same server in the same minutes."""
    results = Results()
    results.add("fan-out beside channels", "recado", {"server_us": 10.0})
    results.add("channel push", "recado", {"server_us": 13.5})
    (verdict,) = judge_further(results, FULL)
    assert (verdict.limit, verdict.is_reached) == (13.0, False)


def test_what_was_not_measured_is_not_judged() -> None:
    """Without Recado, or without the contender it is compared with, there is no verdict."""
    assert judge(Results()) + judge_further(Results(), FULL) == []


def test_fairness_compares_a_flood_with_calm() -> None:
    """The cost and delay of others while one site sends ten times its limit: 12 % more is beyond the 10."""
    results = Results()
    results.add("fan-out, others calm", "recado", {"server_us": 10.0, "p50_ms": 5.0})
    results.add("fan-out, another floods", "recado", {"server_us": 10.5, "p50_ms": 5.6})
    assert [(round(verdict.value, 2), verdict.is_reached) for verdict in judge_further(results, FULL)] == [
        (1.05, True),
        (1.12, False),
    ]


def test_fifty_thousand_connections_have_lines_of_their_own() -> None:
    """A delivery to all of them is compared with one to 500 of the same server, and a device may take 6 KB."""
    results = Results()
    results.add("large: fan-out to 500", "recado", {"server_us": 10.0})
    results.add("large: fan-out to 50000", "recado", {"server_us": 14.0})
    results.add("large: idle", "recado", {"kb_per_device": 5.0})
    verdicts = judge(results) + judge_further(results, FULL)
    assert [(verdict.limit, verdict.value, verdict.is_reached) for verdict in verdicts] == [
        (1.3, 1.4, False),
        (6.0, 5.0, True),
    ]
