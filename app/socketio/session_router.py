"""The way of a request to the node that owns its Engine.IO session: a session's id begins with its owner's name.

Knows how requests are passed on, nothing of their content. A request whose owner cannot be reached is left to this
node's own server, which does not know the session and says so in the protocol's words.
"""

from __future__ import annotations

import asyncio
import contextlib
import enum
import re
import ssl
from collections import Counter
from dataclasses import dataclass
from time import monotonic
from typing import Any, NoReturn, Protocol

import structlog

from app.socketio.engine_payload import TEXT_TYPE
from app.socketio.engine_request import Headers, Refusal, Response, Scope, parse_query
from app.socketio.node_signature import CLIENT, RELEASE, SIGNATURE, Signer
from app.socketio.ports import NodePlaces, Peers, Place
from app.transport.handshake import request_head
from app.transport.listener import EXTENSION
from app.transport.peer_socket import PASSED_ON
from app.transport.refusals import NODE_SIGNATURE, refused
from app.transport.splice import FarSide, splice

#: Headers between nodes; those of a client are dropped. The last one is of older versions, which sent the secret.
_BETWEEN_NODES = frozenset((SIGNATURE, CLIENT, RELEASE, b"x-recado-secret"))
_MAX_HOST_CHARACTERS = 256
_MAX_PORT_DIGITS = 5
#: Anybody can send a wrong signature: its log line comes once in this time.
_LOG_SECONDS = 60.0

#: The number of owners that are asked at once to answer a poll, their time for it, and the pause before polls that
#: came meanwhile have their turn.
_RELEASES_AT_ONCE = 100
_RELEASE_SECONDS = 2.0
_ROUND_SECONDS = 0.1

_SID = re.compile(r"([0-9a-f]{1,32})\.")

_log = structlog.get_logger(__name__)


class Sessions(Protocol):
    """The sessions of this node."""

    async def asgi(self, scope: Scope, receive: Any, send: Any) -> None:
        """Serve a request; a request for another node's session is refused."""

    def release_poll(self, sid: str) -> None:
        """Answer the poll of a session at once; no-op for an unknown session."""


class Hop(enum.Enum):
    """The last hop of a request. Each hop leaves fewer ways on, so no request goes in a circle."""

    CLIENT = "from a client: it may be passed on to any node"
    MACHINE = "from another machine, where this URL was the owner's: the owner may be another process here"
    PROCESS = "over this node's own unix socket: it is not passed on"
    REFUSED = "it claims to come from another node, which has not signed it"


@dataclass(slots=True)
class NodeRouting:
    """This node and its view of the others; lives as long as the node."""

    node: str
    """The name of this node, in hexadecimal digits."""
    places: NodePlaces
    peers: Peers
    secret: str | None
    passed: Counter[str]
    """Counts of requests by their outcome."""
    tls: ssl.SSLContext | None = None
    """The context for nodes whose URL begins with https; None: the system's."""


@dataclass(slots=True, eq=False)
class _Poll:
    """A poll that waits for its session's owner; lives until the owner has answered."""

    place: Place
    scope: Scope


def sid_prefix(node: str) -> str:
    """Return the first characters of the ids of a node's sessions."""
    return f"{node}."


class SessionRouter:
    """An ASGI application in front of the sessions' own. Lives as long as the node."""

    def __init__(self, sessions: Sessions, routing: NodeRouting) -> None:
        """Take the sessions of this node, and its view of the others."""
        self._sessions = sessions
        self._routing = routing
        self._own = f"sid={sid_prefix(routing.node)}".encode()
        self._signer = Signer(routing.secret) if routing.secret else None
        self._quiet_until = 0.0
        self._polls: set[_Poll] = set()

    def serves_at_once(self, query: bytes) -> bool:
        """Whether the call for a WebSocket with this query ends without waiting: it opens a session."""
        return b"sid=" not in query

    async def __call__(self, scope: Scope, receive: Any, send: Any) -> None:
        """Serve one HTTP request or WebSocket, or pass it to the owner of its session."""
        query: bytes = scope.get("query_string", b"")
        # Any node answers a request that opens a session, and a preflight (OPTIONS).
        if b"sid=" not in query or scope.get("method") == "OPTIONS":
            await self._sessions.asgi(scope, receive, send)
            return
        hop = self._hop(scope)
        if hop is Hop.REFUSED:
            self._count_refusal()
            await _refuse(scope, send)
        elif self._own in query or hop is Hop.PROCESS or not await self._pass_on(hop, scope, receive, send):
            await self._serve(hop, scope, receive, send)

    async def release_polls(self) -> NoReturn:
        """Have the owners answer the polls that were passed on, and later ones, until cancelled.

        For the end of this node: a poll that is cut counts as given up by its client, which ends the session. After an
        answer the client polls again, through another node.
        """
        while True:
            batch = [self._polls.pop() for _ in range(min(len(self._polls), _RELEASES_AT_ONCE))]
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(_RELEASE_SECONDS):
                    await asyncio.gather(*map(self._release, batch))
            if not self._polls:
                await asyncio.sleep(_ROUND_SECONDS)

    async def _release(self, poll: _Poll) -> None:
        # A session refuses this method without harm: so does a node of an older version, which knows no releases.
        headers = self._signed(poll.place, "DELETE", poll.scope, [(RELEASE, b"1")])
        scope = {**poll.scope, "method": "DELETE", "headers": headers}
        await self._routing.peers.tell(poll.place, scope)

    async def _serve(self, hop: Hop, scope: Scope, receive: Any, send: Any) -> None:
        if hop is not Hop.CLIENT and _header(scope, RELEASE) is not None:
            self._sessions.release_poll(parse_query(scope["query_string"]).get("sid", ""))
            await Response(200, b"ok", TEXT_TYPE).send(send)
        else:
            await self._sessions.asgi(scope, receive, send)

    def _hop(self, scope: Scope) -> Hop:
        """Return the last hop; puts the client that another node names into the scope."""
        if PASSED_ON in scope.get("state", ()):
            hop = Hop.PROCESS
        else:
            if _header(scope, SIGNATURE) is None:
                return Hop.CLIENT
            if not self._is_signed(scope):
                return Hop.REFUSED
            hop = Hop.MACHINE
        scope["client"] = _client(_header(scope, CLIENT))
        return hop

    def _is_signed(self, scope: Scope) -> bool:
        given = _header(scope, SIGNATURE) or b""
        signer = self._signer
        return signer is not None and signer.accepts(given, _method(scope), _target(scope), scope["headers"])

    def _count_refusal(self) -> None:
        self._routing.passed["refused"] += 1
        refused[NODE_SIGNATURE] += 1
        if monotonic() >= self._quiet_until:
            self._quiet_until = monotonic() + _LOG_SECONDS
            _log.error(
                "request of another node refused",
                reason="expected the same cluster.secret on all nodes, and clocks that differ by 30 s at most",
            )

    async def _pass_on(self, hop: Hop, scope: Scope, receive: Any, send: Any) -> bool:
        """Return whether the owner has answered; otherwise nothing has been sent."""
        found = _SID.match(parse_query(scope["query_string"]).get("sid", ""))
        if found is None or found[1] == self._routing.node:
            return False
        node, passed = found[1], self._routing.passed
        place = self._reachable(hop, await self._routing.places.find(node))
        if place is None:
            passed["owner unknown"] += 1
            return False
        if await self._answer_from(place, hop, scope, receive, send):
            passed["passed on"] += 1
            return True
        self._routing.places.forget(node)
        passed["owner unreachable"] += 1
        return False

    def _reachable(self, hop: Hop, place: Place | None) -> Place | None:
        if place is None or place.socket is not None:
            return place
        return place if place.url is not None and self._signer is not None and hop is Hop.CLIENT else None

    def _signed(self, place: Place, method: str, scope: Scope, headers: Headers) -> Headers:
        """Add the signature. A unix socket needs none: a process that may open it is trusted."""
        if place.socket is not None or self._signer is None:
            return headers
        return [*headers, self._signer.sign(method, _target(scope), headers)]

    async def _answer_from(self, place: Place, hop: Hop, scope: Scope, receive: Any, send: Any) -> bool:
        own = _BETWEEN_NODES if hop is Hop.CLIENT else _BETWEEN_NODES - {RELEASE}
        headers = [(name, value) for name, value in scope["headers"] if name not in own]
        if scope.get("client"):
            host, port = scope["client"]
            headers.append((CLIENT, f"{host} {port}".encode()))
        headers = self._signed(place, _method(scope), scope, headers)
        if scope["type"] == "http":
            return await self._answer_request(place, {**scope, "headers": headers}, receive, send)
        head = request_head(_target(scope), headers)
        far_side = FarSide(place.socket, place.url, self._routing.tls)
        return await splice(scope["extensions"][EXTENSION]["connection"], far_side, head)

    async def _answer_request(self, place: Place, scope: Scope, receive: Any, send: Any) -> bool:
        poll = _Poll(place, scope)
        if scope["method"] == "GET":
            self._polls.add(poll)
        try:
            return await self._routing.peers.pass_on(place, scope, receive, send)
        finally:
            self._polls.discard(poll)


def _header(scope: Scope, name: bytes) -> bytes | None:
    return next((value for given, value in scope["headers"] if given == name), None)


def _client(told: bytes | None) -> tuple[str, int] | None:
    host, _, port = (told or b"").decode("latin-1").rpartition(" ")
    is_port = port.isascii() and port.isdigit() and len(port) <= _MAX_PORT_DIGITS
    return (host, int(port)) if host and is_port and len(host) <= _MAX_HOST_CHARACTERS else None


def _method(scope: Scope) -> str:
    """Return the method; an upgrade is a GET."""
    return str(scope.get("method", "GET"))


def _target(scope: Scope) -> bytes:
    query: bytes = scope["query_string"]
    return bytes(scope["raw_path"]) + (b"?" + query if query else b"")


async def _refuse(scope: Scope, send: Any) -> None:
    if scope["type"] == "http":
        await Response.refusing(Refusal.UNKNOWN_SID).send(send)
        return
    refusal, connection = Refusal.UNKNOWN_SID, scope["extensions"][EXTENSION]["connection"]
    connection.reject(refusal.status, refusal.body, [(b"content-type", b"application/json")])
