"""Redis that lacks something: what is logged at the start, and what works all the same."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

import pytest
from structlog.testing import capture_logs

from app.errors import StoreError, StoreUnavailable
from app.redis.address import Address
from app.redis.client import Redis
from app.redis.server_check import ServerCheck, ServerFacts
from app.store.queues import RedisQueues
from tests.support.examples import text_of
from tests.support.processes import REPOSITORY
from tests.support.store import linked, make_message, make_site
from tests.support.valkey import Valkey

SITE = make_site()


@pytest.fixture
def user(valkey: Valkey) -> Iterator[str]:
    """A login of Redis, without any right yet."""
    client: Any = valkey.client
    client.execute_command("ACL", "SETUSER", "limited", "on", ">password", "~recado:*", "&recado:*")
    yield "limited"
    client.execute_command("ACL", "DELUSER", "limited")


def grant(valkey: Valkey, user: str, *rights: str) -> None:
    """Give the login its commands."""
    client: Any = valkey.client
    client.execute_command("ACL", "SETUSER", user, *rights)


async def started(valkey: Valkey, user: str) -> tuple[Redis, list[Any]]:
    """A link with the login, and the log of its start."""
    redis = Redis(Address(path=str(valkey.socket), username=user, password="password"), 2.0)
    with capture_logs() as logs:
        await redis.start()
    return redis, [(entry["event"], entry.get("commands")) for entry in logs]


async def test_login_without_dangerous_commands(valkey: Valkey, user: str) -> None:
    """A login that may not ask INFO is served, and the log names what it lacks."""
    grant(valkey, user, "+@all", "-@dangerous")
    redis, logs = await started(valkey, user)
    try:
        assert logs == [("redis refuses commands", ["INFO"])]
        queues = RedisQueues(redis, "aa", 1_000)
        await queues.connect(SITE, 1, "d", ["user_1"])
        assert (await queues.send(make_message(SITE, "user_1"))).recipients == 1
    finally:
        await redis.close()


async def test_login_without_a_name(valkey: Valkey, user: str) -> None:
    """A login that may not name its connections is served without a word."""
    grant(valkey, user, "+@all", "-client")
    redis, logs = await started(valkey, user)
    await redis.close()
    assert logs == []


async def test_missing_commands_are_named(valkey: Valkey, user: str) -> None:
    """Commands that the scripts need and the login lacks are in the log at the start, not in a tenant's 500."""
    grant(valkey, user, "+@all", "-hincrby", "-publish")
    redis, logs = await started(valkey, user)
    await redis.close()
    assert logs == [("redis refuses commands", ["HINCRBY", "PUBLISH"])]
    assert not valkey.client.exists("recado:rights")


async def test_login_without_scripts(valkey: Valkey, user: str) -> None:
    """A login without scripts is refused, and the error names the command."""
    grant(valkey, user, "+@all", "-script")
    redis = Redis(Address(path=str(valkey.socket), username=user, password="password"), 2.0)
    with pytest.raises(StoreError, match="script"):
        await redis.start()


async def test_wrong_password(valkey: Valkey, user: str) -> None:
    """A login that Redis refuses is an error, however the name of the connection is answered."""
    redis = Redis(Address(path=str(valkey.socket), username=user, password="wrong"), 2.0)
    with pytest.raises(StoreError, match="WRONGPASS") as caught:
        await redis.start()
    assert not isinstance(caught.value, StoreUnavailable)


async def test_whole_rights_are_not_mentioned(valkey: Valkey) -> None:
    """With every right nothing is logged, and the trial leaves no key."""
    with capture_logs() as logs:
        async with linked(valkey):
            pass
    assert logs == []
    assert not valkey.client.exists("recado:rights")


async def test_the_documented_login_is_enough(valkey: Valkey) -> None:
    """The line of docs/redis.md makes a login with which nothing is missing: a device connects and gets a message."""
    found = re.search(r"`ACL SETUSER recado on >password (.*?)` is enough", text_of("docs/redis.md"))
    assert found
    grant(valkey, "documented", "on", ">password", *found[1].split())
    redis, logs = await started(valkey, "documented")
    try:
        assert logs == []
        queues = RedisQueues(redis, "aa", 1_000)
        await queues.connect(SITE, 1, "d", ["user_1"])
        assert (await queues.send(make_message(SITE, "user_1"))).recipients == 1
    finally:
        await redis.close()
        valkey.client.execute_command("ACL", "DELUSER", "documented")  # type: ignore[no-untyped-call]


def test_undeclared_keys_are_documented() -> None:
    """Scripts use keys beyond those that they declare; docs/redis.md says so, and so which servers will not do."""
    scripts = (REPOSITORY / "app").rglob("lua/*.lua")
    assert any("P .. '" in file.read_text() for file in scripts)
    assert "a server that allows a script to use undeclared keys" in " ".join(text_of("docs/redis.md").split())


async def test_eviction_is_warned_of(valkey: Valkey) -> None:
    """A policy that evicts loses messages silently: the log says so at the start."""
    valkey.client.config_set("maxmemory-policy", "allkeys-lru")
    try:
        with capture_logs() as logs:
            async with linked(valkey):
                pass
    finally:
        valkey.client.config_set("maxmemory-policy", "noeviction")
    (entry,) = logs
    assert (entry["event"], entry["maxmemory_policy"]) == ("redis evicts messages", "allkeys-lru")


@pytest.mark.parametrize(
    ("mode", "version", "is_old"),
    [
        ("standalone", "6.0.16", True),
        ("standalone", "6.2.0", False),
        ("standalone", "10.0", False),
        ("cluster", "6.2.14", True),
        ("cluster", "7.0.0", False),
        ("standalone", "", False),
    ],
)
def test_old_versions_are_named(mode: str, version: str, is_old: bool) -> None:
    """A server without the commands of the scripts is named once, however often a link is made."""
    check, facts = ServerCheck(), ServerFacts("id", mode, "master", version, "noeviction")
    with capture_logs() as logs:
        check.look_at(facts, "redis:6379")
        check.look_at(facts, "redis:6379")
    assert [entry["event"] for entry in logs] == ["redis too old"] * is_old


def test_every_command_is_tried() -> None:
    """The trial knows every command of the scripts, but those that only Redis PUBLISH needs, of its own Redis."""
    scripts = [file for file in (REPOSITORY / "app").rglob("lua/*.lua") if file.stem != "rights"]
    used = {name for file in scripts for name in re.findall(r"call\('([A-Z]+)'", file.read_text())}
    tried = set(re.findall(r"'([A-Z]+)'", (REPOSITORY / "app/redis/lua/rights.lua").read_text()))
    assert used - tried == {"MEMORY", "PUBSUB"}
