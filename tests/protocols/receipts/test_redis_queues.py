"""Receipts read from a real Valkey: devices, queues, walks through many handles; each step bounded."""

from __future__ import annotations

import time
from typing import Any

import pytest

from app.config.settings import QueueLimit
from app.core.message import Message
from app.core.ports import ConnectNotes
from app.protocols.receipts.ports import Client, Scan, Steps
from app.protocols.receipts.redis_queues import RedisQueueReader
from app.store.keys import prefix
from tests.protocols.receipts.asking import OTHER, SITE
from tests.support.store import StoreNode, make_site, settled
from tests.support.valkey import Valkey

AGENT = "Mozilla/5.0 (X11; Linux x86_64) é"


def add_handles(valkey: Valkey, key: str, count: int) -> set[int]:
    """A hash of devices that are away, without the devices themselves."""
    client: Any = valkey.client
    numbers = range(1, count + 1)
    if count:
        client.hset(prefix(SITE.name) + key, mapping={str(number): "@0" for number in numbers})
    return set(numbers)


async def walk(reader: RedisQueueReader, key: str, limit: int) -> list[list[int]]:
    """The handles of all pages."""
    pages, scan = [], Scan()
    while True:
        part = await reader.handles(SITE, key, scan, limit, Steps(100))
        pages.append(part.handles)
        if part.next is None:
            return pages
        scan = part.next


@pytest.mark.parametrize("count", [0, 7, 1_000, 1_001, 30_000])
async def test_walks_meet_every_handle(reader: RedisQueueReader, valkey: Valkey, count: int) -> None:
    """Pages of few and of many handles hold each exactly once, and never more than asked for."""
    expected = add_handles(valkey, "user:user_1", count)
    pages = await walk(reader, "user:user_1", 70)
    found = [handle for page in pages for handle in page]
    assert len(found) == len(set(found))
    assert set(found) == expected
    assert max(map(len, pages)) <= 70


@pytest.mark.parametrize("key", ["user:user_1", "devices"])
@pytest.mark.parametrize("count", [0, 7, 1_000, 1_001, 30_000])
async def test_walks_meet_every_handle_in_a_state(
    reader: RedisQueueReader, valkey: Valkey, key: str, count: int
) -> None:
    """Pages hold each device in a state exactly once, of a user or of all; a page looks at a bounded number of devices,
    so that those of few among many are short, and go on."""
    client: Any = valkey.client
    handles = add_handles(valkey, "user:user_1", count)
    connected = {handle for handle in handles if handle % 300 == 7}
    if handles:
        names = {f"6:user_1:d{handle}": handle for handle in handles}
        client.hset(prefix(SITE.name) + "devices", mapping=names)
        client.hset(prefix(SITE.name) + "user:user_1", mapping={str(handle): "aa,bb" for handle in connected})
    for handle in connected:
        client.rpush(f"{prefix(SITE.name)}queue:{handle}", 1)
        client.hset(f"{prefix(SITE.name)}device:{handle}", "lost", 1)
    for state in ("connected", "waiting", "resync", "away"):
        found, scan = list[int](), Scan()
        while True:
            steps = Steps(3)
            part = await reader.handles_in_state(SITE, key, state, scan, 70, steps)
            assert len(part.handles) <= 70
            found += part.handles
            if part.next is None:
                break
            scan = part.next
        assert len(found) == len(set(found))
        assert set(found) == (handles - connected if state == "away" else connected)


async def test_walk_of_few_meets_what_stays(reader: RedisQueueReader, valkey: Valkey) -> None:
    """Handles that come and go between two pages hide no other."""
    add_handles(valkey, "user:user_1", 50)
    client: Any = valkey.client
    first = await reader.handles(SITE, "user:user_1", Scan(), 20, Steps(100))
    client.hdel(prefix(SITE.name) + "user:user_1", *map(str, range(1, 21)))
    client.hset(prefix(SITE.name) + "user:user_1", mapping={"900": "@0"})
    assert first.next
    second = await reader.handles(SITE, "user:user_1", first.next, 100, Steps(100))
    assert first.handles + second.handles == [*range(1, 51), 900]


async def test_a_walk_ends_with_its_budget(reader: RedisQueueReader, valkey: Valkey) -> None:
    """A request that has used its steps up answers what it has, and where to go on."""
    add_handles(valkey, "user:user_1", 30_000)
    steps = Steps(4)
    part = await reader.handles(SITE, "user:user_1", Scan(), 1_000_000, steps)
    assert steps.are_used_up
    assert part.next
    assert 1_000 < len(part.handles) < 3_000


async def test_rest_of_a_part(reader: RedisQueueReader, valkey: Valkey) -> None:
    """A page that shows fewer handles than it read goes on behind the last one that it shows."""
    expected = add_handles(valkey, "user:user_1", 5_000)
    scan: Scan | None = Scan()
    found: list[int] = []
    while scan is not None:
        part = await reader.handles(SITE, "user:user_1", scan, 100, Steps(100))
        shown = part.handles[:33]
        found += shown
        scan = part.rest(len(shown), scan)
    assert len(found) == len(expected)
    assert set(found) == expected


async def test_facts_of_devices(reader: RedisQueueReader, node: StoreNode) -> None:
    """A device has its names, its nodes, its queue with bytes and age, its client; a handle of nobody has none."""
    now = int(time.time() * 1000)
    node.queues.now_ms = now - 60_000
    registration = await node.queues.connect(
        SITE, 1, "phone", ["user_1", "News"], ConnectNotes(client=f"websocket 4 {AGENT}")
    )
    handle = registration.devices[0].handle
    body = await node.publish(SITE, "user_1")
    node.queues.now_ms = now
    await node.publish(SITE, "user_1", body=b"[1]")
    reader.now_ms = now
    device, nobody = await reader.describe_devices(SITE, [int(handle), 99], Steps(9))
    assert nobody is None
    assert device
    assert (device.user, device.device, device.nodes) == ("user_1", "phone", [node.name])
    assert (device.messages, device.bytes, device.oldest_age_ms) == (2, len(body) + 3, 60_000)
    assert device.client == Client(now - 60_000, "websocket", 4, AGENT)
    assert (device.is_lost, device.written_seq, device.acked_ms, device.rooms) == (False, 0, None, None)
    assert await reader.user_rooms(SITE, ["user_1", "nobody"]) == [["news", "user_1"], []]
    assert await reader.find_device(SITE, "user_1", "phone") == int(handle)
    assert await reader.find_device(SITE, "user_1", "tablet") is None
    await node.queues.disconnect(SITE, 1, [(handle, 0)])
    (away,) = await reader.describe_devices(SITE, [int(handle)], Steps(9))
    assert away
    assert away.nodes == []
    assert away.deadline_ms == now + SITE.device_ttl_seconds * 1000


async def test_bytes_of_a_counted_queue(reader: RedisQueueReader, node: StoreNode, valkey: Valkey) -> None:
    """A queue that is long enough to be counted has the same bytes."""
    site = make_site(SITE.name, queue_limit=QueueLimit(messages=100, bytes=2_000_000))
    registration = await node.queues.connect(site, 1, "d", ["user_1"])
    sizes = [len(await node.publish(site, "user_1")) for _ in range(5)]
    assert prefix(site.name) + "bytes" in valkey.dump()
    (device,) = await reader.describe_devices(site, [int(registration.devices[0].handle)], Steps(9))
    assert device
    assert (device.messages, device.bytes) == (5, sum(sizes))


async def test_many_long_queues_are_described_in_steps(reader: RedisQueueReader, node: StoreNode) -> None:
    """One run reads the sizes of a bounded number of messages; further devices follow in further steps."""
    site = make_site(SITE.name, queue_limit=QueueLimit(messages=1_000, bytes=1_000_000_000))
    handles = []
    for number in range(40):
        registration = await node.queues.connect(site, number, f"d{number}", ["user_1"])
        handles.append(int(registration.devices[0].handle))
    size = sum([len(await node.publish(site, "user_1")) for _ in range(150)])
    steps = Steps(100)
    described = await reader.describe_devices(SITE, handles, steps)
    assert [(device.messages, device.bytes) for device in described if device] == [(150, size)] * 40
    assert 100 - steps.left == 4
    assert len(await reader.describe_devices(SITE, handles, Steps(0))) == 0


async def test_parts_of_a_queue(reader: RedisQueueReader, node: StoreNode) -> None:
    """A queue is read in its order, from behind any seq, in parts of any size."""
    receiver = await node.open(SITE, "user_1")
    assert receiver.connection
    handle = int(receiver.connection.handles[0])
    events = [f"event{number}" for number in range(25)]
    for event in events:
        await node.publish(SITE, "user_1", event)
    found, after = [], 0
    while True:
        part = await reader.queue(SITE, handle, after, 10)
        found += part.messages
        if not part.has_more:
            break
        after = part.messages[-1].seq
    assert [message.event for message in found] == events
    assert [message.seq for message in found] == await reader.queued_seqs(SITE, handle, Steps(9))
    assert (await reader.queue(SITE, handle, found[-1].seq, 10)).messages == []
    assert all(message.age_ms >= 0 and message.bytes for message in found)
    assert (await reader.queue(SITE, 99, 0, 10)).messages == []


async def test_holders(reader: RedisQueueReader, node: StoreNode) -> None:
    """Of many devices those are found that have the message in their queue, and stand in no earlier hash."""
    receivers = [await node.open(SITE, "user_1", f"d{number}") for number in range(5)]
    late = await node.open(SITE, ["user_2", "news"])
    handles = [int(receiver.connection.handles[0]) for receiver in [*receivers, late] if receiver.connection]
    message = Message(SITE, 1, ["user_1", "user_2"], "news", b'["news"]')
    seq = (await node.delivery.publish(message)).seq
    node.ack(receivers[1], seq)
    await settled(node)
    part = await reader.holders(SITE, seq, handles, [], Steps(9))
    assert (part.looked_at, part.handles) == (6, [handle for handle in handles if handle != handles[1]])
    part = await reader.holders(SITE, seq, handles, ["user:user_2", "room:nobody"], Steps(9))
    assert part.handles == [handles[0], *handles[2:5]]
    assert (await reader.holders(SITE, seq, handles, [], Steps(0))).looked_at == 0


async def test_another_site_knows_nothing(reader: RedisQueueReader, node: StoreNode) -> None:
    """Handles and names of one site mean nothing in another."""
    await node.open(SITE, "user_1", "phone")
    seq = (await node.delivery.publish(Message(SITE, 5, ["user_1"], "news", b'["news"]'))).seq
    assert await reader.find_device(OTHER, "user_1", "phone") is None
    assert await reader.describe_devices(OTHER, [1], Steps(9)) == [None]
    assert await reader.describe_messages(OTHER, [seq], Steps(9)) == [None]
    assert (await reader.waiting_seqs(OTHER, None, 100)).seqs == []
    assert await reader.user_rooms(OTHER, ["user_1"]) == [[]]
