"""The throttle of logins on a real Valkey."""

from __future__ import annotations

import asyncio

from msgspec import structs

from app.config.settings import Site
from app.protocols.messenger.login_ports import Judgement
from app.protocols.messenger.operations.redis_blocks import RedisBlocks
from app.protocols.messenger.redis_throttle import RedisThrottle
from app.protocols.messenger.settings import Messenger
from app.redis.client import Redis
from tests.support.valkey import Valkey
from tests.support.waiting import until_answer

FREE, BLOCKED, NOW_BLOCKED = Judgement.FREE, Judgement.BLOCKED, Judgement.NOW_BLOCKED
HERE, THERE = "10.0.0.1", "10.0.0.2"


async def judged(
    redis: Redis, site: Site, login: str, address: str, is_right: bool | None, is_known: bool = False
) -> Judgement:
    """The judgement on a try."""
    throttle = RedisThrottle(redis)
    return (await throttle.judge(site, login, address, is_known=is_known, is_right=is_right))[0]


async def fail(redis: Redis, site: Site, login: str, address: str, count: int) -> list[Judgement]:
    """The judgements on wrong tries, one after the other."""
    return [await judged(redis, site, login, address, False) for _ in range(count)]


async def test_the_third_failure_blocks(redis: Redis, site: Site) -> None:
    """The failure that reaches the count blocks the login and the address, each for all others; no other login from
    elsewhere, and no other site."""
    assert await fail(redis, site, "ann", HERE, 4) == [FREE, FREE, NOW_BLOCKED, BLOCKED]
    assert await judged(redis, site, "bob", HERE, True) is BLOCKED
    assert await judged(redis, site, "ann", THERE, True) is BLOCKED
    assert await judged(redis, site, "bob", THERE, True) is FREE
    assert await judged(redis, structs.replace(site, name="other"), "ann", HERE, True) is FREE


async def test_known_networks(redis: Redis, site: Site) -> None:
    """A login that is known from an address is blocked by that address alone."""
    await fail(redis, site, "ann", HERE, 3)
    assert await judged(redis, site, "ann", THERE, None, is_known=True) is FREE
    assert await judged(redis, site, "ann", HERE, None, is_known=True) is BLOCKED


async def test_success_forgets_failures(redis: Redis, site: Site) -> None:
    """A right login in between begins the count again; asking does not."""
    for _ in range(3):
        assert await fail(redis, site, "ann", HERE, 2) == [FREE, FREE]
        assert await judged(redis, site, "ann", HERE, None) is FREE
        assert await judged(redis, site, "ann", HERE, True) is FREE


async def test_failures_of_others_do_not_add_up(redis: Redis, site: Site) -> None:
    """Failures count by login and address together."""
    for number in range(5):
        assert await fail(redis, site, f"user {number}", HERE, 2) == [FREE, FREE]
        assert await fail(redis, site, "ann", f"10.0.1.{number}", 2) == [FREE, FREE]


async def test_guesses_at_once(redis: Redis, site: Site) -> None:
    """Of guesses that come at once, those behind the block learn nothing, the right one included."""
    tries = [judged(redis, site, "ann", HERE, number == 7) for number in range(10)]
    judgements = await asyncio.gather(*tries)
    assert judgements == [FREE, FREE, NOW_BLOCKED, *[BLOCKED] * 7]


async def test_ipv6_addresses_of_one_customer(redis: Redis, site: Site) -> None:
    """The addresses of a /64 are one."""
    found = [await judged(redis, site, "ann", f"2001:db8::{number}", False) for number in range(4)]
    assert found == [FREE, FREE, NOW_BLOCKED, BLOCKED]


async def test_the_block_ends(redis: Redis, site: Site, valkey: Valkey) -> None:
    """After its time the block is over, and failures outside the window do not count; the answer says what is left."""
    short = Messenger(fail_count=2, fail_window_seconds=1, block_seconds=1)
    brief = structs.replace(site, sections={Messenger: short})
    await fail(redis, brief, "ann", HERE, 2)
    _, seconds = await RedisThrottle(redis).judge(brief, "ann", HERE, is_known=False)
    assert seconds == 1

    async def is_free() -> bool:
        return await judged(redis, brief, "ann", HERE, None) is FREE

    await until_answer(is_free, "the end of the block")
    assert await fail(redis, brief, "bob", HERE, 1) == [FREE]
    # The window is over when its key has expired.
    await until_answer(lambda: _no_keys(redis, valkey), "the end of the window")
    assert await fail(redis, brief, "bob", HERE, 1) == [FREE]


async def _no_keys(redis: Redis, valkey: Valkey) -> bool:
    return not valkey.client.keys("*chat_*")


async def test_a_block_is_lifted(redis: Redis, site: Site) -> None:
    """An operator sees how long a login is blocked, in whatever case it is written, and lifts the block together with
    that of the address; other addresses stay blocked."""
    blocks = RedisBlocks(redis)
    assert await blocks.seconds_left(site, "Ann") == 0
    assert await blocks.lift(site, "Ann") is False
    await fail(redis, site, "bob", THERE, 3)
    await fail(redis, site, "ann", HERE, 3)
    assert 0 < await blocks.seconds_left(site, "Ann") <= 300
    assert await blocks.seconds_left(structs.replace(site, name="other"), "Ann") == 0
    assert await blocks.lift(site, "ANN") is True
    assert await blocks.seconds_left(site, "ann") == 0
    assert await fail(redis, site, "ann", HERE, 2) == [FREE, FREE]
    assert await judged(redis, site, "ann", THERE, None) is BLOCKED
