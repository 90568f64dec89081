"""Errands: they wait in one queue a site while Redis is away, follow in batches when it is back, and are awaited at the
end."""

import asyncio
import itertools
from collections.abc import Awaitable, Callable, Sequence
from functools import partial

import pytest

from app.core import errands
from app.core.errands import BATCH, PER_TURN, Errands
from app.core.leavings import Leavings
from app.errors import StoreAway, StoreError, StoreUnavailable
from tests.support.waiting import until


class Store:
    """Fails as often as the test says, then answers. Lives for one test."""

    def __init__(self, *failures: Exception) -> None:
        self.failures = list(failures)
        self.asked = 0
        self.under_way = self.most_under_way = 0
        self.is_away = False

    async def ask(self) -> str:
        """Once more."""
        self.asked += 1
        if self.is_away:
            raise StoreAway
        if self.failures:
            raise self.failures.pop(0)
        self.under_way += 1
        self.most_under_way = max(self.most_under_way, self.under_way)
        await asyncio.sleep(0)
        self.under_way -= 1
        return "done"


@pytest.fixture(autouse=True)
def _hurried(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(errands, "_RETRY_SECONDS", (0.0, 0.001))


async def test_repeats_while_the_store_is_away() -> None:
    """A command is retried until Redis has taken it; its answer is handed on."""
    store = Store(*[StoreUnavailable() for _ in range(4)])
    assert (await Errands().until_stored(store.ask), store.asked) == ("done", 5)


async def test_what_the_store_refuses_is_not_repeated() -> None:
    """A refusal ends the errand, because a retry would not help; others go on, and `drain` waits for all."""
    work = Errands()
    refused, slow = Store(StoreError("no")), Store(*[StoreUnavailable() for _ in range(3)])
    for store in (refused, slow):
        work.start(work.until_stored(store.ask))
    await work.drain()
    assert (refused.asked, slow.asked) == (1, 4)


async def test_nothing_is_tried_without_a_link() -> None:
    """While there is no link, 1,000 errands of a site are one attempt each; afterwards they follow in batches."""
    store = Store()
    work = Errands(lambda site: store.is_away)
    store.is_away = True
    for _ in range(1_000):
        work.start(work.until_stored(store.ask, "s"))
    await until(lambda: work.waiting == 1_000, "all errands to wait")
    asked = store.asked
    for _ in range(50):
        work.wake()
        await asyncio.sleep(0)
    assert store.asked == asked
    store.is_away = False
    await work.drain()
    assert (store.asked - asked, work.waiting) == (1_000, 0)
    assert store.most_under_way <= BATCH


async def test_only_the_first_of_a_queue_tries(monkeypatch: pytest.MonkeyPatch) -> None:
    """While a site's Redis refuses, one errand of its queue tries; the queues of other sites go on."""
    ill, well = Store(), Store()
    work = Errands()
    ill.is_away = True
    for _ in range(100):
        work.start(work.until_stored(ill.ask, "ill"))
    await until(lambda: work.waiting >= 99, "the queue")
    asked = ill.asked
    assert await work.until_stored(well.ask, "well") == "done"
    await until(lambda: ill.asked >= asked + 5, "some attempts")
    assert ill.asked < asked + 50
    ill.is_away = False
    await work.drain()


async def test_the_queue_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    """Past the bound an errand is refused, in the log and not by waiting."""
    monkeypatch.setattr(errands, "MOST_WAITING", 2)
    store = Store()
    store.is_away = True
    work = Errands(lambda site: store.is_away)
    for _ in range(3):
        work.start(work.until_stored(store.ask, "s"))
    await until(lambda: work.waiting == 2, "the queue to be full")
    with pytest.raises(StoreError, match="More than 2 errands"):
        await work.until_stored(store.ask, "s")
    store.is_away = False
    await work.drain()


async def test_a_cancelled_errand_keeps_nobody_waiting() -> None:
    """An errand that is cancelled while it waits, or in the turn of its release, gives its place to the next."""
    store = Store()
    store.is_away = True
    work = Errands(lambda site: store.is_away)
    first, second, third = (asyncio.create_task(work.until_stored(store.ask, "s")) for _ in range(3))
    await until(lambda: work.waiting == 3, "all to wait")
    second.cancel()
    store.is_away = False
    work.wake()
    first.cancel()
    assert await third == "done"


async def test_a_fault_of_one_errand_is_its_own() -> None:
    """An errand that fails with an error of another kind is logged, and the next one goes on."""

    async def fail() -> None:
        raise ValueError

    work, store = Errands(), Store()
    work.start(work.until_stored(fail, "s"))
    work.start(work.until_stored(store.ask, "s"))
    await work.drain()
    assert store.asked == 1


class Room:
    """The names of a site in a store that is away until the test says otherwise."""

    def __init__(self) -> None:
        self.left: list[list[str]] = []
        self.store = Store()
        self.store.is_away = True
        self.entered: set[str] = set()
        self.errands = Errands(lambda site: self.store.is_away)
        self.leavings = Leavings(self.errands, "s", self.leave, self.entered.__contains__)

    def leave(self, names: Sequence[str]) -> Awaitable[str]:
        """The command."""
        if not self.store.is_away:
            self.left.append(list(names))
        return self.store.ask()


async def test_names_are_left_by_one_errand() -> None:
    """Names that are left during an outage become one command; a name that was entered again is not in it."""
    room = Room()
    add: Callable[[list[str]], None] = room.leavings.add
    for number in range(100):
        add([str(number % 10)])
        await asyncio.sleep(0)
    room.entered.add("3")
    await until(lambda: room.errands.waiting == 1, "one errand")
    room.store.is_away = False
    await room.errands.drain()
    assert [sorted(names) for names in room.left] == [[str(n) for n in range(10) if n != 3]]


async def test_a_name_left_during_the_command_is_left_again() -> None:
    """A name that is entered and left again while its command is under way is in the next command."""
    room = Room()
    room.store.is_away = False
    room.leavings.add(["a"])
    await until(lambda: room.left == [["a"]], "the command")
    room.leavings.add(["a"])
    await room.errands.drain()
    assert room.left == [["a"], ["a"]]


async def test_very_many_begin_in_turns() -> None:
    """Of errands that begin all at once, as after a gap, a bounded number begins in a turn of the loop: others have
    theirs between. They begin in the order of the calls, and `drain` waits for those that have not begun."""
    work = Errands()
    begun: list[int] = []

    async def begin(number: int) -> None:
        begun.append(number)

    for number in range(5 * PER_TURN):
        work.start_in_turns(partial(begin, number))
    seen = [0]
    while len(begun) < 5 * PER_TURN:
        await asyncio.sleep(0)
        seen.append(len(begun))
    assert max(later - earlier for earlier, later in itertools.pairwise(seen)) == PER_TURN
    assert begun == list(range(5 * PER_TURN))
    for number in range(3 * PER_TURN):
        work.start_in_turns(partial(begin, number))
    await work.drain()
    assert len(begun) == 8 * PER_TURN
