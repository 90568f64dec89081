"""Work on events in slices: the budget of a turn, the order within a site, the shares of sites, and what is lost."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import weakref
from collections import Counter
from collections.abc import Generator

import pytest

from app.protocols.topics import slices as module
from app.protocols.topics.slices import UNITS_A_TURN, Slices
from tests.support.waiting import until

COST = 50


class Worker:
    """Slices and the work that they have done. Lives for one test."""

    def __init__(self) -> None:
        self.lost: list[str] = []
        self.faults: Counter[str] = Counter()
        self.slices = Slices(self._lose, self.faults)
        self.done: list[str] = []
        #: The cost of the steps in each turn of the loop.
        self.costs: Counter[int] = Counter()
        self._turn = 0
        asyncio.get_running_loop().call_soon(self._next)

    def work(self, name: str, steps: int = 1) -> Generator[int, None, None]:
        """Do so many steps, and note the end."""
        for _ in range(steps):
            self.costs[self._turn] += COST
            yield COST
        self.done.append(name)

    def broken(self) -> Generator[int, None, None]:
        """Fail after a step."""
        yield COST
        raise ValueError("broken")

    def _lose(self, site: str) -> None:
        self.lost.append(site)
        self.slices.follow(site, self.work(f"resync {site}"))

    def _next(self) -> None:
        self._turn += 1
        asyncio.get_running_loop().call_soon(self._next)


async def test_a_turn_has_a_budget() -> None:
    """The work of all sites in one turn of the loop stays within the budget and one step, also when it begins there."""
    worker = Worker()
    for site in ("a", "b", "c"):
        for number in range(3):
            worker.slices.write(site, worker.work(f"{site}{number}", 40), 1)
    joined = [worker.slices.finish(site, worker.work(f"{site} joins", 40)) for site in "abc"]
    await asyncio.gather(*joined)
    await until(lambda: len(worker.done) == 12, "all")
    assert sum(worker.costs.values()) == 12 * 40 * COST
    assert max(worker.costs.values()) <= UNITS_A_TURN + COST


async def test_short_work_is_done_at_once() -> None:
    """Work that fits into the turn's budget waits for nothing; behind other work of its site it waits."""
    worker = Worker()
    worker.slices.write("a", worker.work("one"), 1)
    await worker.slices.finish("a", worker.work("two"))
    worker.slices.follow("a", worker.work("three"))
    assert worker.done == ["one", "two", "three"]
    worker.slices.write("a", worker.work("long", 100), 1)
    worker.slices.write("a", worker.work("short"), 1)
    assert worker.done == ["one", "two", "three"]
    await until(lambda: len(worker.done) == 5, "all")
    assert worker.done[3:] == ["long", "short"]


async def test_sites_take_turns() -> None:
    """The events of a site are in order; the short event of another site does not wait for a long one, and neither
    does a stream that joins."""
    worker = Worker()
    for number in range(3):
        worker.slices.write("hostile", worker.work(f"long {number}", 200), 1)
    worker.slices.write("other", worker.work("short"), 1)
    await worker.slices.finish("hostile", worker.work("joining"))
    assert worker.done == ["short", "joining"]
    await until(lambda: len(worker.done) == 5, "all")
    assert worker.done[2:] == ["long 0", "long 1", "long 2"]


@pytest.mark.parametrize(("bound", "most"), [("MAX_EVENTS", 3), ("MAX_BYTES", 39)])
async def test_too_many_events(monkeypatch: pytest.MonkeyPatch, bound: str, most: int) -> None:
    """Past a bound the waiting events of the site are lost, and told so in their place; what only follows is not."""
    monkeypatch.setattr(module, bound, most)
    worker = Worker()
    worker.slices.write("a", worker.work("long", 100), 10)
    worker.slices.follow("a", worker.work("follows"))
    worker.slices.write("a", worker.work("two"), 10)
    worker.slices.write("a", worker.work("three"), 10)
    worker.slices.write("b", worker.work("other"), 10)
    assert worker.lost == []
    worker.slices.write("a", worker.work("four"), 10)
    worker.slices.write("a", worker.work("five"), 10)
    assert worker.lost == ["a"]
    await until(lambda: len(worker.done) == 4, "the rest")
    assert [name for name in worker.done if name != "other"] == ["follows", "resync a", "five"]
    assert worker.slices._size == 0


async def test_too_many_bytes_of_a_node(monkeypatch: pytest.MonkeyPatch) -> None:
    """Past the bound of the node the site with the most bytes loses its events, whichever event was the last."""
    monkeypatch.setattr(module, "MAX_BYTES_OF_NODE", 100)
    worker = Worker()
    worker.slices.write("large", worker.work("large", 100), 90)
    worker.slices.write("small", worker.work("small", 2), 20)
    assert worker.lost == ["large"]
    await until(lambda: len(worker.done) == 2, "the rest")
    assert sorted(worker.done) == ["resync large", "small"]


async def test_broken_work() -> None:
    """Work that fails is counted, and what is behind it goes on; a stream that joins is told of the failure."""
    worker = Worker()
    worker.slices.write("a", worker.broken(), 1)
    worker.slices.write("a", worker.work("long", 100), 1)
    worker.slices.write("a", worker.broken(), 1)
    worker.slices.write("a", worker.work("next"), 1)
    with pytest.raises(ValueError, match="broken"):
        await worker.slices.finish("a", worker.broken())
    await until(lambda: len(worker.done) == 2, "the rest")
    assert worker.faults == {"events": 2}


async def test_errors_leave_no_cycle() -> None:
    """With the collector off nothing is left of an error that a stream was told of, at once or in a later turn."""
    worker = Worker()
    left: list[weakref.ref[Counter[str]]] = []

    def fail(steps: int) -> Generator[int, None, None]:
        local: Counter[str] = Counter()
        left.append(weakref.ref(local))
        for _ in range(steps):
            yield COST
        raise ValueError(len(local))

    gc.disable()
    try:
        for steps in (1, 100):
            with contextlib.suppress(ValueError):
                await worker.slices.finish("a", fail(steps))
        await asyncio.sleep(0)
        assert [reference() for reference in left] == [None, None]
    finally:
        gc.enable()


async def test_a_stream_that_leaves() -> None:
    """Nothing more is done for a stream that does not wait any more."""
    worker = Worker()
    steps = worker.work("gone", 100)
    joining = asyncio.ensure_future(worker.slices.finish("a", steps))
    await asyncio.sleep(0)
    joining.cancel()
    await worker.slices.finish("a", worker.work("next", 30))
    assert worker.done == ["next"]
    assert list(steps) == []
