"""The operations of operators on nodes and on their open connections: each asks the nodes over the bus."""

import base64
from typing import Annotated, Any, Literal

import msgspec
from msgspec import Meta

from app.clock import rfc3339
from app.config.settings import LogLevel
from app.core.live import MOST_LIVE_ROWS, LivePlace, LiveQuestion, LiveRow
from app.errors import RequestRefused
from app.node.crew import MOST_WORKERS
from app.protocols.operations import Call, Cursor, Inputs, NodeName, Operation, Role, Words
from app.redis.client import Commands
from app.redis.state import redis_state
from app.store.node_calls import CallRefused, NodeCalls, NodeSilent, values_of
from app.store.node_facts import NodeFacts, facts_of, living_nodes


class NodePath(Inputs, frozen=True, kw_only=True):
    """The name of a node."""

    node: NodeName


class NodeEnd(NodePath, frozen=True, kw_only=True):
    """How a node ends."""

    how: Literal["drain", "now", "restart"] = "drain"


class NodeLevel(NodePath, frozen=True, kw_only=True):
    """The log level of a node."""

    level: LogLevel


class NodeWorkers(NodePath, frozen=True, kw_only=True):
    """A change of the workers of the server of this node."""

    verb: Literal["roll", "resize", "start", "stop"]
    #: How many workers, or which one.
    number: Annotated[int, Meta(ge=0, le=MOST_WORKERS)] = 0


class OpenConnections(Inputs, frozen=True, kw_only=True):
    """Which open connections to list."""

    limit: Annotated[int, Meta(ge=1, le=MOST_LIVE_ROWS)] = 50
    cursor: Cursor | None = None
    #: The user room.
    user: Words | None = None
    node: NodeName | None = None
    protocol: Words | None = None
    order: Literal["newest", "oldest"] = "newest"


class EveryConnection(OpenConnections, frozen=True, kw_only=True):
    """The same of all sites, or of one."""

    site: Words | None = None


class ConnectionPath(Inputs, frozen=True, kw_only=True):
    """One open connection, as the list names it."""

    node: NodeName
    protocol: Words
    id: Words


class NodeDesk:
    """The nodes as operators ask them. Lives as long as the node."""

    def __init__(self, redis: Commands, calls: NodeCalls) -> None:
        self._redis = redis
        self._calls = calls

    async def list_nodes(self, call: Call) -> dict[str, Any]:
        """The nodes that live."""
        return {"items": list(map(_shown_node, await living_nodes(self._redis))), "cursor": None}

    async def show_redis(self, call: Call) -> dict[str, Any]:
        """The primaries of Redis."""
        found = msgspec.to_builtins(await redis_state(self._redis))
        for primary in found:
            for slow in primary["slow"]:
                slow["at"] = rfc3339(slow["at"])
        return {"items": found, "cursor": None}

    async def end(self, call: Call) -> dict[str, Any]:
        """Ends a node."""
        return {"ok": True, "said": await self._ask(call.given.node, "end", {"how": call.given.how})}

    async def set_level(self, call: Call) -> dict[str, Any]:
        """Changes the log level of a node."""
        return {"ok": True, "said": await self._ask(call.given.node, "log_level", {"level": call.given.level})}

    async def change_workers(self, call: Call) -> dict[str, Any]:
        """Changes the workers of a server."""
        given: NodeWorkers = call.given
        wish = {"verb": given.verb, "number": given.number}
        return {"ok": True, "said": await self._ask(given.node, "workers", wish)}

    async def list_connections(self, call: Call) -> dict[str, Any]:
        """The open connections of a site on all nodes. A node that does not answer is named."""
        return await self._list(call.given, call.known_site.name)

    async def list_everywhere(self, call: Call) -> dict[str, Any]:
        """The same of all sites. Administrators know every site."""
        return await self._list(call.given, call.given.site)

    async def _list(self, given: OpenConnections, site: str | None) -> dict[str, Any]:
        nodes = [facts.node for facts in await living_nodes(self._redis) if given.node in (None, facts.node)]
        is_oldest_first = given.order == "oldest"
        place = _place_of(given.cursor)
        question = LiveQuestion(given.limit, site, given.user, place, given.protocol, is_oldest_first)
        answers, silent = values_of(await self._calls.ask_each(nodes, "connections", question), list[LiveRow])
        rows = [row for part in answers.values() for row in part]
        rows.sort(key=lambda row: row.place, reverse=not is_oldest_first)
        is_more = len(rows) > given.limit or any(len(part) == given.limit for part in answers.values())
        shown = rows[: given.limit]
        cursor = _cursor_of(shown[-1].place) if shown and is_more else None
        named = [{"node": node, "reason": reason} for node, reason in silent.items()]
        return {"items": list(map(_shown_connection, shown)), "cursor": cursor, "silent": named}

    async def disconnect(self, call: Call) -> dict[str, Any]:
        """Ends an open connection."""
        given: ConnectionPath = call.given
        leaving = {"site": call.known_site.name, "protocol": given.protocol, "id": given.id}
        if not await self._ask(given.node, "disconnect", leaving):
            raise RequestRefused("There is no such connection any more.", "unknown_connection", 404)
        return {"ok": True}

    async def _ask(self, node: str, verb: str, given: Any) -> Any:
        if await facts_of(self._redis, node) is None:
            raise RequestRefused("There is no such node.", "unknown_node", 404)
        try:
            return msgspec.json.decode(await self._calls.ask(node, verb, given))
        except NodeSilent:
            raise RequestRefused("The node does not answer.", "node_silent", 503) from None
        except CallRefused as refusal:
            raise RequestRefused(str(refusal), "node_refused", 409) from None


def node_operations(redis: Commands, calls: NodeCalls) -> list[Operation]:
    """Everything about nodes and open connections. Nodes serve all sites: only administrators see them."""
    do, admin, of_site = NodeDesk(redis, calls), Role.ADMIN, "/sites/{site}/connections"
    return [
        Operation("nodes.list", "List the nodes with their load and versions", "GET", "/nodes", admin, do.list_nodes),
        Operation("nodes.end", "End or restart a node", "POST", "/nodes/{node}/end", admin, do.end, NodeEnd, True),
        Operation(
            "nodes.log_level",
            "Change the log level of a node",
            "POST",
            "/nodes/{node}/log-level",
            admin,
            do.set_level,
            NodeLevel,
        ),
        Operation(
            "nodes.workers",
            "Restart all workers of a server in turn, or change their number",
            "POST",
            "/nodes/{node}/workers",
            admin,
            do.change_workers,
            NodeWorkers,
            True,
        ),
        Operation("redis.show", "Show the state of Redis", "GET", "/redis", admin, do.show_redis),
        Operation(
            "connections.list",
            "List the open connections of a site",
            "GET",
            of_site,
            Role.VIEWER,
            do.list_connections,
            OpenConnections,
        ),
        Operation(
            "connections.everywhere",
            "List the open connections of all sites",
            "GET",
            "/connections",
            admin,
            do.list_everywhere,
            EveryConnection,
        ),
        Operation(
            "connections.disconnect",
            "End an open connection",
            "POST",
            of_site + "/{node}/{protocol}/{id}/disconnect",
            Role.OPERATOR,
            do.disconnect,
            ConnectionPath,
        ),
    ]


def _shown_node(facts: NodeFacts) -> dict[str, Any]:
    shown: dict[str, Any] = msgspec.to_builtins(facts)
    if (certificate := facts.certificate) is not None:
        times = {"valid_from": rfc3339(certificate.valid_from), "valid_until": rfc3339(certificate.valid_until)}
        days_left = round((certificate.valid_until - facts.at) / 86_400_000, 1)
        shown["certificate"] |= times | {"days_left": days_left}
    return shown | {"at": rfc3339(facts.at), "started_at": rfc3339(facts.started_at)}


def _shown_connection(row: LiveRow) -> dict[str, Any]:
    facts: dict[str, Any] = msgspec.to_builtins(row.facts)
    facts["connected_at"] = rfc3339(row.facts.connected_at)
    named = {"node": row.node, "site": row.site, "protocol": row.protocol, "id": row.id}
    return {**named, **facts, **msgspec.to_builtins(row.measures)}


def _cursor_of(place: LivePlace) -> str:
    return base64.urlsafe_b64encode(msgspec.json.encode(place)).decode()


def _place_of(cursor: str | None) -> LivePlace | None:
    if cursor is None:
        return None
    try:
        place: LivePlace = msgspec.json.decode(base64.urlsafe_b64decode(cursor), type=LivePlace)
        return place
    except (ValueError, msgspec.MsgspecError):
        raise RequestRefused("cursor: expected the cursor of an answer.", "bad_cursor") from None
