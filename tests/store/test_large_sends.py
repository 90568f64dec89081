"""Messages to very many devices: stored in parts and accepted at once, whatever happens meanwhile."""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from typing import Any

import pytest

from app.core.ports import Stored
from app.errors import StoreUnavailable
from app.redis.client import Redis
from app.store.keys import prefix
from app.store.queues import RedisQueues
from tests.support.store import RecordingReceiver, StoreNode, heard, limits, make_message, make_site, settled
from tests.support.valkey import Valkey
from tests.support.waiting import until

SITE = make_site()
#: Longer than the lease of a message.
LATER_MS = 4_000


@pytest.fixture(autouse=True)
def hashes_in_parts(valkey: Valkey) -> Iterator[None]:
    """HSCAN answers small hashes whole while they are packed."""
    client: Any = valkey.client
    usual = client.config_get("hash-max-listpack-entries")
    client.config_set("hash-max-listpack-entries", 1)
    yield
    client.config_set("hash-max-listpack-entries", usual["hash-max-listpack-entries"])


@pytest.fixture
async def node(valkey: Valkey) -> AsyncIterator[StoreNode]:
    """A node that stores each message in parts of about two devices."""
    node = await StoreNode.start(valkey, [SITE])
    in_parts(node.queues)
    yield node
    await node.close()


def in_parts(queues: RedisQueues, large_from: int = 0) -> None:
    """Have messages to more devices than this stored in small parts."""
    queues.large.large_from, queues.large.part = large_from, 2


def pause(queues: RedisQueues, script: str, monkeypatch: pytest.MonkeyPatch) -> tuple[asyncio.Event, asyncio.Event]:
    """Stop before each run of this script of a large message: set when it is reached, and to be set to go on."""
    reached, go_on = asyncio.Event(), asyncio.Event()
    run = queues.large._run

    async def run_later(name: str, *words: Any) -> Any:
        if name == script:
            reached.set()
            await go_on.wait()
        return await run(name, *words)

    monkeypatch.setattr(queues.large, "_run", run_later)
    return reached, go_on


async def open_many(node: StoreNode, count: int) -> list[RecordingReceiver]:
    """Connected devices in one room."""
    return [await node.open(SITE, [f"user_{number}", "room"]) for number in range(count)]


def left(valkey: Valkey) -> list[str]:
    """The keys that a large message has while it is stored."""
    return [key for key in valkey.dump() if ":large" in key]


async def test_all_devices_get_it_once(node: StoreNode, valkey: Valkey) -> None:
    """However many parts and rooms, each device has it once, in its queue and live; it is answered as any other."""
    receivers = await open_many(node, 25)
    stored = await node.queues.send(make_message(SITE, ["room", "user_3", "ROOM"], body=b"large"))
    assert (stored.recipients, stored.overflowed) == (25, 0)
    for receiver in receivers:
        assert await heard(receiver, 1) == [b"large"]
        assert receiver.seqs == [stored.seq]
        node.ack(receiver, stored.seq)
    await settled(node)
    assert left(valkey) == []
    assert not [key for key in valkey.dump() if ":body:" in key or ":queue:" in key]


async def test_nobody_sees_it_before_all_have_it(
    node: StoreNode, valkey: Valkey, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Until it is accepted no device reads it, and other sends of the site wait; then all hear all, in order."""
    receivers = await open_many(node, 6)
    gone = receivers.pop()
    node.close_connection(gone)
    await settled(node)
    reached, go_on = pause(node.queues, "fan_out_commit", monkeypatch)
    large = asyncio.ensure_future(node.publish(SITE, "room", body=b"large"))
    await reached.wait()
    early = await node.open(SITE, ["user_5", "room"])
    second = await node.open(SITE, ["user_1", "room"])
    small = asyncio.ensure_future(node.publish(SITE, "room", body=b"small"))
    node.delivery.bus_interrupted()
    await settled(node)
    assert [receiver.bodies for receiver in (*receivers, early, second)] == [[]] * 7
    assert not small.done()
    go_on.set()
    await asyncio.gather(large, small)
    for receiver in (*receivers, early, second):
        assert await heard(receiver, 2) == [b"large", b"small"]
        assert receiver.seqs == sorted(receiver.seqs)
    assert left(valkey) == []


async def test_node_that_dies_before_it_is_accepted(
    node: StoreNode, valkey: Valkey, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nobody gets the message, later ones are accepted, no seq is used twice, and devices that had a part of it are
    told `_resync`."""
    await open_many(node, 4)
    reached, _ = pause(node.queues, "fan_out_commit", monkeypatch)
    now_ms = node.queues.now_ms = valkey.clock_ms()
    large = asyncio.ensure_future(node.publish(SITE, "room", body=b"large"))
    await reached.wait()
    last = int(valkey.client.get(prefix("shop") + "seq") or 0)
    async with other_node(valkey) as other:
        other.queues.now_ms = now_ms + LATER_MS
        stored = await other.queues.send(make_message(SITE, "user_nobody"))
        assert stored.seq > (last or stored.seq - 2) + 1
        again = await other.open(SITE, ["user_1", "room"])
        assert "resync" in again.kinds
        assert again.bodies == []
    assert not [key for key in valkey.dump() if ":body:" in key and "large" in str(valkey.dump()[key])]
    assert left(valkey) == []
    large.cancel()


def other_node(valkey: Valkey) -> Any:
    """Another node, closed after the block."""

    class Other:
        async def __aenter__(self) -> StoreNode:
            self.node = await StoreNode.start(valkey, [SITE])
            return self.node

        async def __aexit__(self, *_: object) -> None:
            await self.node.close()

    return Other()


async def test_node_that_dies_behind_it(node: StoreNode, valkey: Valkey, monkeypatch: pytest.MonkeyPatch) -> None:
    """A message that was accepted and not told reaches connected devices of other nodes before the next one does."""
    async with other_node(valkey) as other:
        receivers = await open_many(other, 4)
        first = await other.publish(SITE, "room", body=b"first")
        for receiver in receivers:
            assert await heard(receiver, 1) == [first]
        reached, _ = pause(node.queues, "fan_out_tell", monkeypatch)
        now_ms = node.queues.now_ms = valkey.clock_ms()
        large = asyncio.ensure_future(node.publish(SITE, "room", body=b"large"))
        await reached.wait()
        other.queues.now_ms = now_ms + LATER_MS
        await other.publish(SITE, "room", body=b"next")
        for receiver in receivers:
            assert await heard(receiver, 3) == [b"first", b"large", b"next"]
        large.cancel()
    assert left(valkey) == []


async def test_expiry_ends_it_too(node: StoreNode, valkey: Valkey, monkeypatch: pytest.MonkeyPatch) -> None:
    """A site in which nobody sends any more hears of a message whose node has died."""
    receivers = await open_many(node, 3)
    reached, _ = pause(node.queues, "fan_out_tell", monkeypatch)
    node.queues.now_ms = valkey.clock_ms()
    large = asyncio.ensure_future(node.publish(SITE, "room", body=b"large"))
    await reached.wait()
    node.queues.now_ms = int(node.queues.now_ms) + LATER_MS
    await node.queues.expire(SITE)
    node.queues.now_ms = ""
    for receiver in receivers:
        assert await heard(receiver, 1) == [b"large"]
    large.cancel()
    assert left(valkey) == []


@pytest.mark.parametrize("is_accepted", [True, False])
async def test_answer_that_is_lost(
    node: StoreNode, valkey: Valkey, monkeypatch: pytest.MonkeyPatch, is_accepted: bool
) -> None:
    """When the link breaks at the last step the sender learns whether the message is stored: never 503 for a message
    that devices get, nor 200 for one that they do not get."""
    receivers = await open_many(node, 3)
    run = node.queues.large._run

    async def break_commit(name: str, *words: Any) -> Any:
        if name != "fan_out_commit":
            return await run(name, *words)
        if is_accepted:
            await run(name, *words)
        raise StoreUnavailable

    monkeypatch.setattr(node.queues.large, "_run", break_commit)
    if is_accepted:
        stored = await node.queues.send(make_message(SITE, "room", body=b"large"))
        assert isinstance(stored, Stored)
        assert stored.recipients == 3
        for receiver in receivers:
            assert await heard(receiver, 1) == [b"large"]
    else:
        with pytest.raises(StoreUnavailable):
            await node.queues.send(make_message(SITE, "room", body=b"large"))
        again = await node.open(SITE, ["user_1", "room"])
        assert again.bodies == []
    assert left(valkey) == []


async def test_caller_that_goes_away(node: StoreNode, monkeypatch: pytest.MonkeyPatch) -> None:
    """A message that has begun is stored though nobody waits for the answer."""
    receivers = await open_many(node, 3)
    reached, go_on = pause(node.queues, "fan_out_commit", monkeypatch)
    large = asyncio.ensure_future(node.publish(SITE, "room", body=b"large"))
    await reached.wait()
    large.cancel()
    go_on.set()
    for receiver in receivers:
        assert await heard(receiver, 1) == [b"large"]


async def test_queues_that_run_over(valkey: Valkey) -> None:
    """A queue that a large message runs over is dropped, its device gets `_resync`, and the others get the message."""
    site = make_site(**limits(2))
    node = await StoreNode.start(valkey, [site])
    full = await node.open(site, ["user_1", "room"])
    free = await node.open(site, ["user_2", "room"])
    await node.publish(site, "user_1", body=b"1")
    await node.publish(site, "user_1", body=b"2")
    in_parts(node.queues)
    stored = await node.queues.send(make_message(site, ["room", "user_1", "user_2"], body=b"large"))
    assert (stored.recipients, stored.overflowed) == (1, 1)
    await until(lambda: "resync" in full.kinds, "the resync")
    assert await heard(free, 1) == [b"large"]
    assert full.bodies == [b"1", b"2"]
    await node.close()


async def test_device_in_several_rooms_with_a_nearly_full_queue(valkey: Valkey) -> None:
    """A device that is met again in its second room has the message once, and its queue does not run over for that."""
    site = make_site(**limits(2))
    node = await StoreNode.start(valkey, [site])
    receiver = await node.open(site, ["user_1", "room"])
    await node.publish(site, "user_1", body=b"1")
    in_parts(node.queues)
    stored = await node.queues.send(make_message(site, ["room", "user_1", "ROOM"], body=b"large"))
    assert (stored.recipients, stored.overflowed) == (1, 0)
    assert await heard(receiver, 2) == [b"1", b"large"]
    assert "resync" not in receiver.kinds
    await node.close()


async def test_message_that_is_withdrawn_before_it_is_told(
    node: StoreNode, valkey: Valkey, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A device hears nothing of a message that was taken out of its queue before its node was told."""
    receivers = await open_many(node, 5)
    reached, go_on = pause(node.queues, "fan_out_tell", monkeypatch)
    message = make_message(SITE, ["room"], body=b"large")
    sending = asyncio.ensure_future(node.queues.send(message))
    await reached.wait()
    cursor, taken = b"0", 0
    while (answer := await node.queues.withdraw_message(SITE, message.id, cursor)) is not None:
        cursor, taken = answer[0], taken + answer[1]
        if cursor == b"0":
            break
    go_on.set()
    await sending
    await node.publish(SITE, "room", body=b"next")
    for receiver in receivers:
        assert await heard(receiver, 1) == [b"next"]
    assert taken == 5


async def test_whatever_happens_meanwhile(node: StoreNode, valkey: Valkey, chance: random.Random) -> None:
    """Devices come, go and acknowledge while large and small messages are sent: each device that is there has all of
    them, in order, live or from its queue, but for those that it was told `_resync` for."""
    in_parts(node.queues, large_from=3)
    devices = {f"user_{number}": [await node.open(SITE, [f"user_{number}", "room"])] for number in range(8)}

    async def turns(at_most: int) -> None:
        for _ in range(chance.randrange(at_most)):
            await asyncio.sleep(0)

    async def send(number: int) -> None:
        await turns(500)
        await node.publish(SITE, "room" if number % 2 else ["user_1", "user_2"], body=b"%d" % number)

    async def disturb() -> None:
        for _ in range(60):
            user = chance.choice(list(devices))
            latest = devices[user][-1]
            action = chance.choice(("reconnect", "ack", "gap"))
            if action == "reconnect":
                node.close_connection(latest)
                devices[user].append(await node.open(SITE, [user, "room"]))
            elif action == "ack" and latest.written:
                for what in latest.written:
                    if what[0] in ("event", "batch"):
                        node.ack(latest, what[1])
            else:
                node.delivery.bus_interrupted()
            await turns(40)

    await asyncio.gather(disturb(), *(send(number) for number in range(30)))
    await settled(node)
    for user, receivers in devices.items():
        expected = {b"%d" % number for number in range(30) if number % 2 or user in ("user_1", "user_2")}
        await until(lambda: expected <= {body for one in receivers for body in one.bodies}, f"all of {user}")  # noqa: B023
        for receiver in receivers:
            assert receiver.seqs == sorted(set(receiver.seqs))
    assert left(valkey) == []


async def test_no_run_is_long(redis: Redis, valkey: Valkey, tell: Callable[[str], None]) -> None:
    """A message to 30,000 devices keeps others waiting for milliseconds only, and is stored for all."""
    count, queues = 30_000, RedisQueues(redis, "aa", 1_000_000)
    await in_turn(lambda number: queues.connect(SITE, number, "d", [f"user_{number}", "room"]), count)
    waits: list[float] = []

    async def probe() -> None:
        while not large.done():
            began = time.perf_counter()
            await redis.command("GET", "probe")
            waits.append(time.perf_counter() - began)

    large = asyncio.ensure_future(queues.send(make_message(SITE, "room")))
    await probe()
    assert (await large).recipients == count
    tell(f"{count} devices in parts: longest wait of others {1000 * max(waits):.0f} ms, in {len(waits)} looks")
    assert len(waits) > 10


async def in_turn(work: Callable[[int], Awaitable[Any]], count: int) -> None:
    """Do this with each number, many at once."""
    for start in range(0, count, 100):
        await asyncio.gather(*(work(number) for number in range(start, min(start + 100, count))))
