"""The cost of a node that nobody uses: it does not grow with the sites of its configuration."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Any

import pytest

from app.config.settings import Config
from app.node.build import Services
from app.node.worker_slot import WorkerSlot
from app.protocols.channels.settings import Channels
from app.protocols.listed import PROTOCOLS
from app.protocols.topics.settings import Topics
from app.redis import subscription
from app.store import expiry, nodes, places, sampler
from tests.support.store import make_site, running_valkey
from tests.support.valkey import Valkey
from tests.support.waiting import until

#: Every pause is so many times shorter.
HURRY = 10
BEATS = 12
#: The commands of 2 s at 50 a second; other loops may go round a little more often than the beat.
MOST_PER_BEAT = 100 * nodes.BEAT_SECONDS / 2


@pytest.fixture
def valkey() -> Iterator[Valkey]:
    """A Redis of this test's own: it counts the commands."""
    with running_valkey() as running:
        yield running


@pytest.fixture(autouse=True)
def _hurried(monkeypatch: pytest.MonkeyPatch) -> None:
    for module, name in (
        (nodes, "BEAT_SECONDS"),
        (places, "_ANNOUNCE_SECONDS"),
        (subscription, "PROBE_SECONDS"),
        (expiry, "EXPIRE_SECONDS"),
        (sampler, "SAMPLE_SECONDS"),
    ):
        monkeypatch.setattr(module, name, getattr(module, name) / HURRY)


class Commands:
    """The commands that Redis has run, those of scripts among them, except for the ones that count."""

    def __init__(self, valkey: Valkey) -> None:
        stats: Any = valkey.client.info("commandstats")
        self.beats: int = stats.get("cmdstat_zadd", {}).get("calls", 0)
        self.all: int = sum(stat["calls"] for name, stat in stats.items() if name != "cmdstat_info")


@pytest.mark.parametrize("sites", [200, 2_000])
async def test_idle_sites_cost_nothing(valkey: Valkey, sites: int) -> None:
    """A node with many sites and no client gives Redis less than 50 commands a second."""
    async with _node(valkey, sites, channels=Channels(), topics=Topics()):
        before = await _after_beats(valkey, 2)
        after = await _after_beats(valkey, BEATS)
        assert after.all - before.all <= MOST_PER_BEAT * (after.beats - before.beats)


async def test_gap_costs_idle_sites_nothing(valkey: Valkey) -> None:
    """After a gap a node asks for the sites that it has connections of, or had; not for those that nobody uses."""
    async with _node(valkey, 2_000, channels=Channels()) as services:
        before = await _after_beats(valkey, 2)
        services.delivery.bus_interrupted()
        after = await _after_beats(valkey, BEATS)
        assert after.all - before.all <= MOST_PER_BEAT * (after.beats - before.beats)


@asynccontextmanager
async def _node(valkey: Valkey, count: int, **settings: Any) -> AsyncIterator[Services]:
    """A node that serves so many sites, for the block."""
    sites = {name: make_site(name, **settings) for name in (f"s{number}" for number in range(count))}
    async with AsyncExitStack() as stack:
        config = Config(redis_url=valkey.url, sites=sites)
        services = await Services.start(config, stack, WorkerSlot("/nowhere"), PROTOCOLS)
        await until(lambda: services.health.is_ready, "the node to be ready")
        yield services


async def _after_beats(valkey: Valkey, beats: int) -> Commands:
    begun = Commands(valkey)
    await until(lambda: Commands(valkey).beats >= begun.beats + beats, f"{beats} beats")
    return Commands(valkey)
