"""The sending of a site's events to a receiver that is slow, fails or is away: at least once, in order for a user."""

from __future__ import annotations

import asyncio
import json
import random
from typing import Any

import pytest

from app.backends.hook_answer import HookAnswer
from app.errors import StoreUnavailable
from app.store.keys import prefix
from app.webhooks import attempt, lanes, site_sender
from app.webhooks.attempt import record_of
from app.webhooks.event import new_post
from app.webhooks.figures import WebhookCounts
from tests.support.hook_receiver import HookReceiver
from tests.support.valkey import Valkey
from tests.support.waiting import until
from tests.webhooks.conftest import HookNode, NewNode, hooked_site


@pytest.fixture(autouse=True)
def quick_retries(monkeypatch: pytest.MonkeyPatch) -> None:
    """The pauses in hundredths of their time, without the last ones."""
    monkeypatch.setattr(attempt, "RETRY_SECONDS", (0.05, 0.1, 0.2, 0.2, 0.2))


async def told(receiver: HookReceiver, count: int, seconds: float = 30) -> None:
    """Wait until so many different events were accepted."""
    await until(lambda: len(set(receiver.seqs)) >= count, f"{count} events", seconds)


def check_all(receiver: HookReceiver, count: int) -> None:
    """Every event came, without a gap, and those of each user in order."""
    seqs = sorted(set(receiver.seqs))
    assert seqs == list(range(seqs[0], seqs[0] + count))
    for user, mine in receiver.first_seqs_by_user().items():
        assert mine == sorted(mine), user


async def all_told(node: HookNode, receiver: HookReceiver, valkey: Valkey, seconds: float = 60) -> None:
    """Wait until all users are offline, every event came, and Redis holds none; then check them."""
    keys, client = prefix(node.site.name), valkey.client

    def is_over() -> bool:
        left = [key for key in ("online", "leaving", "hook_posts") if client.exists(keys + key)]
        return not left and client.xlen(keys + "hooks") == 0

    await until(is_over, "the end of all events", seconds)
    last: Any = client.get(keys + "hook_seq")
    check_all(receiver, int(last) - min(receiver.seqs) + 1)
    assert client.hget(keys + "hook_counts", "bytes") == b"0"
    assert client.keys(keys + "hook_post:*") == []


async def test_events_are_gathered(new_node: NewNode, receiver: HookReceiver, valkey: Valkey) -> None:
    """Events of some 100 ms go in one signed POST of at most 100; nothing is left behind in Redis."""
    node = new_node(hooked_site(receiver))
    await node.start()
    await until(lambda: node.sender._lease_until > 0, "the lease")
    await asyncio.gather(*(node.come(f"user_{number}") for number in range(250)))
    await told(receiver, 250)
    await all_told(node, receiver, valkey)
    assert max(len(events) for _, events in receiver.posts) <= 100
    # A machine under load makes them slowly, so that fewer are there at a time.
    assert len(receiver.posts) <= 150
    (event,) = [event for event in receiver.accepted if event["user"] == "user_7" and event["type"] == "user.online"]
    assert event["devices"] == 1
    assert event["at"].endswith("Z")


async def test_a_receiver_that_fails_in_turns(new_node: NewNode, receiver: HookReceiver, valkey: Valkey) -> None:
    """With every other POST answered 500 each event comes at least once, those of a user in order."""
    node = new_node(hooked_site(receiver))
    await node.start()
    receiver.status = lambda number: 500 if number % 2 else 200
    for _ in range(10):
        await asyncio.gather(*(node.come(f"user_{number}") for number in range(7)))
        for _ in range(3):
            await node.come("user_0")
    await all_told(node, receiver, valkey)
    assert len(set(receiver.seqs)) == 200


async def test_a_receiver_that_is_killed(new_node: NewNode, receiver: HookReceiver, valkey: Valkey) -> None:
    """While the receiver is away nothing is lost; it gets all events when it is back, in POSTs of the same ids."""
    node = new_node(hooked_site(receiver))
    await node.start()
    await node.come("user_1")
    await told(receiver, 1)
    await receiver.stop()
    for _ in range(5):
        await asyncio.gather(*(node.come(f"user_{number}") for number in range(3)))
    await until(lambda: node.counts.of("shop").part(WebhookCounts).posts["retry"] > 1, "failed attempts")
    await receiver.start()
    await told(receiver, 30 - 2)
    await all_told(node, receiver, valkey)


async def test_other_users_do_not_wait(new_node: NewNode, receiver: HookReceiver, valkey: Valkey) -> None:
    """While an event of one user is repeated, its later ones wait; those of others come, in four POSTs at a time."""
    node = new_node(hooked_site(receiver))
    await node.start()
    receiver.gate.clear()
    await node.come("user_1")
    await until(lambda: receiver.at_once == 1 and receiver.posts, "the first POST")

    def posted() -> int:
        return [event["user"] for _, events in receiver.posts for event in events].count("user_1")

    first = posted()
    await node.come("user_1")
    for number in range(2, 8):
        await node.come(f"user_{number}")
        await until(lambda number=number: receiver.at_once == min(number, 4) or number > 4, "a POST under way")  # type: ignore[misc]
    assert posted() == first
    receiver.gate.set()
    await told(receiver, 9)
    # With those of users that have gone meanwhile.
    await all_told(node, receiver, valkey)
    assert receiver.most_at_once == site_sender.MAX_UNDER_WAY


async def test_a_dead_endpoint_delays_no_other_site(new_node: NewNode, receiver: HookReceiver) -> None:
    """A site whose receiver never answers keeps the events of another site waiting for no time."""
    dead = HookReceiver()
    await dead.start()
    dead.gate.clear()
    stuck, lively = new_node(hooked_site(dead, "stuck")), new_node(hooked_site(receiver, "lively"))
    await stuck.start()
    await lively.start()
    for number in range(8):
        await stuck.come(f"user_{number}")
    await until(lambda: dead.at_once > 0, "a POST without an answer")
    for number in range(8):
        await lively.come(f"user_{number}")
    await told(receiver, 8, 8)
    dead.gate.set()
    await told(dead, 8)
    await dead.stop()


async def test_another_node_takes_over(new_node: NewNode, receiver: HookReceiver, valkey: Valkey) -> None:
    """One node sends at a time; when it ends without a word another sends what it left, also the POST under way."""
    first, second = new_node(hooked_site(receiver)), new_node(hooked_site(receiver), "bb")
    await first.start()
    await first.come("user_1")
    await told(receiver, 1)
    await second.start()
    receiver.gate.clear()
    await first.come("user_1")
    await until(lambda: receiver.at_once == 1, "a POST under way")
    await second.come("user_2")
    await first.vanish()
    receiver.gate.set()
    receiver.accepted.clear()
    await told(receiver, 3)
    assert {event["user"] for event in receiver.accepted} == {"user_1", "user_2"}


async def test_the_lease_is_handed_over(
    new_node: NewNode, receiver: HookReceiver, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A node that ends as asked gives its lease back, and lets the POST under way end: nothing comes twice."""
    monkeypatch.setattr(site_sender, "LEASE_SECONDS", 120.0)
    first, second = new_node(hooked_site(receiver)), new_node(hooked_site(receiver), "bb")
    await first.start()
    await first.come("user_1")
    await told(receiver, 1)
    await second.start()
    await first.close()
    await second.come("user_2")
    await told(receiver, 2)
    assert len(receiver.accepted) == len(set(receiver.seqs))


async def test_parked_and_sent_again(new_node: NewNode, receiver: HookReceiver, valkey: Valkey) -> None:
    """After the last attempt a post is parked, and later events of its user go; a retry has it sent again."""
    node = new_node(hooked_site(receiver))
    await node.start()
    receiver.status = lambda number: 500
    await node.come("user_1")
    await until(lambda: node.counts.of("shop").part(WebhookCounts).posts["parked"] == 1, "a parked post")
    overview = await node.outbox.overview(10)
    assert [post["seqs"] for post in overview["parked"]] == [[receiver.posts[0][1][0]["seq"]]]
    assert [one["status"] for one in overview["attempts"]] == [500] * 6
    assert {one["answer"] for one in overview["attempts"]} == {"thanks"}
    receiver.status = lambda number: 200
    await node.come("user_1")
    await until(lambda: receiver.seqs, "a later event")
    first = receiver.posts[0][1][0]["seq"]
    assert first not in receiver.seqs
    assert await node.outbox.retry("", 0) == 1
    await until(lambda: first in receiver.seqs, "the parked event")
    # Its order is lost, which is why it was parked.
    receiver.accepted = [event for event in receiver.accepted if event["seq"] != first]
    assert await node.outbox.retry("", 0) == 0
    await all_told(node, receiver, valkey)


async def test_gone_turns_the_webhook_off(new_node: NewNode, receiver: HookReceiver, valkey: Valkey) -> None:
    """After 410 events are dropped, with their seqs, until a retry; the events of that POST are sent then."""
    node = new_node(hooked_site(receiver))
    await node.start()
    receiver.status = lambda number: 410
    await node.come("user_1")
    await until(lambda: node.sender._is_off, "410")
    await node.come("user_2")
    overview = await node.outbox.overview(10)
    assert (overview["state"], overview["dropped"], len(overview["parked"])) == ("off", 1, 1)
    receiver.status = lambda number: 200
    assert await node.outbox.retry("", 0) == 1
    await told(receiver, 1)
    await node.come("user_3")
    await told(receiver, 2)
    first = receiver.seqs[0]
    assert set(receiver.seqs) >= {first}
    assert first + 1 not in receiver.seqs


async def test_another_configuration_turns_it_on(new_node: NewNode, receiver: HookReceiver) -> None:
    """A webhook that was answered 410 is on again with another URL."""
    node = new_node(hooked_site(receiver))
    await node.start()
    receiver.status = lambda number: 410
    await node.come("user_1")
    await until(lambda: node.sender._is_off, "410")
    await node.close()
    receiver.status = lambda number: 200
    renewed = new_node(hooked_site(receiver, url=receiver.url + "?v=2"), "bb")
    await renewed.start()
    await renewed.come("user_2")
    await until(lambda: "user_2" in {event["user"] for event in receiver.accepted}, "an event")


async def test_any_answers(new_node: NewNode, receiver: HookReceiver, chance: random.Random, valkey: Valkey) -> None:
    """With answers of any status at random, and a receiver that is killed now and then, each event comes at least once
    and in order for its user."""
    node = new_node(hooked_site(receiver))
    await node.start()
    receiver.status = lambda number: chance.choice((200, 200, 500, 404, 301))
    for _ in range(6):
        for _ in range(10):
            await node.come(f"user_{chance.randrange(5)}")
        await receiver.stop()
        await node.come(f"user_{chance.randrange(5)}")
        await receiver.start()
    receiver.status = lambda number: 200
    await all_told(node, receiver, valkey)


async def test_attempts_are_rows_of_the_journal(new_node: NewNode, receiver: HookReceiver, valkey: Valkey) -> None:
    """Where there is a journal each attempt is one row in the stream of fates; without one there is no stream."""
    node = new_node(hooked_site(receiver), journal_backlog=100)
    await node.start()
    receiver.status = lambda number: 200 if number else 503
    await node.come("user_1")
    await all_told(node, receiver, valkey)
    client: Any = valkey.client
    entries = [fields for _, fields in client.xrange(prefix("shop") + "fate") if fields[b"k"] == b"rows"]
    rows = [row for fields in entries for row in json.loads(fields[b"rows"])]
    assert {fields[b"table"] for fields in entries} == {b"webhook_attempts"}
    assert [(row["attempt"], row["status"], row["outcome"]) for row in rows][:2] == [
        (1, 503, "retry"),
        (2, 200, "delivered"),
    ]
    seq = receiver.seqs[0]
    assert (rows[0]["from_seq"], rows[0]["users"], rows[0]["node"]) == (seq, '["user_1"]', "aa")
    assert rows[0]["types"].startswith("user.o")
    assert rows[0]["webhook_id"] == rows[1]["webhook_id"]


async def test_a_post_under_way_is_not_begun_twice(new_node: NewNode, receiver: HookReceiver) -> None:
    """A node that reads its posts again does not repeat the one that is under way."""
    node = new_node(hooked_site(receiver))
    await node.start()
    receiver.gate.clear()
    await node.come("user_1")
    await until(lambda: receiver.at_once == 1, "a POST under way")
    node.sender._reload()
    await node.come("user_2")
    await until(lambda: receiver.at_once == 2, "the POST of another user")
    receiver.gate.set()
    await told(receiver, 2)
    ids = [post for post, _ in receiver.posts]
    assert len(ids) == len(set(ids))


async def test_only_the_holder_changes_posts(new_node: NewNode, receiver: HookReceiver) -> None:
    """A node whose lease was lost takes no events, and what it reports of a post changes nothing. Events that the bound
    has dropped are taken by nobody."""
    site = hooked_site(receiver)
    holder, other = new_node(site), new_node(site, "bb")
    for node in (holder, other):
        await node.redis.start()
    await holder.outbox.beat(60_000)
    await holder.come("user_1")
    events = await holder.outbox.read(b"", 10)
    post = new_post("msg_1", events, 1_000)
    assert await other.outbox.take(post, b"{}", events) == 0
    assert await holder.outbox.take(post, b"{}", events) == 1
    assert await holder.outbox.take(new_post("msg_2", events, 1_000), b"{}", events) == -1
    answer = HookAnswer(200, 1)
    record = record_of(site.name, post, 1_000, answer, "delivered")
    assert await other.outbox.answered(post, 2_000, record) == 0
    assert await other.outbox.body_of("msg_1") == b"{}"
    assert [found.id for found in await other.outbox.posts({})] == ["msg_1"]
    assert await holder.outbox.answered(post, 2_000, record) == 1
    assert await holder.outbox.body_of("msg_1") is None
    assert await holder.outbox.body_of("msg_2") is None


async def test_an_event_that_nobody_can_read(new_node: NewNode, receiver: HookReceiver, valkey: Valkey) -> None:
    """An entry of the outbox without a sense is dropped, and the events behind it come."""
    node = new_node(hooked_site(receiver))
    await node.start()
    client: Any = valkey.client
    client.xadd(prefix("shop") + "hooks", {"seq": "x", "type": "t", "at": "1", "user": "", "data": b"\xff"})
    await node.come("user_1")
    await told(receiver, 1)
    await all_told(node, receiver, valkey)


async def test_an_error_of_the_server_costs_a_pause(
    new_node: NewNode, receiver: HookReceiver, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A turn, or an attempt, that fails is counted or repeated after a pause; the sender goes on."""
    monkeypatch.setattr(site_sender, "_OTHERS_BEAT_SECONDS", 0.05)
    node = new_node(hooked_site(receiver))
    failures = iter([RuntimeError("of a turn"), None])
    turn = node.sender._turn

    async def failing() -> float:
        if (failure := next(failures, None)) is not None:
            raise failure
        return await turn()

    monkeypatch.setattr(node.sender, "_turn", failing)
    exchange, calls = node.sender.exchange, 0

    async def broken(*words: Any) -> HookAnswer:
        nonlocal calls
        calls += 1
        if calls == 1:
            raise RuntimeError("of an attempt")
        return await exchange(*words)

    monkeypatch.setattr(node.sender, "exchange", broken)
    await node.start()
    await node.come("user_1")
    await told(receiver, 1)
    assert node.counts.faults["webhook"] == 1
    assert calls >= 2


async def test_a_node_that_holds_few_events(
    new_node: NewNode, receiver: HookReceiver, valkey: Valkey, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A node that is full reads the outbox again now and then: no event is lost, out of order, or stuck."""
    monkeypatch.setattr(lanes, "MAX_HELD_EVENTS", 5)
    monkeypatch.setattr(site_sender, "_RELOAD_SECONDS", 0.05)
    node = new_node(hooked_site(receiver))
    await node.start()
    receiver.status = lambda number: 500 if number % 3 else 200
    for _ in range(8):
        await asyncio.gather(*(node.come(f"user_{number}") for number in range(6)))
    await all_told(node, receiver, valkey)


async def test_a_take_without_an_answer(
    new_node: NewNode, receiver: HookReceiver, valkey: Valkey, monkeypatch: pytest.MonkeyPatch
) -> None:
    """When Redis made events a post and its answer was lost, the post is found and sent; its user's events go on."""
    monkeypatch.setattr(site_sender, "_OTHERS_BEAT_SECONDS", 0.05)
    node = new_node(hooked_site(receiver))
    take, calls = node.outbox.take, 0

    async def losing(*words: Any) -> int:
        nonlocal calls
        calls += 1
        taken = await take(*words)
        if calls == 1:
            raise StoreUnavailable("the answer is lost")
        return taken

    monkeypatch.setattr(node.outbox, "take", losing)
    await node.start()
    await node.come("user_1")
    await told(receiver, 1)
    await node.come("user_1")
    await all_told(node, receiver, valkey)
