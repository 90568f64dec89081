"""The model of a large installation follows from its costs and loads."""

from dataclasses import replace

import pytest

from bench.costs import Costs
from bench.forecast import (
    LOADS,
    MILLION,
    PLANNED_SHARE,
    Load,
    ceilings,
    forecast,
    processes_for,
    shard_of,
    zipf_sizes,
)
from tests.bench.test_costs import results

COSTS = Costs.read(results())


def test_every_load_is_a_million_devices() -> None:
    """The loads differ in their sites, not in their size."""
    assert {load.devices for load in LOADS} == {MILLION}
    assert zipf_sizes(MILLION, 10)[0] > 3 * zipf_sizes(MILLION, 10)[9]


def test_sites_spread_over_shards_and_one_does_not() -> None:
    """Of many sites each of four shards has about a quarter; a site is on one shard, whatever their number."""
    shards = [shard_of(f"site-{number}", 4) for number in range(1_000)]
    assert all(200 < shards.count(shard) < 300 for shard in range(4))
    one = Load("one", (MILLION,))
    assert forecast(COSTS, one, 16).shard_share == pytest.approx(forecast(COSTS, one, 1).shard_share)


def test_shards_share_the_work_of_many_sites() -> None:
    """The busiest of four shards has somewhat more than a quarter of the work of one."""
    load = Load("many", (100,) * 1_000)
    alone, shared = (forecast(COSTS, load, shards).shard_share for shards in (1, 4))
    assert 0.25 * alone <= shared < 0.35 * alone


def test_processes_carry_the_load_within_the_plan() -> None:
    """A load that is dearer needs more processes, and none has more than the planned share of its core."""
    calm = Load("calm", (MILLION,), room_messages_an_hour=0.0, broadcasts_an_hour=0.0)
    busy = replace(calm, unicasts_an_hour=4_000.0)
    assert processes_for(COSTS, calm) == 80
    assert processes_for(COSTS, busy) > 80
    for load in (calm, busy):
        assert forecast(COSTS, load, 1).process_share <= PLANNED_SHARE


def test_work_waits_where_a_shard_has_too_much() -> None:
    """A message that keeps a shard for seconds leaves a backlog; one core that has more work than time never ends."""
    calm = Load("calm", (1_000,), broadcasts_an_hour=0.0)
    assert forecast(COSTS, calm, 1).shard_backlog_seconds == 0.0
    loud = Load("loud", (MILLION,), broadcasts_an_hour=20.0)
    assert forecast(COSTS, loud, 1).shard_backlog_seconds > 1.0
    assert forecast(COSTS, replace(loud, broadcasts_an_hour=3_600.0), 1).shard_share > 1.0


def test_a_forecast_repeats() -> None:
    """The chance of the model has a seed: the page does not change by itself."""
    assert forecast(COSTS, LOADS[2], 1) == forecast(COSTS, LOADS[2], 1)


def test_a_ceiling_is_the_planned_share_of_one_core() -> None:
    """A shard that does nothing else connects as many devices in a second as fit into the planned share."""
    assert ceilings(COSTS, 80)["connects"] == pytest.approx(PLANNED_SHARE * 1e6 / 100)
