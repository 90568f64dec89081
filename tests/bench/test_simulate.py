"""The model of a large installation follows from its costs and loads."""

import json
from dataclasses import replace
from pathlib import Path

import pytest

from bench import simulate
from bench.costs import Costs
from bench.plot import draw
from bench.simulate import (
    LOADS,
    MILLION,
    PAGE,
    PICTURE,
    PLANNED_SHARE,
    RESULTS,
    Load,
    ceilings,
    forecast,
    panels,
    processes_for,
    shard_of,
    tables,
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


def test_the_page_has_the_tables_of_its_figures() -> None:
    """docs/scaling.md and its picture are what `python -m bench.simulate --write` makes of the kept results."""
    kept = json.loads(RESULTS.read_text())
    assert tables(Costs.read(kept)) in PAGE.read_text()
    assert draw(panels(kept)) == PICTURE.read_text()


def test_the_command_writes_the_page(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """`--write` replaces what stands between the marks, and nothing else."""
    page = tmp_path / "page.md"
    page.write_text("before\n<!-- model: written by bench.simulate -->\nold\n<!-- end of the model -->\nbehind\n")
    run = tmp_path / "run.json"
    run.write_text(json.dumps(results()))
    monkeypatch.setattr(simulate, "PAGE", page)
    monkeypatch.setattr(simulate, "PICTURE", tmp_path / "picture.svg")
    assert simulate.main(["--results", str(run), "--write"]) == 0
    text = page.read_text()
    assert (text.partition("\n")[0], text.splitlines()[-1]) == ("before", "behind")
    assert "one site" in text
    assert "old" not in text
    assert (tmp_path / "picture.svg").read_text().startswith("<svg")


def test_the_command_answers_for_an_own_load(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Options describe an operator's own load; the forecast of it is printed."""
    run = tmp_path / "run.json"
    run.write_text(json.dumps(results()))
    assert simulate.main(["--results", str(run), "--devices", "400000", "--sites", "64", "--shards", "4"]) == 0
    printed = capsys.readouterr().out
    assert "400,000" in printed
    assert "64 sites" in printed
