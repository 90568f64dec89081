"""A client's socket and another node's, joined: after the upgrade request bytes pass both ways as they come.

Knows nothing of WebSockets or of who owns what; no frame is looked at.
"""

import asyncio
import ssl
from typing import Any, cast
from urllib.parse import urlsplit

from app.transport.connection import CLOSE_TIMEOUT_SECONDS, WebSocketConnection

CONNECT_TIMEOUT_SECONDS = 2.0


async def splice(client: WebSocketConnection, socket_path: str | None, url: str | None, head: bytes) -> bool:
    """Has whoever listens at the unix socket, or else at the URL's host, answer the client's upgrade request.

    `head` is the request as it is to be read there. Returns True once bytes pass, also when the client has left;
    False when nobody listens: the client still waits for an answer.
    """
    far = _End()
    try:
        async with asyncio.timeout(CONNECT_TIMEOUT_SECONDS):
            await _connect(far, socket_path, url)
    except (OSError, TimeoutError):
        return False
    handed_over = client.hand_over()
    if handed_over is None:
        far.transport.abort()
        return True
    transport, early, connections = handed_over
    near = _End(connections)
    near.other, far.other = far, near
    transport.set_protocol(near)
    near.connection_made(transport)
    far.transport.write(head + early)
    # It was paused if the client sent much before it had an answer.
    transport.resume_reading()
    if far.is_lost:
        near.other_lost()
    return True


class _End(asyncio.Protocol):
    """One of the two sockets; lives until it is lost, which closes the other.

    Bounded: who sends faster than the other end takes is not read until that has caught up.
    """

    transport: asyncio.Transport
    other: "_End"

    def __init__(self, connections: set[Any] | None = None) -> None:
        """`connections` are those that the server asks to shut down; the client's end is one of them."""
        self._connections = connections
        self.is_lost = False

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """From asyncio, or for a socket that was somebody else's before."""
        self.transport = cast(asyncio.Transport, transport)
        if self._connections is not None:
            self._connections.add(self)

    def data_received(self, data: bytes) -> None:
        """What comes in goes out at the other end."""
        self.other.transport.write(data)

    def pause_writing(self) -> None:
        """This end does not take more: nothing is read at the other."""
        if not self.other.transport.is_closing():
            self.other.transport.pause_reading()

    def resume_writing(self) -> None:
        """This end has caught up."""
        if not self.other.transport.is_closing():
            self.other.transport.resume_reading()

    def eof_received(self) -> bool:
        """Half closed: the other half may still have something to say, but not for long."""
        if self.other.transport.can_write_eof():
            self.other.transport.write_eof()
            asyncio.get_running_loop().call_later(CLOSE_TIMEOUT_SECONDS, self.transport.abort)
            return True
        return False

    def connection_lost(self, error: Exception | None) -> None:
        """From asyncio."""
        self.is_lost = True
        if self._connections is not None:
            self._connections.discard(self)
        if hasattr(self, "other"):
            self.other.other_lost()

    def other_lost(self) -> None:
        """What the other end has sent still leaves, then this end closes, or is dropped when its peer does not read."""
        if not self.is_lost:
            self.transport.close()
            asyncio.get_running_loop().call_later(CLOSE_TIMEOUT_SECONDS, self.transport.abort)

    def shutdown(self) -> None:
        """From uvicorn: the server stops."""
        self.transport.close()


async def _connect(end: _End, socket_path: str | None, url: str | None) -> None:
    loop = asyncio.get_running_loop()
    if socket_path is not None:
        await loop.create_unix_connection(lambda: end, socket_path)
        return
    parts = urlsplit(url or "")
    tls = ssl.create_default_context() if parts.scheme == "https" else None
    host, port = parts.hostname or "", parts.port or (443 if tls else 80)
    await loop.create_connection(lambda: end, host, port, ssl=tls)
