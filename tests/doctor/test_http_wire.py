"""A server that is hostile to the doctor costs it a bounded number of bytes, and the caller's time at most."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress

import pytest

from app.doctor.finding import FAULT, shown
from app.doctor.http_wire import MAX_PAGE_BYTES, ProbeError, begun, fetch
from app.doctor.pages import look_at_clock, look_at_origins
from app.doctor.target import ProbeTarget
from app.doctor.way_in import look_at_address

#: A ping that never comes.
LONG = b'0{"sid":"a.aaaaaaaaaa","pingInterval":%s,"pingTimeout":1}' % (b"9" * 400)


@asynccontextmanager
async def serving(
    answer: Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]], answer_seconds: float = 60
) -> AsyncIterator[ProbeTarget]:
    """A server whose connections are answered so, and then closed; its target."""
    served: dict[asyncio.Task[None], asyncio.StreamWriter] = {}

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task
        served[task] = writer
        with suppress(OSError, asyncio.IncompleteReadError):
            await answer(reader, writer)
        writer.close()

    async with await asyncio.start_server(serve, "127.0.0.1", 0) as server:
        yield ProbeTarget("127.0.0.1", server.sockets[0].getsockname()[1], None, "", answer_seconds)
        for writer in served.values():
            writer.transport.abort()
        await asyncio.gather(*served)


@asynccontextmanager
async def answering(*pieces: bytes, times: int = 1, closes: bool = True) -> AsyncIterator[ProbeTarget]:
    """A server that reads a request and writes these pieces, the last one so many times; its target."""

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        for piece in (*pieces, *(pieces[-1:] * (times - 1))):
            writer.write(piece)
            await writer.drain()
        if not closes:
            await reader.read()

    async with serving(serve) as target:
        yield target


async def test_headers_that_occur_twice() -> None:
    """Each value of a header is seen; the body ends with the connection where it has no length."""
    async with answering(b"HTTP/1.1 200 OK\r\nA: 1\r\na: 2\r\n\r\nbo", b"dy") as target:
        page = await fetch(target, "GET /")
    assert (page.status, page.values("a"), page.header("a"), page.body) == (200, ["1", "2"], "1", b"body")


async def test_first_bytes() -> None:
    """The first bytes of an answer that does not end are seen."""
    async with (
        answering(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n", b"3\r\nabc\r\n", closes=False) as target,
        begun(target, "GET /") as exchange,
    ):
        assert (await exchange.head()).status == 200
        assert await exchange.first_bytes() == b"abc"


@pytest.mark.parametrize(
    ("pieces", "times", "reason"),
    [
        ((b"HTTP/1.1 200 OK\r\n\r\n", b"x" * 65_536), 100, "longer than one of Recado"),
        ((b"HTTP/1.1 200 OK\r\n", b"A: " + b"x" * 65_536 + b"\r\n"), 100, "longer than one of Recado|no HTTP"),
        ((b"SSH-2.0-OpenSSH\r\n",), 1, "the answer is no HTTP"),
        ((b"",), 1, "the connection was closed before the answer"),
        ((b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nabc",), 1, "the connection was closed before the answer"),
    ],
    ids=["endless body", "endless head", "no HTTP", "nothing", "cut"],
)
async def test_hostile_answers(pieces: tuple[bytes, ...], times: int, reason: str) -> None:
    """The reading of any answer ends within its bound, with a reason, and the address is a fault."""
    assert MAX_PAGE_BYTES < 65_536 * 100
    async with answering(*pieces, times=times) as target:
        with pytest.raises(ProbeError, match=reason):
            await fetch(target, "GET /")
        finding, greeting = await look_at_address(target)
    assert (finding.state, greeting) == (FAULT, None)


@pytest.mark.parametrize(
    "body",
    [b"0{}", b'0{"sid":"x"}', b"0" + b"[" * 50_000, b'0{"sid":"\xff","pingInterval":1,"pingTimeout":1}', LONG, b""],
    ids=["empty", "poor", "deep", "bytes", "long", "none"],
)
async def test_hostile_greetings(body: bytes) -> None:
    """An answer that is nearly a greeting is none."""
    head = b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % len(body)
    async with answering(head + body) as target:
        finding, greeting = await look_at_address(target)
    assert (finding.state, greeting) == (FAULT, None)


async def test_a_silent_server() -> None:
    """A server that says nothing costs the time of an answer."""
    async with answering(b"", closes=False) as target:
        finding, _ = await look_at_address(ProbeTarget(target.host, target.port, None, "", 0.2))
    assert finding.text.endswith("no answer in time")


async def test_a_session_whose_close_is_not_answered() -> None:
    """A server that stops to answer costs the time of an answer, and that of a close: the deadline does not wait for
    the close of the session."""
    head = b"HTTP/1.1 200 OK\r\nAccess-Control-Allow-Origin: *\r\nContent-Length: %d\r\n\r\n"
    opened = asyncio.Event()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        line = await reader.readline()
        if b"sid=" in line:
            opened.set()
            await reader.read()
        else:
            greeting = b'0{"sid":"a.aaaaaaaaaa","pingInterval":1,"pingTimeout":1}'
            writer.write(head % len(greeting) + greeting)

    async with serving(serve, 0.5) as target, asyncio.timeout(20):
        with pytest.raises(TimeoutError):
            await look_at_origins(target, "one", None)
    assert opened.is_set()


async def test_a_clock_that_is_wrong() -> None:
    """A Date of another year is a fault, with the line; one that is no date is passed over."""
    answer = b"HTTP/1.1 200 OK\r\nDate: %s\r\nContent-Length: 0\r\n\r\n"
    async with answering(answer % b"Mon, 01 Jan 2001 00:00:00 GMT") as target:
        finding = await look_at_clock(target)
    assert (finding.state, finding.change[0].line) == (FAULT, "timedatectl set-ntp true")
    async with answering(answer % b"yesterday") as target:
        assert (await look_at_clock(target)).state == "skipped"


def test_texts_from_outside() -> None:
    """A text of a stranger is short, on one line, and moves no cursor."""
    assert shown("a\x1b[2J\r\nb") == "a?[2J b"
    assert len(shown("x" * 10_000)) < 130
