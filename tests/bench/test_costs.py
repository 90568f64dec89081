"""The costs of the model come from a run's JSON."""

from typing import Any

import pytest

from bench.costs import Costs, CostsError, Pair, woken


def results(**changed: Any) -> dict[str, Any]:
    """The JSON of a run with round figures."""
    idle = {"kb_per_device": 5.0, "redis_kb_per_device": 1.0, "core_percent_per_1000": 0.1}
    figures = {
        "idle": {**idle, "kb_of_a_process": 50_000.0, "processes": 4},
        "connect, 10 connected": {"server_us": 900.0, "redis_us": 90.0},
        "connect, 1000 connected": {"server_us": 500.0, "redis_us": 100.0},
        "unicast, 1000 connected": {"server_us": 80.0, "redis_us": 40.0},
        "fan-out to 10": {"server_us": 100.0, "redis_us": 50.0},
        "fan-out to 100": {"server_us": 10.0, "redis_us": 4.0},
        "fan-out to 10000": {"server_us": 20.0, "redis_us": 8.0},
    } | changed
    return {"medians": {f"large: {name}": {"recado": found} for name, found in figures.items() if found}}


def test_a_run_gives_the_costs() -> None:
    """The newest connects count, the curve begins behind the smallest fan-out, and the smallest gives the cost of a
    process that is woken."""
    costs = Costs.read(results())
    assert costs.connect == Pair(500.0, 100.0)
    assert costs.comes_back == costs.connect
    assert [size for size, _ in costs.deliveries] == [100, 10_000]
    assert costs.wake.server_us == pytest.approx((100 - 10) * 10 / woken(10, 4))
    assert costs.idle_share == pytest.approx(0.000001)


def test_what_comes_back_has_a_cost_of_its_own() -> None:
    """A run with a return takes the cost of a device from it."""
    back = {"server_us": 300.0, "redis_us": 70.0}
    assert Costs.read(results(**{"all come back, with tickets": back})).comes_back == Pair(300.0, 70.0)


@pytest.mark.parametrize("missing", ["idle", "connect, 10 connected", "fan-out to 10"])
def test_a_run_without_the_scenario_is_refused(missing: str) -> None:
    """Results that lack what the model needs raise an error that names the scenario."""
    without = {missing: None, "connect, 1000 connected": None, "fan-out to 100": None}
    with pytest.raises(CostsError, match="scenario `large`"):
        Costs.read(results(**without))


def test_a_delivery_costs_what_lies_between_the_measured_sizes() -> None:
    """Between two sizes the cost lies on the line over the logarithm; outside it is that of the nearest size."""
    costs = Costs.read(results())
    assert costs.delivery(1_000).server_us == pytest.approx(15.0)
    assert costs.delivery(1_000).redis_us == pytest.approx(6.0)
    assert costs.delivery(1) == Pair(10.0, 4.0)
    assert costs.delivery(10_000) == costs.delivery(1_000_000) == Pair(20.0, 8.0)


def test_more_processes_make_a_message_dearer() -> None:
    """A message to many devices wakes each process that holds one of them."""
    costs = Costs.read(results())
    four, eighty = costs.message(100, 4), costs.message(100, 80)
    assert four.redis_us == pytest.approx(400.0)
    assert eighty.redis_us - four.redis_us == pytest.approx(costs.wake.redis_us * (woken(100, 80) - woken(100, 4)))


def test_few_devices_wake_few_processes() -> None:
    """One device wakes one process, very many devices wake all, and the rest lies between."""
    assert woken(1, 80) == pytest.approx(1.0)
    assert woken(100_000, 80) == pytest.approx(80.0)
    assert 40 < woken(80, 80) < 60
