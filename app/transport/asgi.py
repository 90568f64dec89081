"""ASGI's receive and send over a WebSocketConnection, for applications that know ASGI alone.

Costs a queue and a task per connection, as ASGI does everywhere; Recado's protocols use `connection.accept` instead.
"""

import asyncio
import logging
import sys
from collections import deque
from collections.abc import MutableMapping
from typing import Any

from uvicorn.protocols.utils import ClientDisconnected

from app.transport import frames
from app.transport.connection import WebSocketConnection
from app.transport.listener import Header

logger = logging.getLogger("uvicorn.error")

# With more messages waiting for the application the socket is not read.
_MAX_WAITING_MESSAGES = 16

Message = MutableMapping[str, Any]


class AsgiSession:
    """The listener of a connection whose application speaks ASGI; lives as long as the application's call."""

    def __init__(self, connection: WebSocketConnection, max_message_bytes: int) -> None:
        self._connection = connection
        self._max_message_bytes = max_message_bytes
        self._messages: deque[Message] = deque([{"type": "websocket.connect"}])
        self._arrived = asyncio.Event()
        self._arrived.set()
        self._writable = asyncio.Event()
        self._is_reading = True
        self._is_lost = False
        # Status, headers and body of an answer that is no 101, while the application sends it in pieces.
        self._response: tuple[int, list[Header], bytearray] | None = None

    # Called by the application

    async def receive(self) -> Message:
        """Return the next message for the application."""
        while not self._messages:
            self._arrived.clear()
            await self._arrived.wait()
        message = self._messages.popleft()
        if not self._messages:
            if self._is_lost:
                # A later call gets the end again.
                self._messages.append(message)
            elif not self._is_reading:
                self._is_reading = True
                self._connection.resume_reading()
        return message

    async def send(self, message: Message) -> None:
        """Handle a message of the application; raises ClientDisconnected after the end, RuntimeError out of turn."""
        while self._connection.is_slow and not self._is_lost:
            self._writable.clear()
            await self._writable.wait()
        if self._is_lost:
            raise ClientDisconnected
        if self._response is not None:
            self._continue_response(self._response, message)
        elif self._connection.is_upgrading:
            self._answer(message)
        else:
            self._send(message)

    def _answer(self, message: Message) -> None:
        match message["type"]:
            case "websocket.accept":
                self._connection.accept(
                    self,
                    max_message_bytes=self._max_message_bytes,
                    # `send` awaits a slow socket, so only the application's own concurrency adds waiting bytes.
                    max_outbox_bytes=sys.maxsize,
                    subprotocol=message.get("subprotocol"),
                    headers=list(message.get("headers", [])),
                )
            case "websocket.close":
                self._connection.reject()
                self._end(frames.CLOSE_ABNORMAL, "")
            case "websocket.http.response.start":
                self._response = (message["status"], list(message.get("headers", [])), bytearray())
            case other:
                raise RuntimeError(
                    "Expected ASGI message 'websocket.accept', 'websocket.close' "
                    f"or 'websocket.http.response.start', but got '{other}'."
                )

    def _continue_response(self, response: tuple[int, list[Header], bytearray], message: Message) -> None:
        if message["type"] != "websocket.http.response.body":
            raise RuntimeError(f"Expected ASGI message 'websocket.http.response.body', but got '{message['type']}'.")
        status, headers, body = response
        body += message.get("body", b"")
        if not message.get("more_body", False):
            self._connection.reject(status, bytes(body), headers)
            self._response = None
            self._end(frames.CLOSE_ABNORMAL, "")

    def _send(self, message: Message) -> None:
        if self._connection.closed:
            raise ClientDisconnected
        match message["type"]:
            case "websocket.send" if message.get("bytes") is not None:
                self._connection.write_binary(message["bytes"])
            case "websocket.send":
                self._connection.write_text(message["text"].encode())
            case "websocket.close":
                code, reason = message.get("code", frames.CLOSE_NORMAL), message.get("reason") or ""
                self._connection.close(code, reason)
            case other:
                raise RuntimeError(f"Expected ASGI message 'websocket.send' or 'websocket.close', but got '{other}'.")

    # Called by the connection

    def text_received(self, payload: bytes) -> None:
        """Queue a text message."""
        self._arrive({"type": "websocket.receive", "text": payload.decode()})

    def binary_received(self, payload: bytes) -> None:
        """Queue a binary message."""
        self._arrive({"type": "websocket.receive", "bytes": payload})

    def pong_received(self) -> None:
        """Nothing to do: ASGI has no pings."""

    def writing_resumed(self) -> None:
        """Resume a waiting `send`."""
        self._writable.set()

    def connection_lost(self, code: int, reason: str) -> None:
        """Queue the end."""
        self._end(code, reason)

    def _arrive(self, message: Message) -> None:
        self._messages.append(message)
        self._arrived.set()
        if len(self._messages) >= _MAX_WAITING_MESSAGES and self._is_reading:
            self._is_reading = False
            self._connection.pause_reading()

    def _end(self, code: int, reason: str) -> None:
        if not self._is_lost:
            self._is_lost = True
            self._messages.append({"type": "websocket.disconnect", "code": code, "reason": reason})
            self._arrived.set()
            self._writable.set()

    # Called when the application has ended

    def application_failed(self, error: Exception) -> None:
        """Answer 500, or close with 1011, after an exception that is no disconnection."""
        if not isinstance(error, ClientDisconnected):
            application_failed(self._connection, error)

    def application_returned(self) -> None:
        """Close a connection that the application has left open; one that it accepted itself lives on."""
        application_returned(self._connection)
        if self._connection.is_heard_by(self):
            self._connection.close()


def application_failed(connection: WebSocketConnection, error: Exception) -> None:
    """Answer 500, or close with 1011, after an exception of the application."""
    logger.error("Exception in ASGI application\n", exc_info=error)
    if connection.is_upgrading:
        connection.reject(500, b"Internal Server Error")
    else:
        connection.close(frames.CLOSE_INTERNAL_ERROR)


def application_returned(connection: WebSocketConnection) -> None:
    """Answer 500 where the application has returned without an answer."""
    if connection.is_upgrading:
        logger.error("ASGI callable returned without completing handshake.")
        connection.reject(500, b"Internal Server Error")
