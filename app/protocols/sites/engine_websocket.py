"""A WebSocket under any ASGI server, with the same methods as the fast lane's connection: slower, but right.

Knows nothing of sessions.
"""

from __future__ import annotations

import asyncio
import contextlib
from typing import Any, Protocol

_OUTBOX_FULL = "outbox full"
_POLICY_VIOLATION = 1008
_ABNORMAL = 1006
_TOO_BIG = 1009


class WebSocketListener(Protocol):
    """Who hears what arrives."""

    def text_received(self, payload: bytes) -> None:
        """One whole text message."""

    def binary_received(self, payload: bytes) -> None:
        """One whole binary message."""

    def connection_lost(self, code: int, reason: str) -> None:
        """Called exactly once."""


class AsgiWebSocket:
    """Lives as long as `serve` runs, which is the connection's ASGI call; one writing task beside it."""

    __slots__ = ("_close", "_outbox", "_send", "_wakeup", "buffered_bytes", "closed", "max_outbox_bytes")

    def __init__(self, send: Any, max_outbox_bytes: int) -> None:
        """Wrap the ASGI `send` of an accepted WebSocket; more than `max_outbox_bytes` waiting closes it."""
        self._send = send
        self._outbox: list[dict[str, Any]] = []
        self._wakeup = asyncio.Event()
        self._close: tuple[int, str] | None = None
        self.max_outbox_bytes = max_outbox_bytes
        self.buffered_bytes = 0
        self.closed = False

    def write_frame(self, frame: bytes) -> None:
        """Send the text message in a ready, unmasked frame."""
        # RFC 6455, 5.2: the second byte says how the length is written.
        start = {126: 4, 127: 10}.get(frame[1], 2)
        self._write({"type": "websocket.send", "text": frame[start:].decode()}, len(frame))

    def write_binary(self, payload: bytes) -> None:
        """Send a binary message."""
        self._write({"type": "websocket.send", "bytes": payload}, len(payload))

    def close(self, code: int = 1000, reason: str = "") -> None:
        """Close after what waits has been written."""
        if not self.closed:
            self.closed = True
            self._close = (code, reason)
            self._wakeup.set()

    async def serve(self, listener: WebSocketListener, receive: Any, max_message_bytes: int) -> None:
        """Hand what arrives to the listener until the WebSocket is gone, then tell it so."""
        writer = asyncio.create_task(self._write_outbox())
        code, reason = _ABNORMAL, ""
        try:
            code, reason = await self._read(listener, receive, max_message_bytes)
        finally:
            self.closed = True
            writer.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await writer
            listener.connection_lost(*(self._close or (code, reason)))

    async def _read(self, listener: WebSocketListener, receive: Any, max_message_bytes: int) -> tuple[int, str]:
        while True:
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
        self.buffered_bytes += size
        if self.buffered_bytes > self.max_outbox_bytes:
            self._outbox.clear()
            self.close(_POLICY_VIOLATION, _OUTBOX_FULL)
            return
        self._outbox.append(message)
        self._wakeup.set()

    async def _write_outbox(self) -> None:
        """Write what waits until the close; the server's back pressure is felt in `send`."""
        with contextlib.suppress(OSError, RuntimeError):  # the peer went away: the reader hears of it
            while True:
                await self._wakeup.wait()
                self._wakeup.clear()
                while self._outbox:
                    messages, self._outbox, self.buffered_bytes = self._outbox, [], 0
                    for message in messages:
                        await self._send(message)
                if self._close is not None:
                    code, reason = self._close
                    await self._send({"type": "websocket.close", "code": code, "reason": reason})
                    return
