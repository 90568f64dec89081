"""The pages of nodes and of Redis, and the state of the journal's database."""

from collections.abc import Awaitable, Callable
from typing import Any

import msgspec

from app.console.page import ConsolePage
from app.journal.state import DatabaseState
from app.protocols.operations import Call, Operation, Role

NODES = ConsolePage("nodes", "Nodes", "nodes.list", live_seconds=2.0, is_shared=True)
STORES = ConsolePage("stores", "Redis", "redis.show")


def database_operations(look: Callable[[], Awaitable[DatabaseState]]) -> list[Operation]:
    """The state of the database; `look` is `database_state` of it."""

    async def run(call: Call) -> dict[str, Any]:
        found: dict[str, Any] = msgspec.to_builtins(await look())
        return found

    summary = "Show the journal's database: its tables with rows and sizes"
    return [Operation("database.show", summary, "GET", "/database", Role.ADMIN, run)]
