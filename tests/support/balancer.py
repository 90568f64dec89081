"""A load balancer without sticky sessions: each HTTP request goes to a random node, and so does each WebSocket.

The requests of one kept-alive connection go to separately drawn nodes. Traffic that is
not HTTP passes to a random node unchanged.
"""

from __future__ import annotations

import asyncio
import contextlib
import random
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from urllib.parse import urlsplit

from tests.support.background import BackgroundLoop
from tests.support.streams import Peer, splice, stop_listening

_MAX_HEAD_BYTES = 64 * 1024
_REST_SECONDS = 5.0
_BAD_GATEWAY = b"HTTP/1.1 502 Bad Gateway\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"


class _NotHttp(Exception):
    """The connection's bytes cannot be split into requests."""


class _Gone(Exception):
    """One of the two sides has ended in the middle of a request or an answer."""


@dataclass(frozen=True)
class _Head:
    """The first line and the headers of a request or an answer; names in lower case."""

    raw: bytes
    first_line: str
    headers: dict[str, str]

    @property
    def is_upgrade(self) -> bool:
        return "upgrade" in self.headers

    @property
    def is_last(self) -> bool:
        """Whether the sender closes the connection after this message."""
        return "close" in self.headers.get("connection", "").lower()


class Balancer:
    """A balancer on a thread of its own. Listens on a free port from its creation to `end`."""

    def __init__(self, node_urls: Callable[[], Sequence[str]], chance: random.Random) -> None:
        """`node_urls` is called for every request: the nodes that accept new requests."""
        #: How many requests each node got, by its URL.
        self.requests: Counter[str] = Counter()
        self._node_urls = node_urls
        self._chance = chance
        self._background = BackgroundLoop()
        self._clients: dict[asyncio.Task[None], Peer] = {}
        self._server = self._background.run(asyncio.start_server(self._accept, "127.0.0.1", 0, backlog=4096))
        self.url = f"http://127.0.0.1:{self._server.sockets[0].getsockname()[1]}"

    def end(self) -> None:
        """Stop listening and break the remaining connections."""
        self._background.run(self._end())
        self._background.close()

    async def _end(self) -> None:
        await stop_listening(self._server)
        for client, peer in list(self._clients.items()):
            client.cancel()
            peer.abort()  # its task may not have started
        await asyncio.gather(*self._clients, return_exceptions=True)
        # The loop closes aborted connections in its next turn.
        await asyncio.sleep(0)

    def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        peer = Peer(reader, writer)
        client = asyncio.create_task(self._serve(peer))
        self._clients[client] = peer
        client.add_done_callback(self._clients.pop)

    async def _serve(self, client: Peer) -> None:
        try:
            while await self._serve_request(client):
                pass
            await client.close()
        except (OSError, _Gone):
            pass
        finally:
            client.abort()

    async def _serve_request(self, client: Peer) -> bool:
        """Pass one request on and its answer back; False when the connection can carry no further request."""
        try:
            request = await _read_head(client)
        except _NotHttp:
            await self._pass_everything(client)
            return False
        if request is None:
            return False
        node = await self._connect()
        if node is None:
            await client.write(_BAD_GATEWAY)
            return False
        await node.write(request.raw)
        if request.is_upgrade:
            await splice(client, node)
            return False
        try:
            return await _exchange(client, node, request)
        finally:
            node.abort()

    async def _pass_everything(self, client: Peer) -> None:
        node = await self._connect()
        if node:
            await splice(client, node)

    async def _connect(self) -> Peer | None:
        urls = list(self._node_urls())
        self._chance.shuffle(urls)
        for url in urls:
            parts = urlsplit(url)
            assert parts.hostname
            assert parts.port
            with contextlib.suppress(OSError):
                node = await Peer.connect(parts.hostname, parts.port)
                self.requests[url] += 1
                return node
        return None


async def _exchange(client: Peer, node: Peer, request: _Head) -> bool:
    """Pass the request's body on and the answer back; when the client disconnects, drop the node's connection."""
    upload = asyncio.create_task(_pass_body(client, node, _body_length(request, 0)))
    answer = asyncio.create_task(_answer(client, node, request.first_line.startswith("HEAD ")))
    # A client that waits for its answer sends nothing, so a read shows at once that it has disconnected.
    watch = asyncio.create_task(_watch(client, upload))
    try:
        await asyncio.wait({answer, watch}, return_when=asyncio.FIRST_COMPLETED)
        if not answer.done():
            raise _Gone
        is_last = await answer
        if not is_last:
            # The answer may come before the request was read completely: nodes read the rest and discard it.
            await asyncio.wait({upload}, timeout=_REST_SECONDS)
        return not (is_last or request.is_last or not upload.done() or client.has_ended)
    finally:
        for task in (upload, answer, watch):
            task.cancel()
        await asyncio.gather(upload, answer, watch, return_exceptions=True)


async def _watch(client: Peer, upload: asyncio.Task[None]) -> None:
    await upload
    while await client.fill():
        pass


async def _answer(client: Peer, node: Peer, is_head: bool) -> bool:
    """Pass the answer back; return whether it was the last on this connection."""
    while True:
        try:
            head = await _read_head(node)
        except _NotHttp:
            raise _Gone from None
        if head is None:
            raise _Gone
        status = int(head.first_line.split(" ")[1])
        if status >= 200:
            break
        await client.write(head.raw)
    has_body = not is_head and status not in (204, 304)
    # Send the head together with the body: a client that never reads a body, as python-engineio with the answer to a
    # POST, needs both in one piece.
    await _pass_body(node, client, _body_length(head, -1) if has_body else 0, head.raw)
    return head.is_last


async def _read_head(peer: Peer) -> _Head | None:
    """Read up to the empty line; None at a clean end. Raises _NotHttp and leaves the received bytes in the buffer."""
    while (end := peer.received.find(b"\r\n\r\n")) < 0:
        if len(peer.received) > _MAX_HEAD_BYTES:
            raise _NotHttp
        if not await peer.fill():
            if peer.received:
                raise _NotHttp
            return None
    first_line, *lines = bytes(peer.received[:end]).decode("latin-1").split("\r\n")
    headers = {}
    for line in lines:
        name, colon, value = line.partition(":")
        if not colon:
            raise _NotHttp
        headers[name.strip().lower()] = value.strip()
    if " HTTP/1." not in first_line and not first_line.startswith("HTTP/1."):
        raise _NotHttp
    length = headers.get("content-length", "0")
    if not (length.isascii() and length.isdecimal()):
        raise _NotHttp
    return _Head(peer.take(end + 4), first_line, headers)


#: Stands for a length: the body is chunked.
_CHUNKED = -2


def _body_length(head: _Head, unless_told: int) -> int:
    """The length of the body; or _CHUNKED; or -1, when the body lasts until the sender closes."""
    if "chunked" in head.headers.get("transfer-encoding", "").lower():
        return _CHUNKED
    return int(head.headers.get("content-length", unless_told))


async def _pass_body(source: Peer, target: Peer, length: int, head: bytes = b"") -> None:
    """Pass a body on, preceded by its head."""
    if length == _CHUNKED:
        await target.write(head)
        await _pass_chunks(source, target)
    elif length < 0:
        while source.received or await source.fill():
            await target.write(head + source.take())
            head = b""
        await target.write(head)
    else:
        await _pass_bytes(source, target, length, head)


async def _pass_bytes(source: Peer, target: Peer, count: int, head: bytes = b"") -> None:
    while count:
        if not source.received and not await source.fill():
            raise _Gone
        data = source.take(min(count, len(source.received)))
        count -= len(data)
        await target.write(head + data)
        head = b""
    await target.write(head)


async def _pass_chunks(source: Peer, target: Peer) -> None:
    size = -1
    while size:
        line = await _pass_line(source, target)
        try:
            size = int(line.partition(b";")[0], 16)
        except ValueError:
            raise _Gone from None
        await _pass_bytes(source, target, size)
        # The last chunk may be followed by trailers, up to an empty line.
        while await _pass_line(source, target) and not size:
            pass


async def _pass_line(source: Peer, target: Peer) -> bytes:
    while (end := source.received.find(b"\r\n")) < 0:
        if len(source.received) > _MAX_HEAD_BYTES or not await source.fill():
            raise _Gone
    line = source.take(end + 2)
    await target.write(line)
    return line[:-2]
