"""The scenario of many connections runs in miniature: it connects, sends, kills the server and counts who is back."""

import pytest

from bench.__main__ import run
from bench.costs import Costs
from bench.crowd import Window, _shares
from bench.report import as_json
from bench.scale import TINY

pytestmark = pytest.mark.alone


def test_the_scenario_runs_and_feeds_the_model() -> None:
    """Each measurement is there, all devices come back with all messages after the server was killed, and the model can
    read the results."""
    results = run(TINY, ["large"], ["recado", "node"], is_pinned=False)
    samples = {name: contenders["recado"] for name, contenders in results.samples.items()}
    assert set(results.samples["large: idle"]) == {"recado"}
    back = samples["large: all come back, with tickets"][0]
    assert back["missing"] == 0
    assert back["all_back_seconds"] >= back["half_back_seconds"] > 0
    assert samples["large: one message to all"][0]["own_p50_ms"] > 0
    assert samples["large: another site, meanwhile"][0]["p99_ms"] > 0
    assert len(samples["large: plain fan-out to all"]) == TINY.large_rounds
    costs = Costs.read(as_json(results, [], {}, TINY))
    assert costs.largest_fan_out == TINY.large_fan_outs[-1]


def test_few_devices_go_to_the_first_generator() -> None:
    """Runs of numbers follow each other; so few that a unicast knows where they are go to one generator."""
    assert _shares(0, 10, 4) == [(0, 10), (10, 0), (10, 0), (10, 0)]
    assert _shares(10, 1_010, 4) == [(10, 250), (260, 250), (510, 250), (760, 250)]


def test_the_idle_part_is_taken_off() -> None:
    """A window's cost is without what its connections take anyway."""
    window = Window(server_seconds=3.0, redis_seconds=1.0, seconds=10.0, connected=1_000)
    assert window.costs_us(1_000_000, idle_share=0.0001) == {"server_us": 2.0, "redis_us": 1.0}
