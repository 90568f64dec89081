"""The encoding in which payloads wait, as settings and entries show it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import pytest
from structlog.testing import capture_logs

from app.protocols.redis_publish import redis_queue_encoding
from app.protocols.redis_publish.envelope import Envelopes
from app.protocols.redis_publish.redis_queue_encoding import RedisQueueEncoding
from app.protocols.redis_publish.settings import RedisPublish
from app.redis.client import Redis
from tests.support.publish_node import publish_site
from tests.support.store import address_of
from tests.support.valkey import Valkey

ORIGINAL = b'{"source":"rm.users.u","timestamp":5,"bubble":false,"payload":"a%20b"}'


@pytest.fixture
async def redis(valkey: Valkey) -> AsyncIterator[Redis]:
    """A link to the Redis of the application."""
    redis = Redis(address_of(valkey), 2.0)
    await redis.start()
    yield redis
    await redis.close()


async def look(redis: Redis, **settings: Any) -> bool:
    """Whether payloads are written in encodeURI."""
    site = publish_site(**settings)
    encoding = RedisQueueEncoding(redis, site, site.require_section(RedisPublish))
    encoding.start()
    await asyncio.wait_for(encoding.is_settled.wait(), 30)
    await encoding.close()
    return encoding.is_uri


async def test_entries_of_the_original_decide(redis: Redis, valkey: Valkey) -> None:
    """A prefix with an entry of RedMessenger has encodeURI, also when the entry is gone; another prefix has not."""
    client: Any = valkey.client
    for number in range(50):
        client.rpush(f"rm:users:{number}:messages", Envelopes().seal("rm.users.u", 1, b"ours"))
    client.set("rm:users:x:messages", "no list")
    assert not await look(redis)
    client.rpush("rm:users:original:messages", ORIGINAL)
    assert not await look(redis, prefix="other")
    assert await look(redis)
    client.delete("rm:users:original:messages")
    assert await look(redis)


@pytest.mark.parametrize(("setting", "is_uri"), [("uri", True), ("plain", False)])
async def test_setting_decides(redis: Redis, valkey: Valkey, setting: str, is_uri: bool) -> None:
    """With a setting nothing is looked for."""
    client: Any = valkey.client
    client.rpush("rm:users:original:messages", ORIGINAL)
    assert await look(redis, queue_encoding=setting) is is_uri
    assert client.keys("*encoding") == []


async def test_look_up_that_takes_too_long(redis: Redis, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing waits longer than the look-up may take; the log says which setting decides."""
    monkeypatch.setattr(redis_queue_encoding, "_LOOK_SECONDS", 0.0)
    with capture_logs() as logs:
        assert not await look(redis)
    assert [line["expected"] for line in logs] == ["redisPublish.queue_encoding"]


async def test_redis_that_is_away(valkey: Valkey, monkeypatch: pytest.MonkeyPatch) -> None:
    """While Redis is away the node goes on asking: an outage at the start decides nothing."""
    monkeypatch.setattr(redis_queue_encoding, "_RETRY_SECONDS", 0.01)
    client: Any = valkey.client
    client.rpush("rm:users:original:messages", ORIGINAL)
    redis, site = Redis(address_of(valkey), 2.0), publish_site()
    encoding = RedisQueueEncoding(redis, site, site.require_section(RedisPublish))
    encoding.start()
    with pytest.raises(TimeoutError):
        await asyncio.wait_for(encoding.is_settled.wait(), 0.05)
    await redis.start()
    await asyncio.wait_for(encoding.is_settled.wait(), 30)
    assert encoding.is_uri
    await encoding.close()
    await redis.close()
