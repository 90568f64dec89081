"""The bus of a node: the form and order of messages, and a subscription that breaks or falls silent."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from app.core.message import LiveMessage
from app.errors import StoreUnavailable
from app.redis import subscription as subscription_module
from app.redis.client import Redis
from app.store.bus import Bus, parse
from app.store.keys import bus_channel
from app.store.queues import RedisQueues
from tests.redis.fake_redis import Served, fake_redis, relayed_redis
from tests.support.store import make_message, make_site
from tests.support.valkey import Valkey
from tests.support.waiting import until

SITE = make_site()


class Listener:
    """Notes messages and interruptions. Lives for one test."""

    def __init__(self) -> None:
        """Nothing heard yet."""
        self.messages: list[tuple[str, int, LiveMessage]] = []
        self.interruptions = 0

    def message_published(self, site: str, counter: int, message: LiveMessage) -> None:
        """A message."""
        self.messages.append((site, counter, message))

    def bus_interrupted(self) -> None:
        """A new subscription."""
        self.interruptions += 1

    @property
    def bodies(self) -> list[bytes]:
        """The bodies of the messages."""
        return [message.body for _, _, message in self.messages]


@pytest.fixture
def listener() -> Listener:
    """The listener of the bus."""
    return Listener()


@pytest.fixture
async def bus(redis: Redis, listener: Listener) -> AsyncIterator[Bus]:
    """A node's subscription."""
    bus = Bus(redis, "aa", listener)
    await bus.start()
    yield bus
    await bus.close()


async def publish(redis: Redis, count: int) -> list[bytes]:
    """Messages to a device on node aa; their bodies."""
    messages = [make_message(SITE, "user_1") for _ in range(count)]
    queues = RedisQueues(redis, "aa", 1_000_000)
    await queues.connect(SITE, 1, "d", ["user_1"])
    await asyncio.gather(*(queues.send(message) for message in messages))
    return [message.body for message in messages]


def test_parse_message_for_devices() -> None:
    """Recipients and devices with a dropped queue are handles; the body may hold anything, also newlines."""
    site, counter, message = parse('message\nsöp\n7\n31000000001\n99\n1,22\n3\n["e",\n\n"ü"]'.encode())
    assert (site, counter, message.seq, message.id) == ("söp", 7, 31000000001, "99")
    assert (list(message.recipients), list(message.resync_recipients)) == ([b"1", b"22"], [b"3"])
    assert message.body == '["e",\n\n"ü"]'.encode()
    assert message.rooms is None


def test_parse_message_for_nobody() -> None:
    """An empty list of recipients is empty, and not one recipient without a name."""
    _, _, message = parse(b"message\ns\n1\n2\n3\n\n\n")
    assert (list(message.recipients), list(message.resync_recipients), message.body) == ([], [], b"")


def test_parse_message_for_rooms() -> None:
    """A message of a site without queues names rooms, whatever characters they have."""
    _, _, message = parse(b'rooms\ns\n1\n2\n3\n["a,b","\\n\\u00fc",""]\n\n["e"]')
    assert message.rooms == ["a,b", "\nü", ""]
    assert list(message.recipients) == []


async def test_messages_are_heard_in_the_order_of_acceptance(bus: Bus, redis: Redis, listener: Listener) -> None:
    """Each message arrives once, with a counter that grows by one, in the order in which the store accepted them."""
    sent = await publish(redis, 50)
    await until(lambda: len(listener.messages) == 50, "the messages")
    assert listener.bodies == sent
    assert [counter for _, counter, _ in listener.messages] == list(range(1, 51))
    assert {site for site, _, _ in listener.messages} == {"shop"}


async def test_node_hears_its_own_channel_alone(bus: Bus, redis: Redis, listener: Listener, valkey: Valkey) -> None:
    """Messages for other nodes are not sent to this one."""
    assert valkey.client.pubsub_channels() == [bus_channel("aa").encode()]
    other = RedisQueues(redis, "bb", 1_000_000)
    await other.connect(SITE, 1, "other", ["user_2"])
    await other.send(make_message(SITE, "user_2"))
    (fence,) = await publish(redis, 1)
    await until(lambda: listener.messages, "the fence")
    assert listener.bodies == [fence]


async def test_cut_subscription_is_made_anew_and_told(
    bus: Bus, redis: Redis, listener: Listener, valkey: Valkey
) -> None:
    """The listener learns of a broken subscription when the new one stands: later messages are heard."""
    for _ in range(2):
        valkey.client.client_kill_filter(_type="pubsub")
        await until(lambda: listener.interruptions, "the interruption")
        listener.interruptions = 0
        listener.messages.clear()
        sent = await publish(redis, 2)
        await until(lambda: len(listener.messages) == 2, "the messages")
        assert listener.bodies == sent


async def test_silent_subscription_is_given_up(
    valkey: Valkey, listener: Listener, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A subscription without echoes of probes is replaced, though its connection looks fine."""
    monkeypatch.setattr(subscription_module, "PROBE_SECONDS", 0.02)
    async with relayed_redis(tmp_path, valkey) as (relay, fake, address):
        redis = Redis(address, 2.0)
        await redis.start()
        bus = Bus(redis, "aa", listener)
        await bus.start()
        assert bus.is_hearing
        assert listener.interruptions == 0
        relay.silence(fake.accepted[1])
        monkeypatch.setattr(subscription_module, "DEAF_AFTER_SECONDS", 0.3)
        await until(lambda: not bus.is_hearing, "the silence to be noticed")
        await until(lambda: listener.interruptions, "a new subscription")
        # From here on a stall of a busy machine is no silence.
        monkeypatch.setattr(subscription_module, "DEAF_AFTER_SECONDS", 60.0)
        await until(lambda: bus.is_hearing, "the subscription to hear")
        sent = await publish(redis, 1)
        await until(lambda: listener.messages, "the message")
        assert listener.bodies == sent
        await bus.close()
        await redis.close()


async def test_probes_keep_a_quiet_bus(
    redis: Redis, listener: Listener, valkey: Valkey, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A quiet subscription stays, and probes are not handed on as messages."""
    monkeypatch.setattr(subscription_module, "PROBE_SECONDS", 0.02)
    monkeypatch.setattr(subscription_module, "DEAF_AFTER_SECONDS", 1.0)
    bus = Bus(redis, "aa", listener)
    await bus.start()

    def probes() -> int:
        stats: Any = valkey.client.info("commandstats")
        return int(stats.get("cmdstat_publish", {"calls": 0})["calls"])

    before = probes()
    await until(lambda: probes() >= before + 100, "the probes of twice the time after which it would be deaf")
    assert bus.is_hearing
    assert (listener.messages, listener.interruptions) == ([], 0)
    await bus.close()


async def test_start_without_an_answer(redis: Redis, listener: Listener, tmp_path: Path) -> None:
    """A Redis that does not answer SUBSCRIBE is StoreUnavailable, and does not leave the node deaf."""

    def answer(served: Served, data: bytes) -> None:
        if b"SETNAME" in data:
            served.transport.write(b"+OK\r\n")

    async with fake_redis(tmp_path, answer) as (fake, address):
        silent = Redis(address, 0.2)
        bus = Bus(silent, "aa", listener)
        with pytest.raises(StoreUnavailable):
            await bus.start()
        assert not bus.is_hearing
        await until(lambda: fake.accepted and not fake.opened, "the connection to end")


async def test_subscription_that_breaks_as_soon_as_it_is_made(listener: Listener, tmp_path: Path) -> None:
    """A server confirms the subscription and closes in the same moment: the node does not stay deaf."""

    def answer(served: Served, data: bytes) -> None:
        if b"SETNAME" in data:
            served.transport.write(b"+OK\r\n")
        if b"SUBSCRIBE" in data:
            served.transport.write(b"*3\r\n$9\r\nsubscribe\r\n$13\r\nrecado:bus:aa\r\n:1\r\n")
            served.transport.close()

    async with fake_redis(tmp_path, answer) as (fake, address):
        bus = Bus(Redis(address, 1.0), "aa", listener)
        try:
            await bus.start()
        except StoreUnavailable:
            pass
        else:
            await until(lambda: len(fake.accepted) > 2, "new subscriptions")
        await bus.close()


async def test_interruption_is_told_before_what_follows_it(listener: Listener, tmp_path: Path) -> None:
    """A message in one piece with the confirmation of a new subscription is heard after the interruption, not before.

    Otherwise the listener takes that message for the next one, and does not miss those that were published in between.
    """
    message = b"message\nshop\n5\n31000000005\n99\n1\n\n[]"
    push = b"*3\r\n$7\r\nmessage\r\n$13\r\nrecado:bus:aa\r\n$%d\r\n%b\r\n" % (len(message), message)
    interruptions_before: list[int] = []

    def note(site: str, counter: int, message: LiveMessage) -> None:
        interruptions_before.append(listener.interruptions)

    def answer(served: Served, data: bytes) -> None:
        if b"SETNAME" in data:
            served.transport.write(b"+OK\r\n")
        if b"SUBSCRIBE" in data:
            served.transport.write(b"*3\r\n$9\r\nsubscribe\r\n$13\r\nrecado:bus:aa\r\n:1\r\n" + push)

    listener.message_published = note  # type: ignore[method-assign]
    async with fake_redis(tmp_path, answer) as (fake, address):
        bus = Bus(Redis(address, 1.0), "aa", listener)
        await bus.start()
        await until(lambda: interruptions_before == [0], "the first message")
        for served in list(fake.opened):
            served.transport.abort()
        await until(lambda: len(interruptions_before) == 2, "the message behind the interruption")
        assert interruptions_before == [0, 1]
        await bus.close()


async def test_closed_bus_is_not_made_anew(redis: Redis, listener: Listener, valkey: Valkey) -> None:
    """After its end there is no subscription, and no new one begins."""
    bus = Bus(redis, "aa", listener)
    await bus.start()
    await bus.close()
    await until(lambda: valkey.client.pubsub_channels() == [], "the subscription to end")
    assert not bus.is_hearing
    assert listener.interruptions == 0
