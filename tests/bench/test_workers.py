"""The scenario of workers runs in miniature."""

from pathlib import Path

from bench.scale import TINY
from bench.stage import open_stage
from bench.workers import workers


def test_workers_are_measured(tmp_path: Path) -> None:
    """One process and four are measured in turns; the second server says in its log that it has four."""
    with open_stage(tmp_path, TINY, ["recado"], is_pinned=False) as stage:
        workers(stage)
    assert {name: set(contenders) for name, contenders in stage.results.samples.items()} == {
        f"{name}, workers": {"recado-1-worker", "recado-4-workers"} for name in ("connect", "fan-out acked", "unicast")
    }
    assert '"workers":4' in (tmp_path / "recado-4-workers.log").read_text()
