"""The way from an HTTP connection to a WebSocket: which requests are upgrades, and calls without a task."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from typing import Any

import pytest

from app.transport.connection import WebSocketConnection
from app.transport.listener import EXTENSION
from tests.support.waiting import until
from tests.transport.serving import TEXT, Message, Receive, Recorder, Send, client_frame, serving

KEY = "Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n"
ACCEPTED = b"HTTP/1.1 101 Switching Protocols\r\n"


class AtOnce:
    """An application that says that it answers WebSockets at once, and does on each connection as it is told."""

    def __init__(self, act: Callable[[WebSocketConnection, Recorder], None]) -> None:
        self.tasks: list[asyncio.Task[Any] | None] = []
        self.recorders: list[Recorder] = []
        self.scopes: list[Message] = []
        self._act = act

    def serves_at_once(self, path: str, query: bytes) -> bool:
        """All but one path."""
        return path != "/later"

    async def __call__(self, scope: Message, _receive: Receive, send: Send) -> None:
        """Serves a request or a WebSocket."""
        self.scopes.append(scope)
        self.tasks.append(asyncio.current_task())
        if scope["type"] == "http":
            await send({"type": "http.response.start", "status": 204, "headers": []})
            await send({"type": "http.response.body"})
            return
        recorder = Recorder()
        self.recorders.append(recorder)
        recorder.connection = scope["extensions"][EXTENSION]["connection"]
        self._act(recorder.connection, recorder)


def accept(connection: WebSocketConnection, recorder: Recorder) -> None:
    """Accepts, and greets in the same turn."""
    connection.accept(recorder, max_message_bytes=1_000, max_outbox_bytes=1_000)
    connection.write_text(b"hello")


async def test_a_call_at_once_has_no_task() -> None:
    """The application is called within the read of the request; one that may wait gets a task, and both are served."""
    application = AtOnce(accept)
    async with serving(application) as served:
        for path in ("/", "/later"):
            peer = await served.peer(path)
            assert await peer.frame() == (TEXT, b"hello")
    assert [task is None for task in application.tasks] == [True, False]
    assert [scope.get("server", ("",))[0] for scope in application.scopes] == ["", "127.0.0.1"]
    assert application.scopes[0]["client"][0] == "127.0.0.1"


async def test_the_answer_and_the_first_frames_are_one_write(monkeypatch: pytest.MonkeyPatch) -> None:
    """The 101 leaves with the frames of its turn, in front of them."""
    writes: list[bytes] = []
    flush = WebSocketConnection.flush

    def noting(connection: WebSocketConnection) -> None:
        collected = connection._collected
        writes.append(collected if isinstance(collected, bytes) else b"".join(collected or ()))
        flush(connection)

    monkeypatch.setattr(WebSocketConnection, "flush", noting)
    async with serving(AtOnce(accept)) as served:
        peer = await served.peer()
        assert await peer.frame() == (TEXT, b"hello")
    assert writes[0].startswith(ACCEPTED)
    assert writes[0].endswith(b"\r\n\r\n\x81\x05hello")


async def test_frames_behind_the_request_come_after_the_greeting() -> None:
    """A client that does not wait for the 101 loses nothing: its frames reach the listener in a later turn."""
    application = AtOnce(accept)
    async with serving(application) as served:
        await served.peer(behind=client_frame(TEXT, b"early") + client_frame(TEXT, b"too"))
        assert await application.recorders[0].until_received(2) == [b"early", b"too"]


def fail(connection: WebSocketConnection, recorder: Recorder) -> None:
    """Raises before an answer."""
    raise ValueError("no")


def return_without_answer(connection: WebSocketConnection, recorder: Recorder) -> None:
    """Returns before an answer."""


@pytest.mark.parametrize(
    ("act", "told"),
    [
        (fail, "Exception in ASGI application\n"),
        (return_without_answer, "ASGI callable returned without completing handshake."),
    ],
)
async def test_a_call_that_fails_at_once(
    act: Callable[[WebSocketConnection, Recorder], None], told: str, caplog: pytest.LogCaptureFixture
) -> None:
    """The client gets a 500, and the log the reason."""
    async with serving(AtOnce(act)) as served:
        peer = await served.socket()
        peer.request("/")
        status, _ = await peer.response()
    assert status == 500
    assert [record.getMessage() for record in caplog.records if record.levelno == logging.ERROR] == [told]


async def test_a_call_that_waits_though_it_said_not(caplog: pytest.LogCaptureFixture) -> None:
    """It is ended, and the client gets a 500: nothing would go on with it."""
    is_ended = False

    class Waiting(AtOnce):
        async def __call__(self, _scope: Message, receive: Receive, _send: Send) -> None:
            nonlocal is_ended
            try:
                await asyncio.get_running_loop().create_future()
            finally:
                is_ended = True

    async with serving(Waiting(accept)) as served:
        peer = await served.socket()
        peer.request("/")
        status, _ = await peer.response()
    assert (status, is_ended) == (500, True)
    assert "expected an answer at once" in caplog.text


async def test_a_listener_that_fails_behind_its_accept() -> None:
    """The WebSocket closes with 1011."""

    def accept_and_fail(connection: WebSocketConnection, recorder: Recorder) -> None:
        connection.accept(recorder, max_message_bytes=1_000, max_outbox_bytes=1_000)
        raise ValueError("no")

    application = AtOnce(accept_and_fail)
    async with serving(application) as served:
        peer = await served.peer()
        opcode, payload = await peer.frame()
        assert (opcode, payload[:2]) == (8, (1011).to_bytes(2, "big"))
        peer.send(8, payload)
        await until(lambda: application.recorders[0].lost == [(1011, "")], "the end of the WebSocket")


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ("Upgrade: h2c\r\nUpgrade: WebSocket\r\nConnection: keep-alive\r\nConnection: x, Upgrade\r\n", 101),
        ("Upgrade: h2c, websocket\r\nConnection: UPGRADE\r\n", 101),
        ("Upgrade: h2c\r\nConnection: Upgrade\r\n", 204),
        ("Upgrade: websocket\r\nConnection: keep-alive\r\n", 204),
        ("Connection: Upgrade\r\n", 204),
    ],
)
async def test_which_requests_are_upgrades(headers: str, status: int) -> None:
    """A WebSocket among the offers is taken, in any case and over several lines; any other offer is ignored."""
    application = AtOnce(accept)
    async with serving(application) as served:
        peer = await served.socket()
        peer.writer.write(f"GET / HTTP/1.1\r\nHost: x\r\n{headers}{KEY}\r\n".encode())
        answered, _ = await peer.response()
    assert answered == status
    assert [scope["type"] for scope in application.scopes] == ["websocket" if status == 101 else "http"]
