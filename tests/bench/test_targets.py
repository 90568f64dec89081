"""A run is judged against the table of limits from its medians."""

from bench.report import tables
from bench.scale import FULL
from bench.stage import Results
from bench.targets import judge


def results_with(recado_us: float) -> Results:
    """Return results in which Node spends 20 µs and the floor 6 µs an acknowledged delivery."""
    results = Results()
    for contender, cost in (("recado", recado_us), ("node", 20.0), ("floor", 6.0)):
        for noise in (0.9, 1.0, 1.5):
            results.add("fan-out acked", contender, {"server_us": cost * noise, "redis_us": 2.0})
    return results


def test_a_cost_within_all_limits_is_reached() -> None:
    """9 µs reaches both targets: it is 0.45 times Node's 20, and below twice the floor's 6."""
    verdicts = judge(results_with(9.0), FULL)
    assert [verdict.text for verdict in verdicts] == ["reached"] * 3


def test_a_missed_target_says_by_how_much() -> None:
    """13.5 µs misses the target of 0.45 times Node's by one half, and the report's table says so."""
    verdicts = judge(results_with(13.5), FULL)
    assert [verdict.text for verdict in verdicts] == ["missed by 50 %", "missed by 12 %", "reached"]
    assert "missed by 50 %" in tables(results_with(13.5), verdicts, {"machine": "m"}, FULL)


def test_growth_compares_the_ends_of_the_curve() -> None:
    """Cost per delivery at fan-out 5,000 is divided by that at 500; 1.2 is beyond the 15 %."""
    results = Results()
    results.add("fan-out to 500", "recado", {"server_us": 10.0})
    results.add("fan-out to 5000", "recado", {"server_us": 12.0})
    (verdict,) = judge(results, FULL)
    assert (round(verdict.value, 3), verdict.is_reached) == (1.2, False)


def test_a_channel_push_is_compared_with_the_fan_out_beside_it() -> None:
    """The limit is 1.3 times the cost of Socket.IO on the same server in the same minutes."""
    results = Results()
    results.add("fan-out beside channels", "recado", {"server_us": 10.0})
    results.add("channel push", "recado", {"server_us": 13.5})
    (verdict,) = judge(results, FULL)
    assert (verdict.limit, verdict.is_reached) == (13.0, False)


def test_what_was_not_measured_is_not_judged() -> None:
    """Without Recado, or without the contender it is compared with, there is no verdict."""
    assert judge(Results(), FULL) == []


def test_fairness_compares_a_flood_with_calm() -> None:
    """The cost and delay of others while one site sends ten times its limit: 12 % more is beyond the 10."""
    results = Results()
    results.add("fan-out, others calm", "recado", {"server_us": 10.0, "p50_ms": 5.0})
    results.add("fan-out, another floods", "recado", {"server_us": 10.5, "p50_ms": 5.6})
    assert [(round(verdict.value, 2), verdict.is_reached) for verdict in judge(results, FULL)] == [
        (1.05, True),
        (1.12, False),
    ]


def test_fifty_thousand_connections_have_lines_of_their_own() -> None:
    """A delivery to all of them is compared with one to 500 of the same server, and a device may take 6 KB."""
    results = Results()
    results.add("large: fan-out to 500", "recado", {"server_us": 10.0})
    results.add("large: fan-out to 50000", "recado", {"server_us": 14.0})
    results.add("large: idle", "recado", {"kb_per_device": 5.0})
    verdicts = judge(results, FULL)
    assert [(verdict.limit, verdict.value, verdict.is_reached) for verdict in verdicts] == [
        (1.3, 1.4, False),
        (6.0, 5.0, True),
    ]
