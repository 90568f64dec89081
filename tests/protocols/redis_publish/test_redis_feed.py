"""The feed of a node: told messages, drops and offers always; the application's messages only while it listens."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from app.errors import StoreUnavailable
from app.protocols.redis_publish.mailbox_ports import Told
from app.protocols.redis_publish.redis_feed import PublishFeed
from app.protocols.redis_publish.settings import RedisPublish
from app.redis import subscription as subscription_module
from app.redis.client import Redis
from tests.redis.fake_redis import relayed_redis
from tests.support.publish_node import publish_site
from tests.support.valkey import Valkey
from tests.support.waiting import until

CHANNEL = "recado:redis_publish:{rm}:aa"


class Heard:
    """Records the calls of a feed, in order."""

    def __init__(self) -> None:
        self.all: list[Any] = []

    def message_told(self, told: Told) -> None:
        """Records the call."""
        self.all.append(told)

    def message_done(self, user: str, digest: str) -> None:
        """Records the call."""
        self.all.append(("done", user, digest))

    def connection_dropped(self, user: str, connection: int) -> None:
        """Records the call."""
        self.all.append(("drop", user, connection))

    def subscription_interrupted(self) -> None:
        """Records the call."""
        self.all.append("interrupted")

    def message_published(self, destination: str, payload: bytes) -> None:
        """Records the call."""
        self.all.append((destination, payload))

    def forget_published(self) -> None:
        """Records the call."""
        self.all.append("forget")

    def lease_renewed(self, until_ms: int, until: float) -> None:
        """Records the call."""
        self.all.append(("lease", until_ms))


def new_feed(redis: Redis) -> tuple[PublishFeed, Heard]:
    """A feed that is not started, and the recorder of its calls."""
    site, heard = publish_site(), Heard()
    feed = PublishFeed(redis, "aa", site, site.require_section(RedisPublish))
    noting: Any = heard
    feed.listener = feed.reader = noting
    return feed, heard


@pytest.fixture
async def case(redis: Redis) -> AsyncIterator[tuple[PublishFeed, Heard]]:
    """A feed whose subscription is confirmed."""
    feed, heard = new_feed(redis)
    feed.start()
    await until(lambda: feed.is_hearing, "the feed to hear")
    yield feed, heard
    await feed.close()


async def test_what_nodes_are_told(case: tuple[PublishFeed, Heard], valkey: Valkey) -> None:
    """A message's entry may hold any text, a user's name any text without control characters."""
    feed, heard = case
    valkey.client.publish(CHANNEL, 'message\nsöze.1\n7\nbb.12\n1\n{"a":\n"b"}')
    valkey.client.publish(CHANNEL, "drop\nsöze.1\n3")
    valkey.client.publish(CHANNEL, "offer")
    await until(lambda: feed.is_offered, "the offer")
    assert feed.may_ask.is_set()
    assert heard.all == [Told("söze.1", 7, ("bb", 12), True, b'{"a":\n"b"}'), ("drop", "söze.1", 3)]


async def test_application_is_heard_while_it_is_listened_to(case: tuple[PublishFeed, Heard], valkey: Valkey) -> None:
    """From `listen` to `turn_away` the feed hears the application's channels with the prefix, and reports them without
    it."""
    feed, heard = case
    valkey.client.publish("rm.users.early", "x")
    await feed.listen()
    for channel in ("rm.users.a.b", "rm.channels.c", "rm.others.d", "rmxusers.e", "other.users.f"):
        valkey.client.publish(channel, channel)
    await until(lambda: len(heard.all) == 2, "both to be heard")
    await feed.turn_away()
    valkey.client.publish("rm.users.late", "x")
    assert heard.all == [("users.a.b", b"rm.users.a.b"), ("channels.c", b"rm.channels.c")]


async def test_hand_over(case: tuple[PublishFeed, Heard], valkey: Valkey) -> None:
    """After the marker the old owner hears no more messages. The new owner forgets the messages before it."""
    feed, heard = case
    await feed.listen()
    for channel, text in (("rm.users.a", "1"), (CHANNEL, "handed\nto"), ("rm.users.a", "2"), (CHANNEL, "handed\nfrom")):
        valkey.client.publish(channel, text)
    valkey.client.publish("rm.users.a", "3")
    await until(lambda: len(heard.all) == 3, "all to be heard")
    await feed.turn_away()
    assert heard.all == [("users.a", b"1"), "forget", ("users.a", b"2")]
    assert feed.handed.is_set()


async def test_subscription_that_breaks(case: tuple[PublishFeed, Heard], valkey: Valkey) -> None:
    """A broken subscription is made again and reported. The feed no longer listens to the application, and owns
    nothing."""
    feed, heard = case
    await feed.listen()
    valkey.client.client_kill_filter(_type="pubsub")
    await until(lambda: "interrupted" in heard.all and feed.is_hearing, "the subscription to be back")
    assert heard.all == [("lease", 0), "interrupted"]
    assert feed.deaf_since is not None
    valkey.client.publish("rm.users.a", "x")
    await feed.turn_away()
    assert len(heard.all) == 2


async def test_subscription_that_is_silent(valkey: Valkey, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """One on which the probe does not come back is given up, and a command on it fails in time."""
    monkeypatch.setattr(subscription_module, "PROBE_SECONDS", 0.02)
    monkeypatch.setattr(subscription_module, "DEAF_AFTER_SECONDS", 0.2)
    async with relayed_redis(tmp_path, valkey) as (relayed, fake, address):
        redis = Redis(address, 0.3)
        await redis.start()
        feed, heard = new_feed(redis)
        feed.start()
        await until(lambda: feed.is_hearing, "the feed to hear")
        relayed.silence(fake.accepted[-1])
        with pytest.raises(StoreUnavailable):
            await feed.listen()
        await until(lambda: "interrupted" in heard.all and feed.is_hearing, "the subscription to be made anew")
        await feed.close()
        await redis.close()
