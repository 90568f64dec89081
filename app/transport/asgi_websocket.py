"""A WebSocket under any ASGI server, with the same methods as the fast lane's connection: slower, but right.

Knows nothing of sessions.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections import deque
from typing import Any, Protocol

_OUTBOX_FULL = "outbox full"
_POLICY_VIOLATION = 1008
_ABNORMAL = 1006
_TOO_BIG = 1009
_CLOSE_TIMEOUT_SECONDS = 5.0


class WebSocketListener(Protocol):
    """Who hears what arrives."""

    def text_received(self, payload: bytes) -> None:
        """One whole text message."""

    def binary_received(self, payload: bytes) -> None:
        """One whole binary message."""

    def writing_resumed(self) -> None:
        """Nothing waits any more, after something did."""

    def connection_lost(self, code: int, reason: str) -> None:
        """Called exactly once."""


class AsgiWebSocket:
    """Lives as long as `serve` runs, which is the connection's ASGI call; a reading and a writing task beside it."""

    __slots__ = (
        "_close",
        "_closing",
        "_largest_bytes",
        "_outbox",
        "_readable",
        "_send",
        "_wakeup",
        "buffered_bytes",
        "closed",
        "max_outbox_bytes",
    )

    def __init__(self, send: Any, max_outbox_bytes: int) -> None:
        """Wrap the ASGI `send` of an accepted WebSocket; more than `max_outbox_bytes` waiting closes it."""
        self._send = send
        self._outbox: deque[tuple[dict[str, Any], int]] = deque()
        self._wakeup = asyncio.Event()
        self._readable = asyncio.Event()
        self._readable.set()
        self._closing: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._close: tuple[int, str] | None = None
        self.max_outbox_bytes = max_outbox_bytes
        self._largest_bytes = 0
        self.buffered_bytes = 0
        self.closed = False

    def write_frame(self, frame: bytes) -> None:
        """Send the text message in a ready, unmasked frame."""
        # RFC 6455, 5.2: the second byte says how the length is written.
        start = {126: 4, 127: 10}.get(frame[1], 2)
        self._write({"type": "websocket.send", "text": frame[start:].decode()}, len(frame) - start)

    def write_binary(self, payload: bytes) -> None:
        """Send a binary message."""
        self._write({"type": "websocket.send", "bytes": payload}, len(payload))

    def write_ping(self) -> None:
        """ASGI has no pings: what waits for this one's pong waits in vain."""

    def limit_outbox(self, max_bytes: int) -> None:
        """Let no more than this wait from here on."""
        self.max_outbox_bytes = max_bytes

    def pause_reading(self) -> None:
        """Take nothing more from the server for now."""
        self._readable.clear()

    def resume_reading(self) -> None:
        """Read on."""
        self._readable.set()

    def close(self, code: int = 1000, reason: str = "") -> None:
        """Close after what waits has been written."""
        if not self.closed:
            self.closed = True
            self._close = (code, reason)
            self._readable.set()
            self._wakeup.set()
            if not self._closing.done():
                self._closing.set_result(None)

    def leave(self, code: int = 1000, reason: str = "") -> None:
        """Close; ASGI hands nothing on behind a close."""
        self.close(code, reason)

    def abort(self) -> None:
        """Close; ASGI has no other end."""
        self.close()

    async def serve(self, listener: WebSocketListener, receive: Any, max_message_bytes: int) -> None:
        """Hand what arrives to the listener until the WebSocket is gone, then tell it so."""
        reader = asyncio.create_task(self._read(listener, receive, max_message_bytes))
        writer = asyncio.create_task(self._write_outbox(listener))
        code, reason = _ABNORMAL, ""
        try:
            either: set[asyncio.Future[Any]] = {reader, self._closing}
            await asyncio.wait(either, return_when=asyncio.FIRST_COMPLETED)
            # Closed by us: the client, or the server for a client that does not read, has a time to follow.
            await asyncio.wait({reader}, timeout=_CLOSE_TIMEOUT_SECONDS)
            if reader.done():
                code, reason = reader.result()
        finally:
            self.closed = True
            reader.cancel()
            writer.cancel()
            await asyncio.gather(reader, writer, return_exceptions=True)
            listener.connection_lost(*(self._close or (code, reason)))

    async def _read(self, listener: WebSocketListener, receive: Any, max_message_bytes: int) -> tuple[int, str]:
        while True:
            await self._readable.wait()
            message = await receive()
            if message["type"] == "websocket.disconnect":
                return message.get("code", _ABNORMAL), message.get("reason") or ""
            if message["type"] != "websocket.receive" or self.closed:
                continue
            text = message.get("text")
            payload = message["bytes"] if text is None else text.encode()
            if len(payload) > max_message_bytes:
                self.close(_TOO_BIG)
            elif text is None:
                listener.binary_received(payload)
            else:
                listener.text_received(payload)

    def _write(self, message: dict[str, Any], size: int) -> None:
        if self.closed:
            return
        if not self.buffered_bytes:
            self._largest_bytes = 0
        # As in `Mailbox.add`: the largest message is counted apart.
        self._largest_bytes = max(self._largest_bytes, size)
        apart = min(self._largest_bytes, self.max_outbox_bytes)
        if self.buffered_bytes and self.buffered_bytes + size - apart > self.max_outbox_bytes:
            self._outbox.clear()
            self.buffered_bytes = 0
            self.close(_POLICY_VIOLATION, _OUTBOX_FULL)
            return
        self.buffered_bytes += size
        self._outbox.append((message, size))
        self._wakeup.set()

    async def _write_outbox(self, listener: WebSocketListener) -> None:
        """Write what waits until the close; the server's back pressure is felt in `send`."""
        with contextlib.suppress(OSError, RuntimeError):  # the peer went away: the reader hears of it
            while True:
                await self._wakeup.wait()
                self._wakeup.clear()
                has_written = bool(self._outbox)
                while self._outbox:
                    message, size = self._outbox.popleft()
                    await self._send(message)
                    self.buffered_bytes = max(0, self.buffered_bytes - size)
                if has_written:
                    listener.writing_resumed()
                if self._close is not None:
                    code, reason = self._close
                    await self._send({"type": "websocket.close", "code": code, "reason": reason})
                    return
