"""The protocol as an ASGI application under another server's WebSockets: no fast lane there, and no pings of ours."""

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
from tests.protocols.channels.conftest import SITE, ChannelsNode, NodeStarter
from tests.support.waiting import until
from tests.transport.serving import serving


class Other:
    """The server and how to reach it; lives for one test."""

    def __init__(self, node: ChannelsNode, port: int) -> None:
        self.node = node
        self.base = f"ws://127.0.0.1:{port}/channels/{SITE.name}"

    @contextlib.asynccontextmanager
    async def connected(self, query: str = "") -> AsyncIterator[ClientConnection]:
        """A subscriber."""
        async with connect(self.base + query, compression=None, proxy=None) as socket:
            yield socket


@contextlib.asynccontextmanager
async def other_server(start_node: NodeStarter) -> AsyncIterator[Other]:
    """Serve a node's channels."""
    node = await start_node()
    await node.create("news")
    application: Any = node.server
    async with serving(application, interface="asgi3", ws="websockets-sansio", access_log=False) as served:
        yield Other(node, served.port)
        await node.server.drain(0)
        await node.settled()


async def receive(socket: ClientConnection) -> dict[str, Any]:
    """The next message."""
    message: dict[str, Any] = json.loads(await socket.recv())
    return message


async def subscribe(socket: ClientConnection) -> dict[str, Any]:
    """Subscribe; what is answered."""
    action = {"messageType": "CLIENT_ACTION", "action": "SUBSCRIBE", "data": {"channel": "news"}}
    await socket.send(json.dumps(action))
    return await receive(socket)


async def test_subscribe_and_receive(start_node: NodeStarter) -> None:
    """The same messages as over the fast lane."""
    async with other_server(start_node) as other, other.connected() as socket:
        uuid = (await receive(socket))["data"]["uuid"]
        assert (await subscribe(socket))["data"] == {"uuid": uuid, "subscribedChannels": ["news"]}
        for text in ("x", "é" * 200, "y" * 70_000):
            await other.node.push("news", text)
            assert (await receive(socket))["data"]["pushMessage"] == {"channel": "news", "message": text}


async def test_many_actions_at_once(start_node: NodeStarter) -> None:
    """They are read one after the other, as they are served."""
    async with other_server(start_node) as other, other.connected() as socket:
        await receive(socket)
        action = '{"messageType":"CLIENT_ACTION","action":"%s","data":{"channel":"%s"}}'
        for number in range(100):
            await socket.send(action % ("SUBSCRIBE", "news"))
            await socket.send(action % ("UNSUBSCRIBE", str(number)))
        assert [(await receive(socket))["code"] for _ in range(200)] == [200, 404] * 100


async def test_resume_without_pings(start_node: NodeStarter) -> None:
    """What was got since the connection began comes again, and then what was missed."""
    async with other_server(start_node) as other:
        async with other.connected("?resumable=1") as socket:
            ack = (await receive(socket))["data"]
            await subscribe(socket)
            await other.node.push("news", "got")
            await receive(socket)
        await until(lambda: not other.node.board.subscribers, "the end")
        await other.node.settled()
        await other.node.push("news", "missed")
        async with other.connected(f"?resume={ack['uuid']}&secret={ack['secret']}") as socket:
            assert (await receive(socket))["data"] == {"uuid": ack["uuid"], "subscribedChannels": ["news"]}
            assert [(await receive(socket))["data"]["pushMessage"]["message"] for _ in range(2)] == ["got", "missed"]


@pytest.mark.parametrize("offered", [["a"], ["b", "a"]])
async def test_subprotocols(start_node: NodeStarter, offered: list[str]) -> None:
    """The first of those that a client offers, without which a browser would not connect."""
    subprotocols = [Subprotocol(one) for one in offered]
    async with other_server(start_node) as other, connect(other.base, subprotocols=subprotocols, proxy=None) as socket:
        assert socket.subprotocol == offered[0]
        assert (await receive(socket))["data"]["subscribedChannels"] == []


async def test_drain(start_node: NodeStarter) -> None:
    """Every subscriber is told to come back, and has gone when it returns."""
    async with other_server(start_node) as other, other.connected() as socket:
        await receive(socket)
        await other.node.server.drain(0.2)
        assert not other.node.board.subscribers
        with pytest.raises(ConnectionClosed) as end:
            await receive(socket)
        assert end.value.rcvd
        assert (end.value.rcvd.code, end.value.rcvd.reason) == (1012, "the server restarts")


@pytest.mark.parametrize("path", ["/nothing", "x"])
async def test_what_is_not_there(start_node: NodeStarter, path: str) -> None:
    """Refused before it opens; under such a server that is always 403."""
    async with other_server(start_node) as other:
        with pytest.raises(InvalidStatus) as refusal:
            async with other.connected(path):
                pass
        assert refusal.value.response.status_code == 403


async def test_limits(start_node: NodeStarter, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whom a limit meets is told why and closed; without Redis nobody who is counted gets in."""
    async with other_server(start_node) as other:
        limits = other.node.server._limits

        async def reach(*arguments: object) -> None:
            raise LimitReached("Too many connections", "connections")

        async def fail(*arguments: object) -> None:
            raise StoreUnavailable

        monkeypatch.setattr(limits, "connect", reach)
        async with other.connected() as socket:
            error = await receive(socket)
            assert (error["code"], error["data"]["errorDetails"]) == (429, "Too many connections")
            with pytest.raises(ConnectionClosed) as end:
                await receive(socket)
            assert end.value.rcvd
            assert (end.value.rcvd.code, end.value.rcvd.reason) == (1013, "limit reached")
        monkeypatch.setattr(limits, "connect", fail)
        with pytest.raises(InvalidStatus):
            async with other.connected():
                pass


async def test_an_action_that_fails_for_no_known_reason(
    start_node: NodeStarter, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A fault of ours ends the one connection with 1011, and the others go on."""
    async with other_server(start_node) as other, other.connected() as one, other.connected() as two:
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
