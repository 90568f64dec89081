"""The facts of nodes in Redis: written by each, listed in order, gone soon after the node."""

from __future__ import annotations

import pytest

from app.redis.client import Redis
from app.store import node_facts as module
from app.store.keys import NODES, node_facts
from app.store.node_facts import EXPIRY_MS, FactsWriter, NodeFacts, facts_of, living_nodes
from tests.support.valkey import Valkey
from tests.support.waiting import until


def facts(node: str, **given: object) -> NodeFacts:
    """Facts of a node."""
    known: dict[str, object] = {"node": node, "at": 1, "started_at": 1, "host": "h", "pid": 7}
    known |= {"worker": 0, "workers": 1}
    known |= {"is_supervised": False, "state": "ready", "log_level": "info", "cpu": 0.1, "memory_bytes": 5}
    known |= {"lag_ms": 0.1, "longest_lag_ms": 1.0, "sessions": 0, "connections": 0, "versions": {}}
    return NodeFacts(**(known | given))  # type: ignore[arg-type]


async def test_living_nodes_are_listed(redis: Redis, valkey: Valkey) -> None:
    """Each node with facts is listed, by host and number; those of another version, and of a node without, are not."""
    for name, given in (("b", {"worker": 1}), ("a", {"worker": 0}), ("c", {"host": "a"})):
        valkey.client.zadd(NODES, {name: 1})
        await FactsWriter(redis, name, lambda name=name, given=given: facts(name, **given)).write()  # type: ignore[misc]
    valkey.client.zadd(NODES, {"dead": 1, "odd": 1, "deep": 1})
    valkey.client.set(node_facts("odd"), b'{"node": 5}')
    valkey.client.set(node_facts("deep"), b"[" * 10_000)
    assert [one.node for one in await living_nodes(redis)] == ["c", "a", "b"]
    assert (await facts_of(redis, "a")) == facts("a")
    assert await facts_of(redis, "dead") is None
    assert await facts_of(redis, "odd") is None


async def test_facts_expire(redis: Redis, valkey: Valkey, monkeypatch: pytest.MonkeyPatch) -> None:
    """The facts are renewed, expire within 7 s when nobody renews them, and go with the node."""
    monkeypatch.setattr(module, "_WRITE_SECONDS", 0.01)
    written: list[int] = []

    def gather() -> NodeFacts:
        written.append(1)
        return facts("a")

    writer = FactsWriter(redis, "a", gather)
    writer.start()
    await until(lambda: len(written) > 3, "some facts")
    assert 0 < valkey.client.pttl(node_facts("a")) <= EXPIRY_MS == 7_000
    await writer.close()
    assert valkey.client.exists(node_facts("a")) == 0


async def test_facts_without_redis(redis: Redis, monkeypatch: pytest.MonkeyPatch) -> None:
    """An outage of Redis ends no writer: it goes on."""
    monkeypatch.setattr(module, "_WRITE_SECONDS", 0.01)
    written: list[int] = []

    def gather() -> NodeFacts:
        written.append(1)
        return facts("a")

    writer = FactsWriter(redis, "a", gather)
    redis.give_up()
    writer.start()
    await until(lambda: len(written) > 2, "further tries")
    await until(lambda: redis.is_available, "Redis")
    await writer.close()
