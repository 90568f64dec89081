"""The pages of the load test, on runs of the test's own: each state is shown, and text of operators is text."""

from __future__ import annotations

from typing import Any

from app.load.operations import load_operations
from app.load.plan import LoadPlan
from app.load.tally import Tally
from tests.console.conftest import database
from tests.console.visitor import ConsoleNode
from tests.support.valkey import Valkey

__all__ = ["database"]

SCRIPT = "<script>alert(1)</script>"


def totals() -> dict[str, Any]:
    """The totals of a run of one message."""
    tally = Tally(LoadPlan(devices=1, messages=1), nodes=1)
    tally.begin(0, 0.0)
    tally.accepted(0, 1, 0.001)
    tally.arrived(0, 0, 0.002)
    return tally.totals(0.5)


class Runs:
    """Four runs, one of each state."""

    def __init__(self) -> None:
        ends = {"done": totals(), "failed": {"error": SCRIPT}, "running": None, "stopped": {}}
        self.kept = {
            id: {
                "id": id,
                "started_at": "2026-01-31T12:00:00Z",
                "ended_at": None,
                "operator": "ana",
                "node": "abc",
                "description": SCRIPT,
                "plan": {"devices": 1, "messages": 1, "seconds": 60},
                "state": state,
                "totals": end,
            }
            for id, (state, end) in enumerate(ends.items(), 1)
        }

    async def list_runs(self, limit: int, below: int | None) -> Any:
        """All of them."""
        return sorted(self.kept.values(), key=lambda one: -one["id"])

    async def find(self, id: int) -> dict[str, Any] | None:
        """One of them."""
        return self.kept.get(id)

    async def remove(self, id: int) -> bool:
        """Removes one."""
        return self.kept.pop(id, None) is not None


class Bench:
    """Remembers what was started and stopped."""

    def __init__(self) -> None:
        self.started: list[tuple[LoadPlan, str, str]] = []
        self.stopped: list[tuple[int, str]] = []

    async def start(self, plan: LoadPlan, description: str, operator: str) -> int:
        """Remembers it."""
        self.started.append((plan, description, operator))
        return 5

    async def stop(self, id: int, node: str) -> bool:
        """Remembers it."""
        self.stopped.append((id, node))
        return True


async def test_the_pages(valkey: Valkey, database: str) -> None:
    """The list, each run and a comparison are shown; a form starts, stops and removes; viewers have no such page."""
    runs, bench = Runs(), Bench()
    node = await ConsoleNode.start(valkey, database, load_operations(runs, bench))
    try:
        ana = await node.visitor("ana")
        for path in ("/load", *(f"/load/{id}" for id in runs.kept), "/load/1/compare?other=2"):
            page = await ana.get(path)
            assert page.status_code == 200, path
            assert SCRIPT not in page.text
            assert "Load test" in page.text
        assert "p99" in (await ana.get("/load/1")).text
        await ana.do("load.start", devices="3", messages="2", seconds="9", description="a run")
        assert bench.started == [(LoadPlan(devices=3, messages=2, seconds=9), "a run", "ana")]
        await ana.do("load.stop", id="3")
        assert bench.stopped == [(3, "abc")]
        await ana.do("load.remove", id="2")
        assert 2 not in runs.kept
        assert (await ana.get("/load/2")).status_code == 404
        ben = await node.visitor("ben", "operator")
        assert (await ben.get("/load")).status_code in (403, 404)
        await ben.do("load.stop", id="1")
        assert bench.stopped == [(3, "abc")]
    finally:
        await node.close()
