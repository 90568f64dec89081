"""A subscription that is kept alive: the messages it hands on, and the reasons to subscribe again."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from app.errors import StoreUnavailable
from app.observe.counts import Durations
from app.redis import subscription as subscription_module
from app.redis.address import Address
from app.redis.client import Redis
from app.redis.subscription import Subscription
from tests.redis.fake_redis import Served, fake_redis, relayed_redis
from tests.support.store import running_valkey
from tests.support.valkey import Valkey
from tests.support.waiting import until


class Owner:
    """Wants channels and notes all calls, in order. Lives for one test."""

    def __init__(self, redis: Redis, *channels: str) -> None:
        """Not subscribed yet."""
        self.channels = list(channels)
        #: Messages, ("matched", channel, payload), "made" and "lost".
        self.told: list[Any] = []
        self.durations = Durations()
        self.subscription = Subscription("test", redis, lambda: self.channels, self.told.append, self.durations)
        self.subscription.on_made = lambda: self.told.append("made")
        self.subscription.on_lost = lambda: self.told.append("lost")
        self.subscription.on_matched = lambda channel, payload: self.told.append(("matched", channel, payload))

    @property
    def times_made(self) -> int:
        """How often a new subscription stood."""
        return self.told.count("made")


@pytest.fixture
def quick_probes(monkeypatch: pytest.MonkeyPatch) -> None:
    """Probes follow each other at once; no stall of a busy machine looks like a deaf subscription."""
    monkeypatch.setattr(subscription_module, "PROBE_SECONDS", 0.01)
    monkeypatch.setattr(subscription_module, "DEAF_AFTER_SECONDS", 60.0)


@pytest.fixture
async def owner(redis: Redis) -> AsyncIterator[Owner]:
    """An owner that hears the channel `news`."""
    owner = Owner(redis, "news")
    await owner.subscription.start()
    yield owner
    await owner.subscription.close()


def confirm(served: Served, data: bytes, *behind: bytes) -> None:
    """Answer as a Redis that confirms a subscription to `news`, with messages in the same piece."""
    if b"SETNAME" in data:
        served.transport.write(b"+OK\r\n")
    if b"SUBSCRIBE" in data:
        served.transport.write(b"*3\r\n$9\r\nsubscribe\r\n$4\r\nnews\r\n:1\r\n" + b"".join(map(_pushed, behind)))


def _pushed(message: bytes) -> bytes:
    return b"*3\r\n$7\r\nmessage\r\n$4\r\nnews\r\n$%d\r\n%b\r\n" % (len(message), message)


async def test_messages_and_no_probes(quick_probes: None, owner: Owner, valkey: Valkey) -> None:
    """The owner gets the messages of its channels; echoes of probes are measured, and not handed on."""
    valkey.client.publish("news", "1")
    valkey.client.publish("other", "2")
    await until(lambda: owner.told, "the message")
    await until(lambda: sum(owner.durations.buckets), "an echo")
    valkey.client.publish("news", "3")
    await until(lambda: len(owner.told) == 2, "the other message")
    assert owner.told == [b"1", b"3"]
    assert owner.durations.total_seconds < 1


async def test_patterns(owner: Owner, valkey: Valkey) -> None:
    """A pattern is heard from one command to the next."""
    await owner.subscription.command("PSUBSCRIBE", "a.*", "b.*")
    valkey.client.publish("a.1", "x")
    valkey.client.publish("b.1", "y")
    await until(lambda: len(owner.told) == 2, "both")
    await owner.subscription.command("PUNSUBSCRIBE", "a.*", "b.*")
    valkey.client.publish("a.1", "z")
    valkey.client.publish("news", "end")
    await until(lambda: b"end" in owner.told, "the end")
    assert owner.told == [("matched", b"a.1", b"x"), ("matched", b"b.1", b"y"), b"end"]


async def test_messages_of_a_new_subscription_wait_for_the_owner(tmp_path: Path) -> None:
    """A message in one piece with the confirmation is handed on after the owner knows of the interruption."""
    async with fake_redis(tmp_path, lambda served, data: confirm(served, data, b"1", b"2")) as (_, address):
        owner = Owner(Redis(address, 1.0), "news")
        await owner.subscription.start()
        assert owner.told == [b"1", b"2"]
        owner.told.clear()
        owner.subscription.give_up()
        await until(lambda: b"2" in owner.told, "the messages of the new subscription")
        assert owner.told == ["lost", "made", b"1", b"2"]
        await owner.subscription.close()


async def test_deaf_subscription_is_given_up(
    valkey: Valkey, tmp_path: Path, quick_probes: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A subscription over which no echo comes back is made again, though its connection looks fine."""
    async with relayed_redis(tmp_path, valkey) as (relay, fake, address):
        redis = Redis(address, 2.0)
        await redis.start()
        owner = Owner(redis, "news")
        await owner.subscription.start()
        relay.silence(fake.accepted[1])
        monkeypatch.setattr(subscription_module, "DEAF_AFTER_SECONDS", 0.3)
        await until(lambda: not owner.subscription.is_hearing, "the silence to be noticed")
        await until(lambda: owner.told[:2] == ["lost", "made"], "a new subscription")
        monkeypatch.setattr(subscription_module, "DEAF_AFTER_SECONDS", 60.0)
        await until(lambda: owner.subscription.is_hearing, "the subscription to hear")
        await owner.subscription.close()
        await redis.close()


async def test_more_channels_without_a_gap(owner: Owner, valkey: Valkey) -> None:
    """An owner that wants more channels hears them at once, and the subscription that it has goes on."""
    owner.channels = ["news", "more"]
    await owner.subscription.extend()
    assert set(valkey.client.pubsub_channels()) == {b"news", b"more"}
    await owner.subscription.extend()
    owner.subscription.renew()
    for channel in owner.channels:
        valkey.client.publish(channel, channel)
    await until(lambda: len(owner.told) == 2, "the messages")
    assert owner.told == [b"news", b"more"]


async def test_more_channels_while_there_is_no_link(valkey: Valkey, redis: Redis) -> None:
    """An owner that had no channel, or whose link is broken, gets all of them with the next subscription."""
    owner = Owner(redis)
    await owner.subscription.start()
    owner.channels = ["news"]
    await owner.subscription.extend()
    await until(lambda: owner.told == ["made"], "the subscription")
    owner.subscription.give_up()
    owner.channels = ["news", "more"]
    await owner.subscription.extend()
    await until(lambda: set(valkey.client.pubsub_channels()) == {b"news", b"more"}, "both channels")
    await until(lambda: owner.told == ["made", "lost", "made"], "the owner to be told")
    await owner.subscription.close()


async def test_other_channels(quick_probes: None, owner: Owner, valkey: Valkey) -> None:
    """An owner that wants other channels is subscribed to those, once; one that wants none hears by definition."""
    owner.channels = ["news", "more"]
    await until(lambda: owner.times_made == 1, "the new subscription")
    assert set(valkey.client.pubsub_channels()) == {b"news", b"more"}
    await until(lambda: sum(owner.durations.buckets) > 3, "some probes")
    assert owner.told == ["lost", "made"]
    owner.channels = []
    await until(lambda: not valkey.client.pubsub_channels(), "the subscription to end")
    assert owner.subscription.is_hearing
    assert owner.times_made == 1


async def test_server_that_is_elsewhere(quick_probes: None, owner: Owner, redis: Redis) -> None:
    """When the commands' server is at another address the subscription follows it there."""
    with running_valkey() as other:
        redis.address = Address(path=str(other.socket))
        await until(lambda: owner.times_made == 1, "the new subscription")
        other.client.publish("news", "1")
        await until(lambda: owner.told == ["lost", "made", b"1"], "the message")


async def test_server_that_comes_late(tmp_path: Path, quick_probes: None) -> None:
    """A subscription that begins while Redis is away is made once, when Redis is there; commands fail until then."""
    owner = Owner(Redis(Address(path=str(tmp_path / "s")), 1.0), "news")
    owner.subscription.begin()
    with pytest.raises(StoreUnavailable):
        await owner.subscription.command("PSUBSCRIBE", "a.*")
    loop = asyncio.get_running_loop()
    began_at = loop.time()
    await until(lambda: loop.time() - began_at > 0.2, "some probes and attempts")
    assert not owner.subscription.is_hearing
    async with fake_redis(tmp_path, confirm) as (fake, _):
        await until(lambda: owner.times_made, "the subscription")
        began_at = loop.time()
        await until(lambda: loop.time() - began_at > 0.1, "some probes")
        assert owner.told == ["made"]
        assert len(fake.opened) == 1
        await owner.subscription.close()
        await until(lambda: not fake.opened, "the connection to end")


async def test_refused_subscription(tmp_path: Path) -> None:
    """A server that refuses the subscription makes `start` fail, and is counted by its error."""

    def refuse(served: Served, data: bytes) -> None:
        if b"SETNAME" in data:
            served.transport.write(b"+OK\r\n")
        if b"SUBSCRIBE" in data:
            served.transport.write(b"-LOADING dataset\r\n")

    async with fake_redis(tmp_path, refuse) as (fake, address):
        redis = Redis(address, 1.0)
        owner = Owner(redis, "news")
        with pytest.raises(StoreUnavailable, match="LOADING"):
            await owner.subscription.start()
        assert redis._counts.redis_errors["LOADING"] == 1
        await until(lambda: not fake.opened, "the connection to end")


async def test_subscription_that_breaks_before_it_stands(tmp_path: Path) -> None:
    """A link that ends right behind the confirmation is no subscription: the caller is told, not left deaf."""

    def answer(served: Served, data: bytes) -> None:
        confirm(served, data)
        if b"SUBSCRIBE" in data:
            # No reply of Redis begins like this, so the client ends the link as it reads it.
            served.transport.write(b"?\r\n")

    async with fake_redis(tmp_path, answer) as (_, address):
        owner = Owner(Redis(address, 1.0), "news")
        with pytest.raises(StoreUnavailable, match="closed the connection"):
            await owner.subscription.start()


async def test_command_without_an_answer(valkey: Valkey, tmp_path: Path) -> None:
    """A command that is not answered in time fails, and the link is given up at once."""
    async with relayed_redis(tmp_path, valkey) as (relay, fake, address):
        owner = Owner(Redis(address, 0.2), "news")
        await owner.subscription.start()
        relay.silence(fake.accepted[0])
        with pytest.raises(StoreUnavailable):
            await owner.subscription.command("PSUBSCRIBE", "a.*")
        await until(lambda: owner.told == ["lost", "made"], "a new subscription", 2.5)
        await owner.subscription.close()


async def test_a_listener_that_fails_hurts_its_own_message(quick_probes: None, owner: Owner, valkey: Valkey) -> None:
    """An error of the owner loses that message, counted; the link stays, and the next message arrives on it."""
    link, noted = owner.subscription._link, owner.told.append

    def fail_once(data: bytes) -> None:
        if data == b"poison":
            raise RecursionError
        noted(data)

    def fail(*_: bytes) -> None:
        raise ValueError

    owner.subscription._on_message = fail_once
    owner.subscription.on_matched = fail
    await owner.subscription.command("PSUBSCRIBE", "ne*")
    for message in ("poison", "probe of nobody", "good"):
        valkey.client.publish("news", message)
    await until(lambda: b"good" in owner.told, "the message behind the poisoned one")
    assert owner.subscription._link is link
    # One message of the channel; the pattern matches all three, and probes too.
    assert owner.subscription.faults["test"] >= 4
    owner.subscription.on_made = fail
    owner.subscription.on_lost = fail
    owner.subscription.give_up()
    await until(lambda: owner.subscription._link not in (None, link), "a new subscription")
    await until(lambda: valkey.client.publish("news", "again") and b"again" in owner.told, "the messages on it")
