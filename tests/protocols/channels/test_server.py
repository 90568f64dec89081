"""The protocol as the only application of Recado's own server, with subscribers of another library (`websockets`)."""

from __future__ import annotations

import contextlib
import json
from collections.abc import AsyncIterator
from typing import Any

import pytest
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed, InvalidStatus
from websockets.typing import Subprotocol

from app.errors import LimitReached, StoreUnavailable
from app.protocols.channels.door import Door
from app.protocols.channels.server import MAX_ACTION_BYTES
from tests.protocols.channels.conftest import SITE, ChannelsNode, NodeStarter
from tests.transport.serving import serving


class ServedChannels:
    """The server and its address. Lives for one test."""

    def __init__(self, node: ChannelsNode, port: int) -> None:
        self.node = node
        self.base = f"ws://127.0.0.1:{port}/channels/{SITE.name}"

    @contextlib.asynccontextmanager
    async def connected(self, query: str = "") -> AsyncIterator[ClientConnection]:
        """A connected subscriber."""
        async with connect(self.base + query, compression=None, proxy=None) as socket:
            yield socket


@contextlib.asynccontextmanager
async def served_channels(start_node: NodeStarter) -> AsyncIterator[ServedChannels]:
    """Serve a node's channels."""
    node = await start_node()
    await node.create("news")
    application: Any = node.server
    async with serving(application, interface="asgi3", access_log=False) as server:
        yield ServedChannels(node, server.port)
        await node.server.drain(0)
        await node.settled()


async def receive(socket: ClientConnection) -> dict[str, Any]:
    """The next message."""
    message: dict[str, Any] = json.loads(await socket.recv())
    return message


async def subscribe(socket: ClientConnection) -> dict[str, Any]:
    """Subscribe; return the answer."""
    action = {"messageType": "CLIENT_ACTION", "action": "SUBSCRIBE", "data": {"channel": "news"}}
    await socket.send(json.dumps(action))
    return await receive(socket)


async def test_subscribe_and_receive(start_node: NodeStarter) -> None:
    """A subscriber gets the messages of the contract, also long ones and ones outside ASCII."""
    async with served_channels(start_node) as served, served.connected() as socket:
        uuid = (await receive(socket))["data"]["uuid"]
        assert (await subscribe(socket))["data"] == {"uuid": uuid, "subscribedChannels": ["news"]}
        for text in ("x", "é" * 200, "y" * 70_000):
            await served.node.push("news", text)
            assert (await receive(socket))["data"]["pushMessage"] == {"channel": "news", "message": text}


async def test_many_actions_at_once(start_node: NodeStarter) -> None:
    """Actions are read one after the other, at the pace at which they are served."""
    async with served_channels(start_node) as served, served.connected() as socket:
        await receive(socket)
        action = '{"messageType":"CLIENT_ACTION","action":"%s","data":{"channel":"%s"}}'
        for number in range(100):
            await socket.send(action % ("SUBSCRIBE", "news"))
            await socket.send(action % ("UNSUBSCRIBE", str(number)))
        assert [(await receive(socket))["code"] for _ in range(200)] == [200, 404] * 100


@pytest.mark.parametrize("offered", [["a"], ["b", "a"]])
async def test_subprotocols(start_node: NodeStarter, offered: list[str]) -> None:
    """The server accepts the first subprotocol that a client offers; without an answer a browser would not connect."""
    subprotocols = [Subprotocol(one) for one in offered]
    async with (
        served_channels(start_node) as served,
        connect(served.base, subprotocols=subprotocols, proxy=None) as socket,
    ):
        assert socket.subprotocol == offered[0]
        assert (await receive(socket))["data"]["subscribedChannels"] == []


async def test_long_action(start_node: NodeStarter) -> None:
    """A subscriber needs no credentials, and its message names one channel: a long one ends the connection."""
    async with served_channels(start_node) as server, server.connected() as socket:
        await receive(socket)
        await socket.send("x" * MAX_ACTION_BYTES)
        assert (await receive(socket))["code"] == 400
        await socket.send("x" * (MAX_ACTION_BYTES + 1))
        with pytest.raises(ConnectionClosed) as closed:
            await receive(socket)
        assert closed.value.rcvd
        assert closed.value.rcvd.code == 1009


async def test_drain(start_node: NodeStarter) -> None:
    """Every subscriber is told to reconnect, and has gone when `drain` returns."""
    async with served_channels(start_node) as served, served.connected() as socket:
        await receive(socket)
        await served.node.server.drain(0.2)
        assert not served.node.board.subscribers
        with pytest.raises(ConnectionClosed) as end:
            await receive(socket)
        assert end.value.rcvd
        assert (end.value.rcvd.code, end.value.rcvd.reason) == (1012, "the server restarts")


@pytest.mark.parametrize("path", ["/nothing", "x"])
async def test_what_is_not_there(start_node: NodeStarter, path: str) -> None:
    """A WebSocket to an unknown site or path is refused with 404 before it opens."""
    async with served_channels(start_node) as served:
        with pytest.raises(InvalidStatus) as refusal:
            async with served.connected(path):
                pass
        assert refusal.value.response.status_code == 404


async def test_limits(start_node: NodeStarter, monkeypatch: pytest.MonkeyPatch) -> None:
    """A subscriber over a limit gets the reason and is closed; without Redis a counted subscriber is refused."""
    async with served_channels(start_node) as served:
        limits = served.node.server._limits

        async def reach(*arguments: object) -> None:
            raise LimitReached("Too many connections", "connections")

        async def fail(*arguments: object) -> None:
            raise StoreUnavailable

        monkeypatch.setattr(limits, "connect", reach)
        async with served.connected() as socket:
            error = await receive(socket)
            assert (error["code"], error["data"]["errorDetails"]) == (429, "Too many connections")
            with pytest.raises(ConnectionClosed) as end:
                await receive(socket)
            assert end.value.rcvd
            assert (end.value.rcvd.code, end.value.rcvd.reason) == (1013, "limit reached")
        monkeypatch.setattr(limits, "connect", fail)
        with pytest.raises(InvalidStatus) as refusal:
            async with served.connected():
                pass
        assert (refusal.value.response.status_code, refusal.value.response.headers["retry-after"]) == (503, "1")


async def test_an_action_that_fails_for_no_known_reason(
    start_node: NodeStarter, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An internal error closes its own connection with 1011, and other connections go on."""
    async with served_channels(start_node) as served, served.connected() as one, served.connected() as two:
        for socket in (one, two):
            await receive(socket)

        async def fail(*arguments: object) -> None:
            raise ZeroDivisionError

        with monkeypatch.context() as patch:
            patch.setattr(Door, "_subscribe", fail)
            with pytest.raises(ConnectionClosed) as end:
                await subscribe(one)
            assert end.value.rcvd
            assert end.value.rcvd.code == 1011
        assert (await subscribe(two))["code"] == 200
