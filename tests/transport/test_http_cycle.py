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


def test_reason_phrase() -> None:
    """A reason is printable ASCII, and cut."""
    assert reason_phrase("Töpic \t'x'\r\n") == b"T?pic ?'x'??"
    assert len(reason_phrase("x" * 1_000)) == 200
