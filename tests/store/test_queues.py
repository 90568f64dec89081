"""Edges of the queue store on a real Valkey: names of every kind, large rooms, long queues, bounds, late acks."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime

import pytest

from app.config.settings import Site
from app.core.ports import AckGroup, ConnectNotes, Registered
from app.errors import StoreUnavailable
from app.redis.client import Redis
from app.redis.link import Word
from app.store.keys import prefix
from app.store.queues import RedisQueues
from tests.support.store import limits, make_message, make_site, queue_of
from tests.support.valkey import Valkey
from tests.support.waiting import until

SITE = make_site()
STRANGE = [
    "",
    "*",
    "a:*",
    "1:user_1:d",
    "6:user_1:",
    "with space ",
    "line\nline\r\n",
    "nul\x00nul",
    "ünïcødé ☃ 😀",
    "{other}",
    "%s %d \\",
    "x" * 4_000,
]
HALF_A_CHARACTER = "\ud800"


@pytest.fixture
def queues(redis: Redis) -> RedisQueues:
    """The store of one node."""
    return RedisQueues(redis, "aa", 1_000_000)


async def connect(
    queues: RedisQueues, site: Site, rooms: str | Sequence[str], device: str = "d", number: int = 1
) -> Registered:
    """A registered connection; its first device."""
    rooms = [rooms] if isinstance(rooms, str) else rooms
    return (await queues.connect(site, number, device, rooms)).devices[0]


async def send(queues: RedisQueues, site: Site, rooms: str | Sequence[str], event: str = "news", **more: object) -> int:
    """A stored message; its seq."""
    return (await queues.send(make_message(site, rooms, event, **more))).seq


async def ack(queues: RedisQueues, site: Site, seq: int, *handles: bytes, is_batch: bool = False) -> list[bytes]:
    """An ack by these devices; answers the devices that get `_resync`."""
    return await queues.ack(site, [AckGroup(is_batch, seq, list(handles))])


async def test_device_ids_of_every_kind_are_devices_of_their_own(queues: RedisQueues) -> None:
    """A device of any name has its own queue, finds it again, and touches no other."""
    handles = {}
    names = [*STRANGE, HALF_A_CHARACTER]
    for number, name in enumerate(names):
        device = await connect(queues, SITE, "user_1", name, number)
        handles[name] = device.handle
        await queues.disconnect(SITE, number, [(device.handle, 0)])
    assert len(set(handles.values())) == len(names)
    seq = await send(queues, SITE, "user_1")
    for number, name in enumerate(names):
        device = await connect(queues, SITE, "user_1", name, number)
        assert device.handle == handles[name]
        assert [entry for entry, _ in device.waiting.entries] == [seq]
        await ack(queues, SITE, seq, device.handle)
        assert (await connect(queues, SITE, "user_1", name, number)).waiting.entries == []


@pytest.mark.parametrize("room", STRANGE)
async def test_rooms_of_every_kind(queues: RedisQueues, room: str) -> None:
    """A shared room and a user room of any name are found by their names and by no others."""
    mine = await connect(queues, SITE, [f"user_{room}", room], number=1)
    await connect(queues, SITE, ["user_other", "other"], number=2)
    message = make_message(SITE, [f"user_{room}", room, room.upper()], body=b"mine")
    assert (await queues.send(message)).recipients == 1
    await queues.disconnect(SITE, 1, [(mine.handle, 0)])
    again = await connect(queues, SITE, [f"user_{room}"], number=3)
    assert [body for _, body in again.waiting.entries] == [b"mine"]


async def test_two_names_never_make_one_device(queues: RedisQueues) -> None:
    """The end of the user room and the beginning of the device id are unambiguous."""
    one = await connect(queues, SITE, "user_1:a", "b", 1)
    other = await connect(queues, SITE, "user_1", "a:b", 2)
    assert one.handle != other.handle


async def test_sites_share_nothing(queues: RedisQueues, valkey: Valkey) -> None:
    """Equal names in two sites are different devices; a handle of one site is unknown in the other."""
    other = make_site("shop2")
    mine, theirs = await connect(queues, SITE, "user_1"), await connect(queues, other, "user_1")
    assert mine.handle == theirs.handle
    seq = await send(queues, SITE, "user_1")
    assert await ack(queues, other, seq, theirs.handle) == []
    await queues.settle(other, seq, [theirs.handle])
    await queues.disconnect(other, 1, [(theirs.handle, 0)])
    assert len(queue_of(valkey, SITE)) == 1
    assert queue_of(valkey, other) == []


async def test_large_room_is_read_in_parts(queues: RedisQueues, valkey: Valkey) -> None:
    """A room of more devices than one part holds: each gets the message once, however it is addressed."""
    count = 5_000
    for number in range(count):
        await queues.connect(SITE, 1, str(number), ["user_1", "news"])
    stored = await queues.send(make_message(SITE, ["news", "user_1", "NEWS"]))
    assert stored.recipients == count
    lengths = {valkey.client.llen(f"{prefix('shop')}queue:{handle}") for handle in range(1, count + 1)}
    assert lengths == {1}
    assert valkey.client.hget(f"{prefix('shop')}body:{stored.seq}", "refs") == str(count).encode()
    handles = [str(handle).encode() for handle in range(1, count + 1)]
    assert await ack(queues, SITE, stored.seq, *handles) == []
    assert not valkey.client.exists(f"{prefix('shop')}body:{stored.seq}")


async def test_long_queue_is_replayed_in_order(queues: RedisQueues) -> None:
    """A queue of 10,000 messages is read in parts that together are complete; one more message drops it."""
    device = await connect(queues, SITE, "user_1")
    seqs = [await send(queues, SITE, "user_1", body=b"x") for _ in range(10_000)]
    found: list[int] = []
    waiting = (await connect(queues, SITE, "user_1", number=2)).waiting
    found += [seq for seq, _ in waiting.entries]
    while waiting.has_more:
        waiting = (await queues.replay(SITE, 2, [(device.handle, found[-1])])).devices[0].waiting
        assert len(waiting.entries) == 1_000
        found += [seq for seq, _ in waiting.entries]
    assert found == seqs
    stored = await queues.send(make_message(SITE, "user_1"))
    assert (stored.recipients, stored.overflowed) == (0, 1)
    again = await connect(queues, SITE, "user_1", number=3)
    assert again.is_lost
    assert again.waiting.entries == []


@pytest.mark.parametrize("size", [10, 333, 400])
async def test_bound_in_bytes_is_exact(redis: Redis, valkey: Valkey, size: int) -> None:
    """A queue holds as many bytes as allowed and not one more, for small messages and for the largest."""
    site = make_site(**limits(10_000, size=1_000))
    queues = RedisQueues(redis, "aa", 400)
    device = await connect(queues, site, "user_1")
    fitting = 1_000 // size
    for _ in range(2):
        seqs = [await send(queues, site, "user_1", body=b"x" * size) for _ in range(fitting)]
        assert len(queue_of(valkey, site)) == fitting
        for seq in seqs:
            await ack(queues, site, seq, device.handle)
        assert not valkey.client.exists(prefix("shop") + "bytes")
    for _ in range(fitting):
        await send(queues, site, "user_1", body=b"x" * size)
    await send(queues, site, "user_1", body=b"x" * (1_000 - size * fitting + 1))
    assert queue_of(valkey, site) == []
    assert (await connect(queues, site, "user_1", number=2)).is_lost


async def test_message_larger_than_a_batch_goes_alone(queues: RedisQueues) -> None:
    """A batch is capped in bytes, but never empty."""
    site = make_site(**limits(100, batch_bytes=10))
    device = await connect(queues, site, "user_1")
    seqs = [await send(queues, site, "user_1", body=body) for body in (b"x" * 50, b"x" * 4, b"x" * 6, b"x")]
    parts, after = [], 0
    for _ in range(3):
        waiting = (await queues.replay(site, 1, [(device.handle, after)])).devices[0].waiting
        parts.append([seq for seq, _ in waiting.entries])
        after = parts[-1][-1]
    assert parts == [seqs[:1], seqs[1:3], seqs[3:]]
    assert not waiting.has_more


async def test_send_to_nobody(queues: RedisQueues, valkey: Valkey) -> None:
    """A message to no rooms, unknown rooms or devices long gone is accepted, stored for none, and not kept."""
    assert (await queues.send(make_message(SITE, []))).recipients == 0
    assert (await queues.send(make_message(SITE, ["user_1", "news"]))).recipients == 0
    queues.now_ms = 1_700_000_000_000
    device = await connect(queues, SITE, "user_1")
    await queues.disconnect(SITE, 1, [(device.handle, 0)])
    queues.now_ms += SITE.device_ttl_seconds * 1_000
    assert (await queues.send(make_message(SITE, "user_1"))).recipients == 0
    assert not [key for key in valkey.dump() if ":body:" in key or ":queue:" in key]


async def test_connected_device_does_not_age(queues: RedisQueues) -> None:
    """device_ttl counts from the last disconnect: a connected device keeps its messages however old they are."""
    queues.now_ms = 1_700_000_000_000
    device = await connect(queues, SITE, "user_1")
    seq = await send(queues, SITE, "user_1")
    queues.now_ms += 1_000 * SITE.device_ttl_seconds * 1_000
    assert (await queues.expire(SITE))[0] == 0
    await queues.disconnect(SITE, 1, [(device.handle, 0)])
    queues.now_ms += SITE.device_ttl_seconds * 1_000 - 1
    assert (await queues.expire(SITE))[0] == 0
    again = await connect(queues, SITE, "user_1", number=2)
    assert [entry for entry, _ in again.waiting.entries] == [seq]


async def test_expired_device_leaves_no_key(queues: RedisQueues, valkey: Valkey) -> None:
    """After device_ttl no key names the device, its user or its rooms any more, messages and lost queue included."""
    site = make_site(**limits(2))
    queues.now_ms = 1_700_000_000_000
    device = await connect(queues, site, ["user_1", "user_1b", "News"])
    for _ in range(4):
        await send(queues, site, ["news", "user_1b"])
    await queues.disconnect(site, 1, [(device.handle, 0), (b"2", 0)])
    queues.now_ms += site.device_ttl_seconds * 1_000
    assert (await queues.expire(site))[0] == 2
    assert {key.rpartition(":")[2] for key in valkey.dump()} == {"seq", "handle", "bus"}


async def test_new_device_of_an_expired_name_is_another(queues: RedisQueues) -> None:
    """A device that comes back too late, before it was forgotten, begins empty and under another handle."""
    queues.now_ms = 1_700_000_000_000
    first = await connect(queues, SITE, "user_1")
    await send(queues, SITE, "user_1")
    await queues.disconnect(SITE, 1, [(first.handle, 0)])
    queues.now_ms += SITE.device_ttl_seconds * 1_000
    again = await connect(queues, SITE, "user_1", number=2)
    assert again.handle != first.handle
    assert again.waiting.entries == []
    assert [one.state for one in (await queues.replay(SITE, 1, [(first.handle, 0)])).devices] == ["lost"]


async def test_rooms_are_those_of_the_newest_connection(queues: RedisQueues) -> None:
    """A user who has gained and lost a room is only in the new rooms, with all devices."""
    await connect(queues, SITE, ["user_1", "old", "both"], "phone", 1)
    await connect(queues, SITE, ["user_1", "both", "new"], "laptop", 2)
    assert [(await queues.send(make_message(SITE, room))).recipients for room in ("old", "both", "new")] == [0, 2, 2]


async def test_visitors_of_the_public_channel_share_no_other_room(queues: RedisQueues) -> None:
    """A visitor in the public channel gets its messages, and none for another visitor's rooms."""
    site = make_site(public_channel="public")
    visitor = await connect(queues, site, ["public"], "v", 1)
    reader = await connect(queues, site, ["public", "readers"], "r", 2)
    await connect(queues, site, ["user_1", "public", "admins"], "a", 3)
    await connect(queues, site, ["public"], "v", 4)
    counts = [(await queues.send(make_message(site, room))).recipients for room in ("admins", "readers", "user_1")]
    # The admin's connection stands for two devices: its own, and its part of the public channel.
    assert counts == [2, 1, 1]
    assert (await queues.send(make_message(site, "public"))).recipients == 3
    replay = await queues.replay(site, 1, [(visitor.handle, 0), (reader.handle, 0)])
    assert [len(one.waiting.entries) for one in replay.devices] == [1, 2]


async def test_late_ack_of_resync_message_is_no_reason_for_resync(queues: RedisQueues) -> None:
    """A second ack, an ack after the queue was dropped, and an ack of another device's message change nothing."""
    device = await connect(queues, SITE, "user_1")
    other = await connect(queues, SITE, "user_2", number=2)
    first, second = [await send(queues, SITE, "user_1", resync=True) for _ in range(2)]
    assert await ack(queues, SITE, first, device.handle) == []
    assert await ack(queues, SITE, first, device.handle) == []
    assert await ack(queues, SITE, second, other.handle, b"77") == []
    assert await ack(queues, SITE, second, device.handle) == []


async def test_resync_rule_looks_at_the_own_event_alone(queues: RedisQueues, valkey: Valkey) -> None:
    """Older messages of other events do not matter; those of the same event do, also when sent without resync."""
    device = await connect(queues, SITE, "user_1")
    await send(queues, SITE, "user_1", "other", body=b"other")
    first = await send(queues, SITE, "user_1", "news", resync=True)
    assert await ack(queues, SITE, first, device.handle) == []
    await send(queues, SITE, "user_1", "news", body=b"old news")
    second = await send(queues, SITE, "user_1", "news", resync=True)
    assert await ack(queues, SITE, second, device.handle) == [device.handle]
    assert queue_of(valkey, SITE) == ["other"]


async def test_batch_ack_removes_exactly_the_batch(queues: RedisQueues, valkey: Valkey) -> None:
    """Messages after the batch stay, also when those in it were sent with resync."""
    device = await connect(queues, SITE, "user_1")
    seqs = [await send(queues, SITE, "user_1", resync=True, body=b"batch") for _ in range(3)]
    await send(queues, SITE, "user_1", resync=True, body=b"later")
    groups = [AckGroup(True, seq, [device.handle]) for seq in reversed(seqs)]
    assert await queues.ack(SITE, groups) == []
    assert queue_of(valkey, SITE) == ["later"]


async def test_no_acks(queues: RedisQueues) -> None:
    """An empty collection of acks is no error."""
    assert await queues.ack(SITE, []) == []


async def test_seq_moves_on_after_redis_has_lost_its_data(queues: RedisQueues, valkey: Valkey) -> None:
    """Seqs fit JavaScript's numbers; after a loss of all data they begin above all earlier ones."""
    await send(queues, SITE, [])
    before = await send(queues, SITE, [])
    # Numbers are reckoned in sixteenths of a millisecond.
    sent_ms = valkey.clock_ms()
    await until(lambda: valkey.clock_ms() > sent_ms, "the next millisecond")
    valkey.client.flushall()
    after = await send(queues, SITE, [])
    assert 1_000_000 < before < after < 2**53


async def test_plain_site_tells_the_nodes_in_the_rooms(queues: RedisQueues, redis: Redis, valkey: Valkey) -> None:
    """Each node with connections in one of the rooms, whatever their case, is told once, and not after the last has
    left; none is stored."""
    plain = make_site("plain", user_room_prefix=None)
    other = RedisQueues(redis, "bb", 1_000_000)
    await queues.join(plain, ["a", "b"])
    await other.join(plain, ["b", "*"])
    told = [(await queues.publish(make_message(plain, rooms))).recipients for rooms in (["a", "b"], ["a"], ["A"], [])]
    assert told == [2, 1, 1, 0]
    await queues.leave(plain, ["a", "b"])
    assert (await queues.publish(make_message(plain, ["a", "b"]))).recipients == 1
    await other.leave(plain, ["b", "*"])
    assert {key.rpartition(":")[2] for key in valkey.dump()} == {"seq", "bus"}


async def test_what_was_given_up_is_not_carried_out(
    queues: RedisQueues, redis: Redis, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Sends, publishes and connects carry a deadline on Redis's clock: after it they are refused and leave no trace."""
    await connect(queues, SITE, "user_1")
    before = await redis.command("HLEN", f"{prefix(SITE.name)}devices")
    passed: Word = 1_000
    monkeypatch.setattr(queues, "_deadline", lambda site: passed)
    with pytest.raises(StoreUnavailable):
        await connect(queues, SITE, "user_2")
    assert await redis.command("HLEN", f"{prefix(SITE.name)}devices") == before
    for call in (queues.send, queues.publish):
        with pytest.raises(StoreUnavailable):
            await call(make_message(SITE, "user_1"))
    assert await redis.command("KEYS", "*:seq") == []


async def test_full_redis_stores_nothing_at_all(queues: RedisQueues, valkey: Valkey) -> None:
    """Redis without memory refuses a send as a whole: no queue holds it."""
    for number in range(3):
        await connect(queues, SITE, f"user_{number}", number=number)
    before = valkey.dump()
    valkey.client.config_set("maxmemory", "1")
    try:
        with pytest.raises(StoreUnavailable):
            await queues.send(make_message(SITE, ["user_0", "user_1", "user_2"]))
    finally:
        valkey.client.config_set("maxmemory", "0")
    assert valkey.dump() == before


@pytest.fixture
def other_node(redis: Redis) -> RedisQueues:
    """The store of a second node."""
    return RedisQueues(redis, "aab", 1_000_000)


async def test_nodes_with_similar_names(queues: RedisQueues, other_node: RedisQueues) -> None:
    """A node whose name begins with another's is not taken for it."""
    device = await connect(queues, SITE, "user_1", number=1)
    await connect(other_node, SITE, "user_1", number=1)
    has_more, buried = await queues.bury(SITE, "aa", "")
    assert (has_more, [one.user_room for one in buried]) == (False, ["user_1"])
    states = [one.state for one in (await other_node.replay(SITE, 1, [(device.handle, 0)])).devices]
    assert states == ["here"]


async def test_note_of_a_buried_connection(queues: RedisQueues, other_node: RedisQueues, valkey: Valkey) -> None:
    """Each connection of a dead node is answered once, with its user room, its note and the node's last beat."""
    await queues.connect(SITE, 1, "d", ["user_1", "user_2"], ConnectNotes("t-secret\udc00 1"))
    await queues.connect(SITE, 2, "d", ["user_1"], ConnectNotes(""))
    await other_node.connect(SITE, 1, "d", ["user_1"], ConnectNotes("another's"))
    _, buried = await other_node.bury(SITE, "aa", 1_700_000_000_123)
    told = sorted((one.user_room, one.note) for one in buried)
    assert told == [("user_1", ""), ("user_1", "t-secret\udc00 1"), ("user_2", "t-secret\udc00 1")]
    assert {one.since for one in buried} == {datetime(2023, 11, 14, 22, 13, 20, 123_000, tzinfo=UTC)}
    assert "secret" not in str(buried)
    assert await other_node.bury(SITE, "aa", 1_700_000_000_123) == (False, [])
    assert "secret" not in str(valkey.dump())
    assert valkey.client.pttl(prefix(SITE.name) + "buried:aa") > 86_000_000


async def test_whose_end_it_is_to_report(queues: RedisQueues, other_node: RedisQueues, valkey: Valkey) -> None:
    """A node reports the end of a connection unless another has taken it out, also when it asks twice."""
    ours = await queues.connect(SITE, 1, "d", ["user_1", "user_2"], ConnectNotes("note"))
    handles = [device.handle for device in ours.devices]
    for _ in range(2):
        assert await queues.disconnect(SITE, 1, [(handle, 0) for handle in handles]) == [True, True]
    await queues.connect(SITE, 2, "d", ["user_1", "user_2"], ConnectNotes("note"))
    await other_node.bury(SITE, "aa", "")
    for _ in range(2):
        assert await queues.disconnect(SITE, 2, [(handle, 0) for handle in handles]) == [False, False]
    # The node has woken up: its new connections are its own again.
    await queues.connect(SITE, 3, "d", ["user_1"], ConnectNotes("note"))
    assert await queues.disconnect(SITE, 3, [(handle, 0) for handle in handles]) == [True, False]


async def test_end_that_redis_has_forgotten_is_reported(queues: RedisQueues, valkey: Valkey) -> None:
    """When Redis has lost its data, no other node has reported the end."""
    device = (await queues.connect(SITE, 1, "d", ["user_1"], ConnectNotes("note"))).devices[0]
    valkey.client.flushall()
    assert await queues.disconnect(SITE, 1, [(device.handle, 0)]) == [True]


def client_of(valkey: Valkey, handle: bytes) -> str:
    """The description of a device's client in Redis, with its length and its time in front."""
    fields = valkey.dump()[f"{prefix(SITE.name)}device:{handle.decode()}"]
    return "".join(fields[f"client{number}"] for number in range(12) if f"client{number}" in fields)


async def test_description_of_the_client(queues: RedisQueues, valkey: Valkey) -> None:
    """The client of the newest connection is kept, in parts that leave the hash in its compact form. Its length tells
    where it ends; the time is that of the connect."""
    queues.now_ms = 1_700_000_000_000
    agent = "Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/140.0.0.0 Safari/537.36"
    registration = await queues.connect(SITE, 1, "d", ["user_1"], ConnectNotes(client=f"websocket 4 {agent}"))
    handle = registration.devices[0].handle
    text = f"1700000000000 4 {agent}"
    assert client_of(valkey, handle) == f"{len(text)} {text}"
    assert valkey.client.object("encoding", f"{prefix(SITE.name)}device:{handle.decode()}") == b"listpack"
    await queues.connect(SITE, 2, "d", ["user_1"], ConnectNotes(client="polling 3 "))
    length, _, rest = client_of(valkey, handle).partition(" ")
    assert rest[: int(length)] == "1700000000000 3 "
    await queues.connect(SITE, 3, "d", ["user_1"])
    assert client_of(valkey, handle).partition(" ")[2][: int(length)] == "1700000000000 3 "


async def test_long_queues_are_forgotten_in_parts(queues: RedisQueues, valkey: Valkey) -> None:
    """One run forgets devices until their queues have held so much; the others go in further runs."""
    site = make_site(device_ttl_seconds=1)
    queues.now_ms = 1_000_000
    for number in range(4):
        device = await connect(queues, site, f"user_{number}", number=number)
        valkey.client.rpush(f"{prefix('shop')}queue:{device.handle.decode()}", *range(6_000))
        await queues.disconnect(site, number, [(device.handle, 0)])
    queues.now_ms = 2_000_000
    assert [(await queues.expire(site))[0] for _ in range(5)] == [1, 1, 1, 1, 0]


async def test_devices_in_many_rooms_are_forgotten_in_parts(queues: RedisQueues) -> None:
    """One run forgets devices until they were in so many rooms; the others go in further runs."""
    site = make_site(device_ttl_seconds=1)
    queues.now_ms = 1_000_000
    for number in range(4):
        device = await connect(queues, site, [f"user_{number}", *many_rooms(6_000)], number=number)
        await queues.disconnect(site, number, [(device.handle, 0)])
    queues.now_ms = 2_000_000
    assert [(await queues.expire(site))[0] for _ in range(4)] == [2, 2, 0, 0]


async def test_devices_in_many_rooms_are_buried_in_parts(queues: RedisQueues, valkey: Valkey) -> None:
    """One run takes out devices of a dead node until they were in so many rooms."""
    for number in range(4):
        await connect(queues, SITE, [f"user_{number}", *many_rooms(6_000)], number=number)
    left: list[int] = []
    while not left or left[-1]:
        await queues.bury(SITE, "aa", "")
        left.append(valkey.client.scard(f"{prefix('shop')}node:aa"))
    assert left == [2, 0]


async def test_devices_move_to_other_rooms_in_few_commands(queues: RedisQueues, valkey: Valkey) -> None:
    """Many devices of a user in many rooms: only rooms that are new or gone cost a command each, not each device."""
    for number in range(30):
        await connect(queues, SITE, ["user_1", *many_rooms(100)], f"d{number}", number)
    valkey.client.config_resetstat()
    await connect(queues, SITE, ["user_1", *many_rooms(100)[2:], "x", "y"], "d0", 99)
    calls = {name: figures["calls"] for name, figures in valkey.client.info("commandstats").items()}
    # Its own device is written to each of its rooms.
    assert calls["cmdstat_hset"] < 100 + 30
    assert calls["cmdstat_hdel"] < 30
    for room in ("x", "y", "room2"):
        assert valkey.client.hlen(f"{prefix('shop')}room:{room}") == 30
    assert valkey.client.hlen(f"{prefix('shop')}room:room0") == 0


def many_rooms(number: int) -> list[str]:
    """So many names of rooms."""
    return [f"room{index}" for index in range(number)]
