"""The pages of connections, of a site and of all: the open ones as their nodes tell, and the last that have ended, from
the journal."""

from collections.abc import Awaitable, Callable
from typing import Annotated, Any, Literal, TypeAlias

from msgspec import Meta, structs

from app.clock import rfc3339
from app.console.page import ConsolePage
from app.journal.ended import EndedFilter
from app.protocols.operations import Call, Inputs, Operation, Role, Words

#: `ended_connections` of a database.
ReadEnded: TypeAlias = Callable[[EndedFilter, int], Awaitable[list[dict[str, Any]]]]
#: The rows of connections that have ended.
MOST_ENDED = 300

CONNECTIONS = ConsolePage(
    "connections",
    "Connections",
    "connections.list",
    beside={"ended": "connections.ended"},
    live_seconds=5.0,
    is_shared=True,
)
#: The same template.
EVERY_CONNECTION = structs.replace(
    CONNECTIONS,
    title="All connections",
    shows="connections.everywhere",
    beside={"ended": "connections.ended_everywhere"},
)


class EndedConnections(Inputs, frozen=True, kw_only=True):
    """Which ones to list."""

    #: The user room.
    user: Words | None = None
    most: Annotated[int, Meta(ge=1, le=MOST_ENDED)] = MOST_ENDED
    order: Literal["newest", "oldest"] = "newest"


class EveryEndedConnection(EndedConnections, frozen=True, kw_only=True):
    """The same of all sites, or of one."""

    site: Words | None = None


def connection_operations(read_ended: ReadEnded) -> list[Operation]:
    """The lists of those that have ended. The open ones are operations of the nodes."""

    async def answer(given: EndedConnections, site: str | None) -> dict[str, Any]:
        wanted = EndedFilter(site=site, user=given.user, is_oldest_first=given.order == "oldest")
        return {"items": [_shown(row) for row in await read_ended(wanted, given.most)], "cursor": None}

    async def run(call: Call) -> dict[str, Any]:
        return await answer(call.given, call.known_site.name)

    async def run_everywhere(call: Call) -> dict[str, Any]:
        return await answer(call.given, call.given.site)

    path = "/connections/ended"
    of_site = ("connections.ended", "List the connections of a site that have ended")
    of_all = ("connections.ended_everywhere", "List the connections of all sites that have ended")
    return [
        Operation(*of_site, "GET", "/sites/{site}" + path, Role.VIEWER, run, EndedConnections),
        Operation(*of_all, "GET", path, Role.ADMIN, run_everywhere, EveryEndedConnection),
    ]


def _shown(row: dict[str, Any]) -> dict[str, Any]:
    times = {name: None if row[name] is None else rfc3339(row[name]) for name in ("connected_at", "disconnected_at")}
    return row | times
