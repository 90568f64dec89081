"""The stream and its group: entries are read once and claimed by the next reader; a deleted stream is made again."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import pytest

from app.protocols.redis_publish.redis_stream import RedisPublishStream
from app.protocols.redis_publish.settings import RedisPublish
from app.redis.client import Redis
from tests.support.valkey import Valkey
from tests.support.waiting import until


@pytest.fixture
async def stream(redis: Redis) -> AsyncIterator[RedisPublishStream]:
    """The stream, as the node `aa` reads it."""
    one = RedisPublishStream(redis, "aa", RedisPublish())
    yield one
    one.close()


def add(valkey: Valkey, *payloads: str) -> list[str]:
    """Adds entries, and returns their ids."""
    client: Any = valkey.client
    return [client.xadd("rm.stream", {"to": "users.u", "payload": payload}).decode() for payload in payloads]


async def test_what_was_added_before_the_first_node(stream: RedisPublishStream, valkey: Valkey) -> None:
    """The group starts at the first entry. Entries carry their fields, and leave the stream when they are
    acknowledged."""
    ids = add(valkey, "a", "b")
    assert await stream.claim() == []
    entries = await stream.read()
    assert [entry.id for entry in entries] == ids
    assert entries[0].fields == {b"to": b"users.u", b"payload": b"a"}
    await stream.acknowledge(ids)
    assert valkey.client.xlen("rm.stream") == 0
    assert valkey.client.xpending("rm.stream", "recado")["pending"] == 0


async def test_claim(stream: RedisPublishStream, redis: Redis, valkey: Valkey) -> None:
    """Entries that another node read and did not acknowledge are claimed, all of them in order. Idle consumers are
    removed."""
    dead = RedisPublishStream(redis, "bb", RedisPublish())
    ids = add(valkey, *map(str, range(450)))
    await dead.claim()
    read = [entry.id for _ in range(3) for entry in await dead.read()]
    assert read == ids
    dead.close()
    claimed: list[str] = []
    while entries := await stream.claim():
        claimed += [entry.id for entry in entries]
        await stream.acknowledge([entry.id for entry in entries])
    assert claimed == ids
    consumers: Any = valkey.client.xinfo_consumers("rm.stream", "recado")
    assert [consumer["name"] for consumer in consumers] in ([], [b"aa"])


async def test_deleted_entries(stream: RedisPublishStream, redis: Redis, valkey: Valkey) -> None:
    """An entry that the application deleted while it was pending is not returned."""
    dead = RedisPublishStream(redis, "bb", RedisPublish())
    ids = add(valkey, "a", "b")
    await dead.claim()
    await dead.read()
    dead.close()
    valkey.client.xdel("rm.stream", ids[0])
    assert [entry.id for entry in await stream.claim()] == [ids[1]]


async def test_deleted_stream(stream: RedisPublishStream, valkey: Valkey) -> None:
    """A stream that is deleted during a read is made again."""
    await stream.claim()
    reading = asyncio.ensure_future(stream.read())
    await until(lambda: valkey.client.info("clients")["blocked_clients"] == 1, "the read to wait")
    valkey.client.delete("rm.stream")
    assert await reading == []
    ids = add(valkey, "a")
    assert [entry.id for entry in await stream.read()] == ids


async def test_stop(stream: RedisPublishStream, valkey: Valkey, monkeypatch: pytest.MonkeyPatch) -> None:
    """A waiting read returns at once when it is stopped, and leaves nothing behind."""
    monkeypatch.setattr("app.protocols.redis_publish.redis_stream._BLOCK_MS", 60_000)
    await stream.stop()
    await stream.claim()
    reading = asyncio.ensure_future(stream.read())
    await until(lambda: valkey.client.info("clients")["blocked_clients"] == 1, "the read to wait")
    await stream.stop()
    assert await asyncio.wait_for(reading, 30) == []
    add(valkey, "a")
    assert valkey.client.xpending("rm.stream", "recado")["pending"] == 0
