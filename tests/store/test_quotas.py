"""Shares of the store: what waits for the devices of a site, and how many devices of one user are known."""

from __future__ import annotations

from typing import Any

import pytest

from app.config.settings import Site, SiteLimits
from app.core.ports import AckGroup
from app.errors import LimitReached
from app.redis.client import Redis
from app.store.keys import prefix
from app.store.queues import RedisQueues
from tests.support.store import StoreNode, limits, make_message, make_site
from tests.support.valkey import Valkey

START_MS = 1_800_000_000_000
BODY = b'["news",12345]'


@pytest.fixture
def queues(redis: Redis) -> RedisQueues:
    """The store of one node, with a clock that the test sets."""
    store = RedisQueues(redis, "aa", 1_000_000)
    store.now_ms = START_MS
    return store


def site_with(name: str = "shop", **shares: float) -> Site:
    """A site with these limits."""
    return make_site(name, limits=SiteLimits(**shares), device_ttl_seconds=60)  # type: ignore[arg-type]  # whole numbers


async def connected(queues: RedisQueues, site: Site, *users: str) -> list[bytes]:
    """The handles of connected devices of these users."""
    return [(await queues.connect(site, n, "d", [user])).devices[0].handle for n, user in enumerate(users, 1)]


async def send(queues: RedisQueues, site: Site, *users: str) -> int:
    """The seq of a stored message."""
    return (await queues.send(make_message(site, list(users), body=BODY))).seq


def stored(valkey: Valkey) -> dict[str, str]:
    """The counts of the site."""
    counts: dict[str, str] = valkey.dump().get(prefix("shop") + "stored", {})
    return counts


@pytest.mark.parametrize(
    ("shares", "limit"),
    [({"stored_messages": 3}, "stored_messages"), ({"stored_bytes": 3 * len(BODY)}, "stored_bytes")],
)
async def test_a_site_stores_its_share(queues: RedisQueues, valkey: Valkey, shares: dict[str, Any], limit: str) -> None:
    """A message counts once for all its devices, past the limit nothing is stored, and an ack by all makes room."""
    site = site_with(**shares)
    handles = await connected(queues, site, "user_1", "user_2")
    seqs = [await send(queues, site, "user_1", "user_2") for _ in range(3)]
    with pytest.raises(LimitReached, match="Too much is waiting") as caught:
        await send(queues, site, "user_1")
    assert (caught.value.limit, caught.value.status, caught.value.retry_after_seconds) == (limit, 429, None)
    assert stored(valkey) == {"messages": "3", "bytes": str(3 * len(BODY))}
    await queues.ack(site, [AckGroup(False, seqs[0], handles[:1])])
    with pytest.raises(LimitReached):
        await send(queues, site, "user_1")
    await queues.ack(site, [AckGroup(False, seqs[0], handles[1:])])
    seqs.append(await send(queues, site, "user_1"))
    await queues.ack(site, [AckGroup(False, seq, handles) for seq in seqs[1:]])
    assert stored(valkey) == {}


async def test_every_end_of_a_message_is_counted(queues: RedisQueues, valkey: Valkey) -> None:
    """Expiry, a queue that runs over, and a lost body leave the counts right; a message for nobody does not count."""
    site = make_site(limits=SiteLimits(stored_messages=100), device_ttl_seconds=60, **limits(3))
    handles = await connected(queues, site, "user_1", "user_2")
    for _ in range(4):
        await send(queues, site, "user_1")
    assert stored(valkey) == {}
    await send(queues, site, "user_nobody")
    for _ in range(2):
        await send(queues, site, "user_2")
    assert stored(valkey) == {"messages": "2", "bytes": str(2 * len(BODY))}
    for number, handle in enumerate(handles, 1):
        await queues.disconnect(site, number, [(handle, 0)])
    queues.now_ms = START_MS + 61_000
    assert (await queues.expire(site))[0] == 2
    assert stored(valkey) == {}


async def test_a_limit_that_is_new(queues: RedisQueues, valkey: Valkey) -> None:
    """Messages from before the limit do not count, neither when they are stored nor when they go."""
    before, after = site_with(), site_with(stored_messages=1)
    handles = await connected(queues, before, "user_1")
    old = await send(queues, before, "user_1")
    assert stored(valkey) == {}
    new = await send(queues, after, "user_1")
    await queues.ack(after, [AckGroup(False, old, handles)])
    assert stored(valkey)["messages"] == "1"
    await queues.ack(before, [AckGroup(False, new, handles)])
    assert stored(valkey) == {}


async def test_a_refusal_spends_no_rate(queues: RedisQueues) -> None:
    """A send that the quota refuses does not count as a send; the rate holds beside the quota."""
    site = site_with(stored_messages=1, sends_per_second=1, sends_burst=2)
    handles = await connected(queues, site, "user_1")
    seq = await send(queues, site, "user_1")
    for _ in range(3):
        with pytest.raises(LimitReached, match="Too much is waiting"):
            await send(queues, site, "user_1")
    await queues.ack(site, [AckGroup(False, seq, handles)])
    await send(queues, site, "user_nobody")
    with pytest.raises(LimitReached, match="Too many messages"):
        await send(queues, site, "user_nobody")


async def test_sites_without_queues_store_nothing(queues: RedisQueues) -> None:
    """Where no message is kept, the limit refuses none."""
    plain = make_site("plain", user_room_prefix=None, limits=SiteLimits(stored_bytes=1))
    assert (await queues.publish(make_message(plain, "a"))).seq


async def test_the_device_that_is_longest_away_goes(queues: RedisQueues, valkey: Valkey) -> None:
    """A user has at most so many devices; the one that went comes back with `_resync`, whoever is away by then."""
    site = site_with(devices_per_user=3)
    for number, device in enumerate("abc"):
        (one,) = (await queues.connect(site, number, device, ["user_1", "room"])).devices
        assert not one.is_lost
        await queues.disconnect(site, number, [(one.handle, 0)])
        queues.now_ms = int(queues.now_ms) + 1
    await send(queues, site, "user_1")
    (new,) = (await queues.connect(site, 9, "new", ["user_1", "room"])).devices
    assert new.is_lost
    assert len(valkey.dump()[prefix("shop") + "user:user_1"]) == 3
    assert sorted(valkey.dump()[prefix("shop") + "devices"]) == ["6:user_1:b", "6:user_1:c", "6:user_1:new"]
    (back,) = (await queues.connect(site, 10, "a", ["user_1", "room"])).devices
    assert (back.is_lost, back.waiting.entries) == (True, [])
    (kept,) = (await queues.connect(site, 11, "c", ["user_1", "room"])).devices
    assert (kept.is_lost, len(kept.waiting.entries)) == (False, 1)


async def test_connected_devices_stay(queues: RedisQueues) -> None:
    """A device with a connection never goes for another; connections have a limit of their own."""
    site = site_with(devices_per_user=2)
    for number in range(4):
        await queues.connect(site, number, str(number), ["user_1"])
    assert (await queues.send(make_message(site, "user_1"))).recipients == 4


async def test_visitors_of_the_public_channel_are_no_user(queues: RedisQueues) -> None:
    """The public channel is shared: its devices belong to many people."""
    site = make_site(public_channel="public", limits=SiteLimits(devices_per_user=1))
    for number in range(3):
        (one,) = (await queues.connect(site, number, str(number), ["public"])).devices
        await queues.disconnect(site, number, [(one.handle, 0)])
    assert (await queues.send(make_message(site, "public"))).recipients == 3


async def test_many_devices_of_before_go_soon(queues: RedisQueues) -> None:
    """A user who has far more devices than a new limit allows has as many as it allows after the next connect."""
    before, after = site_with(devices_per_user=0), site_with(devices_per_user=5)
    for number in range(100):
        (one,) = (await queues.connect(before, number, str(number), ["user_1"])).devices
        await queues.disconnect(before, number, [(one.handle, 0)])
    await queues.connect(after, 1, "new", ["user_1"])
    assert (await queues.send(make_message(after, "user_1"))).recipients == 5


async def test_rooms_of_a_send(valkey: Valkey) -> None:
    """A message to more rooms than allowed is refused, with a text that says so; 0 is no limit."""
    site, free = site_with(rooms_per_send=2), site_with("free", rooms_per_send=0)
    node = await StoreNode.start(valkey, [site, free])
    try:
        await node.delivery.publish(make_message(site, ["a", "b"]))
        with pytest.raises(LimitReached, match="expected at most 2 in one message, got 3") as caught:
            await node.delivery.publish(make_message(site, ["a", "b", "c"]))
        assert (caught.value.limit, caught.value.status) == ("rooms_per_send", 413)
        await node.delivery.publish(make_message(free, [str(number) for number in range(1_001)]))
    finally:
        await node.close()
