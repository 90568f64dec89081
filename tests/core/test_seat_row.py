"""Waiting at a limit that is reached: always for a moment, and longer while a node with seats seems dead."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator

import pytest

from app.config.settings import SiteLimits
from app.core import seat_row
from app.core.seat import Seat
from app.core.seat_row import MOST_ASKS_PER_SECOND, PATIENCE_SECONDS, SeatRow, pause_seconds
from app.errors import LimitReached, StoreUnavailable
from tests.core.conftest import NodeStarter
from tests.support.store import make_site
from tests.support.waiting import until

SILENT = 5.0


@pytest.fixture(autouse=True)
def short(monkeypatch: pytest.MonkeyPatch) -> None:
    """Waits of milliseconds."""
    monkeypatch.setattr(seat_row, "PATIENCE_SECONDS", 0.03)
    monkeypatch.setattr(seat_row, "ASK_SECONDS", 0.01)
    monkeypatch.setattr(seat_row, "MOST_SECONDS", 30.0)


class Place:
    """A seat that is taken, and the silence of the nodes. Lives for one test."""

    def __init__(self) -> None:
        self.reached = 1
        self.asked = 0
        self.looked = 0
        self.silence: float | StoreUnavailable = 0.0
        self.row = SeatRow(self._silence)

    async def ask(self) -> int:
        """Whether the seat is still taken."""
        self.asked += 1
        return self.reached

    def wait(self) -> asyncio.Task[int]:
        """One more client that waits for the seat."""
        return asyncio.create_task(self.row.wait(self.ask, self.reached))

    async def _silence(self) -> float:
        self.looked += 1
        if isinstance(self.silence, StoreUnavailable):
            raise self.silence
        return self.silence


@pytest.fixture
def place() -> Iterator[Place]:
    """A seat; no client may be left in its row."""
    made = Place()
    yield made
    assert made.row._waiting == 0


def test_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    """A pause lasts a quarter of a second, longer with more clients, and never beyond the patience, when all ask."""
    monkeypatch.setattr(seat_row, "PATIENCE_SECONDS", PATIENCE_SECONDS)
    monkeypatch.setattr(seat_row, "ASK_SECONDS", 0.25)
    assert [pause_seconds(waited, 1) for waited in (0, 2, 2.4, 2.5, 9)] == [0.25, 0.25, pytest.approx(0.1), 0, 0]
    assert pause_seconds(0, 2 * MOST_ASKS_PER_SECOND) == 2
    assert pause_seconds(2, 2 * MOST_ASKS_PER_SECOND) == 0.5


async def test_who_is_over_the_limit_hears_it_after_a_moment(place: Place) -> None:
    """The client asks again meanwhile; the nodes are looked at once, and no question follows."""
    began = asyncio.get_running_loop().time()
    assert await place.wait() == 1
    assert asyncio.get_running_loop().time() - began >= 0.03
    assert (place.asked >= 1, place.looked) == (True, 1)


async def test_a_place_that_becomes_free_is_taken(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    """A seat that becomes free during the patience is taken, without a look at the nodes."""
    monkeypatch.setattr(seat_row, "PATIENCE_SECONDS", 30.0)
    waiting = place.wait()
    await until(lambda: place.asked > 0, "it to ask again")
    place.reached = 0
    assert await waiting == 0
    assert place.looked == 0


@pytest.mark.parametrize("reached", [0, 1])
async def test_a_silent_node_is_waited_for(place: Place, reached: int) -> None:
    """Clients wait until the node is buried, which frees its seats, or beats again; one watch serves all clients."""
    place.silence = SILENT
    waiting = [place.wait() for _ in range(100)]
    await until(lambda: place.looked > 3, "the nodes to be looked at")
    assert not any(one.done() for one in waiting)
    asked, place.reached, place.silence = place.asked, reached, 0.0
    assert await asyncio.gather(*waiting) == [reached] * 100
    assert place.asked == asked + 100
    assert place.looked < 100


async def test_nobody_waits_for_ever(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    """No client waits beyond the bound for a node that stays silent, and nobody looks at the node after it."""
    monkeypatch.setattr(seat_row, "MOST_SECONDS", 0.06)
    place.silence = SILENT
    assert await place.wait() == 1
    watching = place.row._watching
    assert watching is not None
    await asyncio.wait([watching])


async def test_who_leaves_leaves_the_row(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    """A client that leaves frees its place in the row at once; a client that finds the row full is refused."""
    monkeypatch.setattr(seat_row, "MOST_WAITING", 1)
    place.silence = SILENT
    first = place.wait()
    await until(lambda: place.looked > 0, "the nodes to be looked at")
    asked = place.asked
    assert await place.wait() == 1
    assert place.asked == asked
    first.cancel()
    await asyncio.wait([first])
    second = place.wait()
    await until(lambda: place.asked > asked, "the next to ask")
    second.cancel()
    await asyncio.wait([second])
    await place.row.close()


async def test_redis_is_away(place: Place) -> None:
    """When the silence of the nodes is unknown, the next question raises the error."""
    place.silence = StoreUnavailable()
    asked_before_the_end = []

    async def ask() -> int:
        if place.looked:
            raise StoreUnavailable
        asked_before_the_end.append(1)
        return 1

    with pytest.raises(StoreUnavailable):
        await place.row.wait(ask, 1)
    assert asked_before_the_end


async def test_the_end_of_the_node(place: Place) -> None:
    """A client that still waits for a silent node is refused."""
    place.silence = SILENT
    waiting = place.wait()
    await until(lambda: place.looked > 0, "the nodes to be looked at")
    await place.row.close()
    assert await waiting == 1


async def test_the_seats_of_a_dead_node(start_node: NodeStarter, monkeypatch: pytest.MonkeyPatch) -> None:
    """On a real Valkey: a client of the dead node waits until it is buried; a client over the limit is refused."""
    site = make_site(limits=SiteLimits(connections_per_user=1))
    dying, living = await start_node(site), await start_node(site)
    monkeypatch.setattr(seat_row, "SILENT_SECONDS", 0.02)
    await dying.node.start()
    await dying.limits.connect(site, "", ["user_1"])
    await dying.node._beat.close()
    back = asyncio.create_task(living.limits.connect(site, "", ["user_1"]))
    done, _ = await asyncio.wait([back], timeout=0.3)
    assert not done
    await living.queues.bury(site, dying.name, "")
    assert isinstance(await back, Seat)
    with pytest.raises(LimitReached):
        await living.limits.connect(site, "", ["user_1"])
