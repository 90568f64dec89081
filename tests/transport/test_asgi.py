"""Applications that know ASGI alone, over our protocol class."""

import asyncio
import logging

import pytest
from starlette.applications import Starlette
from starlette.routing import WebSocketRoute
from starlette.websockets import WebSocket, WebSocketDisconnect
from uvicorn.protocols.utils import ClientDisconnected
from websockets.asyncio.client import connect

from tests.support.waiting import until
from tests.transport.serving import BINARY, CLOSE, TEXT, FastLane, Message, Receive, Send, close_payload, echo, serving


async def test_echo_with_a_real_client() -> None:
    """A real client's text, binary and fragmented messages come back, and both sides close with 1000."""
    async with serving(echo) as served, connect(f"ws://127.0.0.1:{served.port}/") as client:
        for message in ("text", "ünïcode 🎉", b"\x00\xff", "", "x" * 200_000):
            await client.send(message)
            assert await client.recv() == message
        await client.send(["in ", "three ", "pieces"])
        assert await client.recv() == "in three pieces"
        await client.ping()
        await client.close()
        assert client.close_code == 1000


async def test_starlette_unchanged() -> None:
    """Starlette's WebSocket works: subprotocol, headers, path, close with code and reason."""

    async def endpoint(websocket: WebSocket) -> None:
        await websocket.accept(subprotocol=websocket.scope["subprotocols"][1], headers=[(b"x-room", b"a")])
        await websocket.send_json({"path": websocket.url.path, "query": websocket.url.query})
        await websocket.close(4001, "done")

    application = Starlette(routes=[WebSocketRoute("/rooms", endpoint)])
    async with serving(application) as served:
        url = f"ws://127.0.0.1:{served.port}/rooms?a=%20b"
        async with connect(url, subprotocols=["one", "two"]) as client:  # type: ignore[list-item]
            assert client.subprotocol == "two"
            assert client.response is not None
            assert client.response.headers["x-room"] == "a"
            assert await client.recv() == '{"path":"/rooms","query":"a=%20b"}'
            await client.wait_closed()
            assert (client.close_code, client.close_reason) == (4001, "done")


async def test_starlette_refuses_an_unknown_path() -> None:
    """A close before accept is a 403."""
    async with serving(Starlette()) as served:
        peer = await served.socket()
        peer.request("/nowhere")
        assert (await peer.response())[0] == 403
        assert await peer.end() == b""


async def test_a_response_of_its_own() -> None:
    """The extension websocket.http.response answers with any status, headers and a body in pieces."""

    async def application(scope: Message, receive: Receive, send: Send) -> None:
        assert "websocket.http.response" in scope["extensions"]
        await receive()
        await send({"type": "websocket.http.response.start", "status": 401, "headers": [(b"x-why", b"token")]})
        await send({"type": "websocket.http.response.body", "body": b"who ", "more_body": True})
        await send({"type": "websocket.http.response.body", "body": b"are you"})
        assert (await receive())["type"] == "websocket.disconnect"

    async with serving(application) as served:
        peer = await served.socket()
        peer.request()
        status, headers = await peer.response()
        assert (status, headers["x-why"], headers["content-length"]) == (401, "token", "11")
        assert await peer.end() == b"who are you"


@pytest.mark.parametrize("raises", [True, False])
async def test_an_application_that_ends_before_accept(raises: bool, caplog: pytest.LogCaptureFixture) -> None:
    """Raising or returning before an answer is a 500 and a log line."""

    async def application(_scope: Message, _receive: Receive, _send: Send) -> None:
        if raises:
            raise ZeroDivisionError

    async with serving(application) as served:
        peer = await served.socket()
        peer.request()
        assert (await peer.response())[0] == 500
        assert await peer.end() == b"Internal Server Error"
        assert ("ZeroDivisionError" if raises else "without completing handshake") in caplog.text


@pytest.mark.parametrize(("raises", "code"), [(True, 1011), (False, 1000)])
async def test_an_application_that_ends_after_accept(raises: bool, code: int) -> None:
    """Raising after accept closes with 1011, returning with 1000."""

    async def application(_scope: Message, _receive: Receive, send: Send) -> None:
        await send({"type": "websocket.accept"})
        if raises:
            raise ZeroDivisionError

    async with serving(application) as served:
        peer = await served.peer()
        assert await peer.frame() == (CLOSE, close_payload(code))


async def test_the_end_is_told_again_and_again() -> None:
    """After the peer's close receive gives code and reason, as often as it is asked, and send raises OSError."""
    seen = []

    async def application(_scope: Message, receive: Receive, send: Send) -> None:
        await receive()
        await send({"type": "websocket.accept"})
        seen.extend([await receive(), await receive()])
        with pytest.raises(ClientDisconnected):
            await send({"type": "websocket.send", "text": "nobody"})
        seen.append({"type": "raised"})

    async with serving(application) as served:
        peer = await served.peer()
        peer.send(CLOSE, close_payload(4000, "bye"))
        await until(lambda: len(seen) == 3, "the application's end")
        assert seen[0] == seen[1] == {"type": "websocket.disconnect", "code": 4000, "reason": "bye"}


async def test_starlette_sees_the_peer_vanish() -> None:
    """A lost socket is a WebSocketDisconnect with 1006."""
    codes = []

    async def endpoint(websocket: WebSocket) -> None:
        await websocket.accept()
        try:
            await websocket.receive_text()
        except WebSocketDisconnect as disconnect:
            codes.append(disconnect.code)

    async with serving(Starlette(routes=[WebSocketRoute("/", endpoint)])) as served:
        peer = await served.peer()
        peer.close()
        await until(lambda: codes == [1006], "the disconnect")


async def test_the_peer_leaves_before_the_answer() -> None:
    """An application that is still deciding learns that its peer waits no more."""
    seen = []

    async def application(_scope: Message, receive: Receive, send: Send) -> None:
        seen.extend([await receive(), await receive()])
        with pytest.raises(ClientDisconnected):
            await send({"type": "websocket.accept"})
        seen.append({})

    async with serving(application) as served:
        peer = await served.socket()
        peer.request()
        await until(lambda: bool(served.unanswered), "the request")
        peer.close()
        await until(lambda: len(seen) == 3, "the application's end")
        assert seen[1] == {"type": "websocket.disconnect", "code": 1006, "reason": ""}


@pytest.mark.parametrize("message", [{"type": "websocket.receive"}, {"type": "http.response.start"}])
@pytest.mark.parametrize("accepts", [True, False])
async def test_messages_out_of_turn(message: Message, accepts: bool, caplog: pytest.LogCaptureFixture) -> None:
    """A message that does not fit the state raises an error that names the expected one."""

    async def application(_scope: Message, _receive: Receive, send: Send) -> None:
        if accepts:
            await send({"type": "websocket.accept"})
        await send(message)

    async with serving(application) as served:
        peer = await served.socket()
        peer.request()
        assert (await peer.response())[0] == (101 if accepts else 500)
        await until(lambda: f"but got '{message['type']}'" in caplog.text, "the log line")


async def test_a_slow_peer_holds_the_application_up() -> None:
    """send waits for a peer that does not read, so an application fills no memory."""
    #: How many messages each peer was sent.
    sent: list[int] = []

    async def application(_scope: Message, _receive: Receive, send: Send) -> None:
        number = len(sent)
        sent.append(0)
        await send({"type": "websocket.accept"})
        while sent[number] < 1000:
            await send({"type": "websocket.send", "bytes": b"x" * 100_000})
            sent[number] += 1

    async with serving(application) as served:
        peer = await served.peer()
        peer.pause_reading()
        connection = next(iter(served.connections))
        await until(lambda: bool(connection.is_slow), "a full socket")
        before = sent[0]
        # Another peer is served meanwhile, up to the same point.
        other = await served.peer()
        other.pause_reading()
        await until(lambda: all(connection.is_slow for connection in served.connections), "its full socket")
        assert sent[0] == before < 1000
        assert connection.buffered_bytes < 400_000
        peer.resume_reading()
        for _ in range(1000):
            assert (await peer.frame())[0] == BINARY
        assert await peer.frame() == (CLOSE, close_payload(1000))


async def test_a_slow_application_holds_the_peer_up() -> None:
    """The socket is not read while many messages wait for the application, and no message is lost."""
    may_read = asyncio.Event()
    received = []

    async def application(_scope: Message, receive: Receive, send: Send) -> None:
        await receive()
        await send({"type": "websocket.accept"})
        await may_read.wait()
        for _ in range(3000):
            received.append((await receive())["text"])

    async with serving(application) as served:
        peer = await served.peer()
        for number in range(3000):
            peer.send(TEXT, b"%05d" % number + b"x" * 10_000)
        connection = next(iter(served.connections))
        await until(lambda: not connection._transport.is_reading(), "reading to stop")
        may_read.set()
        await until(lambda: len(received) == 3000, "all messages")
        assert [int(text[:5]) for text in received] == list(range(3000))


async def test_a_cancelled_application_drops_its_socket() -> None:
    """When uvicorn cancels an application that has not ended in time, the socket goes too."""
    async with serving(echo) as served:
        peer = await served.peer()
        for task in list(served.server.server_state.tasks):
            task.cancel()
        assert await peer.end() == b""


async def test_the_fast_lane_outlives_its_call(caplog: pytest.LogCaptureFixture) -> None:
    """An application that accepts on the fast lane and returns leaves an open connection and no complaint."""
    application = FastLane()
    with caplog.at_level(logging.WARNING):
        async with serving(application) as served:
            peer = await served.peer()
            peer.send(TEXT, b"alive")
            await application.recorders[0].until_received(1)
            application.recorders[0].connection.write_text(b"indeed")
            assert await peer.frame() == (TEXT, b"indeed")
    assert not caplog.records
