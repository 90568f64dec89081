"""The places where nodes listen: announced, found, cached, forgotten."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Iterator
from pathlib import Path
from time import monotonic

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
    (tmp_path / "recado-x").mkdir()
    path = str(tmp_path / "recado-x" / "0.sock")
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
    (tmp_path / "recado-x").mkdir()
    (tmp_path / "recado-x" / "1.sock").touch()
    for path in ("/nowhere/recado-x/0.sock", str(tmp_path / "recado-x" / "1.sock")):
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


@pytest.mark.parametrize(
    "place",
    [
        b"x",
        b"\xff",
        b"[" * 100_000,
        b'{"socket":5}',
        b'{"socket":"/var/run/docker.sock"}',
        b'{"socket":"recado-x/0.sock"}',
        b'{"socket":"/tmp/recado-x/../0.sock"}',
        b'{"socket":"/tmp/recado-x/\\u00000.sock"}',
        b'{"url":"http://[::1"}',
        b'{"url":"http://host:99999"}',
        b'{"url":"http://user:password@host"}',
        b'{"url":"http://host/path"}',
        b'{"url":"http://host?query"}',
        b'{"url":"ftp://host"}',
        b'{"url":"http://"}',
        b'{"url":"http://ho\\nst"}',
    ],
)
async def test_malformed_places(redis: Redis, valkey: Valkey, place: bytes) -> None:
    """A place that no node has written is none: no request goes there."""
    valkey.client.set(node_place("ab"), place)
    assert await RedisPlaces(redis, "cd", Place()).find("ab") is None


async def test_misses_are_remembered(redis: Redis, valkey: Valkey, monkeypatch: pytest.MonkeyPatch) -> None:
    """A caller that asks for a node that does not exist, again and again or at once, costs one command in a while."""
    here = RedisPlaces(redis, "cd", Place())
    await here.find("00")
    before = reads(valkey)
    found = await asyncio.gather(*(here.find("ef") for _ in range(50)))
    assert [*found, await here.find("ef")] == [None] * 51
    assert reads(valkey) == before + 1
    monkeypatch.setattr(places_module, "monotonic", lambda: monotonic() + 3)
    await here.find("ef")
    assert reads(valkey) == before + 2


async def test_lookups_are_bounded(redis: Redis, valkey: Valkey, monkeypatch: pytest.MonkeyPatch) -> None:
    """A caller that asks for ever other nodes costs so many commands a second, and a bounded memory."""
    monkeypatch.setattr(places_module, "_MAX_MISSING", 10)
    monkeypatch.setattr(places_module, "monotonic", lambda: 1_000.0)
    here = RedisPlaces(redis, "cd", Place())
    before = reads(valkey)
    for number in range(200):
        assert await here.find(f"{number:x}") is None
    assert reads(valkey) == before + 50
    assert len(here._missing) == 10


def reads(valkey: Valkey) -> int:
    """The GET commands so far."""
    return int(valkey.client.info("commandstats").get("cmdstat_get", {}).get("calls", 0))
