"""Who waits where a limit is reached: for a moment always, for longer while a node that holds places seems dead."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator

import pytest

from app.config.settings import SiteLimits
from app.core import seat_row
from app.core.limits import Seat
from app.core.seat_row import MOST_ASKS_PER_SECOND, PATIENCE_SECONDS, SeatRow, pause_seconds
from app.errors import LimitReached, StoreUnavailable
from tests.core.conftest import NodeStarter
from tests.support.store import make_site, until

SILENT = 5.0


@pytest.fixture(autouse=True)
def short(monkeypatch: pytest.MonkeyPatch) -> None:
    """Waits of milliseconds."""
    monkeypatch.setattr(seat_row, "PATIENCE_SECONDS", 0.03)
    monkeypatch.setattr(seat_row, "ASK_SECONDS", 0.01)
    monkeypatch.setattr(seat_row, "MOST_SECONDS", 30.0)


class Place:
    """A place that somebody has, and the nodes' silence. Lives for one test."""

    def __init__(self) -> None:
        self.reached = 1
        self.asked = 0
        self.looked = 0
        self.silence: float | StoreUnavailable = 0.0
        self.row = SeatRow(self._silence)

    async def ask(self) -> int:
        """Whether it is still taken."""
        self.asked += 1
        return self.reached

    def wait(self) -> asyncio.Task[int]:
        """One more who waits for it."""
        return asyncio.create_task(self.row.wait(self.ask, self.reached))

    async def _silence(self) -> float:
        self.looked += 1
        if isinstance(self.silence, StoreUnavailable):
            raise self.silence
        return self.silence


@pytest.fixture
def place() -> Iterator[Place]:
    """A place; nobody may be left in its row."""
    made = Place()
    yield made
    assert made.row._waiting == 0


def test_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    """A quarter of a second, longer the more there are, never beyond the end of the patience, where all ask."""
    monkeypatch.setattr(seat_row, "PATIENCE_SECONDS", PATIENCE_SECONDS)
    monkeypatch.setattr(seat_row, "ASK_SECONDS", 0.25)
    assert [pause_seconds(waited, 1) for waited in (0, 2, 2.4, 2.5, 9)] == [0.25, 0.25, pytest.approx(0.1), 0, 0]
    assert pause_seconds(0, 2 * MOST_ASKS_PER_SECOND) == 2
    assert pause_seconds(2, 2 * MOST_ASKS_PER_SECOND) == 0.5


async def test_who_is_over_the_limit_hears_it_after_a_moment(place: Place) -> None:
    """It has asked again meanwhile, the nodes were looked at once, and not asked once more behind that."""
    began = asyncio.get_running_loop().time()
    assert await place.wait() == 1
    assert asyncio.get_running_loop().time() - began >= 0.03
    assert (place.asked >= 1, place.looked) == (True, 1)


async def test_a_place_that_becomes_free_is_taken(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    """In the moment that everybody waits, without a look at the nodes."""
    monkeypatch.setattr(seat_row, "PATIENCE_SECONDS", 30.0)
    waiting = place.wait()
    await until(lambda: place.asked > 0, "it to ask again")
    place.reached = 0
    assert await waiting == 0
    assert place.looked == 0


@pytest.mark.parametrize("reached", [0, 1])
async def test_a_silent_node_is_waited_for(place: Place, reached: int) -> None:
    """Until it is buried, which makes room, or beats again, which makes none; one look serves all who wait."""
    place.silence = SILENT
    waiting = [place.wait() for _ in range(100)]
    await until(lambda: place.looked > 3, "the nodes to be looked at")
    assert not any(one.done() for one in waiting)
    asked, place.reached, place.silence = place.asked, reached, 0.0
    assert await asyncio.gather(*waiting) == [reached] * 100
    assert place.asked == asked + 100
    assert place.looked < 100


async def test_nobody_waits_for_ever(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    """A node that stays silent is not waited for beyond the bound, and not looked at behind it."""
    monkeypatch.setattr(seat_row, "MOST_SECONDS", 0.06)
    place.silence = SILENT
    assert await place.wait() == 1
    watching = place.row._watching
    assert watching is not None
    await asyncio.wait([watching])


async def test_who_leaves_leaves_the_row(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    """There is room for the next at once: the row is bounded, and whoever finds it full is refused at once."""
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
    """When nobody can say how the nodes are, one more ask says what the matter is."""
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
    """Whoever still waits for a silent node then is refused."""
    place.silence = SILENT
    waiting = place.wait()
    await until(lambda: place.looked > 0, "the nodes to be looked at")
    await place.row.close()
    assert await waiting == 1


async def test_the_seats_of_a_dead_node(start_node: NodeStarter, monkeypatch: pytest.MonkeyPatch) -> None:
    """On a real Valkey: who was connected to it waits until another has buried it; who is over the limit is refused."""
    site = make_site(limits=SiteLimits(connections_per_user=1))
    dying, living = await start_node(site), await start_node(site)
    monkeypatch.setattr(seat_row, "SILENT_SECONDS", 0.02)
    await dying.node.start()
    await dying.limits.connect(site, "", ["user_1"])
    # It ends without a word, as SIGKILL ends it.
    await dying.node._beat.close()
    assert dying.node._expiry
    dying.node._expiry.cancel()
    back = asyncio.create_task(living.limits.connect(site, "", ["user_1"]))
    done, _ = await asyncio.wait([back], timeout=0.3)
    assert not done
    await living.queues.bury(site, dying.name, "")
    assert isinstance(await back, Seat)
    with pytest.raises(LimitReached):
        await living.limits.connect(site, "", ["user_1"])
