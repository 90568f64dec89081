"""The Socket.IO server over real HTTP and WebSockets: tasks, time-outs, faults of the application."""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
from collections.abc import AsyncIterator

import pytest

from app.socketio import engine_posted, newcomers
from app.socketio.engine_packet import EncodedPacket
from app.socketio.engine_ports import EngineSettings
from app.socketio.namespace_router import NamespaceRouter
from app.socketio.newcomers import Newcomers
from app.socketio.repeats import Repeats
from app.socketio.socket_connection import ConnectRefused, ConnectRequest, NamespaceConnection
from app.socketio.socket_server import SocketServer
from app.socketio.socket_session import SocketSession
from app.transport.refusals import NO_NAMESPACE, PACKETS_TOO_FAST, TOO_MANY_CONNECTS, TOO_MANY_SESSIONS, refused
from tests.socketio.engine_client import EngineClient
from tests.socketio.socket_case import Application
from tests.support.waiting import until
from tests.transport.serving import serving


@contextlib.asynccontextmanager
async def socket_client(
    application: Application,
    version: int = 4,
    connect_timeout_seconds: float = 45.0,
    bounds: Newcomers | None = None,
    repeats: Repeats | None = None,
) -> AsyncIterator[tuple[SocketServer, EngineClient]]:
    """Serve the application and give it a client."""
    server = SocketServer(NamespaceRouter([application]), EngineSettings(), connect_timeout_seconds, bounds, repeats)
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


@pytest.mark.parametrize(("version", "namespace"), [(4, "/closed"), (3, "/closed"), (4, "/none"), (3, "/none")])
async def test_repeated_refusals_are_late(version: int, namespace: str) -> None:
    """A client that connects again as soon as it is refused is refused late; others of its transport are served."""
    application = Application("/site", "/closed")

    async def connect(connection: NamespaceConnection, request: ConnectRequest) -> None:
        if request.namespace == "/closed":
            raise ConnectRefused

    application.on_connect = connect
    repeats = Repeats(free=2, a_second=1e-6, pause_seconds=1.0)
    async with socket_client(application, version, repeats=repeats) as (_, client), client.socket() as websocket:
        await websocket.receive()
        if version == 3:
            await websocket.receive()
        times: list[float] = []
        for _ in range(3):
            started = asyncio.get_running_loop().time()
            await websocket.send(f"40{namespace},")
            if len(times) == 2:
                await websocket.send("40/site,")
                assert str(await websocket.receive()).startswith("40/site")
            assert str(await websocket.receive()).startswith(f"44{namespace}")
            times.append(asyncio.get_running_loop().time() - started)
        assert max(times[:2]) < 1.0 <= times[2]


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
    """A session that joins no namespace in time is closed; one whose connect() runs has the same time once more."""
    before = refused[NO_NAMESPACE]
    application = Application("/site", "/slow")

    async def connect(connection: NamespaceConnection, request: ConnectRequest) -> None:
        if request.namespace == "/slow":
            await asyncio.Event().wait()

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
        await connecting.closed()
        assert len(server.engine.sessions) == 1
    assert refused[NO_NAMESPACE] == before + 2


async def test_packets_before_a_site_is_joined() -> None:
    """A client in no site may send so many packets a second, of any kind; past it the session closes, counted."""
    application = Application("/site", "/")

    async def connect(connection: NamespaceConnection, request: ConnectRequest) -> None:
        connection.holds_session = request.namespace != "/"

    application.on_connect = connect
    for packet in ("6", '42["a"]', '42/x,["a"]', "41/site,", "43/site,7[]", b"", "40/x,"):
        before = refused[PACKETS_TOO_FAST]
        async with socket_client(application) as (_, client), client.socket() as websocket:
            await websocket.send('45999-/x,["a"]' if packet == b"" else "40")
            for _ in range(150):
                with contextlib.suppress(ConnectionError):
                    await websocket.send(packet)
            await websocket.closed()
        assert refused[PACKETS_TOO_FAST] == before + 1, packet


async def test_packets_in_a_site() -> None:
    """A client that has joined a site has no such bound, and had none for its messages' size since."""
    application = Application("/site")
    async with socket_client(application) as (_, client), client.socket() as websocket:
        await websocket.receive()
        await websocket.send("40/site,")
        await websocket.receive()
        await websocket.send(f'42/site,["{"a" * 100_000}"]')
        for _ in range(300):
            await websocket.send('42/site,["a"]')
        # The first one was taken, and passed over for its length.
        await until(lambda: len(application.heard) == 300, "the events")


@pytest.mark.parametrize("is_polling", [False, True])
async def test_large_message_before_a_site_is_joined(is_polling: bool) -> None:
    """A client in no site sends nothing large: what it holds of the server is small."""
    async with socket_client(Application("/site")) as (server, client):
        if is_polling:
            sid = await client.open()
            assert (await client.post(sid, f'42["{"a" * 70_000}"]')).status == 413
        else:
            async with client.socket() as websocket:
                await websocket.receive()
                await websocket.send(f'42["{"a" * 70_000}"]')
                assert await websocket.closed() == 1009
        await until(lambda: not server.engine.sessions, "the end of the session")


@pytest.mark.parametrize("is_polling", [False, True])
async def test_connect_that_is_gone(is_polling: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    """A connect whose DISCONNECT has come before it begins asks nobody."""
    monkeypatch.setattr(engine_posted, "TURN_SECONDS", 60.0)
    application = Application("/site")
    async with socket_client(application) as (server, client):
        sid = await client.open()
        await client.post(sid, "\x1e".join(f'40/site,{{"token":"{n}"}}\x1e41/site,' for n in range(40)))
        assert application.requests == []
        assert len(server.engine.sessions) == 1
        await client.post(sid, "40/site,")
        await until(lambda: len(application.requests) == 1, "the connect that stays")


async def test_connects_under_way(monkeypatch: pytest.MonkeyPatch) -> None:
    """A session, and an address, may have so many connects under way; past it the session closes, counted."""
    names = [f"/{number}" for number in range(40)]
    application = Application(*names)
    go_on = asyncio.Event()

    async def connect(connection: NamespaceConnection, request: ConnectRequest) -> None:
        await go_on.wait()

    application.on_connect = connect
    before = refused[TOO_MANY_CONNECTS]
    async with socket_client(application) as (_, client), client.socket() as websocket:
        for name in names:
            await websocket.send(f"40{name},")
        await websocket.closed()
        assert [reason for _, reason in application.heard] == ["too many connects"] * 32
    application.requests.clear()
    monkeypatch.setattr(newcomers, "CONNECTS_FOR_A_SESSION", 0.5)
    bounds = Newcomers(max_sessions=4)
    async with socket_client(application, bounds=bounds) as (_, client), contextlib.AsyncExitStack() as stack:
        sockets = [await stack.enter_async_context(client.socket()) for _ in range(3)]
        for websocket in sockets[:2]:
            await websocket.send("40/1,")
        await until(lambda: len(application.requests) == 2, "the connects")
        await sockets[2].send("40/1,")
        await sockets[2].closed()
        go_on.set()
        assert str(await sockets[0].receive()).startswith("0")
        assert str(await sockets[0].receive()).startswith("40/1,")
        await sockets[0].send("40/2,")
        assert str(await sockets[0].receive()).startswith("40/2,")
    assert refused[TOO_MANY_CONNECTS] == before + 2


async def test_sessions_of_an_address() -> None:
    """An address may have so many sessions in no site; the next is refused until one joins, or ends."""
    application = Application("/site")
    bounds = Newcomers(max_sessions=2)
    before = refused[TOO_MANY_SESSIONS]
    async with socket_client(application, bounds=bounds) as (server, client), client.socket() as first:
        sid = await client.open()
        query = "EIO=4&transport=polling"
        assert (await client.request("GET", query)).status == 429
        assert await client.refusal_of_socket("EIO=4&transport=websocket") == 429
        await first.send("40/site,")
        await until(lambda: bool(application.connections), "the join")
        second = await client.open()
        assert (await client.request("GET", query)).status == 429
        await client.post(sid, "1")
        third = await client.open()
        await first.send("41/site,")
        await until(lambda: bool(application.heard), "the leave")
        await client.post(second, "1")
        assert (await client.request("GET", query)).status == 429, "the one that has left counts again"
        await client.post(third, "1")
        await first.websocket.close()
        await until(lambda: not server.engine.sessions, "the end of all")
        for _ in range(2):
            await client.open()
    assert refused[TOO_MANY_SESSIONS] == before + 4


async def test_connect_that_is_refused_after_the_deadline() -> None:
    """A session whose connect() is refused after its time was up once does not stay."""
    application = Application("/slow")
    go_on = asyncio.Event()

    async def connect(connection: NamespaceConnection, request: ConnectRequest) -> None:
        await go_on.wait()
        raise ConnectRefused

    application.on_connect = connect
    async with (
        socket_client(application, connect_timeout_seconds=0.1) as (_, client),
        client.socket() as websocket,
    ):
        await websocket.receive()
        await websocket.send("40/slow,")
        await until(lambda: bool(application.requests), "the connect")
        session = application.connections[0]._owner
        assert isinstance(session, SocketSession)
        began = session.deadline
        await until(lambda: session.deadline > began, "the deadline to pass")
        go_on.set()
        assert str(await websocket.receive()).startswith("44/slow")
        await websocket.closed()


@pytest.mark.parametrize(("version", "has_application"), [(3, False), (3, True), (4, True)])
async def test_client_in_the_root_has_to_join(version: int, has_application: bool) -> None:
    """A client that is only in the root namespace, where old ones are unasked, has the time of any other; in a site it
    stays."""
    application = Application("/site", "/") if has_application else Application("/site")

    async def connect(connection: NamespaceConnection, request: ConnectRequest) -> None:
        connection.holds_session = request.namespace != "/"

    application.on_connect = connect
    async with (
        socket_client(application, version=version, connect_timeout_seconds=0.1) as (server, client),
        client.socket() as idle,
        client.socket() as joined,
    ):
        if version == 4:
            await idle.send("40")
        await joined.send("40/site,")
        await idle.closed()
        assert len(server.engine.sessions) == 1
        await joined.send("41/site,")
        await joined.closed()


async def test_namespace_that_holds_the_session_later() -> None:
    """An application may let a client in and bound its session until the client has shown who it is."""
    application = Application("/site")

    async def connect(connection: NamespaceConnection, request: ConnectRequest) -> None:
        connection.holds_session = False

    def event(connection: NamespaceConnection, name: str) -> None:
        connection.hold_session()

    application.on_connect = connect
    application.on_event = event
    async with (
        socket_client(application, connect_timeout_seconds=0.1) as (server, client),
        client.socket() as nameless,
        client.socket() as known,
    ):
        for websocket in (nameless, known):
            await websocket.receive()
            await websocket.send("40/site,")
            await websocket.receive()
        await known.send('42/site,["here"]')
        await nameless.closed()
        assert len(server.engine.sessions) == 1
        await known.send(f'42/site,["{"a" * 100_000}"]')
        await until(lambda: len(application.heard) == 2, "a message that is too large for a newcomer")


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


async def test_time_before_a_join() -> None:
    """A connect knows how long its session had been in no site; a second namespace of the session has no such time."""
    application = Application("/site", "/other")
    async with socket_client(application) as (server, client), client.socket() as websocket:
        await websocket.receive()
        (session,) = server.engine.sessions.values()
        await websocket.send("40/site,")
        await until(lambda: session.listener is not None and application.requests, "the connect")
        await websocket.receive()
        await websocket.send("40/other,")
        await until(lambda: len(application.requests) == 2, "the second connect")
    first, second = application.requests
    assert first.waited_ms is not None
    assert 0 <= first.waited_ms < 30_000
    assert second.waited_ms is None


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


async def test_sessions_keep_the_fields_that_are_read() -> None:
    """Of a handshake's query a session keeps what its applications read: a stranger sends one of 64 KB."""
    application = Application("/site")
    server = SocketServer(NamespaceRouter([application]), EngineSettings(), query_fields={"token": 10})
    async with (
        serving(server.asgi, interface="asgi3", access_log=False) as served,
        EngineClient(served.port, 4, "/") as client,
    ):
        query = f"EIO=4&transport=polling&token=secret&other={'x' * 10_000}"
        opened = await client.request("GET", query)
        assert opened.status == 200
        sid = json.loads(opened.body[1:])["sid"]
        await client.post(sid, "40/site,")
        await until(lambda: application.requests, "the connect")
        assert application.requests[0].handshake_query == {"token": "secret"}
        await server.shutdown()
