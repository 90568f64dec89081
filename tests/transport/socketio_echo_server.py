"""A Socket.IO server that sends back every message, for the protocol's official suite.

``python tests/transport/socketio_echo_server.py PORT`` serves /socket.io/ on 127.0.0.1 through our WebSocket class.
"""

from __future__ import annotations

import asyncio
import sys
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from app.socketio.engine_ports import EngineSettings
from app.socketio.engine_request import Refusal, Response, Scope
from app.socketio.namespace_router import NamespaceRouter
from app.socketio.socket_connection import ConnectRequest, NamespaceConnection
from app.socketio.socket_server import SocketServer
from tests.transport.engineio_echo_server import PAUSE_SECONDS, SETTINGS, serve, serve_lifespan

NAMESPACES = ("/", "/custom")


class EchoApplication:
    """Two namespaces: both tell the client its CONNECT payload, the root one sends messages back."""

    def accepts_namespace(self, namespace: str) -> bool:
        """Know the two namespaces."""
        return namespace in NAMESPACES

    def claims(self, request: ConnectRequest) -> bool:
        """Claim every client."""
        return True

    async def connect(self, connection: NamespaceConnection, request: ConnectRequest) -> None:
        """Accept everyone, and say so a moment before the event.

        The suite listens for one message at a time and misses a second one that comes with the first in one read.
        """
        connection.confirm()
        said = [request.auth or {}]
        asyncio.get_running_loop().call_later(PAUSE_SECONDS, connection.send_event, "auth", said)

    def event_received(self, connection: NamespaceConnection, event: str, args: list[Any], ack_id: int | None) -> None:
        """Send a message back, acknowledge one that asks for it."""
        if connection.namespace != "/":
            return
        if event == "message":
            connection.send_event("message-back", args)
        elif event == "message-with-ack" and ack_id is not None:
            connection.send_ack(ack_id, args)

    def ack_received(self, connection: NamespaceConnection, ack_id: int) -> None:
        """Nothing was sent that could be acknowledged."""

    def disconnected(self, connection: NamespaceConnection, reason: str) -> None:
        """Nothing to clean up."""


class SocketEcho:
    """The ASGI application; lives as long as the server."""

    def __init__(self, settings: EngineSettings = SETTINGS, connect_timeout_seconds: float = 1.0) -> None:
        """Make the Socket.IO server."""
        self.server = SocketServer(NamespaceRouter([EchoApplication()]), settings, connect_timeout_seconds)

    async def __call__(self, scope: Scope, receive: Any, send: Any) -> None:
        """Serve /socket.io/ and nothing else."""
        if scope["type"] == "lifespan":
            await serve_lifespan(receive, send)
        elif scope["path"].rstrip("/") == "/socket.io":
            await self.server.asgi(scope, receive, send)
        elif scope["type"] == "http":
            await Response.refusing(Refusal.BAD_REQUEST).send(send)


if __name__ == "__main__":
    serve(SocketEcho(), int(sys.argv[1]))
