"""HTTP requests passed on to other nodes: over their unix socket on this machine, else over their URL.

Knows nothing of sessions: requests and answers are passed on unread.
"""

import asyncio
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable, MutableMapping
from typing import Any

import aiohttp
from yarl import URL

from app.socketio.ports import Place

CONNECT_TIMEOUT_SECONDS = 2.0
#: Shorter than the time after which a node closes an idle connection, so that no request meets a closed one.
_KEEPALIVE_SECONDS = 30.0
_MAX_POOLS = 64

#: Headers of one connection, not of the request (RFC 9110, 7.6.1). This node has answered an Expect already.
_OF_CONNECTION = frozenset(
    (b"connection", b"keep-alive", b"proxy-connection", b"te", b"trailer", b"transfer-encoding", b"upgrade", b"expect")
)
_AUTOMATIC = ("accept", "accept-encoding", "content-type", "user-agent")

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
        self.method: str = scope["method"]
        query: bytes = scope["query_string"]
        self.target = _ascii(scope["raw_path"] + (b"?" + query if query else b""))
        # aiohttp writes a header in UTF-8, which changes its bytes. Engine.IO reads ASCII headers alone.
        self.headers = [
            (name.decode("ascii"), value.decode("ascii"))
            for name, value in scope["headers"]
            if name not in _OF_CONNECTION and value.isascii()
        ]
        self.body: bytes | AsyncIterator[bytes] | None = None
        self.has_lost_client = False

    async def begin(self) -> bool:
        """Reads the body, or the first part of a long one; False when the client has left."""
        event = await self._receive()
        if event["type"] == "http.disconnect":
            return False
        part: bytes = event.get("body", b"")
        if event.get("more_body", False):
            self.body = self._parts(part)
        else:
            self.body = part or None
            self._is_whole.set()
        return True

    async def _parts(self, part: bytes) -> AsyncIterator[bytes]:
        yield part
        has_more = True
        while has_more:
            event = await self._receive()
            if event["type"] == "http.disconnect":
                self.has_lost_client = True
                raise ConnectionAbortedError
            has_more = event.get("more_body", False)
            if event["body"]:
                yield event["body"]
        self._is_whole.set()

    async def lost(self) -> None:
        """Returns when the client has left."""
        await self._is_whole.wait()
        while (await self._receive())["type"] != "http.disconnect":
            pass


class _PeerPool:
    """The connections to one node, or to all that have a URL. Lives until it is closed."""

    def __init__(self, socket_path: str | None, idle_seconds: float, tls: ssl.SSLContext | None) -> None:
        connector: aiohttp.BaseConnector
        # No limit: each waiting poll holds a connection, and every client may have one.
        if socket_path is not None:
            connector = aiohttp.UnixConnector(socket_path, limit=0, keepalive_timeout=_KEEPALIVE_SECONDS)
        else:
            connector = aiohttp.TCPConnector(limit=0, keepalive_timeout=_KEEPALIVE_SECONDS, ssl=tls or True)
        self.in_use = 0
        self.session = aiohttp.ClientSession(
            connector=connector,
            cookie_jar=aiohttp.DummyCookieJar(),
            auto_decompress=False,
            skip_auto_headers=_AUTOMATIC,
            timeout=aiohttp.ClientTimeout(total=None, sock_connect=CONNECT_TIMEOUT_SECONDS, sock_read=idle_seconds),
        )


class HttpPeers:
    """The way to the other nodes; `Peers` of the ports. Lives as long as the node, which calls `aclose`."""

    def __init__(self, idle_seconds: float, tls: ssl.SSLContext | None = None) -> None:
        """A node that is silent for `idle_seconds`, longer than any poll waits, counts as gone. `tls` is for a URL that
        begins with https; None: the system's."""
        self._idle_seconds = idle_seconds
        self._tls = tls
        self._pools: dict[str | None, _PeerPool] = {}
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
        try:
            async with (
                asyncio.timeout(timeout_seconds),
                self._pool(socket_path).session.get(f"http://node{target}") as response,
            ):
                return await response.read() if response.status == 200 else None
        except (aiohttp.ClientError, OSError):
            return None

    async def aclose(self) -> None:
        """Closes every connection: a request in flight gets no answer."""
        self._is_closed = True
        pools, self._pools = self._pools, {}
        for pool in pools.values():
            await pool.session.close()

    async def _exchange(self, place: Place, request: _Request) -> _PeerAnswer | None:
        if self._is_closed:
            return None
        pool = self._pool(place.socket)
        base = place.url.rstrip("/") if place.url and not place.socket else "http://node"
        pool.in_use += 1
        try:
            url = URL(base + request.target, encoded=True)
            async with pool.session.request(
                request.method, url, headers=request.headers, data=request.body, allow_redirects=False
            ) as response:
                # Read whole: an answer that a node breaks off is no answer. It is the payload of one poll.
                return _PeerAnswer(response.status, list(response.raw_headers), await response.read())
        except (aiohttp.ClientError, OSError, ValueError):
            # ValueError: a place whose URL is none.
            return None
        finally:
            pool.in_use -= 1

    def _pool(self, socket_path: str | None) -> _PeerPool:
        pool = self._pools.get(socket_path)
        if pool is None:
            self._let_go_of_idle_pools()
            pool = self._pools[socket_path] = _PeerPool(socket_path, self._idle_seconds, self._tls)
        return pool

    def _let_go_of_idle_pools(self) -> None:
        """Nodes come and go: without this the pools of past nodes would stay for ever."""
        if len(self._pools) >= _MAX_POOLS:
            for path, pool in list(self._pools.items()):
                if not pool.in_use:
                    del self._pools[path]
                    asyncio.get_running_loop().create_task(pool.session.close())


async def _nothing() -> MutableMapping[str, Any]:
    raise AssertionError("nobody asks for the body of a request that has none")


def _ascii(target: bytes) -> str:
    """The target of a request as text. Bytes that no URL may hold are percent-encoded."""
    return target.decode("ascii") if target.isascii() else "".join(chr(b) if b < 0x80 else f"%{b:02X}" for b in target)
