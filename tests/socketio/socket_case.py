"""A Socket.IO server with an application that acts as the test says, and sessions on sockets; both remember."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

from app.socketio.engine_packet import EncodedPacket
from app.socketio.engine_ports import EngineSettings
from app.socketio.engine_request import Handshake
from app.socketio.engine_session import EngineSession
from app.socketio.namespace_router import NamespaceRouter
from app.socketio.socket_connection import ConnectRequest, NamespaceConnection
from app.socketio.socket_server import SocketServer
from app.socketio.socket_session import SocketSession
from tests.socketio.test_engine_session import RememberingSocket


class Application:
    """Has the namespaces it is given; remembers all that it hears."""

    def __init__(self, *namespaces: str) -> None:
        self.namespaces = namespaces
        self.is_claimed: Callable[[ConnectRequest], bool] = lambda _request: True
        self.on_connect: Callable[[NamespaceConnection, ConnectRequest], Awaitable[None]] | None = None
        self.on_event: Callable[[NamespaceConnection, str], None] = lambda _connection, _event: None
        self.connections: list[NamespaceConnection] = []
        self.requests: list[ConnectRequest] = []
        self.heard: list[tuple[Any, ...]] = []

    def accepts_namespace(self, namespace: str) -> bool:
        """Know the namespaces."""
        return namespace in self.namespaces

    def claims(self, request: ConnectRequest) -> bool:
        """Decide as the test says; by default claim every client."""
        return self.is_claimed(request)

    async def connect(self, connection: NamespaceConnection, request: ConnectRequest) -> None:
        """Remember, then act as the test says."""
        self.connections.append(connection)
        self.requests.append(request)
        if self.on_connect is not None:
            await self.on_connect(connection, request)

    def event_received(self, connection: NamespaceConnection, event: str, args: list[Any], ack_id: int | None) -> None:
        """Remember, then act as the test says."""
        self.heard.append((connection.namespace, event, args, ack_id))
        self.on_event(connection, event)

    def ack_received(self, connection: NamespaceConnection, ack_id: int) -> None:
        """Remember."""
        self.heard.append((connection.namespace, ack_id))

    def disconnected(self, connection: NamespaceConnection, reason: str) -> None:
        """Remember."""
        self.heard.append((connection.namespace, reason))


class Client:
    """One session of a server, on a socket that remembers."""

    def __init__(
        self, server: SocketServer, version: int = 4, query_string: bytes = b"", on_socket: bool = True
    ) -> None:
        self.socket = RememberingSocket()
        self.engine = EngineSession(server.engine, server.new_sid(), version)
        server.engine.sessions[self.engine.sid] = self.engine
        self.engine.origins = ("https://www.example.com",)
        self.handshake = Handshake(query_string, "192.0.2.1")
        self.session = SocketSession(server, self.engine, self.handshake)
        self.engine.start(self.session, self.socket if on_socket else None, asyncio.get_running_loop().time())
        self.socket.written.clear()
        self.session.session_started()

    async def send(self, *packets: bytes) -> None:
        """Let the server receive these messages and handle them."""
        for packet in packets:
            self.engine.text_received(packet)
        for _ in range(3):
            await asyncio.sleep(0)

    def received(self) -> list[bytes]:
        """Take the written packets."""
        written, self.socket.written = self.socket.written, []
        return written


def make_server(*applications: Application, max_payload_bytes: int = 1_000) -> SocketServer:
    """A Socket.IO server without an HTTP server."""
    return SocketServer(NamespaceRouter(applications), EngineSettings(max_payload_bytes=max_payload_bytes))


PACKET = EncodedPacket(b'42/site,17["event"]')
