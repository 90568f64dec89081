"""The checks of the official socket.io-protocol suite (version 5), against the echo server made for it."""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator

import pytest

from tests.socketio.engine_client import EngineClient, Socket
from tests.transport.engineio_echo_server import BEATING, QUIET
from tests.transport.serving import serving
from tests.transport.socketio_echo_server import SocketEcho

BINARY = '{"_placeholder":true,"num":0},{"_placeholder":true,"num":1}'
ATTACHMENTS = (b"\x01\x02\x03", b"\x04\x05\x06")


@contextlib.asynccontextmanager
async def echo_socket(echo: SocketEcho | None = None) -> AsyncIterator[Socket]:
    """A WebSocket whose Engine.IO session is open; unless given a server, it has no pings and waits for a namespace."""
    async with (
        serving(echo or SocketEcho(QUIET, 30)) as served,
        EngineClient(served.port, path="/socket.io/") as client,
        client.socket() as websocket,
    ):
        await websocket.receive()
        yield websocket


@contextlib.asynccontextmanager
async def joined_socket(echo: SocketEcho | None = None) -> AsyncIterator[Socket]:
    """A WebSocket that is in the root namespace."""
    async with echo_socket(echo) as websocket:
        await websocket.send("40")
        await websocket.receive_but_pings()
        await websocket.receive_but_pings()
        yield websocket


@pytest.mark.parametrize(
    ("packet", "prefix", "event"),
    [
        ("40", "40", '42["auth",{}]'),
        ('40{"token":"123"}', "40", '42["auth",{"token":"123"}]'),
        ("40/custom,", "40/custom,", '42/custom,["auth",{}]'),
        ('40/custom,{"token":"abc"}', "40/custom,", '42/custom,["auth",{"token":"abc"}]'),
    ],
)
async def test_connect(packet: str, prefix: str, event: str) -> None:
    """A namespace is joined with or without a payload: first the CONNECT packet with a sid, then the first event."""
    async with echo_socket() as websocket:
        await websocket.send(packet)
        answer = await websocket.receive()
        assert isinstance(answer, str)
        assert answer.startswith(prefix)
        assert list(json.loads(answer.removeprefix(prefix))) == ["sid"]
        assert await websocket.receive() == event


async def test_unknown_namespace() -> None:
    """An unknown namespace is refused, the session stays."""
    async with echo_socket() as websocket:
        await websocket.send("40/random")
        assert await websocket.receive() == '44/random,{"message":"Invalid namespace"}'
        await websocket.send("40")
        assert str(await websocket.receive()).startswith("40{")


async def test_invalid_handshake_closes() -> None:
    """A packet that is none, instead of CONNECT, closes the session."""
    async with echo_socket() as websocket:
        await websocket.send("4abc")
        await websocket.closed()


async def test_no_namespace_closes() -> None:
    """A session that joins no namespace within a second is closed though its heart beats."""
    async with echo_socket(SocketEcho(BEATING)) as websocket:
        start = asyncio.get_running_loop().time()
        pings = 0
        with contextlib.suppress(AssertionError):
            while await websocket.receive() == "2":
                pings += 1
                await websocket.send("3")
        assert 1 <= pings <= 3
        assert asyncio.get_running_loop().time() - start > 0.9


async def test_disconnect_leaves_the_session() -> None:
    """Leaving the root namespace leaves the session open: the next ping comes."""
    async with joined_socket(SocketEcho(BEATING, 30)) as websocket:
        await websocket.send("41")
        assert await websocket.receive() == "2"


async def test_disconnect_of_one_namespace() -> None:
    """Leaving one namespace leaves the other."""
    async with joined_socket() as websocket:
        await websocket.send("40/custom")
        await websocket.receive_but_pings()
        await websocket.receive_but_pings()
        await websocket.send("41/custom")
        await websocket.send('42["message","message to main namespace"]')
        assert await websocket.receive_but_pings() == '42["message-back","message to main namespace"]'


@pytest.mark.parametrize(
    ("sent", "received"),
    [
        ('42["message",1,"2",{"3":[true]}]', '42["message-back",1,"2",{"3":[true]}]'),
        ('42456["message-with-ack",1,"2",{"3":[false]}]', '43456[1,"2",{"3":[false]}]'),
    ],
)
async def test_text_events(sent: str, received: str) -> None:
    """An event comes back, an event that asks for it is acknowledged."""
    async with joined_socket() as websocket:
        await websocket.send(sent)
        assert await websocket.receive_but_pings() == received


@pytest.mark.parametrize(
    ("sent", "received"),
    [
        (f'452-["message",{BINARY}]', f'452-["message-back",{BINARY}]'),
        (f'452-789["message-with-ack",{BINARY}]', f"462-789[{BINARY}]"),
    ],
)
async def test_binary_events(sent: str, received: str) -> None:
    """Events with attachments come back and are acknowledged with theirs."""
    async with joined_socket() as websocket:
        for message in (sent, *ATTACHMENTS):
            await websocket.send(message)
        assert [await websocket.receive_but_pings() for _ in range(3)] == [received, *ATTACHMENTS]


@pytest.mark.parametrize("packet", ["4abc", "42{}", '42abc["message-with-ack",1,"2",{"3":[false]}]'])
async def test_malformed_packet_closes(packet: str) -> None:
    """An unknown type, a payload that is no list and an id that is no number close the session."""
    async with joined_socket() as websocket:
        await websocket.send(packet)
        await websocket.closed()
