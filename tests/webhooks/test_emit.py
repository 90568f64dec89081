"""Events that scripts put into the outbox: lost queues once for each loss, within the bounds, and only those wanted."""

from __future__ import annotations

import json
from typing import Any

from app.config.settings import HookEvent, Site, WebhookSettings
from app.redis.client import Redis
from app.store.keys import prefix
from app.store.queues import RedisQueues
from app.webhooks.event import post_body
from app.webhooks.redis_outbox import HookOutbox
from tests.support.store import StoreNode, limits, make_message, make_site, settled
from tests.support.valkey import Valkey


def hooked(*events: HookEvent, **settings: Any) -> Site:
    """A site whose webhook wants these events."""
    return make_site(webhook=WebhookSettings(url="http://127.0.0.1/", secrets=("whsec_",), events=events), **settings)


def events_in(valkey: Valkey, site: Site) -> list[tuple[str, dict[str, Any]]]:
    """The types and data of the events in the outbox."""
    entries: Any = valkey.client
    return [
        (fields[b"type"].decode(), json.loads(fields[b"data"]))
        for _, fields in entries.xrange(prefix(site.name) + "hooks")
    ]


async def test_a_full_queue_is_told_once(redis: Redis, valkey: Valkey) -> None:
    """A queue that runs over is told with its reason, and not again until the device has its `_resync`."""
    site = hooked("device.resync", **limits(messages=2))
    await HookOutbox(redis, "aa", site).set_up()
    queues = RedisQueues(redis, "aa", 1_000)
    registration = await queues.connect(site, 1, "d", ["user_1"])
    (handle,) = [device.handle for device in registration.devices]
    for _ in range(8):
        await queues.send(make_message(site, "user_1"))
    loss = ("device.resync", {"user": "user_1", "device": "d", "reason": "queue full"})
    assert events_in(valkey, site) == [loss]
    await queues.settle(site, 2**52, [handle])
    for _ in range(3):
        await queues.send(make_message(site, "user_1"))
    assert events_in(valkey, site) == [loss, loss]


async def test_an_ack_out_of_turn_is_told(valkey: Valkey) -> None:
    """The loss that a `resync=true` ack out of turn brings is told."""
    site = hooked("device.resync")
    node = await StoreNode.start(valkey, [site])
    try:
        await HookOutbox(node.redis, node.name, site).set_up()
        client = await node.open(site, "user_1")
        for _ in range(2):
            stored = await node.queues.send(make_message(site, "user_1", resync=True))
        assert client.connection
        client.connection.receive_ack(stored.seq)
        await settled(node)
        assert events_in(valkey, site) == [
            ("device.resync", {"user": "user_1", "device": "d", "reason": "ack out of turn"})
        ]
    finally:
        await node.close()


async def test_messages_that_redis_lost_are_told(redis: Redis, valkey: Valkey) -> None:
    """Devices that get a `_resync` after Redis came back older are told; the events' seqs jump."""
    site = hooked("device.resync", "user.online")
    await HookOutbox(redis, "aa", site).set_up()
    queues = RedisQueues(redis, "aa", 1_000)
    await queues.connect(site, 1, "d", ["user_1"])
    stored = await queues.send(make_message(site, "user_1"))
    client: Any = valkey.client
    client.hset(prefix(site.name) + "run", mapping={"id": "old"})
    before = int(client.get(prefix(site.name) + "hook_seq"))
    queues.note_seq(site.name, stored.seq + 1)
    await queues._recover("new", redis.run)
    assert events_in(valkey, site)[1:] == [
        ("device.resync", {"user": "user_1", "device": "d", "reason": "redis lost data"})
    ]
    assert int(client.get(prefix(site.name) + "hook_seq")) == before + 1_000_001


async def test_events_that_nobody_wants_leave_nothing(redis: Redis, valkey: Valkey) -> None:
    """A site whose webhook names other events has no event, no count and no state of its users in Redis."""
    site = hooked("message.acknowledged", **limits(messages=1))
    await HookOutbox(redis, "aa", site).set_up()
    queues = RedisQueues(redis, "aa", 1_000)
    await queues.connect(site, 1, "d", ["user_1"])
    for _ in range(3):
        await queues.send(make_message(site, "user_1"))
    names = {key.removeprefix(prefix(site.name)) for key in valkey.dump()}
    assert {name for name in names if "hook" in name or name in ("online", "leaving")} == {"hook_events", "hook_grace"}


async def test_the_outbox_is_bounded(redis: Redis, valkey: Valkey) -> None:
    """Past 10,000 events the oldest go and are counted; the seqs of the others are as they were."""
    site = hooked("user.online")
    outbox = HookOutbox(redis, "aa", site)
    await outbox.set_up()
    queues = RedisQueues(redis, "aa", 1_000)
    client: Any = valkey.client
    with client.pipeline(transaction=False) as pipe:
        for number in range(9_999):
            pipe.xadd(prefix(site.name) + "hooks", {"seq": number, "type": "t", "at": 1, "user": "", "data": "{}"})
        pipe.hset(prefix(site.name) + "hook_counts", "bytes", 2 * 9_999)
        pipe.set(prefix(site.name) + "hook_seq", 9_998)
        pipe.execute()
    for number in range(3):
        await queues.connect(site, number, "d", [f"user_{number}"])
    events = await outbox.read(b"", 20_000)
    assert [event.seq for event in events] == list(range(2, 10_002))
    state = await outbox.beat(1_000)
    assert state is not None
    assert (state.waiting, state.dropped) == (10_000, 2)


async def test_an_event_is_json_whatever_its_names_hold(redis: Redis) -> None:
    """Half a pair, quotes and slashes in names are in the POST as JSON texts."""
    site = hooked("device.resync", **limits(messages=1))
    outbox = HookOutbox(redis, "aa", site)
    await outbox.set_up()
    user, device = 'user_"/\\\n', 'd"/\ud83d'
    queues = RedisQueues(redis, "aa", 1_000)
    await queues.connect(site, 1, device, [user])
    for _ in range(2):
        await queues.send(make_message(site, user))
    (event,) = await outbox.read(b"", 10)
    (told,) = json.loads(post_body([event], 1_000))["data"]["events"]
    assert (told["type"], told["user"], told["device"], told["seq"]) == ("device.resync", user, device, event.seq)
    assert event.users == {user}


async def test_a_device_that_is_dropped_by_hand(redis: Redis, valkey: Valkey) -> None:
    """A connected device that an operator forgets leaves its user without one; one that only loses its queue has that
    told."""
    site = hooked("user.offline", "device.resync", "user.online")
    outbox = HookOutbox(redis, "aa", site)
    await outbox.set_up()
    queues = RedisQueues(redis, "aa", 1_000)
    await queues.connect(site, 1, "d", ["user_1"])
    assert await queues.forget_device(site, "user_1", "d", resync=True)
    assert events_in(valkey, site)[1:] == [("device.resync", {"user": "user_1", "device": "d", "reason": "asked for"})]
    await queues.connect(site, 2, "e", ["user_1"])
    assert await queues.forget_device(site, "user_1", "d", resync=False)
    client: Any = valkey.client
    assert not client.exists(prefix(site.name) + "leaving")
    assert await queues.forget_device(site, "user_1", "e", resync=False)
    assert client.zrange(prefix(site.name) + "leaving", 0, -1) == [b"user_1"]
    outbox.now_ms = int(client.time()[0] * 1000) + 60_000
    await outbox.beat(1_000)
    assert events_in(valkey, site)[-1] == ("user.offline", {"user": "user_1", "devices": 0})
    assert not client.exists(prefix(site.name) + "online", prefix(site.name) + "leaving")


async def test_users_that_left_while_nothing_told_it(redis: Redis, valkey: Valkey) -> None:
    """When no node has served the site for a while, users that have no device any more are found and told."""
    site = hooked("user.online", "user.offline")
    outbox = HookOutbox(redis, "aa", site)
    await outbox.set_up()
    queues = RedisQueues(redis, "aa", 1_000)
    here, gone = [await queues.connect(site, number, "d", [f"user_{number}"]) for number in (1, 2)]
    client: Any = valkey.client
    client.delete(prefix(site.name) + "hook_events")
    await queues.disconnect(site, 2, [(device.handle, 0) for device in gone.devices])
    assert len(here.devices) == 1
    assert len(events_in(valkey, site)) == 2
    await outbox.beat(60_000)
    outbox.now_ms = int(client.time()[0] * 1000) + 60_000
    await outbox.beat(60_000)
    assert events_in(valkey, site)[2:] == [("user.offline", {"user": "user_2", "devices": 0})]
