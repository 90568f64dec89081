"""The Socket.IO server over real HTTP and WebSockets: tasks, time-outs, faults of the application."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import AsyncIterator

import pytest

from app.socketio.engine_packet import EncodedPacket
from app.socketio.engine_ports import EngineSettings
from app.socketio.namespace_router import NamespaceRouter
from app.socketio.socket_connection import ConnectRefused, ConnectRequest, NamespaceConnection
from app.socketio.socket_server import SocketServer
from tests.socketio.engine_client import EngineClient
from tests.socketio.socket_case import Application
from tests.support.waiting import until
from tests.transport.serving import serving


@contextlib.asynccontextmanager
async def socket_client(
    application: Application, version: int = 4, connect_timeout_seconds: float = 45.0
) -> AsyncIterator[tuple[SocketServer, EngineClient]]:
    """Serve the application and give it a client."""
    server = SocketServer(NamespaceRouter([application]), EngineSettings(), connect_timeout_seconds)
    async with (
        serving(server.asgi, interface="asgi3", access_log=False) as served,
        EngineClient(served.port, version, "/") as client,
    ):
        yield server, client
        await server.shutdown()


async def test_connect_does_not_block_reading() -> None:
    """While one namespace's connect() waits, the session's other packets are handled."""
    application = Application("/slow", "/site")
    go_on = asyncio.Event()

    async def connect(connection: NamespaceConnection, request: ConnectRequest) -> None:
        if request.namespace == "/slow":
            await go_on.wait()

    application.on_connect = connect
    async with socket_client(application) as (_, client), client.socket() as websocket:
        await websocket.receive()
        await websocket.send("40/slow,")
        await websocket.send("40/site,")
        assert str(await websocket.receive()).startswith("40/site,")
        await websocket.send('42/site,1["a"]')
        await until(lambda: bool(application.heard), "the event")
        go_on.set()
        assert str(await websocket.receive()).startswith("40/slow,")


@pytest.mark.parametrize("version", [4, 3])
async def test_polling(version: int) -> None:
    """Connect, event, ack and refusal over polling."""
    application = Application("/site", "/closed")

    async def connect(connection: NamespaceConnection, request: ConnectRequest) -> None:
        if request.namespace == "/closed":
            raise ConnectRefused
        connection.confirm()
        connection.send_encoded(EncodedPacket('42/site,7["é"]'.encode()))

    application.on_connect = connect
    async with socket_client(application, version) as (_, client):
        sid = await client.open()
        if version == 3:
            assert (await client.poll(sid)).body == b"2:40"
        await client.post(sid, client.payload("40/site,"))
        body = (await client.poll(sid)).body.decode()
        if version == 3:
            assert body == '7:40/site19:42/site,7["\\u00e9"]'
        else:
            assert body.partition("\x1e")[2] == '42/site,7["é"]'
        await client.post(sid, client.payload("43/site,7[]", "40/closed,"))
        assert "Connection refused" in (await client.poll(sid)).body.decode()
    assert application.heard[:2] == [("/site", 7), ("/closed", "connect refused")]


async def test_no_namespace_in_time() -> None:
    """A session that joins no namespace in time is closed; a session whose connect() runs or has run is not."""
    application = Application("/site", "/slow")
    go_on = asyncio.Event()

    async def connect(connection: NamespaceConnection, request: ConnectRequest) -> None:
        if request.namespace == "/slow":
            await go_on.wait()

    application.on_connect = connect
    async with (
        socket_client(application, connect_timeout_seconds=0.1) as (server, client),
        client.socket() as idle,
        client.socket() as joined,
        client.socket() as connecting,
    ):
        await joined.send("40/site,")
        await connecting.send("40/slow,")
        await idle.closed()
        assert len(server.engine.sessions) == 2
        go_on.set()


async def test_old_client_in_the_root_may_stay() -> None:
    """An old client that is only in the implied root namespace is not closed, as by the original server."""
    async with (
        socket_client(Application("/site"), version=3, connect_timeout_seconds=0.05) as (server, client),
        client.socket() as websocket,
        EngineClient(int(client.url.split(":")[2].split("/")[0]), 4, "/") as other,
        other.socket() as idle,
    ):
        await websocket.receive()
        assert await websocket.receive() == "40"
        await idle.closed()
        assert len(server.engine.sessions) == 1


async def test_failing_application(caplog: pytest.LogCaptureFixture) -> None:
    """A fault of the application is logged and refuses the connect, or leaves the connection as it is."""
    application = Application("/site", "/broken")

    async def connect(connection: NamespaceConnection, request: ConnectRequest) -> None:
        if request.namespace == "/broken":
            raise ValueError

    def event(connection: NamespaceConnection, name: str) -> None:
        if name == "break":
            raise ValueError

    application.on_connect = connect
    application.on_event = event
    async with socket_client(application) as (_, client), client.socket() as websocket:
        await websocket.receive()
        await websocket.send("40/broken,")
        assert await websocket.receive() == '44/broken,{"message":"Internal error"}'
        await websocket.send("40/site,")
        await websocket.receive()
        await websocket.send('42/site,["break"]')
        await websocket.send('42/site,["go on"]')
        await until(lambda: len(application.heard) == 3, "the second event")
    errors = [record.getMessage() for record in caplog.records if record.levelno == logging.ERROR]
    assert errors == ["a connect could not be handled", "an event could not be handled"]


async def test_shutdown() -> None:
    """At the end every connection hears of it, and a connect() that still runs is ended."""
    application = Application("/site", "/slow")
    ended: list[str] = []

    async def connect(connection: NamespaceConnection, request: ConnectRequest) -> None:
        if request.namespace == "/slow":
            try:
                await asyncio.Event().wait()
            finally:
                ended.append(request.namespace)

    application.on_connect = connect
    async with socket_client(application) as (server, client), client.socket() as websocket:
        await websocket.receive()
        await websocket.send("40/site,")
        await websocket.send("40/slow,")
        assert str(await websocket.receive()).startswith("40/site,")
        await until(lambda: len(application.connections) == 2, "both connects")
        await server.shutdown()
        assert application.heard == [("/site", "server shutdown"), ("/slow", "server shutdown")]
        assert ended == ["/slow"]
        await websocket.closed()


async def test_no_task_per_client() -> None:
    """A client that is in a namespace has no task of its own."""
    application = Application("/site")
    async with socket_client(application) as (_, client), contextlib.AsyncExitStack() as stack:
        before = len(asyncio.all_tasks())
        for _ in range(30):
            websocket = await stack.enter_async_context(client.socket())
            await websocket.receive()
            await websocket.send("40/site,")
            await websocket.receive()
        await until(lambda: len(asyncio.all_tasks()) <= before, "the end of all tasks")
        assert len(application.connections) == 30
