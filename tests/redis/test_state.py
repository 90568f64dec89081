"""The state of Redis for operators, on real servers."""

from __future__ import annotations

from typing import Any

from app.redis.client import Redis
from app.redis.state import redis_state
from app.store.queues import RedisQueues
from tests.support.store import make_message, make_site
from tests.support.valkey import Valkey


async def test_the_state_of_a_server(redis: Redis, valkey: Valkey) -> None:
    """Memory, keys and clients are those of INFO; a slow command of ours has its script and site, and no other word."""
    client: Any = valkey.client
    client.config_set("slowlog-log-slower-than", 0)
    client.slowlog_reset()
    try:
        await RedisQueues(redis, "ab", 1_000_000).send(make_message(make_site("shop"), "user_1", body=b'["topsecret"]'))
        client.execute_command("ECHO", "topsecret")
    finally:
        client.config_set("slowlog-log-slower-than", 10_000)
    (state,) = await redis_state(redis)
    assert state.error == ""
    assert state.memory_bytes > 100_000
    assert state.clients >= 2
    assert state.keys >= 1
    assert state.version
    assert state.policy == "noeviction"
    scripts = [one for one in state.slow if one.command == "EVALSHA"]
    assert [(one.script, one.key) for one in scripts] == [("send_turn", "recado:{shop}:")]
    assert scripts[0].microseconds >= 0
    assert scripts[0].at > 1_000_000_000_000
    assert [(one.script, one.key) for one in state.slow if one.command == "ECHO"] == [("", "")]
    assert "topsecret" not in str(state)


async def test_a_server_that_is_away(redis: Redis) -> None:
    """It is shown with the reason."""
    redis.give_up()
    (state,) = await redis_state(redis)
    assert state.error
    assert state.memory_bytes == 0


async def test_a_login_with_few_rights(redis: Redis, valkey: Valkey) -> None:
    """Without the right to the slow log the rest is shown, without INFO the reason."""
    client: Any = valkey.client
    client.execute_command("ACL", "SETUSER", "default", "-slowlog")
    try:
        (state,) = await redis_state(redis)
        assert (state.slow, state.error) == ([], "")
        client.execute_command("ACL", "SETUSER", "default", "-info")
        (state,) = await redis_state(redis)
        assert "NOPERM" in state.error or "permissions" in state.error
    finally:
        client.execute_command("ACL", "SETUSER", "default", "+@all")
