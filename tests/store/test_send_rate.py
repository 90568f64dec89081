"""The rate of sends of a site: an even rate with a burst, counted in Redis for all nodes."""

from __future__ import annotations

from typing import Any

import pytest

from app.config.settings import Site, SiteLimits
from app.errors import LimitReached
from app.redis.client import Redis
from app.store.keys import prefix
from app.store.queues import RedisQueues
from tests.support.store import make_message, make_site
from tests.support.valkey import Valkey

START_MS = 1_800_000_000_000


@pytest.fixture
def queues(redis: Redis) -> RedisQueues:
    """The store of one node, with a clock that the test sets."""
    store = RedisQueues(redis, "aa", 1_000_000)
    store.now_ms = START_MS
    return store


def site_with(rate: float, burst: int = 0, **settings: Any) -> Site:
    """A site with this rate and burst."""
    return make_site(limits=SiteLimits(sends_per_second=rate, sends_burst=burst), **settings)


async def sent(queues: RedisQueues, site: Site, tries: int) -> int:
    """How many of these attempts at one moment are accepted; all of them precede the first refusal."""
    accepted = 0
    send = queues.send if site.has_queues else queues.publish
    for number in range(tries):
        try:
            await send(make_message(site, "user_1"))
        except LimitReached:
            continue
        assert accepted == number
        accepted += 1
    return accepted


@pytest.mark.parametrize("prefix_of_users", ["user_", None])
async def test_rate_and_burst(queues: RedisQueues, prefix_of_users: str | None) -> None:
    """After a pause the burst is accepted, then as many sends as the time allows; with queues and without."""
    site = site_with(10, 25, user_room_prefix=prefix_of_users)
    assert await sent(queues, site, 40) == 25
    for _ in range(5):
        queues.now_ms = int(queues.now_ms) + 300
        assert await sent(queues, site, 10) == 3
    queues.now_ms = int(queues.now_ms) + 3_600_000
    assert await sent(queues, site, 40) == 25


async def test_burst_is_a_second_unless_said(queues: RedisQueues) -> None:
    """Without a setting the burst is one second of the rate, and at least one message."""
    assert await sent(queues, site_with(7.5, name="some"), 20) == 8
    seldom = site_with(0.5, name="seldom")
    assert await sent(queues, seldom, 3) == 1
    queues.now_ms = START_MS + 1_999
    assert await sent(queues, seldom, 3) == 0
    queues.now_ms = START_MS + 2_000
    assert await sent(queues, seldom, 3) == 1


async def test_the_refusal_says_when_to_come_back(queues: RedisQueues) -> None:
    """A refusal names the time to wait in whole seconds; after it the send is accepted."""
    site = site_with(0.25)
    await queues.send(make_message(site, "user_1"))
    with pytest.raises(LimitReached) as caught:
        await queues.send(make_message(site, "user_1"))
    error = caught.value
    assert str(error) == "Too many messages: this site may send 0.25 a second, try again."
    assert (error.limit, error.status, error.retry_after_seconds) == ("sends_per_second", 429, 4)
    queues.now_ms = START_MS + 4_000
    await queues.send(make_message(site, "user_1"))


async def test_what_is_refused_is_not_stored_and_costs_nothing(queues: RedisQueues, valkey: Valkey) -> None:
    """A refused send gets no seq and fills no queue; a sender that does not stop gets its full rate."""
    site = site_with(10)
    device = (await queues.connect(site, 1, "d", ["user_1"])).devices[0]
    assert await sent(queues, site, 100) == 10
    assert len(valkey.client.lrange(f"{prefix(site.name)}queue:{device.handle.decode()}", 0, -1)) == 10
    before = valkey.client.get(f"{prefix(site.name)}seq")
    assert await sent(queues, site, 100) == 0
    assert valkey.client.get(f"{prefix(site.name)}seq") == before
    queues.now_ms = START_MS + 100
    assert await sent(queues, site, 100) == 1


async def test_all_nodes_count_as_one(queues: RedisQueues, redis: Redis) -> None:
    """A site has its rate once, to however many nodes its backend posts."""
    other = RedisQueues(redis, "bb", 1_000_000)
    other.now_ms = START_MS
    site = site_with(10)
    assert [await sent(queues, site, 6), await sent(other, site, 6)] == [6, 4]


async def test_a_clock_that_goes_back_locks_nobody_out(queues: RedisQueues) -> None:
    """A clock that went back, or a limit that was raised, blocks no site: an impossible time counts as none."""
    assert await sent(queues, site_with(0.1, 10), 20) == 10
    queues.now_ms = START_MS - 3_600_000
    assert await sent(queues, site_with(10, 10), 20) == 10


async def test_without_a_limit_nothing_is_kept(redis: Redis, valkey: Valkey) -> None:
    """A site without a limit has no key for it; the key of a site with a limit expires by itself."""
    queues = RedisQueues(redis, "aa", 1_000_000)
    await queues.send(make_message(make_site("free"), "user_1"))
    site = site_with(10, name="bound")
    await queues.send(make_message(site, "user_1"))
    assert valkey.client.exists(f"{prefix('free')}due") == 0
    assert 0 < valkey.client.pttl(f"{prefix('bound')}due") <= 100
