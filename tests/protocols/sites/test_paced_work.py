"""Work of which a turn of the event loop has few."""

from __future__ import annotations

import asyncio

from app.protocols.sites.paced_work import PacedWork


async def test_a_turn_has_few() -> None:
    """So many pieces are done in a turn, the others in the next ones, in their order; a cancelled one takes no turn."""
    pace, done, turns = PacedWork(3), list[tuple[int, int]](), 0

    async def work(number: int) -> None:
        await pace.turn()
        done.append((turns, number))

    tasks = [asyncio.create_task(work(number)) for number in range(11)]
    await asyncio.sleep(0)
    tasks[5].cancel()
    while not all(task.done() for task in tasks):
        turns += 1
        await asyncio.sleep(0)
    assert [number for _, number in done] == [0, 1, 2, 3, 4, 6, 7, 8, 9, 10]
    assert max(sum(turn == one for turn, _ in done) for one, _ in done) == 3
    assert len({turn for turn, _ in done}) >= 4


async def test_an_idle_loop_has_no_timer() -> None:
    """Behind the last piece nothing runs, and the next one is done at once."""
    pace = PacedWork(1)
    await pace.turn()
    for _ in range(3):
        await asyncio.sleep(0)
    assert not pace._is_turning
    await pace.turn()
