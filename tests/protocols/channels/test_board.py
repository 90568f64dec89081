"""The board on real nodes and a real Valkey: a channel is joined once, left by its last subscriber, and no subscriber
remains after its end."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

import pytest
from msgspec.structs import replace

from app.errors import StoreUnavailable
from app.store.keys import prefix
from tests.protocols.channels.conftest import SITE, NodeStarter
from tests.support.store import make_message
from tests.support.valkey import Valkey
from tests.support.waiting import until

Digests = Callable[..., Awaitable[list[bytes | None]]]


def joined(valkey: Valkey) -> list[str]:
    """The channels that at least one node has joined."""
    start = f"{prefix(SITE.name)}audience:channels:"
    return sorted(key.removeprefix(start) for key in valkey.dump() if key.startswith(start))


async def test_a_channel_is_joined_once_and_left_by_the_last(start_node: NodeStarter, valkey: Valkey) -> None:
    """Concurrent subscriptions on a node join the channel once in Redis, and the end of the last one leaves it."""
    node = await start_node()
    await node.create("news")
    clients = [node.client() for _ in range(5)]
    await asyncio.gather(*(client.act("SUBSCRIBE", "news") for client in clients))
    assert joined(valkey) == ["news"]
    for client in clients[:3]:
        client.lose()
    assert (await clients[3].act("UNSUBSCRIBE", "news"))["data"]["subscribedChannels"] == []
    await node.push("news", "x")
    assert await clients[4].pushed(1) == ["x"]
    clients[4].lose()
    await node.settled()
    assert joined(valkey) == []


async def test_an_unknown_channel_leaves_nothing(start_node: NodeStarter, valkey: Valkey) -> None:
    """A request for an unknown channel leaves nothing in Redis."""
    node = await start_node()
    client = node.client()
    for action in ("SUBSCRIBE", "UNSUBSCRIBE"):
        assert (await client.act(action, "nothing"))["code"] == 404
    await node.settled()
    assert joined(valkey) == []


async def test_who_is_gone_before_the_answer_leaves_nothing(start_node: NodeStarter, valkey: Valkey) -> None:
    """A connection that ends while it subscribes leaves nothing behind."""
    node = await start_node()
    await node.create("news")
    client = node.client()
    pending = asyncio.ensure_future(client.act("SUBSCRIBE", "news"))
    await asyncio.sleep(0)
    client.lose()
    await node.settled()
    assert joined(valkey) == []
    pending.cancel()


@pytest.mark.parametrize("is_recreated", [False, True])
async def test_a_deletion_while_it_is_joined(
    start_node: NodeStarter, monkeypatch: pytest.MonkeyPatch, is_recreated: bool
) -> None:
    """An answer of Redis from before a heard deletion is discarded, and Redis is asked again."""
    node = await start_node()
    await node.create("news")
    ask: Digests = node.store.channel_digests
    asked = 0

    async def slow_digests(*arguments: object) -> list[bytes | None]:
        nonlocal asked
        digests = await ask(*arguments)
        asked += 1
        if asked == 1:
            await node.delete("news")
            if is_recreated:
                await node.create("news")
            await until(lambda: node.board._deletions, "the deletion to be heard")
        return digests

    monkeypatch.setattr(node.store, "channel_digests", slow_digests)
    client = node.client()
    answer = await client.act("SUBSCRIBE", "news")
    assert answer["code"] == (200 if is_recreated else 404)
    assert asked == 2


async def test_a_late_deletion_is_of_the_older_channel(start_node: NodeStarter) -> None:
    """The subscriber of a new channel stays subscribed when the late deletion of
    the old channel of that name arrives."""
    node, other = await start_node(), await start_node()
    await node.create("news")
    held: list[tuple[object, object]] = []
    audiences = node.board._audiences
    published = audiences.listener.published
    audiences.listener.published = lambda site, message: held.append((site, message))  # type: ignore[method-assign]
    first = node.client()
    await first.act("SUBSCRIBE", "news")
    await other.delete("news")
    await until(lambda: held, "the deletion")
    # Create the channel as if the answer to this node's question had overtaken the deletion.
    await other.store.create_channel(SITE, "news", bytes(32))
    first.lose()
    second = node.client()
    await second.act("SUBSCRIBE", "news")
    published(*held.pop())  # type: ignore[arg-type]
    assert list(second.subscriber.channels) == ["news"]


async def test_a_missed_deletion_is_found(start_node: NodeStarter) -> None:
    """After a loss of messages the node asks Redis which channels exist: deleted and
    recreated ones lose their subscribers."""
    node = await start_node()
    await node.create("gone", "again", "stays")
    client = node.client()
    for channel in ("gone", "again", "stays"):
        await client.act("SUBSCRIBE", channel)
    for channel in ("gone", "again"):
        await node.store.withdraw_channel(SITE, channel, node.board._channels[channel].digest)
    await node.store.create_channel(SITE, "again", bytes(32))
    await node.board.verify()
    assert list(client.subscriber.channels) == ["stays"]


async def test_without_redis_nothing_is_half_done(start_node: NodeStarter, monkeypatch: pytest.MonkeyPatch) -> None:
    """A client that cannot be subscribed gets an error, stays connected, and may try again."""
    node = await start_node()
    await node.create("news")
    client = node.client()

    async def fail(*arguments: object) -> list[bytes | None]:
        raise StoreUnavailable

    with monkeypatch.context() as patch:
        patch.setattr(node.store, "channel_digests", fail)
        assert (await client.act("SUBSCRIBE", "news"))["code"] == 503
        assert client.subscriber.channels == {}
    assert (await client.act("SUBSCRIBE", "news"))["data"]["subscribedChannels"] == ["news"]
    await node.push("news", "x")
    assert await client.pushed(1) == ["x"]


async def test_a_send_to_a_bound_room(start_node: NodeStarter) -> None:
    """A bound channel gets the messages sent to its room, in one order with the pushes."""
    site = replace(SITE, binds={"news": "hall"})
    node = await start_node(site)
    await node.create("news")
    client = node.client()
    await client.act("SUBSCRIBE", "news")
    await node.push("news", "pushed")
    await node.node.delivery.publish(make_message(site, ["hall"], body=b'["score",{"home":1}]'))
    assert await client.pushed(2) == ["pushed", '[{"home":1}]']


async def test_one_failing_subscriber_is_written_to_last_time(start_node: NodeStarter) -> None:
    """A subscriber that ends while a push is delivered does not disturb the others."""
    node = await start_node()
    await node.create("news")
    clients = [node.client() for _ in range(3)]
    for client in clients:
        await client.act("SUBSCRIBE", "news")
    write = clients[1].subscriber._write_frame

    def lose_and_write(frame: bytes) -> None:
        clients[1].lose()
        write(frame)

    clients[1].subscriber._write_frame = lose_and_write
    await node.push("news", "a")
    await node.push("news", "b")
    assert [await client.pushed(2) for client in (clients[0], clients[2])] == [["a", "b"]] * 2
    assert clients[1].messages == ["a"]


async def test_a_bus_that_breaks_loses_nothing(start_node: NodeStarter, valkey: Valkey) -> None:
    """Pushes and deletions made while the subscription is broken arrive after its renewal, in order and once."""
    node, other = await start_node(), await start_node()
    await node.create("news", "gone")
    clients = [node.client() for _ in range(2)]
    for client in clients:
        await client.act("SUBSCRIBE", "news")
        await client.act("SUBSCRIBE", "gone")
    numbers = []
    for number in range(30):
        if number % 10 == 5:
            # Messages published until the nodes have subscribed again reach no node.
            valkey.client.client_kill_filter(_type="pubsub")
        if number == 15:
            await other.delete("gone")
        await other.push("news", str(number))
        numbers.append(str(number))
    for client in clients:
        assert await client.pushed(30) == numbers
        assert list(client.subscriber.channels) == ["news"]
