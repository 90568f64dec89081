"""The page of connections: the open ones as their nodes tell, and the last that have ended, from the journal."""

from collections.abc import Awaitable, Callable
from typing import Annotated, Any, TypeAlias

from msgspec import Meta

from app.clock import rfc3339
from app.console.page import ConsolePage
from app.protocols.operations import Call, Inputs, Operation, Role, Words

#: `ended_connections` of a database.
ReadEnded: TypeAlias = Callable[[str, int, str | None], Awaitable[list[dict[str, Any]]]]
#: The rows of connections that have ended.
MOST_ENDED = 300

CONNECTIONS = ConsolePage(
    "connections",
    "Connections",
    "connections.list",
    also={"ended": "connections.ended"},
    live_seconds=3.0,
    is_shared=True,
)


class EndedConnections(Inputs, frozen=True, kw_only=True):
    """Which ones to list."""

    #: The user room.
    user: Words | None = None
    most: Annotated[int, Meta(ge=1, le=MOST_ENDED)] = MOST_ENDED


def connection_operations(read_ended: ReadEnded) -> list[Operation]:
    """The list of those that have ended. The open ones are an operation of the nodes."""

    async def run(call: Call) -> dict[str, Any]:
        given: EndedConnections = call.given
        rows = await read_ended(call.known_site.name, given.most, given.user)
        return {"items": [_shown(row) for row in rows], "cursor": None}

    summary = "List the connections of a site that have ended, newest first"
    path = "/sites/{site}/connections/ended"
    return [Operation("connections.ended", summary, "GET", path, Role.VIEWER, run, EndedConnections)]


def _shown(row: dict[str, Any]) -> dict[str, Any]:
    times = {name: None if row[name] is None else rfc3339(row[name]) for name in ("connected_at", "disconnected_at")}
    return row | times
