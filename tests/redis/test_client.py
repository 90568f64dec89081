"""The commands of one node: scripts, order, reconnecting, and a Redis that stops answering."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from app.core.ports import AckGroup
from app.errors import StoreError, StoreUnavailable
from app.redis.address import Address
from app.redis.client import Redis, retry
from app.redis.link import Link
from app.redis.scripts import load_scripts
from app.store.queues import RedisQueues
from tests.redis.fake_redis import Served, fake_redis
from tests.support.store import linked, make_message, make_site, queue_of, running_valkey
from tests.support.valkey import Valkey
from tests.support.waiting import until, until_answer

SITE = make_site()
#: Half a second of the processor's time.
SLOW = "local begin = os.clock() while os.clock() < begin + 0.5 do end"


@pytest.fixture
def own_valkey() -> Iterator[Valkey]:
    """A process that the test may kill; its data survive."""
    with running_valkey(is_durable=True) as server:
        yield server


@pytest.fixture
def queues(redis: Redis) -> RedisQueues:
    """The store of a node on the shared Valkey."""
    return RedisQueues(redis, "aa", 1_000_000)


async def test_commands_and_scripts_keep_the_order_of_the_calls(queues: RedisQueues, valkey: Valkey) -> None:
    """The order of effects is the order of the calls, not that of the awaits."""
    registration = await queues.connect(SITE, 1, "d", ["user_1"])
    answers = [queues.send(make_message(SITE, "user_1")) for _ in range(5)]
    closing = queues.disconnect(SITE, 1, [(registration.devices[0].handle, 0)])
    again = queues.connect(SITE, 2, "d", ["user_1"])
    waiting = (await again).devices[0].waiting.entries
    await closing
    assert [seq for seq, _ in waiting] == [(await answer).seq for answer in answers]


async def test_emptied_script_cache(queues: RedisQueues, valkey: Valkey) -> None:
    """Callers do not notice a SCRIPT FLUSH, or a failover to a server without the scripts."""
    await queues.connect(SITE, 1, "d", ["user_1"])
    valkey.client.script_flush()
    stored = await asyncio.gather(*(queues.send(make_message(SITE, "user_1")) for _ in range(5)))
    assert [one.recipients for one in stored] == [1] * 5
    assert [one.seq for one in stored] == sorted(one.seq for one in stored)


@contextmanager
def configured(valkey: Valkey, **options: str) -> Iterator[None]:
    """Valkey with other options within the block."""
    client: Any = valkey.client
    names = [option.replace("_", "-") for option in options]
    before = client.config_get(*names)
    for name, value in zip(names, options.values(), strict=True):
        client.config_set(name, value)
    try:
        yield
    finally:
        for name, value in before.items():
            client.config_set(name, value)


@pytest.mark.parametrize(
    ("option", "value", "code"), [("maxmemory", "1", "OOM"), ("min_replicas_to_write", "1", "NOREPLICAS")]
)
async def test_refused_writes(
    queues: RedisQueues, redis: Redis, valkey: Valkey, option: str, value: str, code: str
) -> None:
    """A Redis that takes no writes refuses whole sends and is counted; the link stays, and later sends succeed."""
    handle = (await queues.connect(SITE, 1, "d", ["user_1"])).devices[0].handle
    first = await queues.send(make_message(SITE, "user_1"))
    link = redis._link
    before = valkey.dump()
    with configured(valkey, **{option: value}):
        with pytest.raises(StoreUnavailable, match=code):
            await queues.send(make_message(SITE, "user_1"))
        with pytest.raises(StoreUnavailable, match=code):
            await queues.connect(SITE, 2, "other", ["user_1"])
        assert valkey.dump() == before
        assert (await queues.replay(SITE, 1, [(handle, 0)])).devices[0].state == "here"
    assert redis._counts.redis_errors == {code: 2}
    assert redis._link is link
    second = await queues.send(make_message(SITE, "user_1"))
    assert second.seq == first.seq + 1


async def test_full_redis_takes_acks(queues: RedisQueues, valkey: Valkey) -> None:
    """Commands that free memory work although memory is full: acks and ends of connections."""
    handle = (await queues.connect(SITE, 1, "d", ["user_1"])).devices[0].handle
    sent = [await queues.send(make_message(SITE, "user_1", body=body)) for body in (b"one", b"two")]
    with configured(valkey, maxmemory="1"):
        assert await queues.ack(SITE, [AckGroup(False, sent[0].seq, [handle])]) == []
        await queues.disconnect(SITE, 1, [(handle, 0)])
    assert queue_of(valkey, SITE) == ["two"]


async def test_busy_redis(queues: RedisQueues, redis: Redis, valkey: Valkey) -> None:
    """While a foreign script runs endlessly, sends are refused in time; after its end they are stored again."""
    await queues.connect(SITE, 1, "d", ["user_1"])
    redis.timeout_seconds = 0.5
    with configured(valkey, busy_reply_threshold="50"):
        # On a link of its own, which has an answer when the script is killed.
        busy = await Link.open(redis.address, 2.0)
        endless = busy.command("EVAL", "while true do end", 0)

        async def is_busy() -> bool:
            with pytest.raises(StoreUnavailable):
                await queues.send(make_message(SITE, "user_1", body=b"refused"))
            return redis._counts.redis_errors["BUSY"] > 2

        await until_answer(is_busy, "Redis to say that it is busy")
        await asyncio.to_thread(valkey.client.script_kill)
        with pytest.raises(StoreError):
            await endless
        busy.abort()
    await until(lambda: redis.is_available, "a new link")
    await queues.send(make_message(SITE, "user_1", body=b"stored"))
    assert queue_of(valkey, SITE) == ["stored"]


async def test_slow_script_is_waited_for(queues: RedisQueues, redis: Redis, valkey: Valkey) -> None:
    """A script of half a second delays a send and does not fail it: the time-out is longer."""
    redis.timeout_seconds = 10
    await queues.connect(SITE, 1, "d", ["user_1"])
    link = redis._link
    slow = redis.command("EVAL", SLOW, 0)
    assert (await queues.send(make_message(SITE, "user_1"))).recipients == 1
    assert slow.done()
    assert redis._link is link


async def test_replica_is_not_taken_for_redis(own_valkey: Valkey) -> None:
    """A primary that becomes a replica refuses commands at once; the link is retried until it is a primary again."""
    async with linked(own_valkey) as redis:
        queues = RedisQueues(redis, "aa", 1_000_000)
        await queues.connect(SITE, 1, "d", ["user_1"])
        own_valkey.client.replicaof("127.0.0.1", "1")
        with pytest.raises(StoreUnavailable, match="READONLY"):
            await queues.send(make_message(SITE, "user_1", body=b"refused"))
        await until(lambda: not redis.is_available, "the link to be given up")
        other = Redis(redis.address, 2.0)
        with pytest.raises(StoreUnavailable, match="is a replica"):
            await other.start()
        await other.close()
        own_valkey.client.replicaof("NO", "ONE")
        await until(lambda: redis.is_available, "a new link")
        await queues.send(make_message(SITE, "user_1", body=b"stored"))
        assert queue_of(own_valkey, SITE) == ["stored"]


async def test_cut_link_is_made_anew(redis: Redis, valkey: Valkey) -> None:
    """Redis ends the connection: commands in flight fail, and soon commands work again."""
    blocked = redis.command("BLPOP", "nothing", 0)
    await until(lambda: valkey.client.info("clients")["blocked_clients"] == 1, "the command to block")
    valkey.client.client_kill_filter(_type="normal", skipme=True)
    with pytest.raises(StoreUnavailable):
        await blocked
    await until(lambda: redis.is_available, "a new link")
    assert await redis.command("PING") == b"PONG"


async def test_killed_redis_comes_back_with_its_data(own_valkey: Valkey) -> None:
    """While Redis is away every command fails at once; after its start the queues are there and used again."""
    async with linked(own_valkey) as redis:
        queues = RedisQueues(redis, "aa", 1_000_000)
        await queues.connect(SITE, 1, "d", ["user_1"])
        await queues.send(make_message(SITE, "user_1", body=b"kept"))
        own_valkey.kill()
        await until(lambda: not redis.is_available, "the loss")
        loop = asyncio.get_running_loop()
        began_at = loop.time()
        for _ in range(3):
            with pytest.raises(StoreUnavailable):
                await queues.send(make_message(SITE, "user_1", body=b"lost"))
        # None of them waits for the time-out of a command.
        assert loop.time() - began_at < redis.timeout_seconds
        own_valkey.start()
        await until(lambda: redis.is_available, "a new link")
        await queues.send(make_message(SITE, "user_1", body=b"new"))
        assert queue_of(own_valkey, SITE) == ["kept", "new"]


@pytest.mark.parametrize("later_seconds", [0.0, 0.3, 0.6])
async def test_send_that_was_given_up_is_not_stored_later(own_valkey: Valkey, later_seconds: float) -> None:
    """Redis stops answering: the sender hears so within the time-out, also one that comes when others wait already;
    what Redis finds when it wakes, were it at once, is refused."""
    async with linked(own_valkey, timeout_seconds=0.8) as redis:
        queues = RedisQueues(redis, "aa", 1_000_000)
        await queues.connect(SITE, 1, "d", ["user_1"])
        await queues.send(make_message(SITE, "user_1", body=b"kept"))
        loop = asyncio.get_running_loop()
        own_valkey.suspend()
        began_at = loop.time()
        sends = [asyncio.ensure_future(queues.send(make_message(SITE, "user_1", body=b"late"))) for _ in range(3)]
        await until(lambda: loop.time() - began_at >= later_seconds, "the moment of one more")
        sends.append(asyncio.ensure_future(queues.send(make_message(SITE, "user_1", body=b"later"))))
        await asyncio.wait(sends, return_when=asyncio.FIRST_COMPLETED)
        # The one that came later has not the whole time-out for itself.
        ended_at = loop.time()
        results = await asyncio.gather(*sends, return_exceptions=True)
        own_valkey.resume()
        assert [type(result) for result in results] == [StoreUnavailable] * 4
        assert loop.time() - ended_at < max(0.2, later_seconds / 2)
        await until(lambda: redis.is_available, "a new link")
        # Two at once: the deadline of the second does not count from before the link.
        await asyncio.gather(*(queues.send(make_message(SITE, "user_1", body=body)) for body in (b"new", b"newer")))
        assert queue_of(own_valkey, SITE) == ["kept", "new", "newer"]


async def test_stepping_clock_does_not_refuse_sends_for_ever(queues: RedisQueues, redis: Redis) -> None:
    """Redis's clock jumps ahead (the machine slept): a send may be refused as late, but those after it are stored."""
    await queues.connect(SITE, 1, "d", ["user_1"])
    redis._clock._offset_ms -= 3_600_000
    with pytest.raises(StoreUnavailable):
        await queues.send(make_message(SITE, "user_1"))
    await redis.command("PING")
    assert (await queues.send(make_message(SITE, "user_1"))).recipients == 1


async def test_clock_compared_during_a_stall_refuses_no_send(queues: RedisQueues, redis: Redis) -> None:
    """A node that stood still for seconds while Redis told it the time asks again, before a send is refused as late."""
    now = asyncio.get_running_loop().time()
    seconds, microseconds = await redis.command("TIME")
    redis._clock.begin()
    redis._clock.note(int(seconds) * 1000 + int(microseconds) / 1000 - 5_000, now - 5, now)
    assert redis._clock.is_doubtful
    await until(lambda: not redis._clock.is_doubtful, "another look at the clock")
    assert (await queues.send(make_message(SITE, "user_1"))).recipients == 0


async def test_slow_answers_do_not_cut_the_link(redis: Redis, monkeypatch: pytest.MonkeyPatch) -> None:
    """The link is kept as long as answers arrive, however many commands wait."""
    link = redis._link
    redis.timeout_seconds = 0.5
    for _ in range(8):
        await redis.command("EVAL", "local n = 0 for i = 1, 3000000 do n = n + i end return n", 0)
    assert redis._link is link


async def test_start_without_redis(tmp_path: Path) -> None:
    """A start without Redis fails with StoreUnavailable and leaves no task."""
    redis = Redis(Address(path=str(tmp_path / "nowhere")), 1.0)
    with pytest.raises(StoreUnavailable, match="nowhere"):
        await redis.start()
    assert not redis.is_available
    with pytest.raises(StoreUnavailable):
        await redis.command("PING")
    await redis.close()


async def test_close_fails_what_is_under_way(valkey: Valkey) -> None:
    """At the end, callers that still wait get StoreUnavailable; none waits for ever."""
    async with linked(valkey) as redis:
        blocked = redis.command("BLPOP", "nothing", 0)
        await until(lambda: valkey.client.info("clients")["blocked_clients"] == 1, "the command to block")
    with pytest.raises(StoreUnavailable):
        await blocked
    assert not redis.is_available


async def test_link_that_breaks_as_soon_as_it_is_made(tmp_path: Path) -> None:
    """A server that answers and closes in the same moment: the link is not taken for a working one."""

    def answer(served: Served, data: bytes) -> None:
        if b"SETNAME" in data:
            served.transport.write(b"+OK\r\n")
        if b"INFO" in data:
            served.transport.write(b"$0\r\n\r\n" * 2)
        if b"TIME" in data:
            served.transport.write(b"+OK\r\n" * len(load_scripts()) + b"*2\r\n:1\r\n:0\r\n")
            served.transport.close()

    async with fake_redis(tmp_path, answer) as (fake, address):
        redis = Redis(address, 1.0)
        try:
            await redis.start()
        except StoreUnavailable:
            pass
        else:
            await until(lambda: len(fake.accepted) > 2, "new links")
        await redis.close()


async def test_retry_waits_longer_each_time(monkeypatch: pytest.MonkeyPatch) -> None:
    """Pauses between attempts grow up to half a second, and the first success ends them."""
    pauses: list[float] = []

    async def no_sleep(seconds: float) -> None:
        pauses.append(seconds)

    monkeypatch.setattr(asyncio, "sleep", no_sleep)
    failures = [StoreUnavailable()] * 6

    async def connect() -> None:
        if failures:
            raise failures.pop()

    await retry(connect)
    assert pauses == [0.05, 0.1, 0.25, 0.5, 0.5, 0.5]
