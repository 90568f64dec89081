"""Waiting for acks, withdrawing and settling messages, forgetting devices: over two nodes and a real Valkey."""

from __future__ import annotations

import asyncio
import json
from typing import Any, Literal

import pytest

from app.core.options import MessageOptions, Once
from app.core.ports import Outcome
from app.errors import LimitReached, OtherRequest
from app.store.keys import prefix
from tests.core.conftest import NodeStarter
from tests.support.store import RecordingReceiver, StoreNode, heard, make_message, make_site, settled
from tests.support.valkey import Valkey
from tests.support.waiting import until

SITE = make_site(device_ttl_seconds=60)
ROOM = "user_1"
KEY = prefix(SITE.name)


def waiting_for(
    node: StoreNode, wish: Literal["any", "all"], timeout: int = 30, **options: Any
) -> asyncio.Task[Outcome]:
    """A request that sends a message and waits for its acks."""
    message = make_message(SITE, ROOM, options=MessageOptions(wait=wish, timeout=30))
    return asyncio.create_task(node.delivery.follow_up.publish_and_wait(message))


def withdrawn(receiver: RecordingReceiver) -> list[str]:
    """The ids of which the client was told that they are withdrawn."""
    return [what[1] for what in receiver.written if what[0] == "withdrawn"]


async def id_of(node: StoreNode, valkey: Valkey, body: bytes) -> int:
    """The id of a message that waits."""
    for key in valkey.client.keys(f"{KEY}body:*"):
        if valkey.client.hget(key, "data") == body:
            return int(valkey.client.hget(key, "id") or 0)
    raise AssertionError("no such message waits")


# Waiting for acks


async def test_all_acks_of_two_nodes(start_node: NodeStarter) -> None:
    """The answer comes when each connected device has acknowledged, whichever node it is on."""
    one, other = await start_node(SITE), await start_node(SITE)
    here, there = await one.open(SITE, ROOM, "here"), await other.open(SITE, ROOM, "there")
    task = waiting_for(one, "all")
    await heard(here, 1)
    await heard(there, 1)
    one.ack(here, here.seqs[0])
    await settled(one)
    assert not task.done()
    other.ack(there, there.seqs[0])
    outcome = await task
    assert (outcome.stored.recipients, outcome.acked, outcome.waiting) == (2, 2, 0)


async def test_any_ack(start_node: NodeStarter, valkey: Valkey) -> None:
    """One ack is enough for `any`; then nobody waits for the others."""
    one, other = await start_node(SITE), await start_node(SITE)
    await one.open(SITE, ROOM, "here")
    there = await other.open(SITE, ROOM, "there")
    task = waiting_for(one, "any")
    await heard(there, 1)
    other.ack(there, there.seqs[0])
    outcome = await task
    assert (outcome.acked, outcome.waiting) == (1, 1)
    await settled(one)
    assert not valkey.client.exists(KEY + "waits")


async def test_nobody_connected_is_waited_for(start_node: NodeStarter) -> None:
    """The answer comes at once when no device is connected; a device that is away does not count."""
    node = await start_node(SITE)
    node.close_connection(await node.open(SITE, ROOM))
    await settled(node)
    outcome = await waiting_for(node, "all")
    assert (outcome.stored.recipients, outcome.acked, outcome.waiting) == (1, 0, 0)


async def test_a_device_that_leaves_is_not_waited_for(start_node: NodeStarter) -> None:
    """The end of a device's last connection ends the wait for it; the message stays in its queue."""
    one, other = await start_node(SITE), await start_node(SITE)
    there = await other.open(SITE, ROOM)
    task = waiting_for(one, "all")
    await heard(there, 1)
    other.close_connection(there)
    outcome = await task
    assert (outcome.acked, outcome.waiting) == (0, 0)
    assert len((await other.open(SITE, ROOM)).batches) == 1


async def test_the_time_of_a_wait(start_node: NodeStarter) -> None:
    """After the time-out the answer tells how many have acknowledged and how many have not."""
    node = await start_node(SITE)
    await node.open(SITE, ROOM)
    message = make_message(SITE, ROOM, options=MessageOptions(wait="all", timeout=1))
    outcome = await node.delivery.follow_up.publish_and_wait(message)
    assert (outcome.acked, outcome.waiting) == (0, 1)


async def test_a_caller_that_leaves_costs_nothing_further(start_node: NodeStarter, valkey: Valkey) -> None:
    """A request that is cancelled is not told of acks any more, and Redis knows."""
    node = await start_node(SITE)
    receiver = await node.open(SITE, ROOM)
    task = waiting_for(node, "all")
    await heard(receiver, 1)
    await until(lambda: valkey.client.exists(KEY + "waits"), "the wait")
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)
    await settled(node)
    assert not valkey.client.exists(KEY + "waits")


async def test_too_many_waits(start_node: NodeStarter, valkey: Valkey) -> None:
    """A site that watches for the acks of 10,000 messages is refused one more; others of its messages are not."""
    node = await start_node(SITE)
    valkey.client.zadd(KEY + "within", {f"{number}": 10**15 for number in range(10_000)})
    with pytest.raises(LimitReached, match=r"Too many messages wait for acks: expected at most 10000"):
        await waiting_for(node, "all")
    await node.publish(SITE, ROOM)


# Withdrawal


async def test_withdrawn_messages(start_node: NodeStarter, valkey: Valkey) -> None:
    """A withdrawn message leaves every queue. Clients that have it are told: at once, or at their next connect; clients
    that never got it hear nothing of it."""
    one, other = await start_node(SITE), await start_node(SITE)
    here = await one.open(SITE, ROOM, "here")
    gone, never = await other.open(SITE, ROOM, "gone"), await other.open(SITE, ROOM, "never")
    other.close_connection(never)
    await settled(other)
    body = await one.publish(SITE, ROOM)
    await heard(here, 1)
    await heard(gone, 1)
    other.close_connection(gone)
    await settled(other)
    id = await id_of(one, valkey, body)
    outcome = await other.delivery.follow_up.withdraw(SITE, id)
    assert outcome is not None
    assert outcome.devices == 3
    await until(lambda: withdrawn(here) == [str(id)], "the withdrawal")
    gone, never = await one.open(SITE, ROOM, "gone"), await one.open(SITE, ROOM, "never")
    assert [gone.kinds, withdrawn(gone), never.kinds] == [["greet", "withdrawn"], [str(id)], ["greet"]]
    one.close_connection(gone)
    await settled(one)
    assert (await one.open(SITE, ROOM, "gone")).kinds == ["greet"]
    assert await one.delivery.follow_up.withdraw(SITE, id) is None
    assert not [key for key in valkey.dump() if ":body:" in key or ":queue:" in key or key.endswith(":waiting")]


async def test_the_first_device_of_a_user_settles(start_node: NodeStarter, valkey: Valkey) -> None:
    """With `settle=user` the first ack takes the message from the user's other devices, which are told."""
    one, other = await start_node(SITE), await start_node(SITE)
    here, there = await one.open(SITE, ROOM, "here"), await other.open(SITE, ROOM, "there")
    neighbour = await other.open(SITE, ["user_2"], "x")
    body = await one.publish(SITE, [ROOM, "user_2"], options=MessageOptions(settle="user"))
    await heard(neighbour, 1)
    await heard(there, 1)
    id = await id_of(one, valkey, body)
    await heard(here, 1)
    one.ack(here, here.seqs[0])
    await until(lambda: withdrawn(there) == [str(id)], "the withdrawal")
    assert withdrawn(neighbour) == []
    other.ack(there, there.seqs[0])
    other.ack(neighbour, neighbour.seqs[0])
    await settled(other)
    assert not [key for key in valkey.dump() if ":body:" in key]


async def test_a_late_ack_of_a_replaced_message(start_node: NodeStarter, valkey: Valkey) -> None:
    """The newest message with a key replaces the older one in a queue; the late ack of that changes nothing."""
    node = await start_node(SITE)
    receiver = await node.open(SITE, ROOM)
    for _ in range(2):
        newest = await node.publish(SITE, ROOM, options=MessageOptions(collapse="score"))
    await heard(receiver, 2)
    node.ack(receiver, receiver.seqs[0])
    node.close_connection(receiver)
    await settled(node)
    assert (await node.open(SITE, ROOM)).batches == [(1, [newest])]


@pytest.mark.parametrize("resync", [True, False])
async def test_a_forgotten_device(start_node: NodeStarter, valkey: Valkey, resync: bool) -> None:
    """A device that is forgotten is closed and leaves nothing behind; with `resync` it stays, and is told."""
    one, other = await start_node(SITE), await start_node(SITE)
    receiver = await one.open(SITE, ROOM)
    await one.publish(SITE, ROOM)
    await heard(receiver, 1)
    assert await other.delivery.follow_up.forget_device(SITE, ROOM, "d", resync) == 1
    assert await other.delivery.follow_up.forget_device(SITE, ROOM, "unknown", resync) == 0
    await until(lambda: receiver.written[-1] == (("resync",) if resync else ("close", "device forgotten")), "the end")
    assert not [key for key in valkey.dump() if ":body:" in key or ":queue:" in key]
    assert bool([key for key in valkey.dump() if ":device:" in key]) == resync


# Telling the backend


def told(valkey: Valkey) -> list[dict[str, Any]]:
    """The events in the site's outbox."""
    entries: Any = valkey.client.xrange(KEY + "hooks")
    return [{"type": fields[b"type"].decode(), **json.loads(fields[b"data"])} for _, fields in entries]


async def test_users_without_an_ack(start_node: NodeStarter, valkey: Valkey) -> None:
    """After `ack_within` the backend is told once of the users without any ack; a late ack says so."""
    valkey.client.sadd(KEY + "hook_events", "message.unacknowledged", "message.acknowledged")
    node = await start_node(SITE)
    receivers = {user: await node.open(SITE, user, "d") for user in ("user_1", "user_2")}
    second = await node.open(SITE, "user_1", "e")
    options = MessageOptions(ack_within=10, notify="acked")
    node.queues.now_ms = 1_800_000_000_000
    body = await node.publish(SITE, ["user_1", "user_2"], options=options)
    id = str(await id_of(node, valkey, body))
    await heard(second, 1)
    await heard(receivers["user_2"], 1)
    node.ack(second, second.seqs[0])
    await settled(node)
    node.queues.now_ms = 1_800_000_009_999
    await node.queues.expire(SITE)
    node.queues.now_ms = 1_800_000_010_000
    await node.queues.expire(SITE)
    await node.queues.expire(SITE)
    node.ack(receivers["user_2"], receivers["user_2"].seqs[0])
    await settled(node)
    acked, unacked, late = told(valkey)
    assert (acked["type"], acked["user"], acked["device"], "late" in acked) == (
        "message.acknowledged",
        "user_1",
        "e",
        False,
    )
    assert unacked == {
        "type": "message.unacknowledged",
        "id": id,
        "event": "news",
        "users": [{"user": "user_2", "devices": [{"device": "d", "reason": "connected, not acknowledged"}]}],
    }
    assert (late["user"], late["late"], late["id"]) == ("user_2", True, id)
    node.ack(receivers["user_1"], receivers["user_1"].seqs[0])
    await settled(node)
    left = {key.removeprefix(KEY) for key in valkey.dump()}
    assert not left & {"within", "watched", "waits", "ttl"}
    assert not [key for key in left if key.startswith(("pending:", "to:"))]


async def test_no_escalation_of_a_withdrawn_message(start_node: NodeStarter, valkey: Valkey) -> None:
    """A message that its sender has withdrawn, or replaced, calls for no ack."""
    valkey.client.sadd(KEY + "hook_events", "message.unacknowledged")
    node = await start_node(SITE)
    node.queues.now_ms = 1_800_000_000_000
    receiver = await node.open(SITE, ROOM)
    options = MessageOptions(ack_within=1, collapse="k")
    await node.publish(SITE, ROOM, options=options)
    second = await node.publish(SITE, ROOM, options=options)
    await heard(receiver, 2)
    await node.delivery.follow_up.withdraw(SITE, await id_of(node, valkey, second))
    node.queues.now_ms = 1_800_000_002_000
    await node.queues.expire(SITE)
    await node.queues.expire(SITE)
    assert told(valkey) == []
    assert not [key for key in valkey.dump() if key.endswith(("within", "watched")) or ":pending:" in key]


async def test_an_escalation_of_an_expired_message(start_node: NodeStarter, valkey: Valkey) -> None:
    """A message whose ttl is over is told of at the time of `ack_within` all the same."""
    valkey.client.sadd(KEY + "hook_events", "message.unacknowledged")
    node = await start_node(SITE)
    node.queues.now_ms = 1_800_000_000_000
    node.close_connection(await node.open(SITE, ROOM))
    await settled(node)
    await node.publish(SITE, ROOM, options=MessageOptions(ack_within=3, ttl=1))
    for seconds in (1, 2, 3):
        node.queues.now_ms = 1_800_000_000_000 + seconds * 1_000
        await node.queues.expire(SITE)
        assert len(told(valkey)) == (seconds == 3)
    assert told(valkey)[0]["users"] == [{"user": ROOM, "devices": [{"device": "d", "reason": "away"}]}]


# Idempotency


async def test_a_key_stores_one_message(start_node: NodeStarter, valkey: Valkey) -> None:
    """A hundred equal requests at once over two nodes store one message; each answer has its id."""
    nodes = [await start_node(SITE), await start_node(SITE)]
    receiver = await nodes[0].open(SITE, ROOM)
    once = Once("ab" * 32, "cd" * 32, 60)
    messages = [make_message(SITE, ROOM, body=b'["news"]', once=once) for _ in range(100)]
    answers = await asyncio.gather(
        *(nodes[number % 2].delivery.publish(message) for number, message in enumerate(messages))
    )
    (stored,) = [str(message.id) for message, answer in zip(messages, answers, strict=True) if not answer.earlier_id]
    assert {answer.earlier_id for answer in answers if answer.earlier_id} == {stored}
    assert {answer.recipients for answer in answers} == {1}
    await heard(receiver, 1)
    assert len([key for key in valkey.dump() if ":body:" in key]) == 1


async def test_a_key_of_another_request(start_node: NodeStarter) -> None:
    """A key that belongs to another request is refused, and nothing is stored; in a site without queues too."""
    plain = make_site("plain", user_room_prefix=None)
    node = await start_node(SITE, plain)
    for site in (SITE, plain):
        await node.delivery.publish(make_message(site, ROOM, once=Once("ab" * 32, "cd" * 32, 60)))
        with pytest.raises(OtherRequest):
            await node.delivery.publish(make_message(site, ROOM, once=Once("ab" * 32, "ef" * 32, 60)))


async def test_options_of_a_large_message(start_node: NodeStarter, valkey: Valkey) -> None:
    """A message that is stored in parts has its options too."""
    node = await start_node(SITE)
    node.queues.large.large_from = 0
    receiver = await node.open(SITE, ROOM)
    once = Once("ab" * 32, "cd" * 32, 60)
    options = MessageOptions(wait="all", timeout=30, ttl=60, collapse="k")
    first = await node.publish(SITE, ROOM, options=MessageOptions(collapse="k"))
    message = make_message(SITE, ROOM, options=options, once=once)
    task = asyncio.create_task(node.delivery.follow_up.publish_and_wait(message))
    assert (await heard(receiver, 2))[0] == first
    assert valkey.client.zcard(KEY + "ttl") == 1
    assert len([key for key in valkey.dump() if ":body:" in key]) == 1
    node.ack(receiver, receiver.seqs[1])
    assert (await task).acked == 1
    again = await node.delivery.publish(make_message(SITE, ROOM, once=once))
    assert again.earlier_id == str(message.id)
