"""The scripts behind the limits of connections: all or nothing, by node, and in time."""

import pytest

from app.errors import StoreError
from app.redis.client import Redis
from app.store.keys import NODES, prefix
from app.store.seats import RedisSeats
from tests.support.store import make_site
from tests.support.valkey import Valkey

SITE = make_site()


@pytest.fixture
def seats(redis: Redis) -> RedisSeats:
    """The seats of one node."""
    return RedisSeats(redis, "aa")


async def test_the_first_bound_that_is_reached_is_named(seats: RedisSeats, redis: Redis, valkey: Valkey) -> None:
    """A connection is counted under every name or under none; the counts of all nodes are added."""
    other = RedisSeats(redis, "bb")
    bounds = [("user:1", 2), ("all", 3)]
    assert [await seats.take_seat(SITE, bounds), await other.take_seat(SITE, bounds)] == [0, 0]
    assert await seats.take_seat(SITE, bounds) == 1
    assert await seats.take_seat(SITE, [("user:2", 2), ("all", 2)]) == 2
    dump = valkey.dump()
    assert set(dump.pop(f"{prefix(SITE.name)}seats")) == {"aa", "bb"}
    assert dump == {
        f"{prefix(SITE.name)}seats:aa": {"user:1": "1", "all": "1"},
        f"{prefix(SITE.name)}seats:bb": {"user:1": "1", "all": "1"},
    }


async def test_nothing_is_left(seats: RedisSeats, valkey: Valkey) -> None:
    """When all are given back no key remains; to give back an unknown seat changes nothing."""
    await seats.take_seat(SITE, [("user:1", 2), ("all", 3)])
    await seats.give_seat(SITE, ["user:1", "all"])
    await seats.give_seat(SITE, ["user:1", "all"])
    assert valkey.dump() == {}


async def test_a_node_says_what_it_holds(seats: RedisSeats, valkey: Valkey) -> None:
    """The first part replaces the earlier counts, the others add to it; without counts no key remains."""
    await seats.take_seat(SITE, [("user:1", 2), ("all", 3)])
    await seats.set_seats(SITE, {"user:2": 1}, is_first=True)
    await seats.set_seats(SITE, {"all": 1}, is_first=False)
    assert valkey.dump()[f"{prefix(SITE.name)}seats:aa"] == {"user:2": "1", "all": "1"}
    await seats.set_seats(SITE, {}, is_first=True)
    assert valkey.dump() == {}


async def test_the_silence_of_those_with_seats(seats: RedisSeats, redis: Redis, valkey: Valkey) -> None:
    """The quietest node with seats in the site counts; a node that is not known has been buried."""
    for node in ("bb", "cc"):
        await RedisSeats(redis, node).take_seat(SITE, [("all", 9)])
    assert await seats.silence_seconds(SITE) == 0
    now_ms = int(valkey.client.time()[0] * 1000)
    valkey.client.zadd(NODES, {"bb": now_ms - 3_000, "aa": now_ms - 60_000, "~cc": now_ms - 60_000})
    assert 3 <= await seats.silence_seconds(SITE) < 30
    await RedisSeats(redis, "bb").give_seat(SITE, ["all"])
    assert await seats.silence_seconds(SITE) == 0


async def test_a_connect_that_comes_too_late_is_not_counted(
    seats: RedisSeats, redis: Redis, valkey: Valkey, monkeypatch: pytest.MonkeyPatch
) -> None:
    """After its deadline a request is refused: its caller was told that Redis is away, and has corrected the counts."""
    monkeypatch.setattr(redis, "deadline_ms", lambda key: 1)
    with pytest.raises(StoreError):
        await seats.take_seat(SITE, [("all", 3)])
    assert valkey.dump() == {}
