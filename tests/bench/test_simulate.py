"""The page about scaling follows from the kept results."""

import json
import zlib
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from bench import simulate
from bench.costs import Costs
from bench.forecast import shard_of
from bench.plot import draw
from bench.simulate import PAGE, PICTURE, RESULTS, measured, panels, tables
from tests.bench.test_costs import results


def test_the_page_has_the_tables_of_its_figures() -> None:
    """docs/scaling.md and its picture are what `python -m bench.simulate --write` makes of the kept results."""
    kept = json.loads(RESULTS.read_text())
    assert tables(Costs.read(kept)) in PAGE.read_text()
    assert measured(kept) in PAGE.read_text()
    assert draw(panels(kept)) == PICTURE.read_text()


def test_the_command_writes_the_page(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """`--write` replaces what stands between the marks, and nothing else."""
    page = tmp_path / "page.md"
    page.write_text(
        "before\n<!-- measured: written by bench.simulate -->\n<!-- end of measured -->\n"
        "<!-- model: written by bench.simulate -->\nold\n<!-- end of model -->\nbehind\n"
    )
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


def test_a_user_has_one_part_for_ever() -> None:
    """The function of the page spreads users evenly over parts, the parts spread over shards, and a user stays."""
    code = PAGE.read_text().partition("```py\n")[2].partition("```")[0]
    names: dict[str, Any] = {}
    exec(code, names)
    parts = Counter(names["site_of"](f"user-{number}") for number in range(25_600))
    assert len(parts) == names["PARTS"]
    assert max(parts.values()) < 2 * 100
    assert names["site_of"]("alice") == names["site_of"]("alice") == f"shop-{zlib.crc32(b'alice') % 256}"
    shards = Counter(shard_of(part, 4) for part in parts)
    assert max(shards.values()) < 1.4 * len(parts) / 4
