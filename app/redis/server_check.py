"""Checks a server of Redis for each new link: its kind, and its lacks. Each lack is logged once and stops nothing."""

import asyncio
import secrets
from collections.abc import Callable
from typing import Any

import structlog
from msgspec import Struct

from app.errors import StoreError, StoreUnavailable

#: The oldest version that has every command of the scripts; a Cluster needs sharded pub/sub.
_OLDEST, _OLDEST_CLUSTER = (6, 2), (7, 0)

_log = structlog.get_logger(__name__)


class ServerFacts(Struct, frozen=True):
    """The facts that a server reports. "" is unknown."""

    #: Differs for each run of the server's process, and so for a replica that takes over.
    run_id: str
    #: 'standalone', 'cluster' or 'sentinel'.
    mode: str
    #: 'master' or 'slave'.
    role: str
    #: The version of Redis that the server is compatible with.
    version: str
    policy: str = ""


async def read_facts(command: Callable[..., "asyncio.Future[Any]"]) -> ServerFacts:
    """Asks a server over a link. A login without INFO is told less: its run id is new for each link."""
    sections = ("server", "replication", "memory")
    try:
        answers = await asyncio.gather(*(command("INFO", section) for section in sections))
    except StoreUnavailable:
        raise
    except StoreError as error:
        if not _is_missing_right(error):
            raise
        return _greeted(await command("HELLO"))
    facts = {name: value for answer in answers for name, value in _fields(answer).items()}
    return ServerFacts(
        facts.get("run_id", ""),
        facts.get("server_mode") or facts.get("redis_mode") or "standalone",  # Valkey's word or Redis's
        facts.get("role", ""),
        facts.get("redis_version", ""),
        facts.get("maxmemory_policy", ""),
    )


class ServerCheck:
    """Logs what the servers of one address lack, each lack once. Lives as long as the `Redis` of the address."""

    def __init__(self) -> None:
        self._told: set[str] = set()

    def look_at(self, facts: ServerFacts, address: str) -> None:
        """Checks the version and the policy of eviction."""
        oldest = _OLDEST_CLUSTER if facts.mode == "cluster" else _OLDEST
        if facts.version and _parts(facts.version) < oldest:
            self._tell("redis too old", address, version=facts.version, expected=".".join(map(str, oldest)))
        if facts.policy not in ("", "noeviction"):
            self._tell("redis evicts messages", address, maxmemory_policy=facts.policy, expected="noeviction")
        if not facts.policy:
            self._tell("redis refuses commands", address, commands=["INFO"])

    async def try_commands(self, answer: "asyncio.Future[Any]", address: str) -> None:
        """Checks the commands; `answer` is that of `rights.lua`."""
        try:
            refused = [name.decode() for name in await answer]
        except StoreUnavailable:
            raise
        except StoreError as error:
            self._tell("redis refuses commands", address, reason=str(error))
            return
        if refused:
            self._tell("redis refuses commands", address, commands=refused)

    def _tell(self, event: str, address: str, **what: object) -> None:
        if (key := f"{event} {what}") not in self._told:
            self._told.add(key)
            _log.error(event, address=address, **what)


def _greeted(hello: list[Any]) -> ServerFacts:
    """The facts in the answer of HELLO, which needs no right."""
    facts = {name.decode(): value for name, value in zip(hello[::2], hello[1::2], strict=True)}
    mode, role, version = (facts[name].decode() for name in ("mode", "role", "version"))
    # Each link counts as a new run: seqs jump ahead, and none is given twice.
    return ServerFacts(secrets.token_hex(20), mode, "slave" if role in ("slave", "replica") else "master", version)


def _is_missing_right(error: StoreError) -> bool:
    return str(error).startswith(("NOPERM", "ERR unknown command"))


def _fields(answer: bytes) -> dict[str, str]:
    """The fields of an INFO."""
    lines = (line.partition(":") for line in answer.decode("utf-8", "replace").splitlines())
    return {name: value for name, _, value in lines}


def _parts(version: str) -> tuple[int, ...]:
    return tuple(int(part) for part in version.split(".")[:2] if part.isdigit())
