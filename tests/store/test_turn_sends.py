"""The messages of one turn, stored by one script: each as if it were sent by itself, in the order of the calls."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from random import Random
from typing import Any

import pytest

from app.config.settings import Site, SiteLimits
from app.core.message import Audience, ExceptDevice, Guard, Message
from app.core.options import MessageOptions, Once
from app.core.ports import AckGroup, Stored
from app.errors import StoreAway, StoreUnavailable, WrongType
from app.redis.client import Redis
from app.redis.link import Word
from app.store import turn_sends
from app.store.keys import bus_channel, prefix
from app.store.queues import RedisQueues
from app.store.turn_sends import is_for_turn
from tests.support.store import address_of, limits, make_message, make_site, queue_of
from tests.support.valkey import Valkey
from tests.support.waiting import until

SITE = make_site(**limits(messages=4, size=60), journal_bodies=True)
#: The largest body that the store of a test takes: queues longer than three are counted.
MAX_BYTES = 20
NOW = 1_900_000_000_000


class Scripts:
    """Notes the scripts that a store runs. Lives for one test."""

    def __init__(self, queues: RedisQueues, monkeypatch: pytest.MonkeyPatch) -> None:
        """Nothing was run yet."""
        self.names: list[str] = []
        run = queues._redis.run

        def noted(name: str, key: str, *words: Word) -> Any:
            self.names.append(name)
            return run(name, key, *words)

        monkeypatch.setattr(queues._redis, "run", noted)


@pytest.fixture
def queues(redis: Redis) -> RedisQueues:
    """The store of one node."""
    return RedisQueues(redis, "aa", 1_000_000)


def bodies(valkey: Valkey, site: Site = SITE) -> list[str]:
    """The bodies that wait for the site's only device."""
    return queue_of(valkey, site)


async def send_all(queues: RedisQueues, messages: Sequence[Message]) -> list[Stored]:
    """The outcome of messages that are sent in one turn."""
    return await asyncio.gather(*(queues.send(message) for message in messages))


async def settle_devices(redis: Redis) -> RedisQueues:
    """A store with users: one with a connected device, one that is away and one that has expired; one whose device is
    connected to two nodes; one that is away."""
    one, other = (RedisQueues(redis, name, MAX_BYTES) for name in ("aa", "bb"))
    one.now_ms = other.now_ms = NOW - 10_000
    short = make_site(device_ttl_seconds=5)
    expired = await one.connect(short, 1, "expired", ["user_1"])
    await one.disconnect(short, 1, [(expired.devices[0].handle, 0)])
    away = [await one.connect(SITE, number, "away", [f"user_{number}"]) for number in (1, 3)]
    for number, registration in zip((1, 3), away, strict=True):
        await one.disconnect(SITE, number, [(registration.devices[0].handle, 0)])
    await one.connect(SITE, 4, "here", ["user_1", "all"])
    await one.connect(SITE, 5, "both", ["user_2", "all"])
    await other.connect(SITE, 6, "both", ["user_2", "all"])
    one.now_ms = NOW
    return one


class Outcome:
    """All that a way of sending has left: the answers, the keys, the bus. Lives for one example."""

    def __init__(self, valkey: Valkey) -> None:
        """Listens to the bus."""
        self._valkey = valkey
        client: Any = valkey.client
        self._bus = client.pubsub(ignore_subscribe_messages=True)
        self._bus.subscribe(bus_channel("aa"), bus_channel("bb"))
        self._bus.get_message(timeout=30)
        self._bus.get_message(timeout=30)

    def of(self, stored: Sequence[Stored]) -> tuple[Any, ...]:
        """The outcome of messages that were sent."""
        dump = self._valkey.dump()
        fates = [fields for _, fields in dump.pop(f"{prefix(SITE.name)}fate", [])]
        for fields in fates:
            # Of what has left a queue; the time is Redis's own.
            if fields["k"] == "fate":
                del fields["at"]
        told = sum(one.tells for one in stored)
        heard = [self._bus.get_message(timeout=30) for _ in range(told)]
        assert self._bus.get_message(timeout=0) is None
        self._bus.close()
        by_node: dict[bytes, list[bytes]] = {}
        for message in heard:
            by_node.setdefault(message["channel"], []).append(message["data"])
        return stored, dump, fates, by_node


def random_messages(chance: Random) -> list[Message]:
    """Some messages to some users."""
    users = ("user_1", "user_2", "user_3", "user_nobody")
    return [
        make_message(SITE, chance.sample(users, chance.randint(1, 3)), body=b"x" * chance.randint(1, MAX_BYTES))
        for _ in range(chance.randint(1, 12))
    ]


@pytest.mark.parametrize("journal_backlog", [0, 1_000])
async def test_each_as_by_itself(valkey: Valkey, chance: Random, journal_backlog: int) -> None:
    """Answers, keys, entries for the journal and bus messages are the same as after sends one by one by send.lua: also
    where a queue runs over within the turn, a device has expired, or a user has none."""
    redis = Redis(address_of(valkey), 5.0, journal_backlog=journal_backlog)
    await redis.start()
    overflowed = 0
    for _ in range(12):
        messages, found = random_messages(chance), []
        for is_turn in (True, False):
            valkey.client.flushall()
            queues, outcome = await settle_devices(redis), Outcome(valkey)
            if is_turn:
                stored = await send_all(queues, messages)
                overflowed += sum(one.overflowed for one in stored)
            else:
                stored = [await queues._send_alone(message) for message in messages]
            found.append(outcome.of(stored))
        assert found[0] == found[1]
    await redis.close()
    assert overflowed


async def test_one_run_for_a_turn(queues: RedisQueues, valkey: Valkey, monkeypatch: pytest.MonkeyPatch) -> None:
    """Messages of one turn cost one run, and have seqs in the order of the calls; the next turn has its own."""
    site = make_site()
    await queues.connect(site, 1, "d", ["user_1"])
    scripts = Scripts(queues, monkeypatch)
    messages = [make_message(site, "user_1") for _ in range(10)]
    seqs = [stored.seq for stored in await send_all(queues, messages)]
    assert scripts.names == ["send_turn"]
    assert seqs == list(range(seqs[0], seqs[0] + 10))
    assert bodies(valkey) == [message.body.decode() for message in messages]
    await queues.send(make_message(site, "user_1"))
    assert scripts.names == ["send_turn"] * 2


async def test_scripts_keep_their_order(queues: RedisQueues, valkey: Valkey, monkeypatch: pytest.MonkeyPatch) -> None:
    """A script of the site that is run behind a send in the same turn runs after it: a send to a room, and an ack."""
    site = make_site()
    device = (await queues.connect(site, 1, "d", ["user_1", "all"])).devices[0]
    scripts = Scripts(queues, monkeypatch)
    messages = [make_message(site, room) for room in ("user_1", "all", "user_1")]
    sends = [queues.send(message) for message in messages]
    acked = queues.ack(site, [AckGroup(False, 1, [device.handle])])
    stored = await asyncio.gather(*sends)
    await acked
    assert scripts.names == ["send_turn", "send", "send_turn", "ack"]
    assert sorted(one.seq for one in stored) == [one.seq for one in stored]
    assert bodies(valkey) == [message.body.decode() for message in messages]


async def test_acks_free_bodies_together(queues: RedisQueues, valkey: Valkey) -> None:
    """Acks of more messages than one command frees leave neither bodies nor entries of the list of what waits; those of
    a message that another device has stay."""
    site = make_site()
    handle, other = [
        (await queues.connect(site, number, f"d{number}", [f"user_{number}"])).devices[0].handle for number in (1, 2)
    ]
    messages = [make_message(site, "user_1") for _ in range(300)]
    stored = await send_all(queues, [*messages, both := make_message(site, ["user_1", "user_2"])])
    await queues.ack(site, [AckGroup(False, one.seq, [handle]) for one in stored])
    held = valkey.dump()
    assert [key for key in held if ":body:" in key.removeprefix(prefix(site.name)[:-1])] == [
        f"{prefix(site.name)}body:{stored[-1].seq}"
    ]
    assert [id for id, _ in held[f"{prefix(site.name)}waiting"]] == [str(both.id)]
    await queues.ack(site, [AckGroup(False, stored[-1].seq, [other])])
    assert not [key for key in valkey.dump() if ":body:" in key or ":waiting" in key]


async def test_bounds_of_a_turn(queues: RedisQueues, monkeypatch: pytest.MonkeyPatch) -> None:
    """A run has so many messages, and so many bytes, at most."""
    site = make_site()
    monkeypatch.setattr(turn_sends, "MOST_IN_TURN", 3)
    monkeypatch.setattr(turn_sends, "MAX_TURN_BYTES", 100)
    scripts = Scripts(queues, monkeypatch)
    await send_all(queues, [make_message(site, "user_1", body=b"x") for _ in range(7)])
    assert scripts.names == ["send_turn"] * 3
    scripts.names.clear()
    await send_all(queues, [make_message(site, "user_1", body=b"x" * 60) for _ in range(4)])
    assert scripts.names == ["send_turn"] * 2


async def test_wrong_key_of_a_user(queues: RedisQueues, valkey: Valkey) -> None:
    """A key of one user that holds something else costs the others nothing, wherever it is found."""
    site = make_site()
    device = (await queues.connect(site, 1, "d", ["user_1"])).devices[0]
    other = (await queues.connect(site, 2, "d", ["user_2"])).devices[0]
    for key in (b"user:user_3", b"queue:" + other.handle):
        valkey.client.set(prefix(site.name).encode() + key, "text")
        rooms = ("user_1", "user_3" if b"user_3" in key else "user_2", "user_1")
        messages = [make_message(site, room) for room in rooms]
        answers = await asyncio.gather(*(queues.send(message) for message in messages), return_exceptions=True)
        first, wrong, last = answers
        assert isinstance(first, Stored)
        assert isinstance(last, Stored)
        assert isinstance(wrong, WrongType)
        held = valkey.dump()
        queue = held[f"{prefix(site.name)}queue:{device.handle.decode()}"]
        assert queue[-2:] == [str(first.seq), str(last.seq)]
        waiting = [id for id, _ in held[f"{prefix(site.name)}waiting"]]
        assert str(messages[1].id) not in waiting
        valkey.client.delete(prefix(site.name).encode() + key)


async def test_behind_a_large_message(queues: RedisQueues, valkey: Valkey) -> None:
    """While another message is stored in parts those of a turn wait for it, each by itself; so does one to a user with
    very many devices, which is stored in parts."""
    site = make_site()
    for number in range(3):
        await queues.connect(site, number, f"d{number}", ["user_1"])
    await queues.connect(site, 4, "d", ["user_2"])
    queues.large.large_from = 2
    stored = await send_all(queues, [make_message(site, room) for room in ("user_2", "user_1", "user_2")])
    assert [one.recipients for one in stored] == [1, 3, 1]
    assert len({one.seq for one in stored}) == 3


async def test_a_caller_that_is_gone(queues: RedisQueues, valkey: Valkey) -> None:
    """A caller that is cancelled costs the others nothing; its message is on its way."""
    site = make_site()
    await queues.connect(site, 1, "d", ["user_1"])
    messages = [make_message(site, "user_1") for _ in range(3)]
    calls = [asyncio.ensure_future(queues.send(message)) for message in messages]
    calls[1].cancel()
    answers = await asyncio.gather(*calls, return_exceptions=True)
    assert isinstance(answers[1], asyncio.CancelledError)
    assert bodies(valkey) == [message.body.decode() for message in messages]


async def test_without_redis(queues: RedisQueues, redis: Redis, valkey: Valkey) -> None:
    """Without a link each caller learns that nothing was sent, with an error of its own; a run past its deadline stores
    nothing."""
    site = make_site()
    late = queues._redis.deadline_ms
    queues._redis.deadline_ms = lambda key: 1  # type: ignore[method-assign]
    answers = await asyncio.gather(
        *(queues.send(make_message(site, "user_1")) for _ in range(2)), return_exceptions=True
    )
    assert [type(answer) for answer in answers] == [StoreUnavailable] * 2
    assert valkey.client.exists(f"{prefix(site.name)}seq") == 0
    queues._redis.deadline_ms = late  # type: ignore[method-assign]
    redis.give_up()
    await until(lambda: not redis.is_available, "the end of the link")
    answers = await asyncio.gather(
        *(queues.send(make_message(site, "user_1")) for _ in range(2)), return_exceptions=True
    )
    assert [type(answer) for answer in answers] == [StoreAway] * 2
    assert answers[0] is not answers[1]


@pytest.mark.parametrize(
    ("rooms", "given"),
    [
        (["user_1", "all"], {}),
        ([], {}),
        ([f"user_{number}" for number in range(9)], {}),
        (["user_1"], {"options": MessageOptions(ttl=5)}),
        (["user_1"], {"audiences": [Audience("channels", ["a"])]}),
        (["user_1"], {"guard": Guard("h", "f", b"d")}),
        (["user_1"], {"once": Once("a", "b", 5)}),
        (["user_1"], {"but": ExceptDevice("user_1", "d")}),
        (["user_1"], {"body": b"x" * 65_537}),
    ],
)
def test_sent_by_itself(rooms: list[str], given: dict[str, Any]) -> None:
    """A message that needs more than storing, or more work than most, is sent by itself."""
    assert is_for_turn(make_message(SITE, "user_1"))
    assert not is_for_turn(make_message(SITE, rooms, **given))


@pytest.mark.parametrize("limit", ["sends_per_second", "stored_messages", "stored_bytes"])
def test_limits_are_for_send(limit: str) -> None:
    """A site with limits of its sends has each counted by send.lua. The public channel is no user."""
    assert not is_for_turn(make_message(make_site(limits=SiteLimits(**{limit: 5})), "user_1"))
    assert not is_for_turn(make_message(make_site(public_channel="public"), "public"))
