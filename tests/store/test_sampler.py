"""The samples of queues in a real Valkey, and the bounded part of them that is read."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator

import pytest

from app.observe.counts import Counts
from app.store.sampler import QueueSampler
from tests.support.store import StoreNode, make_site
from tests.support.valkey import Valkey
from tests.support.waiting import until

SITE = make_site()
PLAIN = make_site("plain", user_room_prefix=None)


@pytest.fixture
async def node(valkey: Valkey) -> AsyncIterator[StoreNode]:
    """A node whose store is empty."""
    node = await StoreNode.start(valkey, [SITE])
    yield node
    await node.close()


async def test_sample_of_no_device(node: StoreNode) -> None:
    """A site without devices is all zeros; a site without queues is not sampled."""
    counts = Counts()
    await QueueSampler(node.redis, [SITE, PLAIN], counts).sample()
    sample = counts.of(SITE.name).queues
    assert sample
    assert (sample.devices, sample.sampled, sample.messages, sample.longest, sample.oldest_seconds) == (0, 0, 0, 0, 0)
    assert counts.of(PLAIN.name).queues is None


async def test_sample_counts_what_waits(node: StoreNode) -> None:
    """Devices, messages and the longest queue are counted, and the oldest message's age from when it was accepted."""
    await node.open(SITE, "user_1")
    await node.open(SITE, "user_2")
    await node.open(SITE, "user_3")
    node.queues.now_ms = int(time.time() * 1000) - 60_000
    await node.publish(SITE, ["user_1", "user_2"])
    node.queues.now_ms = ""
    await node.publish(SITE, "user_1")
    counts = Counts()
    await QueueSampler(node.redis, [SITE], counts).sample()
    sample = counts.of(SITE.name).queues
    assert sample
    assert (sample.devices, sample.sampled, sample.messages, sample.longest) == (3, 3, 3, 2)
    assert 60 <= sample.oldest_seconds < 90


async def test_sample_is_bounded(node: StoreNode) -> None:
    """Of any number of devices a bounded number is sampled, with a bounded number of commands."""
    for number in range(100):
        await node.open(SITE, "user_1", device=f"d{number}")
    await node.publish(SITE, "user_1")
    counts = Counts()
    sampler = QueueSampler(node.redis, [SITE], counts)
    await sampler.sample()
    sample = counts.of(SITE.name).queues
    assert sample
    assert (sample.devices, sample.sampled, sample.messages, sample.longest) == (100, 64, 64, 1)


async def test_touched_sites_come_first(node: StoreNode) -> None:
    """Of many sites a round samples those that something has happened in, and some others in turn: its cost does not
    grow with idle sites."""
    sites = [make_site(f"s{number:03}") for number in range(100)]
    counts = Counts()
    sampler = QueueSampler(node.redis, sites, counts, node.queues.touched)
    sampler.per_second = 1_000
    node.queues.touched.clear()
    assert await node.queues.expire(sites[97]) == (0, None)
    await sampler.sample()
    sampled = [site.name for site in sites if counts.of(site.name).queues]
    assert sampled == [*(f"s{number:03}" for number in range(30)), "s097"]
    assert not node.queues.touched
    for _ in range(3):
        await sampler.sample()
    assert [site.name for site in sites if not counts.of(site.name).queues] == []


async def test_site_that_is_added(node: StoreNode) -> None:
    """A site with queues that was added is sampled in its turn."""
    counts = Counts()
    sampler = QueueSampler(node.redis, [SITE], counts)
    sampler.add([make_site("late"), make_site("plain", user_room_prefix=None)])
    await sampler.sample()
    assert [name for name, site in counts.sites.items() if site.queues] == ["late", SITE.name]


async def test_sampler_looks_at_once_and_ends(node: StoreNode) -> None:
    """A started sampler samples by itself; a closed one leaves no task."""
    await node.open(SITE, "user_1")
    counts = Counts()
    sampler = QueueSampler(node.redis, [SITE], counts)
    before = asyncio.all_tasks()
    sampler.start()
    await until(lambda: counts.of(SITE.name).queues, "a sample")
    await sampler.close()
    assert asyncio.all_tasks() <= before
