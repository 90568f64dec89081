"""The reason in the status line of a response, which an application may name."""

from __future__ import annotations

import asyncio
import gc
import weakref

from app.transport.http_cycle import reason_phrase
from app.transport.streaming import EXTENSION
from tests.support.waiting import until
from tests.transport.serving import Message, Receive, Send, serving


class Refusing:
    """Refuses each request with the reason in its path; without a reason at /. Lives for one test."""

    def __init__(self) -> None:
        """Nothing was asked yet."""
        self.left = asyncio.Event()

    async def __call__(self, scope: Message, receive: Receive, send: Send) -> None:
        """Answer 400; at /left wait until the client has left, first."""
        if reason := scope["path"][1:]:
            scope["extensions"][EXTENSION].give_reason(reason)
        if reason == "left":
            while (await receive())["type"] != "http.disconnect":
                pass
            self.left.set()
        await send({"type": "http.response.start", "status": 400, "headers": [(b"content-length", b"2")]})
        # Too late: the head is written.
        scope["extensions"][EXTENSION].give_reason("late")
        await send({"type": "http.response.body", "body": b"no"})


async def test_reason() -> None:
    """The reason stands behind the status of that response alone, also of requests that follow on the connection."""
    async with serving(Refusing()) as served:
        peer = await served.socket()
        for path, line in (
            (b"/a%20reason", b"HTTP/1.1 400 a reason\r\n"),
            (b"/", b"HTTP/1.1 400 Bad Request\r\n"),
            (b"/%C3%A9%0D%0Ax:y", b"HTTP/1.1 400 ???x:y\r\n"),
        ):
            peer.writer.write(b"GET " + path + b" HTTP/1.1\r\nhost: x\r\n\r\n")
            answer = await peer.reader.readuntil(b"no")
            assert answer.startswith(line)
            assert answer.count(b"content-length: 2\r\n") == 1


async def test_client_that_leaves() -> None:
    """A client that leaves before the answer leaves nothing behind, without the garbage collector."""
    application = Refusing()
    async with serving(application) as served:
        peer = await served.socket()
        peer.writer.write(b"GET /left HTTP/1.1\r\nhost: x\r\n\r\n")
        await until(lambda: any(getattr(one, "cycle", None) for one in served.connections), "the request")
        (connection,) = served.connections
        cycle = weakref.ref(connection.cycle)
        del connection
        gc.collect()
        gc.disable()
        try:
            peer.writer.transport.abort()
            await application.left.wait()
            await until(lambda: cycle() is None, "the end of the request")
        finally:
            gc.enable()


class Short:
    """Answers with the body of the request, past the messages of ASGI where it can. Lives for one test."""

    def __init__(self) -> None:
        """Nothing was asked yet."""
        self.ways: list[tuple[bool, bool]] = []

    async def __call__(self, scope: Message, receive: Receive, send: Send) -> None:
        """Answer 200; behind a request to /twice nothing is left to receive or to answer."""
        shortcut = scope["extensions"][EXTENSION]
        taken = shortcut.take_body()
        body = taken
        while body is None:
            event = await receive()
            body = event["body"] if not event["more_body"] else None
        is_answered = shortcut.answer(b"x-a: 1\r\n", body)
        self.ways.append((taken is not None, is_answered))
        if not is_answered:
            headers = [(b"x-a", b"1"), (b"content-length", b"%d" % len(body))]
            await send({"type": "http.response.start", "status": 200, "headers": headers})
            await send({"type": "http.response.body", "body": body})
        assert shortcut.answer(b"", b"again") is False


async def test_short_way() -> None:
    """A request that is here at once is taken and answered in one step, also when several come in one piece; the bytes
    on the wire are those of the long way."""
    application = Short()
    async with serving(application, date_header=False, server_header=False) as served:
        peer = await served.socket()
        request = b"POST / HTTP/1.1\r\nhost: x\r\ncontent-length: 2\r\n\r\n"
        answer = b"HTTP/1.1 200 OK\r\nx-a: 1\r\ncontent-length: 2\r\n\r\n"
        peer.writer.write(request + b"ab" + request + b"cd")
        assert await peer.reader.readexactly(2 * len(answer) + 4) == answer + b"ab" + answer + b"cd"
        # The body comes later than the head.
        peer.writer.write(request)
        await until(
            lambda: any(one.cycle and not one.cycle.response_complete for one in served.connections), "the head"
        )
        peer.writer.write(b"ef")
        assert await peer.reader.readexactly(len(answer) + 2) == answer + b"ef"
    assert application.ways == [(True, True), (True, True), (False, True)]


async def test_long_way_for_connections_that_end() -> None:
    """A client that closes behind its request, an older one and a server that ends get their answers the long way,
    which says so and closes."""
    application = Short()
    async with serving(application, date_header=False, server_header=False) as served:
        for head in (b"POST / HTTP/1.1\r\nconnection: close\r\n", b"POST / HTTP/1.0\r\n"):
            peer = await served.socket()
            peer.writer.write(head + b"host: x\r\ncontent-length: 2\r\n\r\nab")
            answer = await peer.reader.read()
            assert b"connection: close\r\n" in answer
            assert answer.endswith(b"\r\n\r\nab")
        served.server.server_state.default_headers = [(b"connection", b"close")]
        peer = await served.socket()
        peer.writer.write(b"POST / HTTP/1.1\r\nhost: x\r\ncontent-length: 2\r\n\r\nab")
        assert b"connection: close\r\n" in await peer.reader.read()
    assert application.ways == [(True, False)] * 3


def test_reason_phrase() -> None:
    """A reason is printable ASCII, and cut."""
    assert reason_phrase("Töpic \t'x'\r\n") == b"T?pic ?'x'??"
    assert len(reason_phrase("x" * 1_000)) == 200
