"""WebSockets under an ASGI server without the fast lane: uvicorn's own implementation."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from typing import Any

import pytest

from app.socketio.engine_packet import EncodedPacket
from app.socketio.engine_ports import EngineSettings
from app.socketio.engine_request import Handshake
from app.socketio.engine_server import EngineServer
from app.socketio.engine_session import EngineSession
from app.transport.asgi_websocket import AsgiWebSocket
from app.transport.websocket import text_frame
from tests.socketio.engine_client import EngineClient
from tests.socketio.test_engine_server import Echo, receive_across_upgrade
from tests.support.waiting import until
from tests.transport.serving import serving


class Server:
    """An Engine.IO echo under another WebSocket implementation."""

    def __init__(self) -> None:
        self.listeners: list[Echo] = []
        self.engine = EngineServer(self.open_session, EngineSettings(max_payload_bytes=1_000, max_outbox_bytes=5_000))
        self.client: EngineClient

    def open_session(self, session: EngineSession, handshake: Handshake) -> Echo:
        """Give a session its listener."""
        self.listeners.append(Echo(session))
        return self.listeners[-1]

    async def until_closed(self, reason: str) -> None:
        """Wait until the last session is closed, for this reason."""
        await until(lambda: bool(self.listeners[-1].reasons), "the close")
        assert self.listeners[-1].reasons == [reason]
        assert not self.engine.sockets


@contextlib.asynccontextmanager
async def other_server() -> AsyncIterator[Server]:
    """Serve it, with a client."""
    server = Server()
    async with (
        serving(server.engine.asgi, interface="asgi3", ws="websockets-sansio", access_log=False) as served,
        EngineClient(served.port, 4, "/") as client,
    ):
        server.client = client
        yield server
        await server.engine.shutdown()


async def test_messages() -> None:
    """Text, binary and packets with long frames pass in both directions."""
    async with other_server() as server:
        async with server.client.socket() as websocket:
            await websocket.receive()
            for message in ("4hello", "4é€😀", b"\x00\xff", "4" * 200, "4" * 1_000):
                await websocket.send(message)
                assert await websocket.receive() == message
        await server.until_closed("transport close")


async def test_very_long_frame() -> None:
    """A frame with a length of eight bytes is read back as well."""
    async with other_server() as server, server.client.socket() as websocket:
        await websocket.receive()
        server.listeners[-1].session.send_encoded(EncodedPacket(b"4" * 70_000))
        assert await websocket.receive() == "4" * 70_000


async def test_refusal() -> None:
    """A WebSocket that cannot be served is refused before it opens."""
    async with other_server() as server:
        assert await server.client.refusal_of_socket("EIO=4&transport=websocket&sid=x") == 403


async def test_close_by_the_session() -> None:
    """What was sent before the close arrives."""
    async with other_server() as server, server.client.socket() as websocket:
        await websocket.receive()
        session = server.listeners[-1].session
        session.send_encoded(EncodedPacket(b"4last"))
        session.close("server disconnect")
        assert await websocket.receive() == "4last"
        assert await websocket.closed() == 1000
        await server.until_closed("server disconnect")


async def test_large_message() -> None:
    """A message over maxPayload closes with 1009."""
    async with other_server() as server, server.client.socket() as websocket:
        await websocket.receive()
        await websocket.send("4" * 1_001)
        assert await websocket.closed() == 1009


async def test_outbox_full() -> None:
    """More than the bound closes the session with its named reason; a single packet may be larger."""
    async with other_server() as server, server.client.socket() as websocket:
        await websocket.receive()
        session = server.listeners[-1].session
        session.send_encoded(EncodedPacket(b"4" * 6_000))
        await websocket.receive()
        for _ in range(10):
            session.send_encoded(EncodedPacket(b"4" * 1_000))
        assert await websocket.closed() == 1008
        await server.until_closed("outbox full")
        assert server.engine.outbox_full_total == 1


async def test_upgrade() -> None:
    """A polling session moves over in the middle of a burst."""
    async with other_server() as server:
        sid = await server.client.open()
        session = server.engine.sockets[sid]

        async def burst() -> None:
            for index in range(50):
                session.send_encoded(EncodedPacket(b"4%d" % index))
                await asyncio.sleep(0)

        sending = asyncio.create_task(burst())
        assert await receive_across_upgrade(server.client, sid, 50) == [f"4{index}" for index in range(50)]
        await sending


async def test_peer_gone_before_the_accept() -> None:
    """A client that has left before it is accepted leaves no session behind."""
    listeners: list[Echo] = []

    def open_session(session: EngineSession, handshake: Handshake) -> Echo:
        listeners.append(Echo(session))
        return listeners[-1]

    async def receive() -> dict[str, Any]:
        return {"type": "websocket.connect"}

    async def send(message: dict[str, Any]) -> None:
        raise OSError

    engine = EngineServer(open_session)
    scope = {"type": "websocket", "query_string": b"EIO=4&transport=websocket", "headers": [], "extensions": {}}
    await engine.asgi(scope, receive, send)
    assert not engine.sockets
    assert listeners == []


async def test_nothing_after_the_close() -> None:
    """A closed WebSocket takes nothing more, and counts nothing."""

    async def send(message: dict[str, Any]) -> None:
        pytest.fail("nothing is to be sent")

    websocket = AsgiWebSocket(send, 100)
    websocket.close()
    websocket.close(1001)
    websocket.write_frame(text_frame(b"4"))
    websocket.write_binary(b"x")
    assert websocket.buffered_bytes == 0
