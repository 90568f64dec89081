"""Two joined sockets: another node answers the request of the first, byte by byte, and both end together."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from app.transport import handshake, splice
from app.transport.websocket import EXTENSION
from tests.support.waiting import until
from tests.transport.serving import (
    CLOSE,
    TEXT,
    FastLane,
    Message,
    Peer,
    Receive,
    Send,
    Served,
    client_frame,
    close_payload,
    serving,
)
from tests.transport.tls import Certificate

BIG = 1 << 20


class Between:
    """An application that joins every WebSocket to another server; lives for one test."""

    def __init__(self, socket_path: str | None, url: str | None, tls: ssl.SSLContext | None = None) -> None:
        """The place of the other server."""
        self._place = splice.FarSide(socket_path, url, tls)
        self.outcomes: list[bool] = []

    async def __call__(self, scope: Message, _receive: Receive, _send: Send) -> None:
        """Join it, or refuse it with 400."""
        connection = scope["extensions"][EXTENSION]["connection"]
        head = handshake.request_head(scope["raw_path"] + b"?" + scope["query_string"], scope["headers"])
        self.outcomes.append(await splice.splice(connection, self._place, head))
        if not self.outcomes[-1]:
            connection.reject(400, b"nobody")


@asynccontextmanager
async def joined(application: FastLane) -> AsyncIterator[tuple[Served, Served]]:
    """A server in front, and the one behind that answers its WebSockets."""
    async with (
        serving(application) as behind,
        serving(Between(None, f"http://127.0.0.1:{behind.port}")) as front,
    ):
        yield front, behind


def held_of(front: Served) -> list[splice._End]:
    """The clients' ends that the server in front would shut down."""
    return [connection for connection in front.connections if isinstance(connection, splice._End)]


async def test_messages_pass_both_ways() -> None:
    """The handshake is that of the server behind; messages of any length pass, early ones first."""
    application = FastLane()
    async with joined(application) as (front, _):
        peer = await front.socket()
        peer.request("/path", behind=client_frame(TEXT, b"early"))
        status, headers = await peer.response()
        assert (status, headers["sec-websocket-accept"]) == (101, "s3ppLMBiTxaQ9kYGzzhZRbK+xOo=".lower())
        recorder = application.recorders[0]
        for payload in (b"", b"a" * 200, b"b" * 300_000):
            peer.send(TEXT, payload)
        assert await recorder.until_received(4) == [b"early", b"", b"a" * 200, b"b" * 300_000]
        recorder.connection.write_text(b"c" * 300_000)
        assert await peer.frame() == (TEXT, b"c" * 300_000)


async def test_over_a_unix_socket(tmp_path: Path) -> None:
    """The other server may listen on a unix socket."""
    path = str(tmp_path / "s")
    application = FastLane()
    async with serving(application) as behind:
        protocol = behind.server.config.http_protocol_class
        state = behind.server.server_state
        listening = await asyncio.get_running_loop().create_unix_server(
            lambda: protocol(config=behind.server.config, server_state=state, app_state={}),  # type: ignore[call-arg]
            path,
        )
        async with serving(Between(path, "http://127.0.0.1:9")) as front:
            peer = await front.peer()
            peer.send(TEXT, b"hello")
            assert await application.recorders[0].until_received(1) == [b"hello"]
        listening.close()


async def test_over_tls(certificate: Certificate) -> None:
    """With https the other server is reached through TLS, and must show a certificate that the system trusts, or the
    given context."""
    application = FastLane()
    files = {"ssl_certfile": str(certificate.certificate), "ssl_keyfile": str(certificate.key)}
    async with serving(application, **files) as behind:
        for context, outcome in ((None, False), (certificate.client_context, True)):
            between = Between(None, f"https://127.0.0.1:{behind.port}", context)
            async with serving(between) as front:
                peer = await front.socket()
                peer.request()
                assert (await peer.response())[0] == (101 if outcome else 400)
                assert between.outcomes == [outcome]
                if outcome:
                    peer.send(TEXT, b"hello")
                    assert await application.recorders[0].until_received(1) == [b"hello"]


async def test_a_close_passes() -> None:
    """Client and server behind close with each other, from either side; then nothing is left."""
    application = FastLane()
    async with joined(application) as (front, behind):
        first, second = await front.peer(), await front.peer()
        first.send(CLOSE, close_payload(1000))
        assert await first.frame() == (CLOSE, close_payload(1000))
        assert await application.recorders[0].until_lost() == (1000, "")
        application.recorders[1].connection.close(1001, "bye")
        assert await second.frame() == (CLOSE, close_payload(1001, "bye"))
        second.send(CLOSE, close_payload(1001))
        for peer in (first, second):
            assert await peer.reader.read() == b""
            peer.writer.close()
        await until(lambda: not front.connections and not behind.connections, "the end of all")


async def test_a_client_that_vanishes() -> None:
    """The server behind hears of the end of the client's socket."""
    application = FastLane()
    async with joined(application) as (front, _):
        peer = await front.peer()
        peer.writer.transport.abort()
        assert await application.recorders[0].until_lost() == (1006, "")
        await until(lambda: not front.connections, "the end")


async def test_a_server_behind_that_vanishes() -> None:
    """The client's socket ends with the other node's."""
    application = FastLane()
    async with joined(application) as (front, _):
        peer = await front.peer()
        application.recorders[0].connection.abort()
        assert await peer.reader.read() == b""


async def test_a_half_closed_client_is_not_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    """A client that ends its side still gets the bytes written to it; when the other node is silent, it is dropped."""
    monkeypatch.setattr(splice, "CLOSE_TIMEOUT_SECONDS", 0.1)
    frozen = Frozen()
    server = await asyncio.get_running_loop().create_server(lambda: frozen, "127.0.0.1", 0)
    url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
    async with serving(Between(None, url)) as front:
        peer = await front.socket()
        peer.request()
        await until(lambda: bool(held_of(front)), "the join")
        peer.writer.write_eof()
        assert await peer.reader.read() == b""
        await until(lambda: not front.connections, "the end")
    frozen.transport.close()
    server.close()


class Frozen(asyncio.Protocol):
    """A node that takes the request and neither answers nor ends; the test closes it."""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Remember the socket."""
        self.transport = transport

    def eof_received(self) -> bool:
        """Keep the other half open."""
        return True


async def test_who_does_not_read_is_not_read_for() -> None:
    """The bytes in between are bounded, in both directions, and all arrive when the reader goes on."""
    application = FastLane(max_message_bytes=1 << 24, max_outbox_bytes=1 << 30)
    async with joined(application) as (front, _):
        peer = await front.peer()
        near = held_of(front)[0]
        assert near.other is not None
        connection = application.recorders[0].connection
        for _ in range(16):
            connection.write_text(b"d" * BIG)
            await asyncio.sleep(0)
        await until(lambda: near.transport.get_write_buffer_size() > 1 << 16, "the client's end to be full")
        assert near.transport.get_write_buffer_size() < 1 << 20
        for _ in range(16):
            assert await peer.frame() == (TEXT, b"d" * BIG)
        connection.pause_reading()
        peer.send(TEXT, b"e" * (1 << 23))
        await until(lambda: near.other.transport.get_write_buffer_size() > 1 << 16, "the other end to be full")  # type: ignore[union-attr]
        assert near.other.transport.get_write_buffer_size() < 1 << 20
        connection.resume_reading()
        assert await application.recorders[0].until_received(1) == [b"e" * (1 << 23)]


async def test_nobody_listens(tmp_path: Path) -> None:
    """A request without a listener behind can still be answered in front."""
    (tmp_path / "file").touch()
    for place in ((str(tmp_path / "none"), None), (str(tmp_path / "file"), None), (None, "http://127.0.0.1:9")):
        between = Between(*place)
        async with serving(between) as front:
            peer = await front.socket()
            peer.request()
            assert (await peer.response())[0] == 400
            assert between.outcomes == [False]


async def test_a_client_that_leaves_before(monkeypatch: pytest.MonkeyPatch) -> None:
    """A client that has left when the other node is reached leaves nothing there."""
    reached, go_on = asyncio.Event(), asyncio.Event()
    connect = splice._connect

    async def connect_late(end: splice._End, far_side: splice.FarSide) -> None:
        await connect(end, far_side)
        reached.set()
        await go_on.wait()

    monkeypatch.setattr(splice, "_connect", connect_late)
    application = FastLane()
    async with serving(application) as behind:
        between = Between(None, f"http://127.0.0.1:{behind.port}")
        async with serving(between) as front:
            peer = await front.socket()
            peer.request()
            await reached.wait()
            peer.writer.transport.abort()
            await until(lambda: not front.connections, "the end of the client")
            go_on.set()
            await until(lambda: between.outcomes == [True] and not behind.connections, "nothing to be left")
            assert application.recorders == []


async def test_shutdown_of_the_server_between() -> None:
    """A server that stops closes its joined sockets."""
    application = FastLane()
    async with joined(application) as (front, _):
        peer: Peer = await front.peer()
        held_of(front)[0].shutdown()
        assert await peer.reader.read() == b""
        assert await application.recorders[0].until_lost() == (1006, "")
        assert not front.connections
