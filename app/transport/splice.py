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
    if far.is_lost:
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
    return True


async def _connect(end: "_End", socket_path: str | None, url: str | None) -> None:
    loop = asyncio.get_running_loop()
    if socket_path is not None:
        await loop.create_unix_connection(lambda: end, socket_path)
        return
    parts = urlsplit(url or "")
    tls = ssl.create_default_context() if parts.scheme == "https" else None
    host, port = parts.hostname or "", parts.port or (443 if tls else 80)
    await loop.create_connection(lambda: end, host, port, ssl=tls)


class _End(asyncio.Protocol):
    """One of the two sockets; lives until it is lost, which closes the other.

    Bounded: who sends faster than the other end takes is not read until that has caught up.
    """

    transport: asyncio.Transport

    def __init__(self, connections: set[Any] | None = None) -> None:
        """`connections` are those that the server asks to shut down; the client's end is one of them."""
        self._connections = connections
        self._drop_timer: asyncio.TimerHandle | None = None
        #: None until both are there.
        self.other: _End | None = None
        self.is_lost = False
        self._has_ended = False

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """From asyncio; for a socket that had another protocol, from `splice`."""
        self.transport = cast(asyncio.Transport, transport)
        if self._connections is not None:
            self._connections.add(self)

    def data_received(self, data: bytes) -> None:
        """What comes in goes out at the other end."""
        if self.other is not None and not self.other.is_lost:
            self.other.transport.write(data)

    def pause_writing(self) -> None:
        """This end does not take more: nothing is read at the other."""
        if self.other is not None and not self.other.transport.is_closing():
            self.other.transport.pause_reading()

    def resume_writing(self) -> None:
        """This end has caught up."""
        if self.other is not None and not self.other.transport.is_closing():
            self.other.transport.resume_reading()

    def eof_received(self) -> bool:
        """Half closed: the other half may still have something to say, but not for long."""
        self._has_ended = True
        other = self.other
        if other is None or other._has_ended or other.transport.is_closing() or not other.transport.can_write_eof():
            # Closes this end, and with it the other.
            return False
        other.transport.write_eof()
        self._drop_soon()
        return True

    def connection_lost(self, error: Exception | None) -> None:
        """From asyncio."""
        self.is_lost = True
        if self._connections is not None:
            self._connections.discard(self)
        if self._drop_timer is not None:
            self._drop_timer.cancel()
        if self.other is not None and not self.other.is_lost:
            # What was sent still leaves, if its peer reads.
            self.other.shutdown()

    def shutdown(self) -> None:
        """Closes this end, and with it the other; from uvicorn too, when the server stops."""
        self.transport.close()
        self._drop_soon()

    def _drop_soon(self) -> None:
        if self._drop_timer is None:
            self._drop_timer = asyncio.get_running_loop().call_later(CLOSE_TIMEOUT_SECONDS, self.transport.abort)
