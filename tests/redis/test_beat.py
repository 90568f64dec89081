"""The beat of a node: its times, its answers, and the burials of dead nodes beside it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import pytest
from structlog.testing import capture_logs

from app.errors import StoreError, StoreUnavailable
from app.redis.beat import Beat
from app.redis.client import Redis
from tests.support.valkey import Valkey
from tests.support.waiting import until

NODES = "nodes"


class Owner:
    """Notes what the beat asks of it. Lives for one test."""

    def __init__(self, redis: Redis) -> None:
        """Not beating yet."""
        self.beats = 0
        self.deaths = 0
        self.buried: list[str] = []
        #: Raised by the next beat, and by each burial of the node of this name.
        self.beat_error: StoreError | None = None
        self.burial_errors: dict[str, StoreError] = {}
        #: Burials wait for it.
        self.may_bury = asyncio.Event()
        self.may_bury.set()
        self.under_way: set[str] = set()
        self.beat_ = Beat(redis, "me", NODES, self, site="shop")

    async def beat(self) -> None:
        """Note it, or fail."""
        self.beats += 1
        if self.beat_error is not None:
            error, self.beat_error = self.beat_error, None
            raise error

    def taken_for_dead(self) -> None:
        """Note it."""
        self.deaths += 1

    async def bury(self, node: str, last_beat_ms: int) -> None:
        """Note it, or fail."""
        self.under_way.add(node)
        try:
            await self.may_bury.wait()
            if node in self.burial_errors:
                raise self.burial_errors[node]
            self.buried.append(f"{node} {last_beat_ms}")
        finally:
            self.under_way.discard(node)


@pytest.fixture
async def owner(redis: Redis, valkey: Valkey) -> AsyncIterator[Owner]:
    """A node; Redis knows the last beats of three others."""
    valkey.client.zadd(NODES, {"a": 1, "b": 2, "c": 3})
    owner = Owner(redis)
    yield owner
    await owner.beat_.close()


def words(**nodes: int) -> list[bytes]:
    """Dead nodes with their last beats, as a script answers them."""
    return [word for name, beat in nodes.items() for word in (name.encode(), str(beat).encode())]


async def test_beats_in_time_and_at_once(owner: Owner) -> None:
    """It beats again and again, and without waiting when it is woken."""
    owner.beat_.start(0.01)
    await until(lambda: owner.beats > 3, "some beats")
    await owner.beat_.close()
    wake = asyncio.Event()
    owner.beats = 0
    owner.beat_.start(60.0, wake)
    for count in (1, 2):
        wake.set()
        await until(lambda: owner.beats == count, "a beat at once")  # noqa: B023  # awaited in the loop
    assert not wake.is_set()


async def test_errors_do_not_end_it(owner: Owner) -> None:
    """A Redis that is away is passed over, another error is logged with the labels; both are followed by beats."""
    with capture_logs() as logs:
        owner.beat_.start(0.01)
        for error in (StoreUnavailable(), StoreError("WRONG")):
            owner.beat_error = error
            beats = owner.beats
            await until(lambda: owner.beats > beats + 2, "beats after it")  # noqa: B023  # awaited in the loop
    assert [(line["event"], line["site"], line["reason"]) for line in logs] == [("beat failed", "shop", "WRONG")]


async def test_taken_for_dead(owner: Owner, redis: Redis) -> None:
    """A node that Redis does not know the first time is new; each time later it was taken for dead."""
    for is_new, deaths in ((True, 0), (False, 0), (True, 1), (False, 1), (True, 2)):
        owner.beat_.answered(is_new)
        assert owner.deaths == deaths
    other = Owner(redis)
    # The first answer was lost: Redis knew the node from then on.
    other.beat_.answered(False)
    other.beat_.answered(True)
    assert other.deaths == 1


async def test_burials_are_one_after_the_other(owner: Owner) -> None:
    """Dead nodes are buried in turn; while that lasts nothing else begins, so no node is buried twice at once."""
    owner.may_bury.clear()
    owner.beat_.bury(words(a=1, b=2))
    await until(lambda: owner.under_way, "the first burial")
    owner.beat_.bury(words(a=1, b=2, c=3))
    assert owner.under_way == {"a"}
    owner.may_bury.set()
    await until(lambda: len(owner.buried) == 2, "both")
    await until(lambda: owner.beat_._burial is None or owner.beat_._burial.done(), "the end")
    assert owner.buried == ["a 1", "b 2"]
    owner.beat_.bury(words(c=3))
    await until(lambda: owner.buried[2:] == ["c 3"], "the third")


async def test_node_that_woke_up_is_not_buried(owner: Owner, valkey: Valkey) -> None:
    """A node that has beaten since, or that another node has buried, is left alone."""
    valkey.client.zadd(NODES, {"a": 5})
    valkey.client.zrem(NODES, "b")
    owner.beat_.bury(words(a=1, b=2, c=3))
    await until(lambda: owner.buried, "the burial")
    assert owner.buried == ["c 3"]


async def test_burial_that_fails(owner: Owner) -> None:
    """A node that cannot be buried is logged, and the next one follows; while Redis is away all wait for a beat."""
    owner.burial_errors = {"a": StoreError("WRONG"), "b": StoreUnavailable()}
    with capture_logs() as logs:
        owner.beat_.bury(words(a=1, c=3))
        await until(lambda: owner.buried == ["c 3"], "the next one")
    assert [(line["event"], line["site"], line["node"]) for line in logs] == [("burial failed", "shop", "a")]
    owner.beat_.bury(words(b=2, c=3))
    burial = owner.beat_._burial
    assert burial is not None
    await burial
    assert owner.buried == ["c 3"]
    owner.burial_errors.clear()
    owner.beat_.bury(words(b=2, c=3))
    await until(lambda: owner.buried == ["c 3", "b 2", "c 3"], "both")


async def test_end(owner: Owner) -> None:
    """After its end there are no beats, and a burial that was under way is another node's."""
    owner.may_bury.clear()
    owner.beat_.start(0.01)
    owner.beat_.bury(words(a=1))
    await until(lambda: owner.under_way and owner.beats, "the burial")
    await owner.beat_.close()
    assert owner.under_way == set()
    beats = owner.beats
    owner.may_bury.set()
    loop = asyncio.get_running_loop()
    ended_at = loop.time()
    await until(lambda: loop.time() - ended_at > 0.05, "time for several beats")
    assert (owner.beats, owner.buried) == (beats, [])
