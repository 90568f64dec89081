"""Responses that go on for long, on the socket itself: heads, chunks, ends of either side, bounds."""

from __future__ import annotations

import asyncio
import gc
import socket
import struct
import weakref

import pytest

from app.transport import streaming
from app.transport.outbox import OUTBOX_FULL
from app.transport.streaming import EXTENSION, StreamHead, StreamingResponse, open_stream
from tests.support.waiting import until
from tests.transport.serving import Message, Peer, Receive, Send, Served, serving

HEAD = StreamHead([(b"content-type", b"text/plain"), (b"x-more", b"1")], max_outbox_bytes=50_000)
REQUEST = b"POST /stream HTTP/1.1\r\nhost: x\r\ncontent-length: 2\r\n\r\nhi"


class Listener:
    """The writer of a stream, which is told of its end. Lives for one test."""

    def __init__(self) -> None:
        """Nothing has happened."""
        self.ends: list[str] = []
        self.drained_count = 0
        self.stream: StreamingResponse
        self.requests: list[bytes] = []

    def stream_ended(self, reason: str) -> None:
        """Note it."""
        self.ends.append(reason)

    def stream_drained(self) -> None:
        """Note it."""
        self.drained_count += 1

    async def __call__(self, scope: Message, receive: Receive, send: Send) -> None:
        """Stream at /stream, answer `ok` elsewhere."""
        body = b""
        while (event := await receive()).get("more_body"):
            body += event["body"]
        self.requests.append(scope["path"].encode() + b" " + body + event.get("body", b""))
        if scope["path"] != "/stream":
            await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"2")]})
            await send({"type": "http.response.body", "body": b"ok"})
            return
        stream = open_stream(scope["extensions"][EXTENSION], HEAD, self)
        if stream is None:
            self.ends.append("never begun")
            return
        self.stream = stream


async def opened(served: Served, listener: Listener, request: bytes = REQUEST) -> Peer:
    """A peer whose response has begun."""
    peer = await served.socket()
    peer.writer.write(request)
    await until(lambda: hasattr(listener, "stream"), "the response")
    return peer


async def test_head_and_chunks() -> None:
    """The head is written at once, then each write is a chunk; the end is the last chunk."""
    listener = Listener()
    async with serving(listener) as served:
        peer = await opened(served, listener)
        head = await peer.reader.readuntil(b"\r\n\r\n")
        assert head.split(b"\r\n")[:-2] == [
            b"HTTP/1.1 200 OK",
            b"content-type: text/plain",
            b"x-more: 1",
            b"transfer-encoding: chunked",
            b"connection: close",
        ]
        assert listener.stream.is_chunked
        listener.stream.write_frame(b"5\r\nhello\r\n")
        assert await peer.reader.readexactly(10) == b"5\r\nhello\r\n"
        assert served.connections == {listener.stream}
        listener.stream.end("enough")
        listener.stream.end("twice")
        listener.stream.write_frame(b"late")
        assert await peer.reader.read() == b"0\r\n\r\n"
        await until(lambda: listener.ends == ["enough"], "the end")
        assert served.connections == set()
    assert listener.requests == [b"/stream hi"]


async def test_old_http() -> None:
    """To HTTP/1.0 the body goes without chunks, and ends with the socket."""
    listener = Listener()
    async with serving(listener) as served:
        peer = await opened(served, listener, b"GET /stream HTTP/1.0\r\n\r\n")
        assert b"chunked" not in await peer.reader.readuntil(b"\r\n\r\n")
        assert not listener.stream.is_chunked
        listener.stream.write_frame(b"hello")
        listener.stream.end("enough")
        assert await peer.reader.read() == b"hello"


async def test_request_before() -> None:
    """A kept-alive connection can stream its second response; a request that was sent behind is never served."""
    listener = Listener()
    async with serving(listener) as served:
        peer = await served.socket()
        peer.writer.write(b"GET /one HTTP/1.1\r\nhost: x\r\n\r\n")
        assert b"200 OK" in await peer.reader.readuntil(b"ok")
        peer.writer.write(REQUEST + b"GET /two HTTP/1.1\r\nhost: x\r\n\r\n")
        await peer.reader.readuntil(b"\r\n\r\n")
        await until(lambda: hasattr(listener, "stream"), "the response")
        peer.writer.write(b"GET /three HTTP/1.1\r\nhost: x\r\n\r\n")
        listener.stream.write_frame(b"1\r\n.\r\n")
        assert await peer.reader.readuntil(b".\r\n") == b"1\r\n.\r\n"
        listener.stream.end("enough")
        await until(lambda: listener.ends == ["enough"], "the end")
    assert listener.requests == [b"/one ", b"/stream hi"]


@pytest.mark.parametrize("is_abrupt", [False, True])
async def test_client_leaves(is_abrupt: bool) -> None:
    """A client that closes, or is gone, ends the stream."""
    listener = Listener()
    async with serving(listener) as served:
        peer = await opened(served, listener)
        if is_abrupt:
            peer.writer.transport.abort()
        else:
            peer.writer.close()
        await until(lambda: listener.ends == ["client left"], "the end")
        listener.stream.write_frame(b"late")
        listener.stream.end("late")
        assert listener.ends == ["client left"]


@pytest.mark.parametrize("is_reset", [True, False])
async def test_client_has_left_before(is_reset: bool) -> None:
    """A client that has left before the response begins gets none."""
    listener = Listener()
    waiting = asyncio.Event()

    async def application(scope: Message, receive: Receive, send: Send) -> None:
        await waiting.wait()
        assert open_stream(scope["extensions"][EXTENSION], HEAD, listener) is None
        listener.ends.append("never begun")

    async with serving(application) as served:
        peer = await served.socket()
        peer.writer.write(REQUEST)
        await until(lambda: bool(served.connections), "the request")
        if is_reset:
            # Closing with this option resets the connection.
            linger = struct.pack("ii", 1, 0)
            peer.writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
        peer.writer.transport.abort()
        if is_reset:
            await until(lambda: not served.connections, "the end")
        else:
            await until(lambda: all(one._is_half_closed for one in served.connections), "the client's end")
        waiting.set()
        await until(lambda: listener.ends == ["never begun"], "the application")


async def test_client_that_does_not_read() -> None:
    """A client that does not read is cut off at the bound."""
    listener = Listener()
    async with serving(listener) as served:
        await opened(served, listener)
        for _ in range(1000):
            listener.stream.write_frame(b"x" * 10_000)
            await asyncio.sleep(0)
            if listener.ends:
                break
        await until(lambda: listener.ends == [OUTBOX_FULL], "the end")


async def test_slow_client_drains() -> None:
    """A client that falls behind within the bound is not cut off, and the listener is told that it has caught up."""
    listener = Listener()
    async with serving(listener) as served:
        peer = await opened(served, listener)
        written = 0
        while not listener.stream.is_slow:
            listener.stream.write_frame(b"x" * 10_000)
            written += 10_000
            await asyncio.sleep(0)
        head = await peer.reader.readuntil(b"\r\n\r\n")
        assert head
        await peer.reader.readexactly(written)
        await until(lambda: listener.drained_count == 1, "the socket to drain")
        assert not listener.stream.is_slow
        assert listener.ends == []


async def test_slow_before_it_began() -> None:
    """A client that has not read an earlier answer is bounded from the first byte."""
    listener = Listener()

    async def application(scope: Message, receive: Receive, send: Send) -> None:
        if scope["path"] == "/large":
            await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"20000000")]})
            await send({"type": "http.response.body", "body": b"x" * 20_000_000})
        else:
            await listener(scope, receive, send)

    async with serving(application) as served:
        await opened(served, listener, b"GET /large HTTP/1.1\r\nhost: x\r\n\r\n" + REQUEST)
        assert listener.stream.is_slow
        listener.stream.write_frame(b"x")
        await until(lambda: listener.ends == [OUTBOX_FULL], "the end")


async def test_end_of_who_does_not_read(monkeypatch: pytest.MonkeyPatch) -> None:
    """The end does not wait for ever for a client that does not read."""
    monkeypatch.setattr(streaming, "_END_TIMEOUT_SECONDS", 0.05)
    listener = Listener()
    async with serving(listener) as served:
        await opened(served, listener)
        while not listener.stream.is_slow:
            listener.stream.write_frame(b"x" * 10_000)
            await asyncio.sleep(0)
        listener.stream.end("enough")
        await until(lambda: listener.ends == ["enough"], "the end")


async def test_client_that_talks() -> None:
    """Some bytes behind the request are ignored, many are not."""
    listener = Listener()
    async with serving(listener) as served:
        peer = await opened(served, listener)
        peer.writer.write(b"x" * 1000)
        listener.stream.write_frame(b"1\r\n.\r\n")
        await peer.reader.readuntil(b".\r\n")
        peer.writer.write(b"x" * 100_000)
        await until(lambda: listener.ends == ["client talks"], "the end")


async def test_shutdown() -> None:
    """uvicorn's shutdown ends streams as complete responses."""
    listener = Listener()
    async with serving(listener) as served:
        peer = await opened(served, listener)
        await served.server.shutdown()
        assert (await peer.reader.read()).endswith(b"0\r\n\r\n")
        assert listener.ends == ["server stopped"]


async def test_a_request_leaves_no_cycle() -> None:
    """The offer in a scope keeps neither the request nor its connection from being freed when they have ended."""

    async def application(scope: Message, receive: Receive, send: Send) -> None:
        assert EXTENSION in scope["extensions"]
        await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"2")]})
        await send({"type": "http.response.body", "body": b"ok"})

    gc.disable()
    try:
        async with serving(application) as served:
            peer = await served.socket()
            peer.writer.write(b"GET / HTTP/1.1\r\nhost: x\r\n\r\n")
            await peer.reader.readuntil(b"ok")
            (connection,) = map(weakref.ref, served.connections)
            peer.writer.close()
            await until(lambda: not served.connections, "the end")
            await until(lambda: connection() is None, "the connection to be freed")
    finally:
        gc.enable()
