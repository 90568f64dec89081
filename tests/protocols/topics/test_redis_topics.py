"""The keys of topics in Redis: stream numbers, counts over nodes, a dead node's
clients, secrets, registrations, notes."""

from __future__ import annotations

import asyncio

import pytest

from app.errors import StoreError
from app.protocols.topics import redis_topics as module
from app.protocols.topics.redis_topics import RedisTopics
from app.protocols.topics.settings import Topics
from app.protocols.topics.topic_store import Departure, Extension
from app.redis.client import Redis
from app.store.keys import prefix
from tests.support.store import make_site
from tests.support.valkey import Valkey
from tests.support.waiting import until, until_answer

SITE = make_site(topics=Topics())
OTHER = make_site("other", topics=Topics())


@pytest.fixture
def one(redis: Redis) -> RedisTopics:
    """A node."""
    return RedisTopics(redis, "aa")


@pytest.fixture
def two(redis: Redis) -> RedisTopics:
    """Another node."""
    return RedisTopics(redis, "bb")


async def test_numbers(one: RedisTopics, two: RedisTopics, valkey: Valkey) -> None:
    """Numbers are unique over nodes, below 2^53, and keep growing after Redis has lost its data."""
    numbers = [(await store.open(SITE, "me", 1, b"s", 1000)).number for store in (one, two, one)]
    assert numbers == sorted(set(numbers))
    assert numbers[-1] < 2**53
    valkey.client.flushall()
    # Numbers are reckoned in sixteenths of a millisecond.
    given_ms = valkey.clock_ms()
    await until(lambda: valkey.clock_ms() > given_ms, "the next millisecond")
    assert (await one.open(SITE, "me", 1, b"s", 1000)).number > numbers[-1]


async def test_counts(one: RedisTopics, two: RedisTopics) -> None:
    """A client's streams are counted over all nodes, from the last number that each node sent; sites are separate."""
    assert (await one.open(SITE, "me", 1, b"s", 1000)).instances == 1
    assert (await two.open(SITE, "me", 1, b"s", 1000)).instances == 2
    assert (await two.open(SITE, "me", 2, b"s", 1000)).instances == 3
    assert (await two.open(SITE, "\ud800 half", 1, b"s", 1000)).instances == 1
    assert await one.clients(SITE) == {"me": 3, "\ud800 half": 1}
    assert await one.clients(OTHER) == {}
    assert await one.instances(SITE, "me") == 3
    assert await one.instances(SITE, "nobody") == 0
    closed = await two.close(SITE, "me", 1, None)
    assert closed.instances == 2
    # A repeated command does not count twice.
    assert (await two.close(SITE, "me", 1, None)).instances == 2
    assert (await two.close(SITE, "me", 0, None)).instances == 1
    assert (await one.close(SITE, "me", 0, None)).instances == 0
    assert await one.clients(SITE) == {"\ud800 half": 1}


async def test_many_clients(one: RedisTopics, monkeypatch: pytest.MonkeyPatch) -> None:
    """A large number of clients is restored and read in parts, each client once."""
    monkeypatch.setattr(module, "_CLIENTS_PER_RUN", 10)
    streams = {f"client {number}": number for number in range(1, 1000)}
    await one.open(SITE, "gone", 1, b"s", 1000)
    await one.restore(SITE, streams)
    assert await one.clients(SITE) == streams
    await one.restore(SITE, {})
    assert await one.clients(SITE) == {}


async def test_is_watched(one: RedisTopics, redis: Redis) -> None:
    """`open` and `close` answer whether a node listens to the client's topic, or to patterns."""
    assert (await one.open(SITE, "me", 1, b"s", 1000)).is_watched is False
    for name in ("t:@CONNECTION@/me", "wc"):
        key = f"{prefix(SITE.name)}audience:topics:{name}"
        await redis.command("SADD", key, "bb")
        assert (await one.open(SITE, "me", 1, b"s", 1000)).is_watched is True
        assert (await one.close(SITE, "me", 0, None)).is_watched is True
        await redis.command("DEL", key)


async def is_over(store: RedisTopics, number: int) -> None:
    """Wait until a stream's time is over."""

    async def has_ended() -> bool:
        return await store.remaining_ms(SITE, number) < 0

    assert await store.remaining_ms(SITE, number) <= 100
    await until_answer(has_ended, "the end of the stream's time")


async def test_extend(one: RedisTopics, two: RedisTopics) -> None:
    """The right secret extends the stream and is replaced, up to the limit; the time ends by itself or by `close`."""
    number = (await one.open(SITE, "me", 1, b"first", 5_000)).number
    assert 4_000 < await two.remaining_ms(SITE, number) <= 5_000
    assert await two.extend(SITE, number, b"wrong", b"x", 60_000, 2) is Extension.WRONG
    assert await two.extend(SITE, number, b"first", b"second", 60_000, 2) is Extension.EXTENDED
    assert await one.remaining_ms(SITE, number) > 50_000
    assert await two.extend(SITE, number, b"first", b"x", 60_000, 2) is Extension.WRONG
    assert await two.extend(SITE, number, b"second", b"third", 50, 2) is Extension.EXTENDED
    assert await two.extend(SITE, number, b"third", b"x", 60_000, 2) is Extension.EXHAUSTED
    assert await two.extend(OTHER, number, b"third", b"x", 60_000, 9) is Extension.UNKNOWN
    await is_over(one, number)
    assert await two.extend(SITE, number, b"third", b"x", 60_000, 9) is Extension.UNKNOWN
    other = (await one.open(SITE, "me", 1, b"s", 60_000)).number
    await one.close(SITE, "me", 0, other)
    assert await two.extend(SITE, other, b"s", b"x", 60_000, 9) is Extension.UNKNOWN


async def test_dead_node(redis: Redis, valkey: Valkey, monkeypatch: pytest.MonkeyPatch) -> None:
    """A dead node's streams are taken out in parts, each returned to one burying node; then the node is forgotten."""
    one, two, three = (RedisTopics(redis, name) for name in ("aa", "bb", "cc"))
    monkeypatch.setattr(module, "_CLIENTS_PER_RUN", 2)
    for client in ("x", "y", "z"):
        await two.open(SITE, client, 1, b"s", 60_000)
    await one.open(SITE, "x", 1, b"s", 60_000)
    # Two nodes bury it at the same time.
    burials = await asyncio.gather(*(store.bury(SITE, "bb") for store in (one, three, one, three)))
    assert [has_more for has_more, _ in burials] == [True, False, False, False]
    departures = [departure for _, part in burials for departure in part]
    assert sorted(departures, key=lambda departure: departure.client) == [
        Departure("x", 1),
        Departure("y", 0),
        Departure("z", 0),
    ]
    assert await one.clients(SITE) == {"x": 1}
    assert valkey.client.smembers(prefix(SITE.name) + "topics:clients") == {b"aa"}
    # The node lives after all, and writes its counts again.
    await two.restore(SITE, {"y": 2})
    assert await one.clients(SITE) == {"x": 1, "y": 2}


async def test_registry(one: RedisTopics, monkeypatch: pytest.MonkeyPatch) -> None:
    """Registrations are kept by topic and site, up to the limit."""
    monkeypatch.setattr(module, "MAX_REGISTRATIONS", 2)
    assert await one.register(SITE, "a/b", b"1") is True
    assert await one.register(SITE, "a/b", b"2") is False
    assert await one.register(SITE, "ü", b"3") is True
    assert await one.registrations(SITE, ["ü", "a/b", "c"]) == [b"3", b"2", None]
    assert await one.registrations(OTHER, ["a/b"]) == [None]
    with pytest.raises(StoreError, match="as many topics as it may"):
        await one.register(SITE, "c", b"4")
    assert await one.register(SITE, "a/b", b"5") is False
    assert await one.unregister(SITE, "a/b") is True
    assert await one.unregister(SITE, "a/b") is False
    assert await one.register(SITE, "c", b"4") is True


async def test_notes(one: RedisTopics, two: RedisTopics, monkeypatch: pytest.MonkeyPatch) -> None:
    """A mark is new once, on any node; answers are kept for a while, up to the limit."""
    assert [await store.see(SITE, b"\xff\n", 60_000) for store in (one, two, one)] == [True, False, False]
    assert await one.see(OTHER, b"\xff\n", 60_000)
    monkeypatch.setattr(module, "_MAX_ANSWERS", 2)
    for answer in (b"1", b"2", b"3"):
        await two.answer(SITE, "q", answer)
    assert await one.answers(SITE, "q") == [b"1", b"2"]
    assert await one.answers(SITE, "other") == []


async def test_nothing_is_left(one: RedisTopics, valkey: Valkey) -> None:
    """When streams have ended Redis keeps nothing of them, and every note has an expiry."""
    for _ in range(3):
        opened = await one.open(SITE, "me", 1, b"s", 60_000)
        await one.close(SITE, "me", 0, opened.number)
    await one.see(SITE, b"mark", 60_000)
    await one.answer(SITE, "q", b"a")
    base = prefix(SITE.name)
    keys = {
        key.decode().removeprefix(base): valkey.client.pttl(key) for key in valkey.client.scan_iter(f"{base}topics:*")
    }
    assert keys.pop("topics:number") == -1
    assert set(keys) == {"topics:seen:mark", "topics:answers:q"}
    assert all(ttl > 0 for ttl in keys.values())
