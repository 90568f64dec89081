"""Channels and their resumable subscribers in Redis: one creator, one holder, and no keys that stay for ever."""

from __future__ import annotations

import asyncio
from hashlib import sha256

import pytest

from app.config.settings import Site
from app.errors import StoreUnavailable
from app.protocols.channels.channel_store import ChannelDigests, Claim, Creation, Kept, KeptSubscription, Position
from app.protocols.channels.redis_channels import UNCONFIRMED_SECONDS, RedisChannels
from app.protocols.channels.settings import Channels
from app.redis.client import Redis
from app.store.keys import prefix
from tests.support.store import make_site
from tests.support.valkey import Valkey

SITE = make_site(channels=Channels(max_channels=3), device_ttl_seconds=100)
ENDLESS = make_site("endless", channels=Channels(), device_ttl_seconds=0)
ONE, TWO = sha256(b"1").digest(), sha256(b"2").digest()
SECRET = sha256(b"secret").digest()
NODE = "n1"


@pytest.fixture
async def store(redis: Redis) -> RedisChannels:
    """The channels of one node."""
    return RedisChannels(redis, NODE)


def subscriber(valkey: Valkey, site: Site = SITE) -> dict[str, str]:
    """The fields that Redis keeps for the subscriber."""
    found: dict[str, str] = valkey.dump()[f"{prefix(site.name)}subscriber:u"]
    return found


async def test_one_of_many_creates_a_channel(store: RedisChannels) -> None:
    """Of many concurrent callers exactly one creates the channel; its digest is stored, whatever bytes it has."""
    digests = [bytes([number]) * 32 for number in range(10)]
    answers = await asyncio.gather(*(store.create_channel(SITE, "a", digest) for digest in digests))
    assert sorted(answer.value for answer in answers) == ["created", *["exists"] * 9]
    created = digests[answers.index(Creation.CREATED)]
    assert await store.channel_digests(SITE, ["a", "b", "a"]) == [created, None, created]


async def test_as_many_channels_as_there_may_be(store: RedisChannels) -> None:
    """One channel over the limit is refused; an existing channel is reported as existing."""
    answers = [await store.create_channel(SITE, name, ONE) for name in ("a", "b", "c", "d", "a")]
    created, full, exists = Creation.CREATED, Creation.FULL, Creation.EXISTS
    assert answers == [created, created, created, full, exists]


async def test_a_channel_whose_creator_does_not_know(store: RedisChannels) -> None:
    """A channel is withdrawn by its digest only, repeatedly without error, and another creator's channel stays."""
    await store.create_channel(SITE, "a", ONE)
    await store.withdraw_channel(SITE, "a", TWO)
    assert await store.channel_digests(SITE, ["a"]) == [ONE]
    for _ in range(2):
        await store.withdraw_channel(SITE, "a", ONE)
    assert await store.channel_digests(SITE, ["a"]) == [None]


async def test_a_creation_that_comes_too_late(
    store: RedisChannels, redis: Redis, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A creation after the caller's deadline creates nothing."""
    monkeypatch.setattr(redis, "deadline_ms", lambda key: 1)
    with pytest.raises(StoreUnavailable):
        await store.create_channel(SITE, "a", ONE)
    assert await store.channel_digests(SITE, ["a"]) == [None]


async def test_a_subscriber_comes_back(store: RedisChannels, valkey: Valkey) -> None:
    """A resumed subscriber gets its position and its channels in their order. A channel that was deleted since is
    listed with the seq of its deletion, until the subscriber has confirmed everything up to there."""
    for name in ("z", "m\nn", "a"):
        await store.create_channel(SITE, name, ONE)
    position = await store.register_subscriber(SITE, "u", SECRET)
    for name in ("z", "m\nn", "a"):
        assert await store.keep_subscription(SITE, position.claim, name) is Kept.KEPT
    await store.confirm_positions(SITE, [Position(position.claim, 7)])
    await store.withdraw_channel(SITE, "a", ONE)
    await store.create_channel(SITE, "a", TWO)
    resumed = await store.resume_subscriber(SITE, "u", SECRET)
    assert resumed
    assert resumed.position == Position(Claim("u", 2), 7)
    assert resumed.subscriptions == [KeptSubscription("z", 0, ONE), KeptSubscription("m\nn", 0, ONE)]
    assert not [field for field in subscriber(valkey) if field == "c:a"]
    start = prefix(SITE.name)
    valkey.client.set(f"{start}seq", 30)
    valkey.client.zadd(f"{start}gone:channels", {ONE: 20})
    valkey.client.hdel(f"{start}channels", "z")
    for claim in (3, 4):
        # The channel is listed until the subscriber has everything up to the deletion.
        resumed = await store.resume_subscriber(SITE, "u", SECRET)
        assert resumed
        assert resumed.position == Position(Claim("u", claim), 7)
        assert resumed.subscriptions[0] == KeptSubscription("z", 0, ONE, 20)
    await store.confirm_positions(SITE, [Position(Claim("u", 4), 20)])
    resumed = await store.resume_subscriber(SITE, "u", SECRET)
    assert resumed
    assert resumed.subscriptions == [KeptSubscription("m\nn", 0, ONE)]
    assert not [field for field in subscriber(valkey) if field == "c:z"]


async def test_what_others_were_pushed_is_not_missed(store: RedisChannels, valkey: Valkey) -> None:
    """When nothing was pushed into its channels after its position, the position moves to the present seq."""
    await store.create_channel(SITE, "a", ONE)
    claim = (await store.register_subscriber(SITE, "u", SECRET)).claim
    await store.keep_subscription(SITE, claim, "a")
    start = prefix(SITE.name)
    valkey.client.set(f"{start}seq", 50)
    resumed = await store.resume_subscriber(SITE, "u", SECRET)
    assert resumed
    assert resumed.position.seq == 50
    valkey.client.set(f"{start}seq", 60)
    valkey.client.hset(f"{start}latest:channels", "a", 51)
    resumed = await store.resume_subscriber(SITE, "u", SECRET)
    assert resumed
    assert resumed.position.seq == 50


@pytest.mark.parametrize(("uuid", "secret"), [("u", ONE), ("u", b""), ("v", SECRET), ("", SECRET)])
async def test_who_is_not_known(store: RedisChannels, valkey: Valkey, uuid: str, secret: bytes) -> None:
    """A wrong secret and an unknown uuid get nothing and change nothing."""
    await store.register_subscriber(SITE, "u", SECRET)
    before = valkey.dump()
    assert await store.resume_subscriber(SITE, uuid, secret) is None
    assert valkey.dump() == before


async def test_only_the_newest_claim_counts(store: RedisChannels, valkey: Valkey) -> None:
    """Commands with an older claim have no effect, and their answer says so."""
    await store.create_channel(SITE, "a", ONE)
    old = (await store.register_subscriber(SITE, "u", SECRET)).claim
    await store.keep_subscription(SITE, old, "a")
    resumed = await store.resume_subscriber(SITE, "u", SECRET)
    assert resumed
    before = subscriber(valkey)
    assert await store.keep_subscription(SITE, old, "a") is Kept.GONE
    await store.drop_subscription(SITE, old, "a")
    assert await store.confirm_positions(SITE, [Position(old, 99), Position(Claim("v", 1), 1)]) == ["u", "v"]
    assert await store.release_subscriber(SITE, Position(old, 99)) == ["u"]
    assert subscriber(valkey) == before
    assert await store.confirm_positions(SITE, [Position(resumed.position.claim, 8)]) == []
    assert subscriber(valkey)["seq"] == "8"


async def test_subscriptions_are_kept_and_dropped(store: RedisChannels, valkey: Valkey) -> None:
    """A subscription to an unknown channel is not kept; a dropped one leaves nothing."""
    claim = (await store.register_subscriber(SITE, "u", SECRET)).claim
    assert await store.keep_subscription(SITE, claim, "a") is Kept.UNKNOWN
    await store.create_channel(SITE, "a", ONE)
    assert await store.keep_subscription(SITE, claim, "a") is Kept.KEPT
    for _ in range(2):
        await store.drop_subscription(SITE, claim, "a")
    assert not [field for field in subscriber(valkey) if field.startswith("c:")]


async def test_how_long_a_subscriber_is_kept(store: RedisChannels, valkey: Valkey) -> None:
    """A subscriber is kept for device_ttl from the end of its connection. While it is confirmed the time is a little
    longer, in case its node is killed. With device_ttl 0 it is kept for ever."""

    def left(site: Site = SITE) -> int:
        return int(valkey.client.ttl(f"{prefix(site.name)}subscriber:u"))

    position = await store.register_subscriber(SITE, "u", SECRET)
    connected = 100 + UNCONFIRMED_SECONDS
    assert connected - 2 <= left() <= connected
    await store.release_subscriber(SITE, position)
    assert 98 <= left() <= 100
    resumed = await store.resume_subscriber(SITE, "u", SECRET)
    assert resumed
    assert connected - 2 <= left() <= connected
    await store.confirm_positions(SITE, [resumed.position])
    assert connected - 2 <= left() <= connected
    endless = await store.register_subscriber(ENDLESS, "u", SECRET)
    for _ in range(2):
        assert left(ENDLESS) == -1
        await store.release_subscriber(ENDLESS, endless)


async def test_before_the_first_push_nothing_is_missing(store: RedisChannels, valkey: Valkey) -> None:
    """From the first channel on the history is complete without any push, whatever else the site sends."""
    valkey.client.set(f"{prefix('shop')}seq", 50)
    await store.create_channel(SITE, "a", ONE)
    marks = valkey.dump()[f"{prefix('shop')}histories"]
    assert marks == {"channels.last": "50", "channels.floor": "50"}
    valkey.client.set(f"{prefix('shop')}seq", 60)
    await store.create_channel(SITE, "b", ONE)
    assert valkey.dump()[f"{prefix('shop')}histories"] == marks


async def test_a_channel_that_is_created_again(store: RedisChannels) -> None:
    """Its token is the newest one; the channel is still known by the first."""
    assert await store.find_channel(SITE, "a") is None
    assert await store.create_channel(SITE, "a", ONE, is_renewable=True) is Creation.CREATED
    assert await store.find_channel(SITE, "a") == ChannelDigests(ONE, ONE)
    assert await store.create_channel(SITE, "a", TWO) is Creation.EXISTS
    assert await store.create_channel(SITE, "a", TWO, is_renewable=True) is Creation.RENEWED
    assert await store.find_channel(SITE, "a") == ChannelDigests(ONE, TWO)
    assert await store.channel_digests(SITE, ["a"]) == [ONE]


async def test_a_renewed_channel_is_not_withdrawn(store: RedisChannels) -> None:
    """A creation without an answer is not withdrawn when its caller has created the channel again and uses it."""
    await store.create_channel(SITE, "a", ONE)
    await store.create_channel(SITE, "a", TWO, is_renewable=True)
    await store.withdraw_channel(SITE, "a", ONE)
    assert await store.find_channel(SITE, "a") == ChannelDigests(ONE, TWO)


async def test_all_channels_are_listed(store: RedisChannels) -> None:
    """The parts hold every channel; the numbers count them all, and the subscribers of other nodes."""
    site = make_site("many", channels=Channels())
    names = {f"channel {number}" for number in range(1_200)}
    await asyncio.gather(*(store.create_channel(site, name, ONE) for name in names))
    for node, count in (("n1", 5), ("n2", 7), ("n3", 1)):
        await store.note_subscribers(site, count, node)
    await store.note_subscribers(site, 4)
    await store.note_subscribers(site, 0, "n3")
    found: list[str] = []
    cursor, parts = 0, 0
    while cursor or not parts:
        part = await store.list_channels(site, cursor)
        assert (part.channels, part.subscribers_elsewhere) == (1_200, 7)
        found += part.names
        cursor, parts = part.cursor, parts + 1
    assert set(found) == names
    assert parts > 1
