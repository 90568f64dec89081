"""The state of Redis for operators: what INFO and SLOWLOG of each primary say.

Knows no key: of a slow command it shows name, script and first key, and never its other words, which may be secret.
"""

import asyncio
from typing import Any

from msgspec import Struct, field

from app.errors import StoreError
from app.redis.client import Commands, Redis
from app.redis.scripts import load_scripts

#: Slow commands of one primary.
MOST_SLOW = 32
_MAX_KEY_BYTES = 200
_SCRIPT_COMMANDS = ("EVALSHA", "EVAL", "EVALSHA_RO", "EVAL_RO", "FCALL")


class SlowCommand(Struct, frozen=True):
    """A command that took Redis long."""

    at: int
    microseconds: int
    #: Its name, and of a script of ours that one's.
    command: str
    script: str
    key: str


class PrimaryState(Struct, frozen=True):
    """One primary at one moment. "" and 0 are unknown."""

    address: str
    #: Why it has not answered; "" it has.
    error: str = ""
    #: `redis` or `valkey`, with its version.
    server: str = ""
    version: str = ""
    uptime_seconds: int = 0
    memory_bytes: int = 0
    peak_memory_bytes: int = 0
    #: 0: no bound.
    most_memory_bytes: int = 0
    policy: str = ""
    fragmentation: float = 0.0
    clients: int = 0
    operations_per_second: int = 0
    keys: int = 0
    expired_keys: int = 0
    evicted_keys: int = 0
    replicas: int = 0
    #: Whether each write is logged on disk, and whether the last save worked.
    has_append_file: bool = False
    is_saved: bool = True
    slow: list[SlowCommand] = field(default_factory=list)


async def redis_state(redis: Commands) -> list[PrimaryState]:
    """The state of each primary. One that does not answer within the link's own time has `error`."""
    return list(await asyncio.gather(*map(_state_of, redis.shards)))


async def _state_of(shard: Redis) -> PrimaryState:
    address = str(shard.address)
    try:
        facts = _facts(await shard.command("INFO"))
    except StoreError as error:
        return PrimaryState(address, str(error) or type(error).__name__)
    try:
        slow = [_slow(shard, entry) for entry in await shard.command("SLOWLOG", "GET", MOST_SLOW)]
    except StoreError:
        # A login may lack the right.
        slow = []
    return _primary(address, facts, slow)


def _primary(address: str, facts: dict[str, str], slow: list[SlowCommand]) -> PrimaryState:
    return PrimaryState(
        address,
        server=facts.get("server_name", "redis"),
        version=facts.get("valkey_version") or facts.get("redis_version", ""),
        uptime_seconds=_number(facts, "uptime_in_seconds"),
        memory_bytes=_number(facts, "used_memory"),
        peak_memory_bytes=_number(facts, "used_memory_peak"),
        most_memory_bytes=_number(facts, "maxmemory"),
        policy=facts.get("maxmemory_policy", ""),
        fragmentation=_number(facts, "mem_fragmentation_ratio", 100) / 100,
        clients=_number(facts, "connected_clients"),
        operations_per_second=_number(facts, "instantaneous_ops_per_sec"),
        keys=sum(_keys(value) for name, value in facts.items() if name.startswith("db") and "keys=" in value),
        expired_keys=_number(facts, "expired_keys"),
        evicted_keys=_number(facts, "evicted_keys"),
        replicas=_number(facts, "connected_slaves"),
        has_append_file=facts.get("aof_enabled") == "1",
        is_saved=facts.get("rdb_last_bgsave_status", "ok") == "ok" and facts.get("aof_last_write_status", "ok") == "ok",
        slow=slow,
    )


def _facts(answer: bytes) -> dict[str, str]:
    lines = answer.decode("utf-8", "replace").splitlines()
    return dict(line.split(":", 1) for line in lines if ":" in line and not line.startswith("#"))


def _number(facts: dict[str, str], name: str, times: int = 1) -> int:
    try:
        return round(float(facts.get(name, "0")) * times)
    except (ValueError, OverflowError):
        return 0


def _keys(value: str) -> int:
    """The keys of a database, from `keys=1,expires=0,...`."""
    number = value.partition("keys=")[2].partition(",")[0]
    return int(number) if number.isdigit() else 0


def _slow(shard: Redis, entry: Any) -> SlowCommand:
    at, microseconds, words = entry[1], entry[2], [_shown(word) for word in entry[3]]
    command = words[0].upper() if words else ""
    if command in _SCRIPT_COMMANDS:
        scripts = load_scripts(shard.is_sharded, shard.journal_backlog).values()
        names = {script.digest: script.name for script in scripts}
        script, key = names.get(words[1], "") if len(words) > 1 else "", words[3] if len(words) > 3 else ""
    else:
        # The second word of most commands is their key; those of the others, such as of AUTH, stay unseen.
        script, key = "", words[1] if len(words) > 1 and words[1].startswith("recado:") else ""
    return SlowCommand(at * 1000, microseconds, command, script, key)


def _shown(word: bytes) -> str:
    return word[:_MAX_KEY_BYTES].decode("utf-8", "replace")
