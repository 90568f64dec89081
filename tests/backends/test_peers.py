"""Requests passed on to another node: whole, to the byte, given up with their client, and never answered twice."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, MutableMapping
from pathlib import Path
from typing import Any

import pytest

from app.backends import peers as peers_module
from app.backends.peers import HttpPeers
from app.socketio.ports import Place
from app.transport.peer_socket import PeerSocket
from tests.support.waiting import until
from tests.transport.serving import Receive, Send, Served, serving

Message = MutableMapping[str, Any]


class Owner:
    """The other node's application: keeps requests, and gives the test's answer when its gate opens. For one test."""

    def __init__(self) -> None:
        """Answer 200 at once."""
        self.scopes: list[Message] = []
        self.bodies: list[bytes] = []
        self.headers = [(b"content-length", b"4"), (b"X-Own", b"1"), (b"set-cookie", b"a=1"), (b"set-cookie", b"b=2")]
        self.body = b"own\xff"
        self.is_early = False
        self.gate = asyncio.Event()
        self.gate.set()
        self.lost = 0
        self.place = Place()

    async def __call__(self, scope: Message, receive: Receive, send: Send) -> None:
        """Serve a request."""
        self.scopes.append(scope)
        body, has_more = b"", not self.is_early
        while has_more:
            event = await receive()
            if event["type"] == "http.disconnect":
                self.lost += 1
                return
            body += event.get("body", b"")
            has_more = event.get("more_body", False)
        self.bodies.append(body)
        gate, left = asyncio.create_task(self.gate.wait()), asyncio.create_task(_left(receive))
        await asyncio.wait((gate, left), return_when=asyncio.FIRST_COMPLETED)
        self.lost += left.done()
        for task in (gate, left):
            task.cancel()
        if self.gate.is_set():
            await send({"type": "http.response.start", "status": 413, "headers": self.headers})
            await send({"type": "http.response.body", "body": self.body})


async def _left(receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass


class Client:
    """One request as ASGI sees it; lives for one test."""

    def __init__(self, method: str = "GET", *parts: bytes, headers: list[tuple[bytes, bytes]] | None = None) -> None:
        """`parts` of the body are there at once; the client stays until `leave`."""
        self.scope: Message = {
            "type": "http",
            "method": method,
            "raw_path": b"/socket.io/",
            "query_string": b"a=%2F+b&sid=x",
            "headers": [(b"host", b"push.example.com"), *(headers or [])],
        }
        self.sent: list[Message] = []
        self._parts = list(parts) or [b""]
        self._gone = asyncio.Event()

    def leave(self) -> None:
        """Give the request up."""
        self._gone.set()

    async def receive(self) -> Message:
        """From the application."""
        if self._parts:
            return {"type": "http.request", "body": self._parts.pop(0), "more_body": bool(self._parts)}
        await self._gone.wait()
        return {"type": "http.disconnect"}

    async def send(self, event: Message) -> None:
        """From the application."""
        self.sent.append(event)


@pytest.fixture
async def owner(tmp_path: Path) -> AsyncIterator[Owner]:
    """A node on a unix socket and on a port."""
    application = Owner()
    async with serving(application, server_header=False, date_header=False) as served:
        socket = PeerSocket(str(tmp_path / "s"))
        await socket.start(served.server.config, served.server.server_state, {})
        application.place = Place(socket.path, f"http://127.0.0.1:{served.port}/")
        yield application
        socket.close()
        _end(served)


def _end(served: Served) -> None:
    """Close the connections that are kept alive."""
    for connection in list(served.connections):
        connection.transport.close()


@pytest.fixture
async def peers() -> AsyncIterator[HttpPeers]:
    """The peers under test."""
    way = HttpPeers(idle_seconds=5)
    yield way
    await way.aclose()


async def ask(peers: HttpPeers, place: Place, client: Client) -> bool:
    """Pass the request on."""
    return await peers.pass_on(place, client.scope, client.receive, client.send)


@pytest.mark.parametrize("by", ["socket", "url"])
async def test_request_and_answer_are_the_same_there_and_here(owner: Owner, peers: HttpPeers, by: str) -> None:
    """Method, target, headers and body arrive unchanged, and so do the answer's status, headers in order, and body."""
    place = Place(socket=owner.place.socket) if by == "socket" else Place(url=owner.place.url)
    given = [(b"content-type", b"text/plain"), (b"x-twice", b"1"), (b"x-twice", b"2"), (b"content-length", b"3")]
    of_connection = [(b"connection", b"keep-alive"), (b"expect", b"100-continue")]
    client = Client("POST", b"abc", headers=[*given, *of_connection])
    assert await ask(peers, place, client)
    start, end = client.sent
    assert start["status"] == 413
    assert [(name.lower(), value) for name, value in start["headers"]] == [(n.lower(), v) for n, v in owner.headers]
    assert (end["body"], end.get("more_body", False)) == (b"own\xff", False)
    [scope] = owner.scopes
    assert (scope["method"], scope["raw_path"], scope["query_string"]) == ("POST", b"/socket.io/", b"a=%2F+b&sid=x")
    assert scope["headers"] == [(b"host", b"push.example.com"), *given]
    assert owner.bodies == [b"abc"]


async def test_nothing_is_added(owner: Owner, peers: HttpPeers) -> None:
    """A request without headers and body arrives without. Of the target only bytes that no URL may hold are encoded."""
    client = Client()
    client.scope["query_string"] = b"sid=\xff%zz"
    assert await ask(peers, owner.place, client)
    [scope] = owner.scopes
    assert scope["headers"] == [(b"host", b"push.example.com")]
    assert scope["query_string"] == b"sid=%FF%zz"


@pytest.mark.parametrize("length", [None, 600_000])
async def test_long_body_is_passed_in_parts(owner: Owner, peers: HttpPeers, length: int | None) -> None:
    """A body that comes in parts goes on in parts, with its length or without."""
    headers = [(b"content-length", str(length).encode())] if length else [(b"transfer-encoding", b"chunked")]
    assert await ask(peers, owner.place, Client("POST", *[b"x" * 200_000] * 3, headers=headers))
    assert owner.bodies == [b"x" * 600_000]


async def test_answer_before_the_body(owner: Owner, peers: HttpPeers) -> None:
    """The answer of an owner that has not read the whole body is passed on, without waiting for the rest."""
    owner.is_early = True
    headers = [(b"content-length", b"99999999")]
    client = Client("POST", b"x", b"y", headers=headers)
    client._parts.append(b"z")
    assert await ask(peers, owner.place, client)
    assert client.sent[0]["status"] == 413


async def test_client_that_leaves(owner: Owner, peers: HttpPeers) -> None:
    """When the client gives up its poll, the owner sees the request end; nothing is sent."""
    owner.gate.clear()
    client = Client()
    asked = asyncio.create_task(ask(peers, owner.place, client))
    await until(lambda: owner.bodies, "the request to arrive")
    client.leave()
    assert await asked
    await until(lambda: owner.lost == 1, "the owner to see it")
    assert client.sent == []


async def test_client_that_leaves_in_its_body(owner: Owner, peers: HttpPeers) -> None:
    """When the client leaves in the middle of its body, the owner sees the request break off."""
    client = Client("POST", b"x" * 10, headers=[(b"content-length", b"20")])
    client.leave()
    receive = client.receive

    async def receive_part() -> Message:
        event = await receive()
        return {**event, "more_body": True} if event["type"] == "http.request" else event

    assert await peers.pass_on(owner.place, client.scope, receive_part, client.send)
    assert client.sent == []
    await until(lambda: owner.lost == 1 or not owner.scopes, "the owner to see it")
    assert owner.bodies == []


async def test_client_that_was_gone(owner: Owner, peers: HttpPeers) -> None:
    """A request whose client has left already is not passed on."""
    client = Client()
    client.leave()
    client._parts = []
    assert await ask(peers, owner.place, client)
    assert owner.scopes == []


async def test_nobody_answers(owner: Owner, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without a listener, or without an answer in time, nothing is sent."""
    way = HttpPeers(idle_seconds=0.1)
    owner.gate.clear()
    for place in (Place(socket=str(tmp_path / "none")), Place(url="http://127.0.0.1:9"), owner.place):
        client = Client()
        assert not await ask(way, place, client)
        assert client.sent == []
    await way.aclose()


async def test_owner_that_breaks_off(peers: HttpPeers) -> None:
    """An answer that breaks off is no answer."""

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nhalf")
        writer.close()

    server = await asyncio.start_server(answer, "127.0.0.1", 0)
    client = Client()
    url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
    assert not await ask(peers, Place(url=url), client)
    assert client.sent == []
    server.close()


async def test_end(owner: Owner, peers: HttpPeers) -> None:
    """When this node ends, polls that wait at another node get no answer from there, and no request is begun."""
    owner.gate.clear()
    asked = asyncio.create_task(ask(peers, owner.place, Client()))
    await until(lambda: owner.bodies, "the request to arrive")
    await peers.aclose()
    assert not await asked
    assert not await ask(peers, owner.place, Client())
    assert await peers.fetch(str(owner.place.socket), "/", 1) is None
    assert len(owner.scopes) == 1


@pytest.mark.parametrize("by", ["socket", "url"])
async def test_tell(owner: Owner, peers: HttpPeers, by: str) -> None:
    """A request of this node's own arrives with its headers. Without a listener nothing happens."""
    scope = {**Client("DELETE").scope, "headers": [(b"x-own", b"1")]}
    await peers.tell(Place(socket=owner.place.socket) if by == "socket" else Place(url=owner.place.url), scope)
    [told] = owner.scopes
    assert (told["method"], told["query_string"], owner.bodies) == ("DELETE", b"a=%2F+b&sid=x", [b""])
    assert (b"x-own", b"1") in told["headers"]
    await peers.tell(Place(socket="/nowhere"), scope)


async def test_fetch(owner: Owner, peers: HttpPeers) -> None:
    """The body of another process's answer with 200; None for every other."""
    path = str(owner.place.socket)
    assert await peers.fetch(path, "/metrics/own", 1) is None
    assert owner.scopes[0]["path"] == "/metrics/own"
    owner.gate.clear()
    assert await peers.fetch(path, "/", 0.05) is None
    assert await peers.fetch(path + "x", "/", 1) is None


async def test_pools_are_bounded(owner: Owner, peers: HttpPeers, monkeypatch: pytest.MonkeyPatch) -> None:
    """Idle connections to past nodes are closed; a connection that waits for an answer stays."""
    monkeypatch.setattr(peers_module, "_MAX_POOLS", 1)
    owner.gate.clear()
    client = Client()
    asked = asyncio.create_task(ask(peers, owner.place, client))
    await until(lambda: owner.bodies, "the request to arrive")
    for number in range(3):
        assert not await ask(peers, Place(socket=f"/nowhere/{number}"), Client())
    assert set(peers._pools) == {owner.place.socket, "/nowhere/2"}
    owner.gate.set()
    assert await asked
    assert client.sent[0]["status"] == 413
