"""HTTP requests passed on to other nodes: over their unix socket on this machine, else over their URL.

Knows nothing of sessions: requests and answers are passed on unread.
"""

import asyncio
import ssl
from collections.abc import Awaitable, Callable, Coroutine, MutableMapping
from functools import partial
from typing import Any

import httpx

from app.backends.exact_pool import default_context
from app.backends.exchange import BackendError
from app.backends.lean_wire import LeanWire, WireAnswer
from app.backends.lean_wires import Addresses, LeanWires, connect, head_of, parse
from app.socketio.ports import Place

CONNECT_TIMEOUT_SECONDS = 2.0
#: Shorter than the time after which a node closes an idle connection, so that no request meets a closed one.
_KEEPALIVE_SECONDS = 30.0
_MAX_POOLS = 64

#: Headers of one connection, not of the request (RFC 9110, 7.6.1). This node has answered an Expect already.
_OF_CONNECTION = frozenset(
    (b"connection", b"keep-alive", b"proxy-connection", b"te", b"trailer", b"transfer-encoding", b"upgrade", b"expect")
)
#: The longest payload of a poll, or page of metrics, of a node; far above any.
_MAX_ANSWER_BYTES = 64_000_000
#: A request to a node that has no URL names this host.
_NODE = b"node"

_new_wire = partial(LeanWire, _MAX_ANSWER_BYTES)

Receive = Callable[[], Awaitable[MutableMapping[str, Any]]]
Send = Callable[[MutableMapping[str, Any]], Awaitable[None]]


class _PeerAnswer:
    """The other node's answer; lives until it is sent."""

    def __init__(self, status: int, headers: list[tuple[bytes, bytes]], body: bytes) -> None:
        self.status = status
        self.headers = [(name, value) for name, value in headers if name.lower() not in _OF_CONNECTION]
        self.body = body

    async def send(self, send: Send) -> None:
        """Sends it to the client."""
        await send({"type": "http.response.start", "status": self.status, "headers": self.headers})
        await send({"type": "http.response.body", "body": self.body})


class _Request:
    """A client's request on its way; lives until it is answered."""

    def __init__(self, scope: MutableMapping[str, Any], receive: Receive) -> None:
        self._receive = receive
        self._is_whole = asyncio.Event()
        self._method: bytes = scope["method"].encode()
        query: bytes = scope["query_string"]
        self._target = _ascii(scope["raw_path"] + (b"?" + query if query else b""))
        self._headers = [header for header in scope["headers"] if header[0] not in _OF_CONNECTION]
        #: The body, or the first part of a long one.
        self._body = b""
        self._is_chunked = False
        #: Whether more of the body is to come.
        self.is_long = False
        self.has_lost_client = False

    async def begin(self) -> bool:
        """Reads the body, or the first part of a long one; False when the client has left."""
        event = await self._receive()
        if event["type"] == "http.disconnect":
            return False
        self._body = event.get("body", b"")
        self.is_long = event.get("more_body", False)
        if not self.is_long:
            self._is_whole.set()
        return True

    def first(self, base: bytes, host: bytes) -> bytes:
        """The head for a node whose paths begin with `base`, and as much of the body as is there."""
        given = {name for name, _ in self._headers}
        added = [] if b"host" in given else [(b"host", host)]
        if b"content-length" not in given and (self.is_long or self._body):
            self._is_chunked = self.is_long
            length = (b"content-length", b"%d" % len(self._body))
            added.append((b"transfer-encoding", b"chunked") if self.is_long else length)
        return head_of(self._method, base + self._target, added + self._headers) + self._part(self._body)

    async def write_rest(self, wire: LeanWire) -> None:
        """Writes the rest of a long body. Raises ConnectionAbortedError when the client leaves meanwhile."""
        while self.is_long:
            event = await self._receive()
            if event["type"] == "http.disconnect":
                self.has_lost_client = True
                raise ConnectionAbortedError
            self.is_long = event.get("more_body", False)
            await wire.write(
                self._part(event["body"]) + (b"0\r\n\r\n" if self._is_chunked and not self.is_long else b"")
            )
        self._is_whole.set()

    def _part(self, body: bytes) -> bytes:
        return b"%x\r\n%b\r\n" % (len(body), body) if self._is_chunked and body else body

    async def lost(self) -> None:
        """Returns when the client has left."""
        await self._is_whole.wait()
        while (await self._receive())["type"] != "http.disconnect":
            pass


class _PeerPool:
    """The connections to one node. Lives until it is closed."""

    def __init__(self, place: Place, tls: ssl.SSLContext | None) -> None:
        """Raises httpx.InvalidURL."""
        self.in_use = 0
        self.base, self.host = b"", _NODE
        if place.socket:
            connecting = partial(_connect_to_socket, place.socket)
        else:
            origin, path, self.host = parse(place.url or "")
            self.base = path.rstrip(b"/")
            connecting = partial(connect, Addresses(origin), _new_wire, tls or default_context())
        # No limit: each waiting poll holds a connection, and every client may have one.
        self.wires = LeanWires(partial(_in_time, connecting), _KEEPALIVE_SECONDS)


class HttpPeers:
    """The way to the other nodes; `Peers` of the ports. Lives as long as the node, which calls `aclose`."""

    def __init__(self, idle_seconds: float, tls: ssl.SSLContext | None = None) -> None:
        """A node that is silent for `idle_seconds`, longer than any poll waits, counts as gone. `tls` is for a URL that
        begins with https; None: the system's."""
        self._idle_seconds = idle_seconds
        self._tls = tls
        self._pools: dict[str, _PeerPool] = {}
        self._is_closed = False

    async def pass_on(self, place: Place, scope: Any, receive: Any, send: Any) -> bool:
        """Has another node answer a request; see `Peers`."""
        request = _Request(scope, receive)
        if not await request.begin():
            return True
        exchange = asyncio.create_task(self._exchange(place, request))
        watch = asyncio.create_task(request.lost())
        try:
            await asyncio.wait((exchange, watch), return_when=asyncio.FIRST_COMPLETED)
            if not exchange.done():
                # The cancellation below closes the connection to the node, which ends the poll there.
                return True
            answer = exchange.result()
        finally:
            exchange.cancel()
            watch.cancel()
            await asyncio.gather(exchange, watch, return_exceptions=True)
        if answer is not None:
            await answer.send(send)
        return answer is not None or request.has_lost_client

    async def tell(self, place: Place, scope: Any) -> None:
        """Makes a request of this node's own; see `Peers`."""
        await self._exchange(place, _Request(scope, _nothing))

    async def fetch(self, socket_path: str, target: str, timeout_seconds: float) -> bytes | None:
        """The answer of a node of this machine to a GET; None without an answer, or with another status than 200."""
        if self._is_closed:
            return None
        pool = self._pool(Place(socket=socket_path))
        request = head_of(b"GET", target.encode(), [(b"host", _NODE)])
        try:
            async with asyncio.timeout(timeout_seconds):
                answer = await pool.wires.ask(request, may_repeat=True)
        except (BackendError, OSError):
            return None
        return answer.body if answer.status == 200 and answer.is_whole else None

    async def aclose(self) -> None:
        """Closes every connection: a request in flight gets no answer."""
        self._is_closed = True
        pools, self._pools = self._pools, {}
        for pool in pools.values():
            pool.wires.close()

    async def _exchange(self, place: Place, request: _Request) -> _PeerAnswer | None:
        if self._is_closed:
            return None
        try:
            pool = self._pool(place)
        except httpx.InvalidURL:
            return None
        pool.in_use += 1
        try:
            answer = await self._answer(pool, request)
        except (BackendError, OSError, UnicodeError):
            return None
        finally:
            pool.in_use -= 1
        # Read whole: an answer that a node breaks off is no answer. It is the payload of one poll.
        return _PeerAnswer(answer.status, answer.headers, answer.body) if answer.is_whole else None

    async def _answer(self, pool: _PeerPool, request: _Request) -> WireAnswer:
        wire = await pool.wires.open()
        is_over = False
        try:
            answer = wire.ask(request.first(pool.base, pool.host))
            if request.is_long:
                await _write_until(answer, request.write_rest(wire))
            async with asyncio.timeout(self._idle_seconds):
                answered = await answer
            is_over = not request.is_long
            return answered
        finally:
            (pool.wires.keep if is_over else pool.wires.drop)(wire)

    def _pool(self, place: Place) -> _PeerPool:
        """Raises httpx.InvalidURL."""
        key = place.socket or place.url or ""
        pool = self._pools.get(key)
        if pool is None:
            self._let_go_of_idle_pools()
            pool = self._pools[key] = _PeerPool(place, self._tls)
        return pool

    def _let_go_of_idle_pools(self) -> None:
        """Nodes come and go: without this the pools of past nodes would stay for ever."""
        if len(self._pools) >= _MAX_POOLS:
            for path, pool in list(self._pools.items()):
                if not pool.in_use:
                    del self._pools[path]
                    pool.wires.close()


async def _nothing() -> MutableMapping[str, Any]:
    raise AssertionError("nobody asks for the body of a request that has none")


def _ascii(target: bytes) -> bytes:
    """The target of a request. Bytes that no URL may hold are percent-encoded."""
    return target if target.isascii() else b"".join(b"%c" % b if b < 0x80 else b"%%%02X" % b for b in target)


async def _write_until(answer: "asyncio.Future[WireAnswer]", writing: Coroutine[Any, Any, None]) -> None:
    """Writes the body; an answer may come before its end. Raises ConnectionAbortedError when the client leaves."""
    task = asyncio.create_task(writing)
    try:
        await asyncio.wait((answer, task), return_when=asyncio.FIRST_COMPLETED)
        if task.done():
            task.result()
    finally:
        task.cancel()


async def _connect_to_socket(path: str) -> LeanWire:
    return (await asyncio.get_running_loop().create_unix_connection(_new_wire, path))[1]


async def _in_time(connecting: Callable[[], Awaitable[LeanWire]]) -> LeanWire:
    """A new connection. Raises OSError, UnicodeError."""
    async with asyncio.timeout(CONNECT_TIMEOUT_SECONDS):
        return await connecting()
