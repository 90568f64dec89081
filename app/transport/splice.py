"""A client's socket joined to another node's: behind the upgrade request bytes pass both ways as they are.

Knows nothing of WebSockets and sessions; no frame is parsed.
"""

import asyncio
import ssl
from typing import Any, cast
from urllib.parse import urlsplit

from msgspec import Struct

from app.transport.connection import CLOSE_TIMEOUT_SECONDS, WebSocketConnection

CONNECT_TIMEOUT_SECONDS = 2.0


class FarSide(Struct, frozen=True):
    """A listener on a unix socket, or else on a URL's host; for https with this context, or the system's."""

    socket_path: str | None = None
    url: str | None = None
    tls: ssl.SSLContext | None = None


async def splice(client: WebSocketConnection, far_side: FarSide, head: bytes) -> bool:
    """Pass a client's upgrade request to the listener on the far side.

    `head` is the request in the form for that listener. Return True once bytes pass, also when the client has left;
    False without a listener: the client still waits for an answer.
    """
    far = _End()
    try:
        async with asyncio.timeout(CONNECT_TIMEOUT_SECONDS):
            await _connect(far, far_side)
    except (OSError, TimeoutError, ValueError):
        # ValueError: the URL is none.
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
    # Reading was paused if the client sent much before it had an answer.
    transport.resume_reading()
    return True


async def _connect(end: "_End", far_side: FarSide) -> None:
    loop = asyncio.get_running_loop()
    if far_side.socket_path is not None:
        await loop.create_unix_connection(lambda: end, far_side.socket_path)
        return
    parts = urlsplit(far_side.url or "")
    tls = (far_side.tls or ssl.create_default_context()) if parts.scheme == "https" else None
    host, port = parts.hostname or "", parts.port or (443 if tls else 80)
    await loop.create_connection(lambda: end, host, port, ssl=tls)


class _End(asyncio.Protocol):
    """One of the two sockets; lives until it is lost, which closes the other.

    Bounded: an end that sends faster than the other one takes is not read until that one has caught up.
    """

    transport: asyncio.Transport

    def __init__(self, connections: set[Any] | None = None) -> None:
        """`connections` is the server's set of connections to shut down; the client's end is one of them."""
        self._connections = connections
        self._drop_timer: asyncio.TimerHandle | None = None
        #: None until both ends exist.
        self.other: _End | None = None
        self.is_lost = False
        self._has_ended = False

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Take a socket, from asyncio or, if it had another protocol before, from `splice`."""
        self.transport = cast(asyncio.Transport, transport)
        if self._connections is not None:
            self._connections.add(self)

    def data_received(self, data: bytes) -> None:
        """Write received bytes to the other end."""
        if self.other is not None and not self.other.is_lost:
            self.other.transport.write(data)

    def pause_writing(self) -> None:
        """Pause reading at the other end, because this end takes no more."""
        if self.other is not None and not self.other.transport.is_closing():
            self.other.transport.pause_reading()

    def resume_writing(self) -> None:
        """Resume reading at the other end, because this end has caught up."""
        if self.other is not None and not self.other.transport.is_closing():
            self.other.transport.resume_reading()

    def eof_received(self) -> bool:
        """Half close the other end too, which may still send for a short time."""
        self._has_ended = True
        other = self.other
        if other is None or other._has_ended or other.transport.is_closing() or not other.transport.can_write_eof():
            # Closes this end, and with it the other.
            return False
        other.transport.write_eof()
        self._drop_soon()
        return True

    def connection_lost(self, error: Exception | None) -> None:
        """Close the other end, because this one is lost."""
        self.is_lost = True
        if self._connections is not None:
            self._connections.discard(self)
        if self._drop_timer is not None:
            self._drop_timer.cancel()
        if self.other is not None and not self.other.is_lost:
            # Written bytes still leave, if the peer reads.
            self.other.shutdown()

    def shutdown(self) -> None:
        """Close this end, and with it the other; uvicorn calls this too, when the server stops."""
        self.transport.close()
        self._drop_soon()

    def _drop_soon(self) -> None:
        if self._drop_timer is None:
            self._drop_timer = asyncio.get_running_loop().call_later(CLOSE_TIMEOUT_SECONDS, self.transport.abort)
