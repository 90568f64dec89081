"""One connection to Redis: order, one write a turn, pushes, errors, and its end."""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import AsyncIterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import hiredis
import pytest

from app.errors import StoreError, StoreUnavailable, WrongType
from app.redis.address import Address
from app.redis.link import Link
from tests.redis.fake_redis import fake_redis
from tests.support.store import address_of
from tests.support.valkey import Valkey
from tests.support.waiting import until

PASSWORD = "p-4321-secret"


@pytest.fixture
async def link(valkey: Valkey) -> AsyncIterator[Link]:
    """A connection."""
    link = await Link.open(address_of(valkey), 2.0)
    yield link
    link.abort()


def reads(valkey: Valkey) -> int:
    """How many reads from clients the server has made."""
    stats: Any = valkey.client.info("stats")
    return int(stats["total_reads_processed"])


async def test_answers_come_in_the_order_of_commands(link: Link) -> None:
    """Each command's future gets its own answer, in whatever order they are awaited."""
    answers = [link.command("INCR", "n") for _ in range(100)]
    assert [await answer for answer in reversed(answers)] == list(range(100, 0, -1))


async def test_commands_of_one_turn_leave_in_one_write(link: Link, valkey: Valkey) -> None:
    """A hundred commands given in one turn of the loop cost Redis one read (and this measurement another)."""
    before = reads(valkey)
    await asyncio.gather(*(link.command("INCR", "n") for _ in range(100)))
    assert reads(valkey) - before <= 2


async def test_words_are_binary_safe(link: Link) -> None:
    """Texts, bytes and numbers arrive unchanged."""
    value = bytes(range(256)) * 300
    await link.command("SET", b"k\r\n\x00", value)
    assert await link.command("GET", "k\r\n\x00") == value
    await link.command("SET", "ключ", -5)
    assert await link.command("GET", "ключ") == b"-5"


async def test_pushes_that_take_long_leave_turns_to_others(
    valkey: Valkey, link: Link, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Pushes that one read has brought are handed on in several turns of the loop when they cost much, in their order;
    an answer behind them is not lost."""
    monkeypatch.setattr("app.redis.link.TURN_SECONDS", 0.0)
    turns, numbers, turn = [], [], 0

    def hand_on(push: list[Any]) -> None:
        if push[0] == b"message":
            turns.append(turn)
            numbers.append(int(push[2]))

    def count() -> None:
        nonlocal turn
        turn += 1
        if len(numbers) < 50:
            loop.call_soon(count)

    loop = asyncio.get_running_loop()
    subscriber = await Link.open(address_of(valkey), 2.0, on_push=hand_on)
    await subscriber.command("SUBSCRIBE", "news")
    count()
    await asyncio.gather(*(link.command("PUBLISH", "news", number) for number in range(50)))
    confirmed = await subscriber.command("SUBSCRIBE", "other")
    await until(lambda: len(numbers) == 50, "all of them")
    assert numbers == list(range(50))
    assert len(set(turns)) == 50
    assert confirmed[1] == b"other"
    subscriber.abort()


async def test_pushes_that_wait_end_with_their_link(
    valkey: Valkey, link: Link, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nothing is handed on behind the end of a link: its owner counts what waits as missing."""
    monkeypatch.setattr("app.redis.link.TURN_SECONDS", 0.0)
    said: list[bytes] = []
    lost = asyncio.Event()

    def hand_on(push: list[Any]) -> None:
        if push[0] == b"message":
            said.append(push[2])
            subscriber.abort()

    subscriber = await Link.open(address_of(valkey), 2.0, on_push=hand_on, on_lost=lambda _: lost.set())
    await subscriber.command("SUBSCRIBE", "news")
    await asyncio.gather(*(link.command("PUBLISH", "news", number) for number in range(20)))
    await lost.wait()
    await asyncio.sleep(0)
    assert said == [b"0"]


async def test_pushes_go_to_their_callback(valkey: Valkey) -> None:
    """Published messages do not count as answers, and answers of commands do not count as pushes."""
    pushes: list[list[Any]] = []
    subscriber = await Link.open(address_of(valkey), 2.0, on_push=pushes.append)
    await subscriber.command("SUBSCRIBE", "c")
    for text in (b"1", b"2"):
        valkey.client.publish("c", text)
    await until(lambda: len(pushes) == 3, "the pushes")
    assert pushes[1:] == [[b"message", b"c", b"1"], [b"message", b"c", b"2"]]
    assert subscriber.is_open
    assert not subscriber.is_waiting
    subscriber.abort()


@pytest.mark.parametrize(
    ("reply", "error_type"),
    [
        ("LOADING Redis is loading the dataset in memory", StoreUnavailable),
        ("READONLY You can't write against a read only replica.", StoreUnavailable),
        ("MASTERDOWN Link with MASTER is down", StoreUnavailable),
        ("CLUSTERDOWN The cluster is down", StoreUnavailable),
        ("TRYAGAIN Multiple keys request during rehashing of slot", StoreUnavailable),
        ("BUSY Redis is busy running a script.", StoreUnavailable),
        ("OOM command not allowed when used memory > 'maxmemory'.", StoreUnavailable),
        ("MISCONF Redis is configured to save RDB snapshots", StoreUnavailable),
        ("NOREPLICAS Not enough good replicas to write.", StoreUnavailable),
        ("LATE the caller has stopped waiting", StoreUnavailable),
        ("ERR wrong number of arguments", StoreError),
        ("WRONGTYPE Operation against a key holding the wrong kind of value", WrongType),
        ("NOSCRIPT No matching script.", StoreError),
        ("NOAUTH Authentication required.", StoreError),
    ],
)
async def test_errors_are_mapped(link: Link, reply: str, error_type: type[StoreError]) -> None:
    """A passing error is StoreUnavailable, a wrong type WrongType, another StoreError with its code; the link stays."""
    with pytest.raises(StoreError) as caught:
        await link.command("EVAL", "return redis.error_reply(ARGV[1])", 0, reply)
    assert type(caught.value) is error_type
    assert reply.split(maxsplit=1)[0] in str(caught.value)
    assert await link.command("PING") == b"PONG"


async def test_real_errors_of_a_full_redis(valkey: Valkey, link: Link) -> None:
    """A Redis without memory for a write answers with a passing error."""
    valkey.client.config_set("maxmemory", "1")
    try:
        with pytest.raises(StoreUnavailable):
            await link.command("SET", "a", "b")
    finally:
        valkey.client.config_set("maxmemory", "0")


async def test_broken_connection_fails_all_that_wait(valkey: Valkey) -> None:
    """Commands without an answer fail with StoreUnavailable, later ones at once; the owner is told, once."""
    lost: list[Link] = []
    link = await Link.open(address_of(valkey), 2.0, on_lost=lost.append)
    waiting = [link.command("BLPOP", "nothing", 0), link.command("PING"), link.command("PING")]
    waiting[1].cancel()
    await until(lambda: link.is_waiting, "the commands to be given")
    link.abort()
    link.abort()
    results = await asyncio.gather(*waiting, return_exceptions=True)
    assert [type(result) for result in results] == [StoreUnavailable, asyncio.CancelledError, StoreUnavailable]
    assert not link.is_open
    with pytest.raises(StoreUnavailable):
        await link.command("PING")
    await until(lambda: lost, "the owner to be told")
    assert lost == [link]


async def test_cancelled_command_does_not_shift_the_answers(link: Link) -> None:
    """A caller that stops waiting does not shift the answers of the others."""
    first, second = link.command("ECHO", "1"), link.command("ECHO", "2")
    first.cancel()
    assert await second == b"2"


@pytest.mark.parametrize("nonsense", [b"HTTP/1.1 400 Bad Request\r\n\r\n", b"+OK\r\n+OK\r\n+OK\r\n"])
async def test_nonsense_ends_the_connection(tmp_path: Path, nonsense: bytes) -> None:
    """A server that is no Redis, or sends an answer without a command, is left: no answer can be trusted any more."""
    async with fake_redis(tmp_path, lambda served, data: served.transport.write(nonsense)) as (_, address):
        with suppress(StoreUnavailable):
            link = await Link.open(address, 2.0)
            await until(lambda: not link.is_open, "the end")


async def test_silent_server_does_not_answer(tmp_path: Path) -> None:
    """A server that accepts the connection and sends nothing is StoreUnavailable after the time-out."""
    async with fake_redis(tmp_path, lambda served, data: None) as (fake, address):
        with pytest.raises(StoreUnavailable, match="does not answer"):
            await Link.open(address, 0.1)
        await until(lambda: fake.accepted and not fake.opened, "the connection to end")


async def test_opening_that_is_given_up(tmp_path: Path) -> None:
    """A caller that stops waiting for a connection leaves none open."""
    async with fake_redis(tmp_path, lambda served, data: None) as (fake, address):
        opening = asyncio.create_task(Link.open(address, 5.0))
        await until(lambda: fake.opened, "the connection")
        opening.cancel()
        with pytest.raises(asyncio.CancelledError):
            await opening
        await until(lambda: not fake.opened, "the connection to end")


async def test_nobody_there(tmp_path: Path) -> None:
    """Without a server the error is StoreUnavailable with the address."""
    with pytest.raises(StoreUnavailable, match="nowhere"):
        await Link.open(Address(path=str(tmp_path / "nowhere")), 1.0)
    with pytest.raises(StoreUnavailable, match=r"127\.0\.0\.1:1 "):
        await Link.open(Address(port=1), 1.0)


FIRST, SECOND = "return redis.call('RPUSH', 'l', 'first')", "return redis.call('RPUSH', 'l', 'second')"


def digest(text: str) -> str:
    """The digest by which Redis knows a script."""
    return hashlib.sha1(text.encode()).hexdigest()


async def test_forgotten_scripts_run_in_the_order_of_the_calls(link: Link, valkey: Valkey) -> None:
    """Scripts that Redis has forgotten are loaded and run again, in order, before commands that were called later."""
    link.reload = [hiredis.pack_command(("SCRIPT", "LOAD", text)) for text in (FIRST, SECOND)]  # type: ignore[arg-type]
    valkey.client.script_flush()
    names = [FIRST, SECOND, SECOND, FIRST, SECOND]
    answers = [link.command("EVALSHA", digest(name), 0) for name in names]
    third: list[asyncio.Future[Any]] = []
    link.on_refusal = lambda code: None if third else third.append(link.command("RPUSH", "l", "third"))
    assert await asyncio.gather(*answers) == [1, 2, 3, 4, 5]
    assert await third[0] == 6
    assert valkey.client.lrange("l", 0, -1) == [b"first", b"second", b"second", b"first", b"second", b"third"]


async def test_what_overtook_a_forgotten_script_is_not_answered(link: Link, valkey: Valkey) -> None:
    """Another node loads the scripts first: a command that overtook an earlier call fails, as on a broken link."""
    link.reload = [hiredis.pack_command(("SCRIPT", "LOAD", text)) for text in (FIRST, SECOND)]  # type: ignore[arg-type]
    valkey.client.script_flush()
    refused = link.command("EVALSHA", digest(FIRST), 0)
    overtaking = [link.command("SCRIPT", "LOAD", SECOND), link.command("EVALSHA", digest(SECOND), 0)]
    assert await refused == 2
    for answer in overtaking:
        with pytest.raises(StoreUnavailable):
            await answer
    assert await link.command("EVALSHA", digest(SECOND), 0) == 3


async def test_scripts_that_cannot_be_loaded_end_the_link(link: Link, valkey: Valkey) -> None:
    """When Redis refuses to load the scripts again, no caller waits for ever."""
    link.reload = [hiredis.pack_command(("SCRIPT", "LOAD", "no lua"))]  # type: ignore[arg-type]
    with pytest.raises(StoreUnavailable):
        await link.command("EVALSHA", digest("never loaded"), 0)
    assert not link.is_open


async def test_log_in(valkey: Valkey) -> None:
    """User, password and database of the address are used; the error for a wrong password does not show it."""
    client: Any = valkey.client
    client.execute_command("ACL", "SETUSER", "bob", "on", f">{PASSWORD}", "~*", "+@all")
    path = str(valkey.socket)
    link = await Link.open(Address(path=path, username="bob", password=PASSWORD, database=3), 2.0)
    assert await link.command("ACL", "WHOAMI") == b"bob"
    await link.command("SET", "in-three", "x")
    assert client.info("keyspace")["db3"]["keys"] == 1
    link.abort()
    with pytest.raises(StoreError) as caught:
        await Link.open(Address(path=path, username="bob", password=PASSWORD + "x"), 2.0)
    assert type(caught.value) is StoreError
    assert PASSWORD not in str(caught.value)
    client.execute_command("ACL", "DELUSER", "bob")
