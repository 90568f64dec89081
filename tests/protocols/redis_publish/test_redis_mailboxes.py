"""The scripts of a mailbox: told nodes, waiting messages, dropped messages, duplicates, and late letters."""

from __future__ import annotations

import asyncio
import json
import time
from typing import Any

import pytest

from app.config.settings import BatchLimit, QueueLimit
from app.errors import StoreUnavailable, WrongType
from app.protocols.redis_publish.mailbox_ports import Letter
from app.protocols.redis_publish.redis_mailboxes import RedisMailboxes
from app.protocols.redis_publish.settings import RedisPublish
from app.redis.client import Redis
from tests.support.publish_node import FAR_MS, publish_site
from tests.support.valkey import Valkey

LIST = "rm:users:u:messages"


def letter(payload: str, **ids: str) -> Letter:
    """A letter with this payload."""
    return Letter(json.dumps({"payload": payload}).encode(), **ids)


def mailboxes(redis: Redis, node: str = "aa", **settings: Any) -> RedisMailboxes:
    """The mailboxes of a site."""
    site = publish_site(**settings)
    return RedisMailboxes(redis, node, site, site.require_section(RedisPublish))


def payloads(valkey: Valkey, key: str = LIST) -> list[str]:
    """The payloads in a list."""
    client: Any = valkey.client
    return [json.loads(entry)["payload"] for entry in client.lrange(key, 0, -1)]


@pytest.fixture
def box(redis: Redis) -> RedisMailboxes:
    """The mailboxes of a site with the default settings."""
    return mailboxes(redis)


async def test_the_repr_of_a_letter_has_no_payload() -> None:
    """The repr of a letter has no payload, because it may be logged."""
    assert "hidden" not in repr(letter("hidden"))


async def test_late_letters_are_refused(box: RedisMailboxes, valkey: Valkey) -> None:
    """After the end of the lease, on Redis's clock, nothing is delivered: another node may own the subscription."""
    seconds, microseconds = valkey.client.time()
    now_ms = seconds * 1000 + microseconds // 1000
    with pytest.raises(StoreUnavailable):
        await box.deliver("u", letter("late"), now_ms - 1)
    assert valkey.dump() == {}
    assert (await box.deliver("u", letter("in time"), now_ms + 10_000)).result == "queued"


async def test_full_list_drops_the_oldest(redis: Redis, valkey: Valkey) -> None:
    """Over the number or the bytes of the site's queue_limit the oldest messages are dropped, and counted in the
    outcome."""
    box = mailboxes(redis, queue_limit=QueueLimit(messages=3))
    dropped = [(await box.deliver("u", letter(str(n)), FAR_MS)).dropped for n in range(5)]
    assert dropped == [0, 0, 0, 1, 1]
    assert payloads(valkey) == ["2", "3", "4"]
    box = mailboxes(redis, queue_limit=QueueLimit(bytes=100_000))
    outcomes = [await box.deliver("v", letter("x" * 10_000 + str(n)), FAR_MS) for n in range(40)]
    left = payloads(valkey, "rm:users:v:messages")
    assert 5 <= len(left) <= 10
    assert [payload[10_000:] for payload in left] == [str(n) for n in range(40 - len(left), 40)]
    assert sum(outcome.dropped for outcome in outcomes) == 40 - len(left)
    outcome = await box.deliver("v", letter("y" * 500_000), FAR_MS)
    assert [payload[0] for payload in payloads(valkey, "rm:users:v:messages")] == ["y"]
    assert outcome.dropped == len(left)


async def test_what_was_told_is_bounded_too(redis: Redis, valkey: Valkey) -> None:
    """A client that never confirms does not make a list grow without bound."""
    box = mailboxes(redis, queue_limit=QueueLimit(messages=3))
    await box.join("u", 1)
    for number in range(9):
        assert (await box.deliver("u", letter(str(number)), FAR_MS)).result == "delivered"
    assert payloads(valkey, f"recado:{{{LIST}}}:told") == ["6", "7", "8"]
    # Also when every node vanishes for good, so that nobody takes them out.
    assert valkey.client.ttl(f"recado:{{{LIST}}}:told") > 0
    assert payloads(valkey) == []


async def test_entries_of_the_stream_are_taken_once(box: RedisMailboxes, valkey: Valkey) -> None:
    """An entry that is delivered again is a duplicate, even late. An entry that was skipped is not a duplicate."""
    results = {}
    for stream_id in ("5-0", "5-1", "7-0", "5-1", "6-0", "6-0", "10-0", "9-0"):
        results[stream_id] = (await box.deliver("u", letter(stream_id, stream_id=stream_id), FAR_MS)).result
    assert payloads(valkey) == ["5-0", "5-1", "7-0", "6-0", "10-0", "9-0"]
    assert results["5-1"] == results["6-0"] == "duplicate"
    for number in range(40):
        await box.deliver("v", letter("x", stream_id=f"{100 + number}-0"), FAR_MS)
    # The entry is too old to be remembered: it counts as taken.
    assert (await box.deliver("v", letter("x", stream_id="101-0"), FAR_MS)).result == "duplicate"
    assert valkey.client.llen("recado:{rm:users:v:messages}:taken") == 32
    assert valkey.client.ttl("recado:{rm:users:v:messages}:taken") > 80_000


async def test_list_of_a_wrong_type(box: RedisMailboxes, valkey: Valkey) -> None:
    """A message that cannot be put there does not count as taken. Once the key is right, the same entry arrives."""
    valkey.client.set(LIST, "no list")
    given = letter("x", stream_id="5-0", dedupe_id="mine")
    for _ in range(2):
        with pytest.raises(WrongType, match=f"{LIST} is no list"):
            await box.deliver("u", given, FAR_MS)
    assert list(valkey.dump()) == [LIST]
    valkey.client.set("rm:channels:bad:subscribers", "no set")
    with pytest.raises(WrongType):
        await anext(box.members("bad"))
    valkey.client.delete(LIST)
    assert (await box.deliver("u", given, FAR_MS)).result == "queued"


async def test_list_that_becomes_another_type(box: RedisMailboxes, valkey: Valkey) -> None:
    """The dead node of such a user is buried as usual. Its told messages are kept until the key is right."""
    for user in ("u", "v"):
        await box.join(user, 1)
        assert (await box.deliver(user, letter(user), FAR_MS)).result == "delivered"
    valkey.client.set(LIST, "no list")
    assert await box.bury("aa") == 2
    assert payloads(valkey, "rm:users:v:messages") == ["v"]
    valkey.client.delete(LIST)
    part = await box.join("u", 2)
    assert part.entries == [letter("u").entry]


async def test_ids_of_the_application(box: RedisMailboxes, valkey: Valkey) -> None:
    """A second message with the same id of the application is a duplicate, only for this user, for a day."""
    first = await box.deliver("u", letter("a", stream_id="1-0", dedupe_id="x"), FAR_MS)
    again = await box.deliver("u", letter("b", stream_id="2-0", dedupe_id="x"), FAR_MS)
    other = await box.deliver("v", letter("a", stream_id="1-0", dedupe_id="x"), FAR_MS)
    assert [outcome.result for outcome in (first, again, other)] == ["queued", "duplicate", "queued"]
    (key,) = valkey.client.keys("recado:{rm:users:u:messages}:id:*")
    assert 86_000 < valkey.client.ttl(key) <= 86_400


async def test_parts(redis: Redis, valkey: Valkey) -> None:
    """A part holds at most this number of messages, and this number of bytes, except that the first is always in it."""
    box = mailboxes(redis, batch_limit=BatchLimit(messages=3, bytes=1_000))
    for payload in ("a", "b", "c", "d", "x" * 2_000, "y" * 900, "z" * 900):
        await box.deliver("u", letter(payload), FAR_MS)
    part = await box.join("u", 1)
    sizes = []
    while True:
        sizes.append([json.loads(entry)["payload"][0] for entry in part.entries])
        if not part.has_more:
            break
        taken = await box.take("u", 1, part.entries)
        assert taken is not None
        part = taken
    assert sizes == [["a", "b", "c"], ["d"], ["x"], ["y"], ["z"]]
    assert await box.take("u", 2, []) is None


async def test_keys_are_gone_when_nothing_is_left(box: RedisMailboxes, valkey: Valkey) -> None:
    """A user who was here, and has no waiting messages, leaves only keys that expire."""
    part = await box.join("u", 1)
    assert part.is_first
    await box.deliver("u", letter("a", stream_id="1-0"), FAR_MS)
    await box.confirm("u", [letter("a").entry])
    await box.leave("u", 1, is_last_here=True)
    kept = {key: valkey.client.ttl(key) for key in valkey.dump()}
    assert set(kept) == {f"recado:{{{LIST}}}:state", f"recado:{{{LIST}}}:taken"}
    assert all(0 < seconds <= 86_400 for seconds in kept.values())


async def test_leaving_twice_changes_nothing(box: RedisMailboxes, valkey: Valkey) -> None:
    """A second leave or confirm changes nothing: the caller may retry both after an unknown outcome."""
    await box.join("u", 1)
    await box.join("u", 2)
    for payload in ("a", "b"):
        await box.deliver("u", letter(payload), FAR_MS)
    for _ in range(2):
        await box.confirm("u", [letter("a").entry])
        await box.leave("u", 1, is_last_here=False)
    assert valkey.client.hkeys(f"recado:{{{LIST}}}:connections") == [b"aa.2"]
    await box.leave("u", 2, is_last_here=True)
    assert payloads(valkey) == ["b"]


async def test_queue_lives_on_with_what_was_told(redis: Redis, valkey: Valkey) -> None:
    """Messages that go back into the list after the last connection live as long as new ones."""
    box = mailboxes(redis, queue_expiry_seconds=100)
    await box.join("u", 1)
    await box.deliver("u", letter("a"), FAR_MS)
    await box.leave("u", 1, is_last_here=True)
    assert 90 < valkey.client.ttl(LIST) <= 100


async def test_members_once(box: RedisMailboxes, valkey: Valkey) -> None:
    """Each of thousands of subscribers of a channel is returned once."""
    users = {f"user{number}" for number in range(5_000)}
    valkey.client.sadd("rm:channels:c:subscribers", *users)
    found = [user async for part in box.members("c") for user in part]
    assert sorted(found) == sorted(users)
    assert [part async for part in box.members("nobody")] in ([], [[]])


async def test_bury_takes_only_that_node(redis: Redis, valkey: Valkey) -> None:
    """A burial removes the connections of one node, of all its users, and the node itself. Other nodes' connections
    stay."""
    dead, other = mailboxes(redis), mailboxes(redis, "bb")
    for number in range(1_500):
        await dead.join(f"u{number}", number)
    await other.join("u7", 1)
    valkey.client.zadd("recado:redis_publish:{rm}:nodes", {"aa": 1, "bb": time.time()})
    assert await other.bury("aa") == 1_500
    assert valkey.client.hkeys("recado:{rm:users:u7:messages}:connections") == [b"bb.1"]
    assert valkey.client.zrange("recado:redis_publish:{rm}:nodes", 0, -1) == [b"bb"]
    assert valkey.client.keys("recado:redis_publish:{rm}:users:aa") == []


async def test_user_of_a_revived_node_is_buried_later(
    redis: Redis, valkey: Valkey, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A user whom a node adds while it is being buried, because it was only paused, is known to its next burial."""
    revived, other = mailboxes(redis), mailboxes(redis, "bb")
    await revived.join("u", 1)
    command, joins = redis.command, list[asyncio.Future[Any]]()

    def join_before_the_end(*words: Any) -> Any:
        if words[0] == "SREM" and not joins:
            joins.append(asyncio.ensure_future(revived.join("u", 2)))
        return command(*words)

    with monkeypatch.context() as patch:
        patch.setattr(redis, "command", join_before_the_end)
        await other.bury("aa")
    await asyncio.gather(*joins)
    connections = "recado:{rm:users:u:messages}:connections"
    assert bool(valkey.client.exists(connections)) is bool(valkey.client.exists("recado:redis_publish:{rm}:users:aa"))
    await other.bury("aa")
    assert not valkey.client.exists(connections)
