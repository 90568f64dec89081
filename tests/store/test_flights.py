"""Messages in flight: where they are in Redis, how they land, and when no message flies."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from app.config.settings import Site, SiteLimits
from app.core.message import Message
from app.core.options import MessageOptions
from app.core.ports import AckGroup
from app.core.written_times import WrittenTimes
from app.redis.client import Redis
from app.store.flights import FLIGHT_SECONDS, MAX_FLIGHT_BYTES
from app.store.keys import LANDING_NODES, NODES, prefix
from app.store.queues import RedisQueues
from tests.support.store import limits, make_message, make_site
from tests.support.valkey import Valkey

SITE = make_site()
NOW = 1_900_000_000_000


@pytest.fixture
def queues(redis: Redis) -> RedisQueues:
    """The store of a node whose messages fly."""
    return new_queues(redis, "aa")


def new_queues(redis: Redis, node: str) -> RedisQueues:
    """The store of a node whose messages fly, with a clock that the test moves."""
    queues = RedisQueues(redis, node, 1_000_000)
    queues.now_ms = NOW
    queues.flights.open(1_000_000)
    return queues


async def connect(queues: RedisQueues, user: str, number: int, site: Site = SITE) -> bytes:
    """A connection of a user in the room `all`; its handle."""
    return (await queues.connect(site, number, "d", [user, "all"])).devices[0].handle


async def send(queues: RedisQueues, rooms: str | list[str], site: Site = SITE, **settings: Any) -> int:
    """A stored message; its seq."""
    return (await queues.send(make_message(site, rooms, **settings))).seq


def list_of(valkey: Valkey, handle: bytes, site: Site = SITE) -> list[int]:
    """The seqs in the list of a device."""
    client: Any = valkey.client
    return [int(seq) for seq in client.lrange(f"{prefix(site.name)}queue:{handle.decode()}", 0, -1)]


def in_flight(valkey: Valkey, site: Site = SITE) -> list[int]:
    """The seqs of the messages in flight."""
    client: Any = valkey.client
    return sorted(int(seq) for seq in client.hkeys(f"{prefix(site.name)}flights"))


def keys_of(valkey: Valkey) -> set[str]:
    """The keys of messages, behind the site's prefix."""
    client: Any = valkey.client
    names = (key.decode().removeprefix(prefix(SITE.name)) for key in client.keys(f"{prefix(SITE.name)}*"))
    kinds = ("queue:", "body:", "flights", "flying", "waiting", "resting")
    return {name for name in names if name.startswith(kinds)}


async def test_a_message_is_written_down_once(queues: RedisQueues, valkey: Valkey) -> None:
    """A message to connected devices stands once for all of them, and nowhere when all have acknowledged it."""
    handles = [await connect(queues, f"user_{number}", number) for number in range(20)]
    seq = await send(queues, "all")
    assert keys_of(valkey) == {"flights", "flying"}
    written = WrittenTimes()
    written.note(seq, handles)
    for part in (handles[:7], handles[7:8], handles[8:]):
        group = AckGroup(False, seq, list(part))
        assert written.mark(group) == []
        assert await queues.ack(SITE, [group]) == []
    assert keys_of(valkey) == set()


async def test_acks_without_places(queues: RedisQueues, valkey: Valkey) -> None:
    """Acks whose places nobody knows, repeated ones and foreign ones remove exactly what they acknowledge."""
    handles = [await connect(queues, f"user_{number}", number) for number in range(3)]
    seq = await send(queues, "all")
    for _ in range(2):
        await queues.ack(SITE, [AckGroup(False, seq, [handles[1], b"99", handles[1]])])
    await queues.land(SITE)
    assert [list_of(valkey, handle) for handle in handles] == [[seq], [], [seq]]


async def test_late_messages_land(queues: RedisQueues, valkey: Valkey) -> None:
    """A message that is not acknowledged in time goes into the queues of those devices, before what is sent to them
    later; the messages of others stay in flight. The site is due until all have landed."""
    first, second = [await connect(queues, f"user_{number}", number) for number in (1, 2)]
    old = await send(queues, "all")
    await queues.ack(SITE, [AckGroup(False, old, [second])])
    queues.now_ms = NOW + 1_000
    young, other = await send(queues, "user_1"), await send(queues, "user_2")
    assert await queues.expire(SITE) == (0, FLIGHT_SECONDS - 1.0)
    queues.now_ms = NOW + int(FLIGHT_SECONDS * 1_000)
    assert await queues.expire(SITE) == (1, 1.0)
    assert list_of(valkey, first) == [old, young]
    assert in_flight(valkey) == [other]
    newest = await send(queues, "all")
    assert list_of(valkey, first) == [old, young, newest]
    assert list_of(valkey, second) == []


async def test_a_device_that_has_caught_up(queues: RedisQueues, valkey: Valkey) -> None:
    """Once a device has acknowledged all that had landed for it, its messages fly again."""
    handle = await connect(queues, "user_1", 1)
    seq = await send(queues, "user_1")
    await queues.land(SITE)
    resting = await send(queues, "user_1")
    assert in_flight(valkey) == []
    await queues.ack(SITE, [AckGroup(False, one, [handle]) for one in (seq, resting)])
    assert in_flight(valkey) == [] == list_of(valkey, handle)
    flown = await send(queues, "user_1")
    assert in_flight(valkey) == [flown]


async def test_messages_of_a_turn(queues: RedisQueues, valkey: Valkey) -> None:
    """The messages of one turn fly together, those for a device with a list go there; each node hears all in order."""
    handles = [await connect(queues, f"user_{number}", number) for number in (1, 2)]
    behind = await send(queues, "user_2")
    await queues.land(SITE)
    turn = [make_message(SITE, ["user_1", "user_2"]), make_message(SITE, "user_1")]
    seqs = [stored.seq for stored in await asyncio.gather(*map(queues.send, turn))]
    assert in_flight(valkey) == seqs
    assert list_of(valkey, handles[1]) == [behind, seqs[0]]
    await queues.ack(SITE, [AckGroup(False, seq, handles) for seq in (behind, *seqs)])
    assert keys_of(valkey) == set()


async def test_a_new_connection_gets_it_in_its_batch(queues: RedisQueues, redis: Redis, valkey: Valkey) -> None:
    """A device that connects again, at the same node or at another, finds what was in flight to it in its queue."""
    await connect(queues, "user_1", 1)
    other = await connect(queues, "user_2", 2)
    seq = await send(queues, "all")
    registration = await new_queues(redis, "bb").connect(SITE, 1, "d", ["user_1", "all"])
    assert [one for one, _ in registration.devices[0].waiting.entries] == [seq]
    assert (in_flight(valkey), list_of(valkey, other)) == ([seq], [])


async def test_the_messages_of_a_dead_node(queues: RedisQueues, redis: Redis, valkey: Valkey) -> None:
    """A burial lands what was in flight to the dead node's devices."""
    handle = await connect(queues, "user_1", 1)
    seq = await send(queues, "all")
    await new_queues(redis, "bb").bury(SITE, "aa", NOW)
    assert list_of(valkey, handle) == [seq]
    assert in_flight(valkey) == []


@pytest.mark.parametrize("most", [1, 3])
async def test_the_bound_of_a_queue(redis: Redis, valkey: Valkey, most: int) -> None:
    """No more messages are in flight than the shortest queue of the site may hold, so each runs over in its turn."""
    site, queues = make_site(**limits(messages=most)), new_queues(redis, "aa")
    handle = await connect(queues, "user_1", 1, site)
    answers = [await queues.send(make_message(site, "user_1")) for _ in range(most + 1)]
    assert [one.overflowed for one in answers] == [0] * most + [1]
    assert list_of(valkey, handle, site) == [] == in_flight(valkey, site)


async def test_the_bound_of_all(queues: RedisQueues, valkey: Valkey) -> None:
    """A site has a bounded number of messages in flight: the oldest land, with all that their devices have."""
    handle = await connect(queues, "user_1", 1)
    other = await connect(queues, "user_2", 2)
    first = await send(queues, "user_2")
    seqs = [await send(queues, "user_1") for _ in range(256)]
    assert list_of(valkey, other) == [first]
    assert in_flight(valkey) == seqs
    last = await send(queues, "user_1")
    assert list_of(valkey, handle) == [*seqs, last]


OTHERS = {
    "options": {"options": MessageOptions(ttl=60)},
    "resync": {"resync": True},
    "large": {"body": b"x" * (MAX_FLIGHT_BYTES + 1)},
}


@pytest.mark.parametrize("settings", OTHERS.values(), ids=OTHERS)
async def test_messages_that_do_not_fly(queues: RedisQueues, valkey: Valkey, settings: dict[str, Any]) -> None:
    """A message with options, with `resync`, or of many bytes goes into the queues behind what was in flight."""
    handle = await connect(queues, "user_1", 1)
    before = await send(queues, "user_1")
    seq = await send(queues, "all", **settings)
    assert list_of(valkey, handle) == [before, seq]


async def test_a_site_with_a_limit_of_stored_messages(queues: RedisQueues, valkey: Valkey) -> None:
    """Its messages count where they are stored: none flies."""
    site = make_site(limits=SiteLimits(stored_messages=10))
    await connect(queues, "user_1", 1, site)
    await send(queues, "all", site)
    assert in_flight(valkey, site) == []


async def test_a_node_of_an_earlier_version(queues: RedisQueues, redis: Redis, valkey: Valkey) -> None:
    """Messages fly while each living node is one that lands them; with another node there the gate closes, once."""
    client: Any = valkey.client
    await queues.flights.note(redis, "aa")
    client.zadd(NODES, {"aa": 1, "bb": 2, "~cc": 3})
    client.sadd(LANDING_NODES, "bb", "gone")
    assert await queues.flights.look(redis, "aa") is False
    assert queues.flights.is_open
    assert client.smembers(LANDING_NODES) == {b"aa", b"bb"}
    client.zadd(NODES, {"old": 4})
    assert [await queues.flights.look(redis, "aa") for _ in range(2)] == [True, False]
    assert queues.flights.most_beside(message()) == 0
    client.zrem(NODES, "old")
    await queues.flights.look(redis, "aa")
    assert queues.flights.most_beside(message()) > 0


def message() -> Message:
    """A message that may fly."""
    return make_message(SITE, "user_1")
