"""Connections are registered some at a time, and no site's crowd keeps another site from its turn."""

from __future__ import annotations

import asyncio

import pytest

from app.core.connection import ConnectionPhase
from app.core.openings import OpeningTurns
from app.errors import StoreUnavailable
from tests.core.conftest import NodeStarter
from tests.support.store import device_of, make_site
from tests.support.valkey import Valkey
from tests.support.waiting import until

SITE, OTHER = make_site("shop"), make_site("other")


async def take(turns: OpeningTurns, site: str, taken: list[str]) -> None:
    """Take a turn and note it."""
    await turns.take(site)
    taken.append(site)


async def begin(turns: OpeningTurns, site: str, count: int, taken: list[str]) -> list[asyncio.Task[None]]:
    """Have many ask for a turn, and wait until all who get one at once have it."""
    tasks = [asyncio.create_task(take(turns, site, taken)) for _ in range(count)]
    for _ in range(3):
        turn = asyncio.Event()
        asyncio.get_running_loop().call_soon(turn.set)
        await turn.wait()
    return tasks


async def test_so_many_have_a_turn_at_a_time() -> None:
    """Of five connections of a site two have a turn; each end of one gives a turn to the next."""
    turns, taken = OpeningTurns(of_site=2, of_node=8), list[str]()
    tasks = await begin(turns, "shop", 5, taken)
    assert len(taken) == 2
    for count in (3, 4, 5):
        turns.release("shop")
        await until(lambda count=count: len(taken) == count, "the next turn")  # type: ignore[misc]
    await asyncio.gather(*tasks)


async def test_a_crowd_leaves_another_site_its_turn() -> None:
    """A site with a hundred waiting connections has its own share of turns: another site's connection is next."""
    turns, taken = OpeningTurns(of_site=2, of_node=3), list[str]()
    crowd = await begin(turns, "shop", 100, taken)
    other = await begin(turns, "other", 2, taken)
    assert sorted(taken) == ["other", "shop", "shop"]
    # The node's next turn is that of the other site: the crowd's next one has waited for its site's turn.
    turns.release("other")
    await until(lambda: taken.count("other") == 2, "the turn of the other site")
    assert taken.count("shop") == 2
    for task in [*crowd, *other]:
        task.cancel()
    await asyncio.gather(*crowd, *other, return_exceptions=True)


async def test_a_turn_that_does_not_come_is_refused() -> None:
    """After its time a connection is told that it may try again, and the turns are as before."""
    turns = OpeningTurns(of_site=1, of_node=1, wait_seconds=0.01)
    await turns.take("shop")
    with pytest.raises(StoreUnavailable):
        await turns.take("shop")
    with pytest.raises(StoreUnavailable):
        await turns.take("other")
    turns.release("shop")
    await turns.take("other")
    turns.release("other")
    await turns.take("shop")


async def test_too_many_are_refused_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """Past the bound of waiting connections none waits."""
    monkeypatch.setattr("app.core.openings.MOST_WAITING", 3)
    turns, taken = OpeningTurns(of_site=1), list[str]()
    tasks = await begin(turns, "shop", 4, taken)
    with pytest.raises(StoreUnavailable):
        await turns.take("shop")
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)


async def test_a_cancelled_wait_takes_no_turn() -> None:
    """Connections that give up while they wait for the site's or the node's turn leave both to others."""
    turns, taken = OpeningTurns(of_site=2, of_node=1), list[str]()
    tasks = await begin(turns, "shop", 3, taken)
    assert len(taken) == 1
    for task in tasks[1:]:
        task.cancel()
    await asyncio.gather(*tasks[1:], return_exceptions=True)
    turns.release("shop")
    for _ in range(3):
        await turns.take("shop")
        turns.release("shop")


async def test_a_crowd_is_registered_some_at_a_time(start_node: NodeStarter) -> None:
    """All of a crowd's connections are registered, and never more of them at a time than have turns."""
    node = await start_node(SITE)
    node.delivery._turns = OpeningTurns(of_site=3)
    under_way = most = 0
    connect = node.queues.connect

    async def counted(*words: object) -> object:
        nonlocal under_way, most
        under_way += 1
        most = max(most, under_way)
        try:
            return await connect(*words)  # type: ignore[arg-type]
        finally:
            under_way -= 1

    node.queues.connect = counted  # type: ignore[method-assign,assignment]
    receivers = await asyncio.gather(*(node.open(SITE, f"user_{number}") for number in range(20)))
    assert most == 3
    assert all(receiver.kinds == ["greet"] for receiver in receivers)


async def test_a_connection_without_a_turn_is_ended(start_node: NodeStarter, valkey: Valkey) -> None:
    """A connect whose turn does not come fails like one without Redis, and leaves nothing behind."""
    node = await start_node(SITE)
    turns = node.delivery._turns = OpeningTurns(of_site=1, wait_seconds=0.01)
    await turns.take(SITE.name)
    receiver = node.receiver(SITE)
    assert receiver.connection
    with pytest.raises(StoreUnavailable):
        await node.delivery.open(receiver.connection, "d", ["user_1"], receiver.greet)
    assert receiver.connection.phase is ConnectionPhase.CLOSED
    assert node.counts.of(SITE.name).connections == 0
    assert not [key for key in valkey.dump() if ":device:" in key]
    turns.release(SITE.name)
    await node.open(SITE, "user_1")
    assert device_of(valkey, SITE)["user"] == "user_1"
