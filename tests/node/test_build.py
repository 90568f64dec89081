"""The builder: the needs of a start, and the state after an end."""

from __future__ import annotations

from collections import ChainMap
from collections.abc import Iterator
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

import pytest
from httpx import ASGITransport, AsyncClient
from msgspec import structs

from app.config.settings import Config, ConsoleSettings
from app.errors import StoreUnavailable
from app.node.build import Services
from app.node.worker_slot import WorkerSlot
from app.protocols.channels.settings import Channels
from app.protocols.listed import PROTOCOLS
from app.protocols.redis_publish.settings import RedisPublish
from app.protocols.sites.admission import QUERY_FIELDS
from app.protocols.sites.send_body import RESERVED_EVENTS
from app.protocols.topics.settings import Topics
from tests.support.store import make_site, running_valkey
from tests.support.valkey import Valkey

SITE = make_site()
#: No socket is opened at this path.
SLOT = WorkerSlot("/nowhere")


@pytest.fixture(scope="module")
def valkey() -> Iterator[Valkey]:
    """A Redis for this module."""
    with running_valkey() as running:
        yield running


@pytest.fixture
def config(valkey: Valkey) -> Config:
    """A server's configuration on that Redis."""
    return Config(redis_url=valkey.url, sites={"shop": SITE})


async def test_start_and_end_leave_nothing(config: Config, valkey: Valkey) -> None:
    """A node that was started and ended in order has left Redis as it was, worker ids included."""
    valkey.client.flushall()
    async with AsyncExitStack() as stack:
        services = await Services.start(config, stack, SLOT, PROTOCOLS)
        assert valkey.client.zcard("recado:nodes") == 1
        assert len(valkey.client.keys("recado:worker:*")) == 1
        assert services.bus.is_hearing
        await services.drain(0)
    assert valkey.client.keys("*") == []


async def test_start_without_redis(config: Config, tmp_path: Path) -> None:
    """A start without Redis fails with the address that does not answer, and leaves nothing running."""
    away = structs.replace(config, redis_url=f"unix://{tmp_path}/nowhere")
    async with AsyncExitStack() as stack:
        with pytest.raises(StoreUnavailable, match="nowhere"):
            await Services.start(away, stack, SLOT, PROTOCOLS)


async def test_embedded_store_is_the_default(config: Config, tmp_path: Path, valkey: Valkey) -> None:
    """Without a URL the server runs its own Valkey on the data directory, and ends it."""
    alone = structs.replace(config, redis_url=None, data_dir=tmp_path / "data")
    async with AsyncExitStack() as stack:
        services = await Services.start(alone, stack, SLOT, PROTOCOLS)
        assert services.redis.is_available
        assert [str(tmp_path) in str(shard.address) for shard in services.redis.shards] == [True]
    assert not services.redis.is_available


async def test_events_of_the_sites_contract_are_reserved(config: Config) -> None:
    """A message that reaches a room through `binds` may not look like an event of the server itself."""
    async with AsyncExitStack() as stack:
        services = await Services.start(config, stack, SLOT, PROTOCOLS)
        assert services.delivery.reserved_events == RESERVED_EVENTS


async def test_sessions_keep_the_fields_that_protocols_read(config: Config) -> None:
    """Of a handshake's query a session keeps the credentials that its protocols read, and nothing else."""
    async with AsyncExitStack() as stack:
        services = await Services.start(config, stack, SLOT, PROTOCOLS)
        read = ChainMap(*(dict(protocol.query_fields) for protocol in services.protocols.values()))
        kept = services.socket_server._kept_fields
        assert kept is not None
        assert kept.most_bytes == dict(read)
        assert QUERY_FIELDS.items() <= read.items()


async def status_of(services: Services, path: str) -> int:
    """The answer of the node to a GET."""
    application: Any = services.dispatcher
    async with AsyncClient(transport=ASGITransport(application), base_url="http://test") as client:
        return (await client.get(path)).status_code


async def test_sites_that_are_added(config: Config, valkey: Valkey) -> None:
    """A running node takes more sites: it tells Redis, pages of their origins may read its answers, and tenants' own
    servers are among the notices."""
    valkey.client.flushall()
    own, other = "https://own.example.com", "https://other.example.com"
    config = structs.replace(config, sites={"shop": make_site(origins=(own,))})
    async with AsyncExitStack() as stack:
        services = await Services.start(config, stack, SLOT, PROTOCOLS)
        engine = services.socket_server.engine
        await services.served.add([])
        assert engine.settings.readable_origins == {own}
        publish = RedisPublish(url=valkey.url, route="/late-route")
        late = make_site("late", origins=(other,), channels=Channels(), topics=Topics(), redis_publish=publish)
        await services.served.add([late])
        assert engine.settings.readable_origins == {own, other}
        assert list(services.health.notices()) == ["redisPublish.url of late"]
        (told,) = [valkey.client.smembers(key) for key in valkey.client.keys("recado:sites:*")]
        assert told == {b"shop", b"late"}
        await services.served.add([make_site("open")])
        assert engine.settings.readable_origins is None
        assert await status_of(services, "/late-route") == await status_of(services, "/metrics") == 200
        assert list(config.sites) == ["shop", "late", "open"]
        await services.drain(0)
    assert valkey.client.keys("recado:nodes") == []


async def test_the_console(config: Config) -> None:
    """The console answers below its paths and nowhere else; on a port of its own, or off, not even there. Without a
    database it says so."""
    for console, status in (
        (ConsoleSettings(), 503),
        (ConsoleSettings(port=9337), 404),
        (ConsoleSettings(is_on=False), 404),
    ):
        own = structs.replace(config, database_url="none", console=console, sites=dict(config.sites))
        async with AsyncExitStack() as stack:
            services = await Services.start(own, stack, SLOT, PROTOCOLS)
            for path in ("/console", "/console/login", "/api/openapi.json", "/api/v1/log"):
                assert await status_of(services, path) == status, (console, path)
            assert await status_of(services, "/consoles") == 404
            application: Any = services.dispatcher
            async with AsyncClient(transport=ASGITransport(application), base_url="http://test:9337") as client:
                assert (await client.get("/console")).status_code == (404 if not console.is_on else 503)
                assert (await client.get("/healthcheck")).status_code == (503 if console.port else 200)
