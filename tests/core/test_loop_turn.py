"""`LoopTurn`: what comes first in a turn of the loop."""

import asyncio

from app.core.loop_turn import LoopTurn


async def test_first_of_each_turn() -> None:
    """The first call of a turn is told so, later ones of the turn are not; the next turn has a first call again."""
    turn = LoopTurn()
    calls = []
    for _ in range(3):
        calls += [turn.take_first(), turn.take_first(), turn.take_first()]
        await asyncio.sleep(0)
    assert calls == [True, False, False] * 3
