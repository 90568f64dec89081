"""A primary behind Sentinels: found, followed through failovers, and never lost silently."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import AsyncExitStack
from pathlib import Path

import pytest

from app.errors import StoreUnavailable
from app.redis.address import Address, SentinelGroup, read_redis_url
from app.redis.sentinel import Sentinels
from tests.redis.fake_redis import Served, fake_redis
from tests.support.store import StoreNode, heard, make_site
from tests.support.topologies import ReplicatedValkey, replicated_valkey
from tests.support.waiting import until, until_answer

SITE = make_site()


@pytest.fixture
def replicated() -> Iterator[ReplicatedValkey]:
    """A primary, a replica and a Sentinel for one test."""
    with replicated_valkey(sentinels=1) as replicated:
        yield replicated


@pytest.fixture
async def nodes(replicated: ReplicatedValkey) -> AsyncIterator[list[StoreNode]]:
    """Two nodes that know only the Sentinels."""
    async with AsyncExitStack() as stack:
        nodes = []
        for _ in range(2):
            nodes.append(await StoreNode.start(replicated.url, [SITE]))
            stack.push_async_callback(nodes[-1].close)
        yield nodes


def _ports(nodes: list[StoreNode]) -> set[int]:
    """The ports to which the nodes' commands go."""
    return {node.redis.shards[0].address.port for node in nodes}


async def _publish_patiently(node: StoreNode) -> bytes:
    return await until_answer(lambda: node.publish(SITE, "user_1"), "a send to be taken", (StoreUnavailable,), 30)


async def test_primary_dies(replicated: ReplicatedValkey, nodes: list[StoreNode]) -> None:
    """The replica takes over: every node follows, stored messages are there in order, connections stay."""
    receiver = await nodes[0].open(SITE, "user_1")
    sent = [await nodes[number % 2].publish(SITE, "user_1") for number in range(20)]
    await heard(receiver, 20)
    await until(lambda: replicated.lag() == 0, "the replica to have it all")
    replicated.primary.kill()
    sent += [await _publish_patiently(nodes[number % 2]) for number in range(20)]
    await until(lambda: sent[-1] in receiver.bodies, "the last message")
    assert [body for body in receiver.bodies if body in set(sent)] == sent
    assert _ports(nodes) == {replicated.replica_port}
    assert "close" not in receiver.kinds
    assert "resync" not in receiver.kinds


async def test_replica_lagged(replicated: ReplicatedValkey, nodes: list[StoreNode]) -> None:
    """The replica that takes over lacks a message: every device is told `_resync`, and no seq is reused. The node that
    had it stored is gone; the other has heard it on the bus."""
    receiver = await nodes[0].open(SITE, "user_1")
    await nodes[0].publish(SITE, "user_1")
    await until(lambda: replicated.lag() == 0, "the replica to have it all")
    replicated.stop_replication()
    await nodes[1].publish(SITE, "user_1")
    await heard(receiver, 2)
    await nodes[1].close()
    replicated.primary.kill()
    last = await _publish_patiently(nodes[0])
    await until(lambda: last in receiver.bodies, "the last message")
    await until(lambda: "resync" in receiver.kinds, "the resync")
    assert receiver.seqs == sorted(set(receiver.seqs))
    assert "close" not in receiver.kinds


async def test_primary_that_was_replaced_is_left(replicated: ReplicatedValkey, nodes: list[StoreNode]) -> None:
    """After a failover on demand the old primary still answers, and nodes leave it all the same."""
    receiver = await nodes[0].open(SITE, "user_1")
    await nodes[0].publish(SITE, "user_1")
    replicated.fail_over()
    await until(
        lambda: all(node.redis.shards[0].address.port == replicated.replica_port for node in nodes),
        "the nodes to follow",
    )
    last = await _publish_patiently(nodes[1])
    await until(lambda: last in receiver.bodies, "the last message")
    await until(lambda: all(node.bus.is_hearing for node in nodes), "the bus")
    assert "close" not in receiver.kinds


def _answer_as(port: int, epoch: int) -> Callable[[Served, bytes], None]:
    """The answer of a Sentinel that knows this primary since this configuration."""
    words = ["name", "m", "ip", "10.0.0.1", "port", str(port), "config-epoch", str(epoch)]

    def answer(served: Served, data: bytes) -> None:
        if b"SETNAME" in data:
            served.transport.write(b"+OK\r\n")
        if b"SENTINEL" in data:
            parts = "".join(f"${len(word)}\r\n{word}\r\n" for word in words)
            served.transport.write(f"*{len(words)}\r\n{parts}".encode())

    return answer


async def test_newest_configuration_wins(tmp_path: Path) -> None:
    """The newest configuration wins, whichever Sentinel answers first; a Sentinel that is away costs no time."""
    for name in ("old", "new"):
        (tmp_path / name).mkdir()
    async with (
        fake_redis(tmp_path / "old", _answer_as(1001, 7)) as (_, old),
        fake_redis(tmp_path / "new", _answer_as(1002, 8)) as (_, new),
    ):
        for order in ((old, new), (new, old)):
            sentinels = Sentinels(SentinelGroup((Address(port=1), *order), "m", Address(password="pw")), 1.0)
            for _ in range(2):
                assert await sentinels.locate() == Address(host="10.0.0.1", port=1002, password="pw")
            sentinels.close()


async def test_silent_sentinel(tmp_path: Path) -> None:
    """A Sentinel that accepts and never answers delays a caller by the time-out at most."""
    for name in ("silent", "well"):
        (tmp_path / name).mkdir()
    async with (
        fake_redis(tmp_path / "silent", lambda served, data: None) as (_, silent),
        fake_redis(tmp_path / "well", _answer_as(1001, 7)) as (_, well),
    ):
        sentinels = Sentinels(SentinelGroup((silent, well), "m", Address()), 0.1)
        assert (await sentinels.locate()).port == 1001
        sentinels.close()


async def test_nobody_knows_the_primary(replicated: ReplicatedValkey) -> None:
    """A name that no Sentinel knows, and Sentinels that are away, are StoreUnavailable with the reason."""
    group = read_redis_url(replicated.url)
    assert isinstance(group, SentinelGroup)
    sentinels = Sentinels(SentinelGroup(group.sentinels, "nobody", group.login), 1.0)
    with pytest.raises(StoreUnavailable, match=r"No Sentinel knows 'nobody' .*No such master"):
        await sentinels.locate()
    sentinels.close()
    sentinels = Sentinels(SentinelGroup((Address(port=1),), group.name, group.login), 1.0)
    with pytest.raises(StoreUnavailable, match="does not answer"):
        await sentinels.locate()
