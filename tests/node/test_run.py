"""One serving process: a long-lived task that dies takes readiness and the process with it."""

from __future__ import annotations

import asyncio
import socket
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from msgspec import structs
from structlog.testing import capture_logs

from app.config.settings import Config, Site, WebhookSettings
from app.config.sources import Sources
from app.errors import RecadoError
from app.node import run as run_module
from app.node.build import Services
from app.node.worker_slot import WorkerSlot
from app.protocols.listed import PROTOCOLS
from app.redis.beat import Beat
from app.redis.client import Redis
from app.redis.embedded import EmbeddedValkey
from app.redis.subscription import Subscription
from app.store.expiry import Expiry
from app.store.places import RedisPlaces
from app.store.sampler import QueueSampler
from tests.support.store import make_site, running_valkey
from tests.support.valkey import Valkey

#: Each kind of long-lived task of a node without protocols that have their own: its owner, its method, its name.
KINDS: list[tuple[type, str, str]] = [
    (Redis, "_keep_connected", "redis reconnect"),
    (Redis, "_watch", "redis watch"),
    (Subscription, "_keep_subscribed", "bus subscribe"),
    (Subscription, "_keep_probing", "bus probe"),
    (Beat, "_keep_beating", "beat"),
    (Expiry, "_keep_expiring", "device expiry"),
    (QueueSampler, "_keep_sampling", "queue samples"),
    (RedisPlaces, "_keep_announcing", "node place"),
    (EmbeddedValkey, "_keep_running", "embedded valkey"),
]


@pytest.fixture(scope="module")
def valkey() -> Iterator[Valkey]:
    """A Redis for this module."""
    with running_valkey() as running:
        yield running


@pytest.mark.parametrize(("owner", "method", "name"), KINDS, ids=[name for _, _, name in KINDS])
@pytest.mark.parametrize("is_failure", [True, False], ids=["error", "return"])
async def test_a_task_that_dies_ends_the_node(
    owner: type, method: str, name: str, is_failure: bool, valkey: Valkey, tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    """A task that fails or returns while the node serves is named in the log and in the error that ends the process."""
    config = Config(redis_url=valkey.url, sites={"shop": make_site()}, drain_timeout_seconds=0.1)
    if owner is EmbeddedValkey:
        config = structs.replace(config, redis_url=None, data_dir=tmp_path / "data")
    serves = asyncio.Event()
    services: list[Services] = []
    start = Services.start

    async def die(self: object, *_: object) -> None:
        await serves.wait()
        if is_failure:
            raise ValueError("a mistake")

    async def note(*arguments: Any) -> Services:
        services.append(await start(*arguments))
        return services[0]

    monkeypatch.setattr(owner, method, die)
    monkeypatch.setattr(Services, "start", note)
    slot = WorkerSlot(str(tmp_path))
    reader = run_module.reader_of(Sources(), PROTOCOLS)
    with (
        socket.create_server(("127.0.0.1", 0)) as bound,
        capture_logs() as logs,
        pytest.raises(RecadoError, match=f"The task '{name}' has ended unasked"),
    ):
        async with asyncio.timeout(20):
            await run_module._serve(config, bound, slot, lambda url: serves.set(), PROTOCOLS, reader)
    assert next(line["task"] for line in logs if line["event"] == "task ended") == name
    assert (services[0].health.check()["tasks"], services[0].health.is_ready) == (False, False)


def test_threads_leave_the_event_loop_its_time(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """A thread that decodes a long body gives way to the event loop within a millisecond, and not after five."""
    before = sys.getswitchinterval()
    seconds: list[float] = []

    async def note(*_: object) -> None:
        seconds.append(sys.getswitchinterval())

    monkeypatch.setattr(run_module, "_serve", note)
    monkeypatch.setattr(run_module, "_tune_collector", lambda: None)
    try:
        with socket.create_server(("127.0.0.1", 0)) as bound:
            run_module.serve(PROTOCOLS, Config(), Sources(), bound, WorkerSlot(str(tmp_path)), lambda url: None)
    finally:
        sys.setswitchinterval(before)
    assert seconds[0] < 0.001


def test_webhooks_of_a_demo_may_lead_to_this_machine() -> None:
    """With the demo every site's webhook may lead to a private address; without it none may unless it says so."""
    site = Site(name="shop", api_key="k", webhook=WebhookSettings(url="http://127.0.0.1:1/"))
    demo = run_module._with_sites(Config(sites={"shop": site}), [Site(name="demo", api_key="demo")])
    assert [one.webhook.allow_private for one in demo.sites.values()] == [True, True]
    assert not site.webhook.allow_private
