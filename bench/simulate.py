"""The tables of docs/scaling.md: the scenario `large` as it was measured, and a million devices by the model.

python -m bench.simulate                          # prints them, from bench/results/large.json
python -m bench.simulate --results FILE --write   # from another run of the scenario, into the page, with its picture
python -m bench.simulate --devices 400000 --sites 100 --shards 4   # an own load
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from bench.costs import CONNECTS, FAN_OUTS, UNICASTS, Costs, Pair, curves, of_large
from bench.forecast import (
    LOADS,
    MOST_CONNECTIONS,
    PLANNED_SHARE,
    PROCESS_SIZES,
    SHARDS,
    Forecast,
    Load,
    ceilings,
    forecast,
    processes_for,
)
from bench.plot import Panel, draw
from bench.report import markdown, number

_HERE = Path(__file__).parent
RESULTS = _HERE / "results" / "large.json"
PAGE = _HERE.parent / "docs" / "scaling.md"
PICTURE = _HERE.parent / "docs" / "images" / "scaling.svg"
_RETURNS = ("with tickets", "authUrl asked")


def measured(results: dict[str, Any]) -> str:
    """Return the tables of a run: what grows, and what was measured with all connected."""
    found, medians = curves(results), of_large(results)
    unicasts = dict(found[UNICASTS])
    heading = ["connected", "connect, server µs", "Redis µs", "message to one user, server µs", "Redis µs"]
    growing = [[f"{count:,}", *_cells(cost), *_cells(unicasts.get(count))] for count, cost in found[CONNECTS]]
    reached = [[f"{size:,}", *_cells(cost)] for size, cost in found[FAN_OUTS]]
    return "\n\n".join(
        [
            markdown(["all connected", "measured"], _facts(medians)),
            markdown(heading, growing),
            markdown(["devices that one message reaches", "a delivery, server µs", "Redis µs"], reached),
            *_returns(medians),
        ]
    )


def _cells(cost: Pair | None) -> list[str]:
    return [number(cost.server_us), number(cost.redis_us)] if cost else ["", ""]


def _facts(medians: dict[str, dict[str, float]]) -> list[list[str]]:
    """The rows of those figures that a run has; a run that was cut short has fewer."""
    wanted = (
        ("idle", "kb_per_device", "memory of the server, KB a device"),
        ("idle", "redis_kb_per_device", "memory of Redis, KB a device"),
        ("idle", "core_percent_per_1000", "CPU of 1,000 idle devices, % of a core"),
        ("one message to all", "last_p50_ms", "message to all, until the last device has it, ms"),
        ("one message to all", "own_p50_ms", "meanwhile a message of the same site to one user, ms"),
        ("another site, calm", "p50_ms", "`/send` of another site, before it, p50 ms"),
        ("another site, calm", "p99_ms", "... p99 ms"),
        ("another site, meanwhile", "p50_ms", "`/send` of another site, meanwhile, p50 ms"),
        ("another site, meanwhile", "p99_ms", "... p99 ms"),
        ("plain fan-out to all", "server_us", "plain site, a delivery of a message to all, server µs"),
        ("plain fan-out to all", "redis_us", "... Redis µs"),
    )
    return [[text, number(medians[name][figure])] for name, figure, text in wanted if name in medians]


def _returns(medians: dict[str, dict[str, float]]) -> list[str]:
    kinds = [(how, medians[f"all come back, {how}"]) for how in _RETURNS if f"all come back, {how}" in medians]
    if not kinds:
        return []
    wanted = (
        ("listens_seconds", "from the SIGKILL until the server listens again, s"),
        ("half_back_seconds", "until half of the devices are back, s"),
        ("all_back_seconds", "until all are back, s"),
        ("server_us", "CPU of the server for each device, µs"),
        ("redis_us", "CPU of Redis for each device, µs"),
        ("tries", "lost or failed connections of a device"),
        ("refusals", "connects that were refused"),
        ("missing", "devices without one of the messages"),
    )
    rows = [[text, *(number(figures[figure]) for _, figures in kinds)] for figure, text in wanted]
    return [markdown(["all come back", *(how for how, _ in kinds)], rows)]


def tables(costs: Costs) -> str:
    """Return the tables of the page as markdown: the loads on growing numbers of shards, and what one shard does."""
    found = [forecast(costs, load, shards) for load in LOADS for shards in SHARDS if shards <= len(load.sizes)]
    sizes = [(most, forecast(costs, LOADS[0], 4, most)) for most in PROCESS_SIZES]
    rows = [[f"{most:,}", *_row(one)[3:7]] for most, one in sizes]
    heading = ["most connections of a process", "processes", "CPU of each", "MB of each", "busiest of 4 shards"]
    ceiling = ceiling_table(costs, processes_for(costs, LOADS[2]))
    return "\n\n".join([forecast_table(found), markdown(heading, rows), ceiling])


def forecast_table(found: Sequence[Forecast]) -> str:
    """Return a row for each forecast."""
    heading = ["devices", "in", "shards", "processes", "CPU of each", "MB of each", "busiest shard"]
    heading += [
        "its longest backlog, s",
        "its MB",
        "Redis for a message to the largest site, s",
        "work of a machine's return, s",
    ]
    return markdown(heading, [_row(one) for one in found])


def ceiling_table(costs: Costs, processes: int) -> str:
    """Return what one shard does in a second."""
    heading = [f"one shard at {100 * PLANNED_SHARE:.0f} % of its core, {processes} processes", "a second"]
    return markdown(heading, [[what, f"{rate:,.0f}"] for what, rate in ceilings(costs, processes).items()])


def _row(found: Forecast) -> list[str]:
    is_over = found.shard_share >= 1
    return [
        f"{found.load.devices:,}",
        found.load.name,
        str(found.shards),
        f"{found.processes:,}",
        f"{100 * found.process_share:.0f} %",
        f"{found.process_megabytes:,.0f}",
        f"{100 * found.shard_share:.0f} %",
        "grows" if is_over else f"{found.shard_backlog_seconds:.1f}",
        f"{found.shard_megabytes:,.0f}",
        number(found.broadcast_seconds),
        "never" if is_over else number(found.return_seconds),
    ]


def panels(results: dict[str, Any]) -> list[Panel]:
    """Return the curves of a run: the CPU of the server and of Redis while the number grows."""
    found = curves(results)
    titles = (
        ("CPU of a delivery", "devices that one message reaches", FAN_OUTS),
        ("CPU of a message to one user", "connections", UNICASTS),
        ("CPU of a connect", "connections", CONNECTS),
    )
    return [
        Panel(
            title,
            grows,
            "µs",
            {
                "server": [(float(x), cost.server_us) for x, cost in found[pattern]],
                "Redis": [(float(x), cost.redis_us) for x, cost in found[pattern]],
            },
        )
        for title, grows, pattern in titles
    ]


def write(page: Path, texts: dict[str, str]) -> None:
    """Replace the tables between the marks of the page, by the names of the marks."""
    for name, text in texts.items():
        begin, end = f"<!-- {name}: written by bench.simulate -->", f"<!-- end of {name} -->"
        before, _, rest = page.read_text().partition(begin)
        page.write_text(f"{before}{begin}\n{text}\n{end}{rest.partition(end)[2]}")


def main(arguments: list[str] | None = None) -> int:
    """Print the tables, or write them into the page."""
    parser = argparse.ArgumentParser(
        prog="python -m bench.simulate", description="A million devices, by measured costs."
    )
    parser.add_argument("--results", type=Path, default=RESULTS, help="a run that has the scenario `large`")
    parser.add_argument("--write", action="store_true", help="into docs/scaling.md")
    parser.add_argument("--devices", type=int, default=0, help="an own load instead: its devices")
    parser.add_argument("--sites", type=int, default=1, help="... over so many sites alike")
    parser.add_argument("--connections", type=int, default=MOST_CONNECTIONS, help="... at most, of one process")
    parser.add_argument("--shards", type=int, default=1, help="... on so many shards")
    parser.add_argument("--unicasts", type=float, default=10.0, help="... messages to one user, a device and hour")
    parser.add_argument("--rooms", type=float, default=10.0, help="... messages of rooms, a device and hour")
    parser.add_argument("--room-size", type=int, default=100, help="... devices of a room")
    parser.add_argument("--broadcasts", type=float, default=1.0, help="... messages to all of a site, an hour")
    parser.add_argument("--connects", type=float, default=2.0, help="... connects of a device, an hour")
    options = parser.parse_args(arguments)
    results = json.loads(options.results.read_text())
    costs = Costs.read(results)
    if options.devices:
        sizes = (max(1, options.devices // options.sites),) * options.sites
        rates = (options.unicasts, options.rooms, options.room_size, options.broadcasts, options.connects)
        own = forecast(costs, Load(f"{options.sites} sites", sizes, *rates), options.shards, options.connections)
        print(forecast_table([own]), ceiling_table(costs, own.processes), sep="\n\n")
        return 0
    texts = {"measured": measured(results), "model": tables(costs)}
    print("\n\n".join(texts.values()))
    if options.write:
        write(PAGE, texts)
        PICTURE.write_text(draw(panels(results)))
    return 0


if __name__ == "__main__":
    sys.exit(main())
