"""The list of sites with devices to forget: what a node notes by itself, and what others have left to it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest
from structlog.testing import capture_logs

from app.config.settings import Site
from app.errors import StoreError, StoreUnavailable
from app.redis.client import Redis
from app.store import expiry
from app.store.expiry import Expiry
from app.store.keys import prefix
from app.store.queues import RedisQueues
from tests.support.store import make_site
from tests.support.valkey import Valkey
from tests.support.waiting import until

SITE = make_site(device_ttl_seconds=1)


@pytest.fixture(autouse=True)
def _hurried(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(expiry, "EXPIRE_SECONDS", 0.01)
    monkeypatch.setattr(expiry, "_RETRY_SECONDS", 0.02)


@pytest.fixture
def queues(redis: Redis) -> RedisQueues:
    """The store of one node."""
    return RedisQueues(redis, "aa", 1_000_000)


@asynccontextmanager
async def expiring(redis: Redis, queues: RedisQueues, *sites: Site) -> AsyncIterator[Expiry]:
    """The expiry of a node, for the block."""
    one = Expiry(redis, queues, sites)
    one.start()
    yield one
    await one.close()


async def leave(queues: RedisQueues, site: Site, count: int = 1) -> None:
    """Have devices of the site go away."""
    for number in range(count):
        registration = await queues.connect(site, number, f"d{number}", ["user_1"])
        await queues.disconnect(site, number, [(registration.devices[0].handle, 0)])


def known(valkey: Valkey, site: Site) -> int:
    """The number of devices that Redis knows in the site."""
    count: Any = valkey.client.hlen(prefix(site.name) + "devices")
    return int(count)


async def test_own_departures_need_no_look(
    redis: Redis, queues: RedisQueues, valkey: Valkey, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A device that leaves over this node is forgotten when its time is over, also in a site that has no turn."""
    monkeypatch.setattr(expiry, "LOOKED_AT_SITES", 0)
    async with expiring(redis, queues, SITE):
        await leave(queues, SITE, 90)
        assert known(valkey, SITE) == 90
        await until(lambda: not known(valkey, SITE), "the devices to be forgotten")


async def test_devices_of_others_are_found(redis: Redis, queues: RedisQueues, valkey: Valkey) -> None:
    """Devices from before the start, in one of many sites, are found and forgotten when their time is over."""
    await leave(queues, SITE)
    sites = [make_site(f"s{number}", device_ttl_seconds=60) for number in range(50)]
    async with expiring(redis, queues, *sites, SITE):
        await until(lambda: not known(valkey, SITE), "the device to be forgotten")


async def test_site_that_is_added(redis: Redis, queues: RedisQueues, valkey: Valkey) -> None:
    """The devices of a site that was added while the node runs are forgotten, too."""
    await leave(queues, SITE)
    async with expiring(redis, queues, make_site("first", device_ttl_seconds=60)) as one:
        one.add([SITE])
        await until(lambda: not known(valkey, SITE), "the device to be forgotten")


async def test_buried_devices_are_noted(
    redis: Redis, queues: RedisQueues, valkey: Valkey, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The site of a connection that was taken out of a dead node is due from then on."""
    monkeypatch.setattr(expiry, "LOOKED_AT_SITES", 0)
    await RedisQueues(redis, "dead", 1_000).connect(SITE, 1, "d", ["user_1"])
    async with expiring(redis, queues, SITE):
        await queues.bury(SITE, "dead", valkey.clock_ms() - 900)
        await until(lambda: not known(valkey, SITE), "the device to be forgotten")


async def test_unfinished_message_is_found(redis: Redis, queues: RedisQueues, valkey: Valkey) -> None:
    """A message in parts whose node is gone is ended, also in a site where nobody is away and no device expires."""
    site = make_site(device_ttl_seconds=0)
    large: dict[Any, Any] = {
        "id": "1",
        "site": site.name,
        "seq": "1",
        "until": valkey.clock_ms() + 200,
        "phase": "store",
    }
    valkey.client.hset(prefix(site.name) + "large", mapping=large)
    async with expiring(redis, queues, site):
        await until(lambda: not valkey.client.exists(prefix(site.name) + "large"), "the message to be ended")


async def test_failed_site_is_tried_again(
    redis: Redis, queues: RedisQueues, valkey: Valkey, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A site that Redis refuses, or cannot serve, is due again, and keeps no other waiting."""
    monkeypatch.setattr(expiry, "LOOKED_AT_SITES", 0)
    other = make_site("other", device_ttl_seconds=1)
    failures = iter([StoreUnavailable(), StoreError("no"), StoreUnavailable()])
    expire = queues.expire

    async def fail(site: Site, at_most: int = 200) -> Any:
        if site is SITE and (failure := next(failures, None)) is not None:
            raise failure
        return await expire(site, at_most)

    monkeypatch.setattr(queues, "expire", fail)
    with capture_logs() as logs:
        async with expiring(redis, queues, SITE, other):
            await asyncio.gather(leave(queues, SITE), leave(queues, other))
            await until(lambda: not known(valkey, other), "the other site's device to be forgotten")
            await until(lambda: not known(valkey, SITE), "the device to be forgotten")
    assert [line["event"] for line in logs if line["log_level"] == "error"] == ["expiry failed"]
