"""The places where nodes listen: announced, found, cached, forgotten."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from pathlib import Path

import pytest

from app.errors import StoreUnavailable
from app.redis.client import Redis
from app.socketio.ports import Place
from app.store import places as places_module
from app.store.keys import node_place
from app.store.places import RedisPlaces
from tests.support.valkey import Valkey
from tests.support.waiting import until

URL = "http://10.0.0.7:1337"


@pytest.fixture
def listening(tmp_path: Path) -> Iterator[str]:
    """The path of a unix socket that exists."""
    path = str(tmp_path / "node.sock")
    with socket.socket(socket.AF_UNIX) as bound:
        bound.bind(path)
        yield path


async def test_a_node_is_found_while_it_lives(redis: Redis, valkey: Valkey, listening: str) -> None:
    """A node's place is known to others from its start to its end, with an expiry; an unknown node has none."""
    here, there = RedisPlaces(redis, "ab", Place(listening, URL)), RedisPlaces(redis, "cd", Place())
    await here.start()
    assert await there.find("ab") == Place(listening, URL)
    assert 10_000 < valkey.client.pttl(node_place("ab")) <= 15_000
    assert await there.find("ef") is None
    await here.close()
    assert valkey.client.keys("*") == []
    # A place that was found is cached until it proves wrong.
    assert await there.find("ab") == Place(listening, URL)
    there.forget("ab")
    assert await there.find("ab") is None
    there.forget("ab")


async def test_a_socket_elsewhere_is_none(redis: Redis, tmp_path: Path) -> None:
    """A socket that does not exist here, or is no socket, is on another machine: only the URL counts."""
    (tmp_path / "file").touch()
    for path in ("/nowhere/node.sock", str(tmp_path / "file")):
        here = RedisPlaces(redis, "ab", Place(path, URL))
        await here.start()
        assert await RedisPlaces(redis, "cd", Place()).find("ab") == Place(url=URL)
        await here.close()


async def test_it_is_said_again_and_again(redis: Redis, valkey: Valkey, monkeypatch: pytest.MonkeyPatch) -> None:
    """A place that Redis has lost is announced again."""
    monkeypatch.setattr(places_module, "_ANNOUNCE_SECONDS", 0.01)
    here = RedisPlaces(redis, "ab", Place(url=URL))
    await here.start()
    valkey.client.flushall()
    await until(lambda: valkey.client.exists(node_place("ab")), "the place to be there again")
    await here.close()


async def test_without_redis(redis: Redis) -> None:
    """While Redis is away cached places are found and others are not; only the start fails."""
    here, there = RedisPlaces(redis, "ab", Place(url=URL)), RedisPlaces(redis, "cd", Place(url=URL))
    await here.start()
    assert await there.find("ab") == Place(url=URL)
    await redis.close()
    assert await there.find("ab") == Place(url=URL)
    assert await here.find("cd") is None
    await here.close()
    with pytest.raises(StoreUnavailable):
        await there.start()


async def test_memory_is_bounded(redis: Redis, monkeypatch: pytest.MonkeyPatch) -> None:
    """When the cache is full, the place that was found first is asked for again."""
    monkeypatch.setattr(places_module, "_MAX_REMEMBERED", 2)
    everybody = [RedisPlaces(redis, name, Place(url=f"http://{name}")) for name in ("a", "b", "c")]
    for one in everybody:
        await one.start()
    watcher = RedisPlaces(redis, "d", Place())
    for name in ("a", "b", "c"):
        assert await watcher.find(name) == Place(url=f"http://{name}")
    for one in everybody:
        await one.close()
    assert [await watcher.find(name) is not None for name in ("a", "b", "c")] == [False, True, True]
