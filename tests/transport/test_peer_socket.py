"""The unix socket of a node: for its own user alone, marked, and gone with the node."""

from __future__ import annotations

import asyncio
import stat
from pathlib import Path

import pytest

from app.transport.peer_socket import PASSED_ON, PeerSocket
from tests.transport.serving import Message, Receive, Send, serving


class Remembering:
    """An application that remembers the scopes it was called with; lives for one test."""

    def __init__(self) -> None:
        """None yet."""
        self.scopes: list[Message] = []

    async def __call__(self, scope: Message, _receive: Receive, send: Send) -> None:
        """Answer, or refuse the WebSocket."""
        self.scopes.append(scope)
        if scope["type"] == "websocket":
            await send({"type": "websocket.close"})
            return
        await send({"type": "http.response.start", "status": 204, "headers": []})
        await send({"type": "http.response.body"})


async def ask(path: str, head: str) -> bytes:
    """The first line of the answer."""
    reader, writer = await asyncio.open_unix_connection(path)
    writer.write(head.encode() + b"\r\n\r\n")
    line = await reader.readline()
    writer.close()
    await writer.wait_closed()
    return line


async def test_requests_that_come_in_are_marked(tmp_path: Path) -> None:
    """HTTP and WebSocket requests reach the application with the mark; requests of the port do not have it."""
    application = Remembering()
    async with serving(application) as served:
        socket = PeerSocket(str(tmp_path / "node.sock"))
        await socket.start(served.server.config, served.server.server_state, {"own": 1})
        upgrade = "Connection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13"
        key = "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ=="
        assert await ask(socket.path, "GET / HTTP/1.1\r\nHost: a") == b"HTTP/1.1 204 No Content\r\n"
        assert b" 403 " in await ask(socket.path, f"GET / HTTP/1.1\r\nHost: a\r\n{upgrade}\r\n{key}")
        assert [scope["state"] for scope in application.scopes] == [{"own": 1, PASSED_ON: True}] * 2
        assert [scope["client"] for scope in application.scopes] == [None, None]
        peer = await served.socket()
        peer.writer.write(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n")
        await peer.response()
        assert application.scopes[-1]["state"] == {}
        socket.close()


async def test_file_is_the_users_alone_and_goes(tmp_path: Path) -> None:
    """Only this user may connect; a file that a killed node has left is replaced; the end removes it."""
    path = tmp_path / "node.sock"
    path.touch()
    async with serving(Remembering()) as served:
        socket = PeerSocket(str(path))
        await socket.start(served.server.config, served.server.server_state, {})
        assert stat.S_IMODE(path.stat().st_mode) == 0o600
        assert path.is_socket()
        socket.close()
        assert not path.exists()
        socket.close()


async def test_no_socket_can_be_made(tmp_path: Path) -> None:
    """A path where no file can be made is an OSError; a socket that was never started can be closed."""
    async with serving(Remembering()) as served:
        socket = PeerSocket(str(tmp_path / "none" / "node.sock"))
        with pytest.raises(OSError, match="No such file"):
            await socket.start(served.server.config, served.server.server_state, {})
        socket.close()
