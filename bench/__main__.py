"""The benchmark's command line: runs scenarios side by side, prints the tables, saves them with the plot."""

from __future__ import annotations

import argparse
import contextlib
import dataclasses
import json
import re
import resource
import signal
import sys
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from types import FrameType

from bench.contenders import CONTENDERS, DEFAULT_CONTENDERS
from bench.machine import describe
from bench.plot import Panel, draw
from bench.processes import BenchError
from bench.report import as_json, tables
from bench.scale import FULL, QUICK, TINY, Scale
from bench.scenarios import SCENARIOS
from bench.stage import Results, open_stage
from bench.targets import judge, judge_kept

_HERE = Path(__file__).parent
_README = _HERE / "README.md"
# The results of the scenario that is no part of a whole run, which stays within about 25 minutes without it.
_KEPT = _HERE / "results" / "large.json"
_APART = frozenset({"large"})
_WHOLE = [name for name in SCENARIOS if name not in _APART]
_BEGIN, _END = "<!-- results: written by scripts/bench -->", "<!-- end of results -->"


def main(arguments: list[str] | None = None) -> int:
    """Run the scenarios that the arguments name; 0 when they ran (targets missed or not), 1 when they could not."""
    options = _parse(arguments)
    scale = {"full": FULL, "quick": QUICK, "tiny": TINY}[options.scale]
    if options.rounds:
        scale = dataclasses.replace(scale, rounds=options.rounds, growth_rounds=options.rounds)
    # SIGINT too: a shell starts its background commands with SIGINT ignored.
    signal.signal(signal.SIGINT, _stop)
    signal.signal(signal.SIGTERM, _stop)
    signal.signal(signal.SIGALRM, _stop)
    signal.alarm(scale.limit_seconds)
    try:
        results = run(scale, options.only, options.peers, is_pinned=not options.no_pin)
    except BenchError as error:
        print(f"bench: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("bench: stopped; all its processes are ended", file=sys.stderr)
        return 130
    is_whole = scale is FULL and set(_WHOLE) <= set(options.only) and set(DEFAULT_CONTENDERS) <= set(options.peers)
    print(save(results, scale, options.out, is_whole))
    return 0


def run(scale: Scale, scenarios: list[str], contenders: list[str], is_pinned: bool = True) -> Results:
    """Run scenarios one after the other, the contenders side by side in each."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))  # inherited by every process of the run
    with _scratch_folder() as folder, open_stage(folder, scale, contenders, is_pinned) as stage:
        for name in scenarios:
            print(f"{name}: {SCENARIOS[name].__doc__}", file=sys.stderr, flush=True)
            began = time.monotonic()
            SCENARIOS[name](stage)
            print(f"{name}: {time.monotonic() - began:.0f} s", file=sys.stderr, flush=True)
        return stage.results


def save(results: Results, scale: Scale, folder: Path, is_whole: bool) -> str:
    """Write tables, figures and plot to `folder`, and those of a whole run into the README too; returns the tables."""
    facts, targets = describe(), judge(results) + judge_kept(_KEPT, results)
    text = tables(results, targets, facts, scale)
    name = "latest" if is_whole else "partial"
    folder.mkdir(parents=True, exist_ok=True)
    (folder / f"{name}.json").write_text(json.dumps(as_json(results, targets, facts, scale), indent=1) + "\n")
    (folder / f"{name}.md").write_text(text)
    curves = growth_panels(results)
    if any(panel.lines for panel in curves):
        (folder / f"{name}.svg").write_text(draw(curves))
    if is_whole:
        before, _, rest = _README.read_text().partition(_BEGIN)
        _README.write_text(f"{before}{_BEGIN}\n{text}{_END}{rest.partition(_END)[2]}")
    return text


def growth_panels(results: Results) -> list[Panel]:
    """Return the curves of the scenario `growth`; empty when it has not run."""
    return [
        Panel(
            "CPU of the server per delivery",
            "fan-out (devices that one message reaches)",
            "µs",
            _lines(results, r"fan-out to (\d+)"),
        ),
        Panel("CPU of the server per unicast", "connections", "µs", _lines(results, r"unicast, (\d+) connected")),
    ]


def _lines(results: Results, pattern: str) -> dict[str, list[tuple[float, float]]]:
    lines: dict[str, list[tuple[float, float]]] = {}
    for measurement, contenders in results.samples.items():
        match = re.fullmatch(pattern, measurement)
        for contender in contenders if match else ():
            cost = results.median(measurement, contender, "server_us")
            if match and cost is not None:
                lines.setdefault(contender, []).append((float(match.group(1)), cost))
    return lines


def _parse(arguments: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="scripts/bench", description="Recado and its peers side by side.")
    parser.add_argument("--quick", dest="scale", action="store_const", const="quick", default="full")
    parser.add_argument("--tiny", dest="scale", action="store_const", const="tiny", help="only shows that all works")
    parser.add_argument("--only", type=_names_in(SCENARIOS), default=_WHOLE, metavar="SCENARIO,...")
    parser.add_argument("--peers", type=_names_in(CONTENDERS), default=list(DEFAULT_CONTENDERS), metavar="NAME,...")
    parser.add_argument("--rounds", type=int, default=0, help="measured rounds (default: the scale's)")
    parser.add_argument("--no-pin", action="store_true", help="let the kernel choose the cores")
    parser.add_argument("--out", type=Path, default=_HERE / "results")
    return parser.parse_args(arguments)


def _names_in(known: Iterable[str]) -> Callable[[str], list[str]]:
    def names(text: str) -> list[str]:
        chosen = text.split(",")
        unknown = [name for name in chosen if name not in known]
        if unknown:
            raise argparse.ArgumentTypeError(f"unknown: {', '.join(unknown)}; there are {', '.join(known)}")
        return chosen

    return names


@contextlib.contextmanager
def _scratch_folder() -> Iterator[Path]:
    with tempfile.TemporaryDirectory(prefix="recado-bench-") as folder:
        yield Path(folder)


def _stop(number: int, _: FrameType | None) -> None:
    if number == signal.SIGALRM:
        raise BenchError("the run took longer than its scale allows; it was ended")
    raise KeyboardInterrupt


if __name__ == "__main__":
    sys.exit(main())
