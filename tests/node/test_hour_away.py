"""An hour without Redis, in a few seconds: every loop of a node has its pauses shortened and goes round as often."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import Iterator
from contextlib import AsyncExitStack

import pytest
from structlog.testing import capture_logs

from app.config.settings import Config
from app.core import acks, errands
from app.node.build import Services
from app.node.worker_slot import WorkerSlot
from app.protocols.channels.settings import Channels
from app.protocols.listed import PROTOCOLS
from app.protocols.redis_publish.settings import RedisPublish
from app.protocols.topics.settings import Topics
from app.redis import client, subscription
from app.store import expiry, nodes, places, sampler
from app.watched_tasks import WatchedTasks
from tests.support.store import make_site, running_valkey
from tests.support.valkey import Valkey
from tests.support.waiting import until

#: The turns of a loop with a pause of 1 s.
TURNS = 3_600
FAST = 0.0005


@pytest.fixture
def valkey() -> Iterator[Valkey]:
    """A Redis of this test's own."""
    with running_valkey(is_durable=True) as running:
        yield running


@pytest.fixture(autouse=True)
def _hurried(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(client, "_RECONNECT_SECONDS", (FAST,))
    monkeypatch.setattr(client, "LOOK_SECONDS", FAST)
    monkeypatch.setattr(subscription, "PROBE_SECONDS", FAST)
    monkeypatch.setattr(nodes, "BEAT_SECONDS", FAST)
    monkeypatch.setattr(expiry, "EXPIRE_SECONDS", FAST)
    monkeypatch.setattr(sampler, "SAMPLE_SECONDS", FAST)
    monkeypatch.setattr(places, "_ANNOUNCE_SECONDS", FAST)
    monkeypatch.setattr(errands, "_RETRY_SECONDS", (FAST,))
    monkeypatch.setattr(acks, "_RETRY_AFTER_SECONDS", FAST)


async def test_an_hour_without_redis(valkey: Valkey, monkeypatch: pytest.MonkeyPatch) -> None:
    """No loop dies, no task is left over, no line says that something failed; the node is ready again by itself."""
    site = make_site("shop", channels=Channels(), topics=Topics(), redis_publish=RedisPublish())
    config = Config(redis_url=valkey.url, sites={"shop": site})
    turns = itertools.count(1)
    probe = subscription.Subscription._probe

    def count(self: subscription.Subscription, channel: str) -> None:
        next(turns)
        probe(self, channel)

    monkeypatch.setattr(subscription.Subscription, "_probe", count)
    tasks = WatchedTasks()
    with tasks.current(), capture_logs() as logs:
        async with AsyncExitStack() as stack:
            services = await Services.start(config, stack, WorkerSlot("/nowhere"), PROTOCOLS)
            await until(lambda: services.health.is_ready, "the node to be ready")
            before = len(asyncio.all_tasks())
            services.limits.restore()
            valkey.kill()
            await until(lambda: not services.redis.is_available, "the loss")
            begun = next(turns)
            await until(lambda: next(turns) > begun + TURNS, "an hour of probes", 60)
            assert not services.health.is_ready
            assert len(asyncio.all_tasks()) <= before + 2
            valkey.start()
            await until(lambda: services.health.is_ready, "the node to be ready again", 60)
            await until(lambda: valkey.client.zcard("recado:nodes") == 1, "a beat")
            await until(lambda: len(asyncio.all_tasks()) <= before, "nothing to be left over")
            tasks.check()
    assert [line for line in logs if "exc_info" in line or line["event"] in ("beat failed", "task failed")] == []
    # The log does not grow with the length of the outage.
    assert len([line for line in logs if line["log_level"] in ("warning", "error")]) < 20
