"""Scripts that free memory, or show that a node lives, run in a full Redis; the bodies of lost messages."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest

from app.core.ports import AckGroup
from app.errors import StoreUnavailable
from app.protocols.topics.redis_topics import RedisTopics
from app.protocols.topics.settings import Topics
from app.redis.client import Redis
from app.store.keys import NODES, prefix
from app.store.queues import RedisQueues
from app.store.seats import RedisSeats
from tests.support.store import limits, make_message, make_site
from tests.support.valkey import Valkey

SITE = make_site(device_ttl_seconds=60, topics=Topics())
NOW_MS = 1_800_000_000_000


@contextmanager
def full(valkey: Valkey) -> Iterator[None]:
    """Within this Valkey has no memory left."""
    valkey.client.config_set("maxmemory", "1")
    try:
        yield
    finally:
        valkey.client.config_set("maxmemory", "0")


@pytest.fixture(params=[False, True], ids=["at rest", "in flight"])
def queues(redis: Redis, request: pytest.FixtureRequest) -> RedisQueues:
    """The store of one node, whose clock the test moves; its messages fly or do not."""
    queues = RedisQueues(redis, "aa", 1_000_000)
    queues.now_ms = NOW_MS
    if request.param:
        queues.flights.open(1_000_000)
    return queues


async def fill(queues: RedisQueues, *users: str) -> tuple[list[bytes], list[int]]:
    """Connected devices of these users with two waiting messages each; their handles, and the seqs."""
    handles = []
    for number, user in enumerate(users, 1):
        handles.append((await queues.connect(SITE, number, "d", [user])).devices[0].handle)
    seqs = [(await queues.send(make_message(SITE, list(users)))).seq for _ in range(2)]
    return handles, seqs


def bodies(valkey: Valkey) -> int:
    """The number of bodies that Redis holds."""
    return len(valkey.client.keys(f"{prefix(SITE.name)}body:*"))


async def test_the_fill_is_refused(queues: RedisQueues, valkey: Valkey) -> None:
    """A full Redis refuses a send and a connect: what the other tests of this file rely on."""
    with full(valkey):
        with pytest.raises(StoreUnavailable):
            await queues.send(make_message(SITE, "user_1"))
        with pytest.raises(StoreUnavailable):
            await queues.connect(SITE, 1, "d", ["user_1"])


async def test_acks(queues: RedisQueues, valkey: Valkey) -> None:
    """Acks are applied, and the bodies of acknowledged messages are freed."""
    handles, seqs = await fill(queues, "user_1", "user_2")
    with full(valkey):
        for seq in seqs:
            assert await queues.ack(SITE, [AckGroup(False, seq, handles)]) == []
    assert bodies(valkey) == 0


async def test_disconnect_and_expiry(queues: RedisQueues, valkey: Valkey) -> None:
    """Devices leave, and what they hold is freed once their time is over."""
    handles, _ = await fill(queues, "user_1", "user_2")
    with full(valkey):
        for number, handle in enumerate(handles, 1):
            assert await queues.disconnect(SITE, number, [(handle, 0)]) == [True]
        queues.now_ms = NOW_MS + 61_000
        assert (await queues.expire(SITE))[0] == 2
    assert bodies(valkey) == 0
    assert not valkey.client.keys(f"{prefix(SITE.name)}device:*")


async def test_an_expired_device_connects(queues: RedisQueues, valkey: Valkey) -> None:
    """A device that is past its time frees what it held by its own connect, and is let in."""
    handles, _ = await fill(queues, "user_1")
    await queues.disconnect(SITE, 1, [(handle, 0) for handle in handles])
    queues.now_ms = NOW_MS + 61_000
    with full(valkey):
        registration = await queues.connect(SITE, 2, "d", ["user_1"])
    assert registration.devices[0].waiting.entries == []
    assert bodies(valkey) == 0


async def test_burial_and_withdrawal(queues: RedisQueues, valkey: Valkey) -> None:
    """The connections of a dead node are taken out, and so is a connection whose registration failed."""
    await fill(queues, "user_1", "user_2")
    with full(valkey):
        await queues.withdraw(SITE, 1, "d", ["user_1"])
        has_more, _ = await queues.bury(SITE, "aa", NOW_MS)
        assert not has_more
    assert not valkey.client.exists(f"{prefix(SITE.name)}node:aa")


async def test_seats_and_streams_are_given_back(redis: Redis, valkey: Valkey) -> None:
    """A counted connection and a stream of topics end."""
    seats, topics = RedisSeats(redis, "aa"), RedisTopics(redis, "aa")
    for _ in range(2):
        await seats.take_seat(SITE, [("all", 5)])
        await topics.open(SITE, "me", 1, b"s", 60_000)
    with full(valkey):
        await seats.give_seat(SITE, ["all"])
        await topics.close(SITE, "me", 1, 1)
        await topics.close(SITE, "me", 0, 2)
        assert await topics.bury(SITE, "aa") == (False, [])
    assert valkey.client.hget(f"{prefix(SITE.name)}seats:aa", "all") == b"1"


async def test_a_node_shows_that_it_lives(redis: Redis, valkey: Valkey) -> None:
    """A node beats, so that a dead one is still told from it."""
    with full(valkey):
        await redis.run("beat", NODES, "aa", 7_000)
    assert valkey.client.zscore(NODES, "aa")


@pytest.mark.parametrize("is_connected", [True, False], ids=["replay", "connect"])
async def test_a_body_that_is_gone(queues: RedisQueues, valkey: Valkey, is_connected: bool) -> None:
    """A device whose waiting message has no body any more gets `_resync`, its queue is dropped, and it goes on."""
    handles, seqs = await fill(queues, "user_1")
    await queues.land(SITE)
    client: Any = valkey.client
    client.delete(f"{prefix(SITE.name)}body:{seqs[0]}")
    if is_connected:
        (device,) = (await queues.replay(SITE, 1, [(handles[0], 0)])).devices
        assert (device.state, device.waiting.entries) == ("resync", [])
        assert device.lost_seq == seqs[1]
    else:
        await queues.disconnect(SITE, 1, [(handle, 0) for handle in handles])
    registered = (await queues.connect(SITE, 2, "d", ["user_1"])).devices[0]
    assert (registered.is_lost, registered.waiting.entries) == (True, [])
    assert bodies(valkey) == 0
    later = (await queues.send(make_message(SITE, "user_1"))).seq
    (device,) = (await queues.replay(SITE, 2, [(handles[0], 0)])).devices
    assert [seq for seq, _ in device.waiting.entries] == [later]


async def test_a_known_device_connects(queues: RedisQueues, valkey: Valkey) -> None:
    """A device that is known gets its messages from a full Redis, also with other rooms: their acks make room."""
    handles, seqs = await fill(queues, "user_1")
    await queues.disconnect(SITE, 1, [(handle, 0) for handle in handles])
    with full(valkey):
        (device,) = (await queues.connect(SITE, 2, "d", ["user_1", "another"])).devices
    assert [seq for seq, _ in device.waiting.entries] == seqs


async def test_a_node_that_connects_is_served(redis: Redis, valkey: Valkey) -> None:
    """A node with a new link compares seqs, keeps its lease, takes seats, and checks and revokes tickets."""
    seats, lease = RedisSeats(redis, "aa"), "recado:worker:1:1"
    await redis.command("SET", lease, "aa", "PX", 60_000)
    with full(valkey):
        await redis.run("recover", prefix(SITE.name), "", "another run", 0, SITE.name, "0", 1_000)
        assert await redis.run("lease", lease, "aa", 60_000) == 1
        assert await seats.take_seat(SITE, [("all", 5)]) == 0
        await redis.run("ticket", prefix(SITE.name), "", "key", "user_1")
        await redis.run("revoke", prefix(SITE.name), "", 60_000, "user_1")
    assert valkey.client.pttl(lease) > 0


async def test_mailboxes(redis: Redis, valkey: Valkey) -> None:
    """Redis PUBLISH: the owner beats, parts are taken, acks remove, and unconfirmed messages wait again."""
    users, own = "rm:users:7:messages", "recado:redis_publish:{rm}:"
    client: Any = valkey.client
    client.rpush(users, "one", "two")
    join = ("7", "aa", 1, 5, 3_600, 1, 1_000, own, own)
    assert (await redis.run("mailbox_join", users, *join))[2:] == [1, b"one"]
    client.rpush(f"recado:{{{users}}}:told", "told")
    with full(valkey):
        await redis.run("publish_beat", own, "aa", 3_000, 4_000, "take", "1")
        assert (await redis.run("mailbox_take", users, "aa", 1, 1, 1_000, own, "7", "", "one"))[2:] == [0, b"two"]
        await redis.run("mailbox_confirm", users, "7", "", "two")
        assert await redis.run("mailbox_leave", users, "aa", "", 3_600) == 1
    assert client.lrange(users, 0, -1) == [b"told"]


async def test_a_device_hash_that_is_gone(queues: RedisQueues, valkey: Valkey) -> None:
    """A device whose hash was evicted connects, and its connection ends as any other."""
    handles, _ = await fill(queues, "user_1")
    valkey.client.delete(f"{prefix(SITE.name)}device:{handles[0].decode()}")
    (device,) = (await queues.connect(SITE, 2, "d", ["user_1"])).devices
    assert device.handle == handles[0]
    assert await queues.disconnect(SITE, 2, [(handle, 0) for handle in handles]) == [True]


async def test_a_lost_body_hinders_no_send(redis: Redis, valkey: Valkey) -> None:
    """The bytes of a queue are counted without a body that is gone."""
    queues = RedisQueues(redis, "aa", 5_000)
    site = make_site(**limits(1_000, 10_000))
    await queues.connect(site, 1, "d", ["user_1"])
    seq = (await queues.send(make_message(site, "user_1"))).seq
    valkey.client.delete(f"{prefix(site.name)}body:{seq}")
    assert [(await queues.send(make_message(site, "user_1"))).recipients for _ in range(2)] == [1, 1]
