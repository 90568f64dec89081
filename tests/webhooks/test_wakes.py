"""The wake of the node that sends, over its bus: on one server, and of a site on a shard of a Cluster."""

from __future__ import annotations

from typing import Any

import pytest

from app.redis.address import read_redis_url
from app.redis.client import Redis
from app.redis.topology import new_redis
from app.store.bus import Bus
from app.store.queues import RedisQueues
from app.webhooks.redis_outbox import HookOutbox
from tests.support.hook_receiver import HookReceiver
from tests.support.topologies import valkey_cluster
from tests.support.waiting import until
from tests.webhooks.conftest import hooked_site


class Silent:
    """A listener of the bus that hears nothing of messages. Lives for one test."""

    def message_published(self, *_: Any) -> None:
        """Fails: there is no message."""
        pytest.fail("a wake is no message")

    def bus_interrupted(self) -> None:
        """A new subscription is nothing to note."""


async def check_wake(redis: Any) -> None:
    """An event wakes the node with the lease, with the site's name, and no other node."""
    site = hooked_site(HookReceiver(), "shop:x")
    woken: list[tuple[str, str]] = []
    buses = {name: Bus(redis, name, Silent(), sites=[site]) for name in ("aa", "bb")}
    for name, bus in buses.items():
        bus.hook_wakes.append(lambda woken_site, name=name: woken.append((name, woken_site)))  # type: ignore[misc]
        await bus.start()
    try:
        outbox = HookOutbox(redis, "aa", site)
        await outbox.beat(60_000)
        queues = RedisQueues(redis, "aa", 1_000)
        await queues.connect(site, 1, "d", ["user_1"])
        await until(lambda: woken == [("aa", "shop:x")], "the wake")
        assert [event.users for event in await outbox.read(b"", 10)] == [{"user_1"}]
        assert await HookOutbox(redis, "bb", site).beat(60_000) is None
        await outbox.release()
        assert await HookOutbox(redis, "bb", site).beat(60_000) is not None
    finally:
        for bus in buses.values():
            await bus.close()


async def test_an_event_wakes_its_sender(redis: Redis) -> None:
    """On one server the wake comes on the node's channel."""
    await check_wake(redis)


async def test_an_event_wakes_its_sender_in_a_cluster() -> None:
    """In a Cluster it comes on the node's channel of the site's slot."""
    with valkey_cluster() as cluster:
        redis = new_redis(read_redis_url(cluster.url), 5.0)
        await redis.start()
        try:
            await check_wake(redis)
        finally:
            await redis.close()
