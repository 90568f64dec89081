"""The owner of the subscription: beats of several nodes on a real Valkey, with readers that record their calls."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable

import pytest

from app.config.settings import Site
from app.protocols.redis_publish import redis_lease
from app.protocols.redis_publish.redis_feed import PublishFeed
from app.protocols.redis_publish.redis_lease import PublishLease
from app.protocols.redis_publish.redis_mailboxes import RedisMailboxes
from app.protocols.redis_publish.settings import RedisPublish
from app.redis.client import Redis
from tests.support.publish_node import publish_site
from tests.support.store import address_of
from tests.support.valkey import Valkey
from tests.support.waiting import until

KEY = "recado:redis_publish:{rm}:"


class Reader:
    """Records its calls. Implements `PublishReader` and `MailListener`."""

    def __init__(self) -> None:
        self.gaps: list[int] = []
        self.is_owner = False
        self.held: list[bytes] = []
        self.heard: list[bytes] = []
        self.interruptions = 0
        #: Set when all that was heard is delivered.
        self.is_idle = asyncio.Event()
        self.is_idle.set()

    def lease_renewed(self, until_ms: int, until: float) -> None:
        """Does nothing."""

    def lease_taken(self, gap_ms: int) -> None:
        """Becomes the owner."""
        self.gaps.append(gap_ms)
        self.is_owner = True
        self.heard += self.held
        self.held = []

    async def stop_reading(self) -> None:
        """Does nothing."""

    async def lease_lost(self) -> None:
        """Delivers the rest, and stops being the owner."""
        await self.is_idle.wait()
        self.is_owner = False

    def message_published(self, destination: str, payload: bytes) -> None:
        """Records the message as heard, or buffers it before the lease."""
        (self.heard if self.is_owner else self.held).append(payload)

    def forget_published(self) -> None:
        """Drops the buffered messages."""
        self.held = []

    def subscription_interrupted(self) -> None:
        """Counts the call."""
        self.interruptions += 1

    def message_told(self, told: object) -> None:
        """Does nothing."""

    def message_done(self, user: str, digest: str) -> None:
        """Does nothing."""

    def connection_dropped(self, user: str, connection: int) -> None:
        """Does nothing."""


class LeaseNode:
    """One node. Lives until `close`, or `kill`."""

    def __init__(self, valkey: Valkey, site: Site, name: str) -> None:
        """Makes a node without starting it."""
        self.name = name
        self.reader = Reader()
        self.redis = Redis(address_of(valkey), 2.0)
        self.feed = PublishFeed(self.redis, name, site, site.require_section(RedisPublish))
        self.lease = PublishLease(self.redis, name, site, site.require_section(RedisPublish))
        self.feed.listener = self.feed.reader = self.lease.reader = self.reader
        self.lease.feed = self.feed
        self.lease.mailboxes = RedisMailboxes(self.redis, name, site, site.require_section(RedisPublish))

    async def start(self) -> LeaseNode:
        """Starts the node."""
        await self.redis.start()
        self.feed.start()
        self.lease.start()
        return self

    async def kill(self) -> None:
        """End without a word."""
        await self.lease._beat.close()
        await self.feed.close()
        await self.redis.close()

    async def close(self) -> None:
        """Ends the node in order."""
        await self.lease.close()
        await self.feed.close()
        await self.redis.close()


Start = Callable[..., "asyncio.Future[LeaseNode]"]


@pytest.fixture
async def start(valkey: Valkey, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Start]:
    """Starts nodes with a short lease, and ends the remaining ones."""
    monkeypatch.setattr(redis_lease, "BEAT_SECONDS", 0.05)
    monkeypatch.setattr(redis_lease, "LEASE_SECONDS", 0.4)
    monkeypatch.setattr(redis_lease, "DEAD_AFTER_SECONDS", 0.6)
    started: list[LeaseNode] = []

    async def start_one(name: str) -> LeaseNode:
        started.append(LeaseNode(valkey, publish_site(), name))
        return await started[-1].start()

    yield start_one  # type: ignore[misc]
    for node in started:
        node.reader.is_idle.set()
        if node.redis.is_available:
            await node.close()


async def test_one_owner(start: Start) -> None:
    """One of several nodes owns the subscription. The first owner has no gap before it."""
    first = await start("aa")
    await until(lambda: first.reader.is_owner, "the first to own it")
    others = [await start(name) for name in ("bb", "cc")]
    await until(lambda: all(node.feed.is_hearing for node in others), "the others to hear")
    assert first.reader.gaps == [0]
    assert [node.lease.is_mine for node in (first, *others)] == [True, False, False]


async def test_owner_dies(start: Start, valkey: Valkey) -> None:
    """Another node takes over at its next beat, because the owner has no subscription any more. It counts the gap, and
    buries the dead node."""
    first, second = await start("aa"), await start("bb")
    await until(lambda: first.reader.is_owner, "the first to own it")
    await first.kill()
    await until(lambda: second.reader.is_owner, "the second to own it")
    assert 0 < second.reader.gaps[0] < 20_000
    await until(lambda: valkey.client.zrange(KEY + "nodes", 0, -1) == [b"bb"], "the first to be forgotten")


async def test_owner_hangs(start: Start) -> None:
    """An owner that is subscribed but sends no beats is replaced when its lease is over."""
    first, second = await start("aa"), await start("bb")
    await until(lambda: first.reader.is_owner, "the first to own it")
    await first.lease._beat.close()
    await until(lambda: second.reader.is_owner, "the second to own it")
    assert 350 < second.reader.gaps[0] < 20_000


async def test_owner_hands_over(start: Start, valkey: Valkey) -> None:
    """Two nodes that hand over while an application PUBLISHes hear each message at exactly one of them, in order."""
    first, second = await start("aa"), await start("bb")
    await until(lambda: first.reader.is_owner and second.feed.is_hearing, "the first to own it")
    sent: list[bytes] = []

    async def publish() -> None:
        for number in range(2_000):
            sent.append(str(number).encode())
            await first.redis.command("PUBLISH", "rm.users.u", str(number))

    publishing = asyncio.ensure_future(publish())
    await until(lambda: len(first.reader.heard) > 300, "some messages")
    await first.lease.give_up()
    await publishing
    await until(lambda: len(first.reader.heard) + len(second.reader.heard) >= 2_000, "all messages")
    assert second.reader.gaps == [-2] or second.reader.gaps == [0]
    assert second.reader.heard
    assert first.reader.heard + second.reader.heard == sent
    assert not first.lease.is_mine


async def test_new_owner_waits_for_the_last(start: Start, valkey: Valkey) -> None:
    """A new owner delivers nothing while the last one still delivers what it heard before, and all of it afterwards:
    a user's messages stay in order."""
    first, second = await start("aa"), await start("bb")
    await until(lambda: first.reader.is_owner and second.feed.is_hearing, "the first to own it")
    first.reader.is_idle.clear()
    giving = asyncio.ensure_future(first.lease.give_up())
    await until(lambda: valkey.client.get(KEY + "lease") == b"bb", "the lease to be handed over")
    await first.redis.command("PUBLISH", "rm.users.u", "later")
    await until(lambda: second.reader.held == [b"later"], "the new owner to hear it")
    assert not second.reader.is_owner
    first.reader.is_idle.set()
    await giving
    await until(lambda: second.reader.heard == [b"later"], "the new owner to deliver it")
    assert valkey.client.exists(KEY + "drains") == 0


async def test_last_owner_dies_in_the_hand_over(start: Start, valkey: Valkey) -> None:
    """A new owner begins after a moment when the last one never says that it has delivered everything."""
    first, second = await start("aa"), await start("bb")
    await until(lambda: first.reader.is_owner and second.feed.is_hearing, "the first to own it")
    first.reader.is_idle.clear()
    giving = asyncio.ensure_future(first.lease.give_up())
    await until(lambda: second.reader.is_owner, "the second to own it")
    first.reader.is_idle.set()
    await giving


async def test_the_last_gives_up(start: Start, valkey: Valkey) -> None:
    """Without another node the lease is released. The next node takes it at once and counts the gap."""
    first = await start("aa")
    await until(lambda: first.reader.is_owner, "the first to own it")
    await first.close()
    assert valkey.client.keys(KEY + "*") == [(KEY + "held").encode()]
    second = await start("bb")
    await until(lambda: second.reader.is_owner, "the second to own it")
    assert second.reader.gaps[0] > 0


async def test_close_while_the_lease_is_taken(start: Start, monkeypatch: pytest.MonkeyPatch) -> None:
    """A node that ends in the middle of a beat that takes the lease does not own it afterwards."""
    first, second = await start("aa"), await start("bb")
    await until(lambda: first.reader.is_owner and second.feed.is_hearing, "the first to own it")
    is_listening, goes_on = asyncio.Event(), asyncio.Event()
    listen = second.feed.listen

    async def listen_late() -> None:
        is_listening.set()
        await goes_on.wait()
        await listen()

    monkeypatch.setattr(second.feed, "listen", listen_late)
    await first.kill()
    await is_listening.wait()
    close_beat = second.lease._beat.close

    async def close_beat_late() -> None:
        goes_on.set()
        await until(lambda: second.reader.is_owner, "the beat that was under way")
        await close_beat()

    monkeypatch.setattr(second.lease._beat, "close", close_beat_late)
    await second.lease.close()
    assert not second.reader.is_owner
    await second.feed.close()
    await second.redis.close()


async def test_deaf_owner(start: Start) -> None:
    """An owner whose subscription breaks takes the lease again when it hears again, and counts the time in which it was
    deaf. A node that was forgotten learns of it."""
    first = await start("aa")
    await until(lambda: first.reader.is_owner, "the first to own it")
    first.feed.subscription.give_up()
    await until(lambda: len(first.reader.gaps) == 2, "the subscription to be back")
    assert first.reader.interruptions == 1
    assert 0 < first.reader.gaps[1] < 20_000
    await first.redis.command("ZREM", KEY + "nodes", "aa")
    await until(lambda: first.reader.interruptions == 2, "the node to learn that it was forgotten")


async def test_lease_that_others_had_meanwhile(start: Start, valkey: Valkey) -> None:
    """An owner that finds another node in its place gives the lease up. It starts again when the lease is its own
    again."""
    first = await start("aa")
    await until(lambda: first.reader.is_owner, "the first to own it")
    other = valkey.client.pubsub()  # type: ignore[no-untyped-call]
    other.subscribe(KEY + "zz")
    other.get_message(timeout=30)
    valkey.client.set(KEY + "lease", "zz")
    await until(lambda: not first.reader.is_owner, "the first to let go")
    other.close()
    valkey.client.delete(KEY + "lease")
    await until(lambda: first.reader.is_owner, "the first to own it again")
    assert len(first.reader.gaps) == 2
