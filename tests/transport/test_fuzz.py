"""Bytes that nobody should send, to a real server in this process: requests, heads in pieces, WebSocket frames.

No input makes a traceback or a status 500, holds the loop, or leaves an object behind, with the collector off.
"""

import asyncio
import contextlib
import gc
import logging
import socket
import time
from collections import Counter
from collections.abc import Awaitable, Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

import pytest
import uvloop
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from app.transport.connection import WebSocketConnection
from app.transport.http import HttpProtocol
from app.transport.http_cycle import RunningRequest
from app.transport.parser import Parser
from app.transport.websocket import WebSocketProtocol
from tests.support.waiting import until
from tests.transport.serving import (
    CONTINUATION,
    DEADLINE_SECONDS,
    FastLane,
    Message,
    Receive,
    Send,
    Served,
    client_frame,
    close_payload,
    serving,
)

KINDS = (HttpProtocol, RunningRequest, WebSocketProtocol, WebSocketConnection, Parser)
# The parsers of a server's pool stay.
MAX_LEFT = 16
# CPU time of server and client together; inputs are short.
MAX_SECONDS = 0.25
MAX_MESSAGE_BYTES = 1_000

UPGRADE = (
    b"GET /socket HTTP/1.1\r\nHost: x\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
    b"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\n\r\n"
)


class Application:
    """Reads each request and answers it, and accepts each WebSocket."""

    def __init__(self) -> None:
        self.fast_lane = FastLane(max_message_bytes=MAX_MESSAGE_BYTES)

    async def __call__(self, scope: Message, receive: Receive, send: Send) -> None:
        if scope["type"] == "websocket":
            await self.fast_lane(scope, receive, send)
            self.fast_lane.recorders.clear()
            return
        while (message := await receive())["type"] == "http.request" and message["more_body"]:
            pass
        await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"2")]})
        await send({"type": "http.response.body", "body": b"ok"})


tokens = st.sampled_from(
    [b"keep-alive", b"close", b"upgrade", b"Upgrade, keep-alive", b"websocket", b"h2c", b"chunked", b"gzip, chunked"]
)
numbers = st.sampled_from([b"0", b"1", b"5", b"-1", b"+5", b"5, 5", b"0x5", b"99999999999999999999", b""])
names = st.sampled_from(
    b"Host Connection Upgrade Transfer-Encoding Content-Length Expect Cookie Trailer HTTP2-Settings "
    b"Sec-WebSocket-Key Sec-WebSocket-Version Sec-WebSocket-Protocol".split()
)
values = (
    tokens | numbers | st.sampled_from([b"13", b"100-continue", b"AAAAAAAAAAAAAAAAAAAAAA=="]) | st.binary(max_size=40)
)
headers = st.tuples(names | st.binary(max_size=12), values).map(lambda pair: pair[0] + b": " + pair[1])
methods = st.sampled_from([b"GET", b"POST", b"HEAD", b"OPTIONS", b"CONNECT", b"PRI", b"get", b""]) | st.binary(
    max_size=8
)
targets = st.sampled_from([b"/", b"/a?b=%", b"*", b"http://x/a", b"//", b"/%ff\xff", b"x:1", b"#"]) | st.binary(
    max_size=30
)
versions = st.sampled_from([b"HTTP/1.1", b"HTTP/1.0", b"HTTP/2.0", b"HTTP/0.9", b"HTTP/1.1 "]) | st.binary(max_size=8)
bodies = st.binary(max_size=60) | st.sampled_from(
    [b"5\r\nhello\r\n0\r\n\r\n", b"0\r\nA: b\r\n\r\n", b"ffffffffff\r\n", b"5;a=b\r\nhello\r\n", b"0\r\n\r\n"]
)


def request(parts: tuple[bytes, bytes, bytes, list[bytes], bytes]) -> bytes:
    """Return the bytes of a request, right or wrong."""
    method, target, version, lines, body = parts
    return b" ".join((method, target, version)) + b"\r\n" + b"".join(line + b"\r\n" for line in lines) + b"\r\n" + body


requests = st.tuples(methods, targets, versions, st.lists(headers, max_size=6), bodies).map(request)
simple = st.sampled_from([b"GET / HTTP/1.1\r\n\r\n", b"POST / HTTP/1.1\r\nContent-Length: 5\r\n\r\nhello", UPGRADE])
streams = st.lists(st.one_of(simple, requests, simple, st.binary(max_size=60)), min_size=1, max_size=6).map(b"".join)
large = st.sampled_from(
    [
        b"GET / HTTP/1.1\r\nA: " + b"a" * 70_000,
        b"GET /" + b"a" * 70_000,
        b"GET / HTTP/1.1\r\n" + b"A: b\r\n" * 12_000,
        b"GET / HTTP/1.1\r\n\r\n" * 500,
        b"\r\n" * 40_000,
        UPGRADE * 50,
    ]
)

opcodes = st.integers(0, 15) | st.sampled_from([CONTINUATION, 1, 2, 8, 9])
payloads = (
    st.binary(max_size=130)
    | st.sampled_from(
        [b"", b"\xff", "é".encode(), b"x" * 126, b"x" * MAX_MESSAGE_BYTES, b"x" * (MAX_MESSAGE_BYTES + 1)]
    )
    | st.integers(0, 0xFFFF).map(close_payload)
)
frames = st.builds(
    client_frame,
    opcodes,
    payloads,
    fin=st.booleans(),
    rsv=st.sampled_from([0, 0, 0, 0, 1, 4]),
    masked=st.integers(0, 9).map(bool),
)
runs = st.tuples(frames, st.integers(1, 200)).map(lambda pair: pair[0] * pair[1])
sockets = st.lists(frames | frames | runs | st.binary(max_size=20), max_size=8).map(b"".join)


@dataclass
class Fuzzing:
    """A served application, and the complaints of the process; lives as long as a test."""

    runner: asyncio.Runner
    served: Served
    complaints: list[str] = field(default_factory=list)
    statuses: Counter[bytes] = field(default_factory=Counter)

    def send(self, pieces: list[bytes], has_end: bool) -> None:
        """Send the pieces, each in a read of its own if the server keeps up, and check the server afterwards."""
        began = time.process_time()
        answers = self.runner.run(self._send(pieces, has_end))
        seconds = time.process_time() - began
        assert seconds < MAX_SECONDS, f"{seconds:.3f} s for {pieces!r:.200}"
        assert self.complaints == []
        if answers.startswith(b"HTTP/1.1 "):
            self.statuses[answers[9:12]] += 1
        assert b"HTTP/1.1 5" not in answers

    async def _send(self, pieces: list[bytes], has_end: bool) -> bytes:
        loop = asyncio.get_running_loop()
        answers = b""
        with socket.socket() as peer:
            peer.setblocking(False)
            async with asyncio.timeout(DEADLINE_SECONDS):
                await loop.sock_connect(peer, ("127.0.0.1", self.served.port))
                # A reset tells a peer that goes on sending to a server that has refused it.
                with contextlib.suppress(OSError):
                    for piece in pieces:
                        await loop.sock_sendall(peer, piece)
                        await asyncio.sleep(0)
                    if has_end:
                        peer.shutdown(socket.SHUT_WR)
                    while has_end and (data := await loop.sock_recv(peer, 1 << 16)):
                        answers += data
        await until(lambda: not self.served.connections, "the end of the connection")
        return answers


class _Complaints(logging.Handler):
    """Keeps the errors and tracebacks of all loggers."""

    def __init__(self, texts: list[str]) -> None:
        super().__init__()
        self._texts = texts

    def emit(self, record: logging.LogRecord) -> None:
        if record.levelno >= logging.ERROR or record.exc_info:
            self._texts.append(self.format(record))


async def _open(start: Callable[[], Awaitable[Any]]) -> Any:
    return await start()


@pytest.fixture
def fuzzing() -> Iterator[Fuzzing]:
    """A server whose objects have to go without a garbage collection."""
    complaints: list[str] = []
    handler = _Complaints(complaints)
    logging.getLogger().addHandler(handler)
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        context = serving(Application())
        served = runner.run(_open(context.__aenter__))
        fuzzing = Fuzzing(runner, served, complaints)
        gc.collect()
        gc.disable()
        try:
            yield fuzzing
            left = Counter(type(one).__name__ for one in gc.get_objects() if type(one) in KINDS)
        finally:
            gc.enable()
            runner.run(_open(lambda: context.__aexit__(None, None, None)))
            logging.getLogger().removeHandler(handler)
    assert left.total() <= MAX_LEFT, left


def fuzz(check: Callable[..., None], inputs: int) -> None:
    """Try a check with many inputs."""
    options = settings(max_examples=inputs, deadline=None, database=None, suppress_health_check=list(HealthCheck))
    options(check)()


def in_pieces(data: bytes, cuts: list[int]) -> list[bytes]:
    """Cut the bytes at these places."""
    places = sorted({cut % (len(data) + 1) for cut in cuts})
    return [data[start:end] for start, end in zip([0, *places], [*places, len(data)], strict=True)]


cuts = st.lists(st.integers(0, 1 << 17), max_size=4)


@pytest.mark.timeout(3600)
def test_requests(fuzzing: Fuzzing, is_long: bool, tell: Callable[[str], None]) -> None:
    """Streams of requests: pipelined, upgraded, half, wrong, too large, cut anywhere, with or without an end."""

    @given(st.one_of(streams, streams, streams, large), cuts, st.booleans())
    def check(data: bytes, places: list[int], has_end: bool) -> None:
        fuzzing.send(in_pieces(data, places), has_end)

    fuzz(check, 50_000 if is_long else 1_500)
    tell(f"fuzzed requests, first answers: {dict(fuzzing.statuses)}")
    assert {b"200", b"400", b"431"} <= fuzzing.statuses.keys()


@pytest.mark.timeout(3600)
def test_frames(fuzzing: Fuzzing, is_long: bool, tell: Callable[[str], None]) -> None:
    """Frames behind an upgrade: right, wrong, many, half, cut anywhere, with or without an end."""

    @given(sockets, cuts, st.booleans())
    def check(data: bytes, places: list[int], has_end: bool) -> None:
        fuzzing.send([UPGRADE, *in_pieces(data, places)], has_end)

    fuzz(check, 50_000 if is_long else 1_500)
    tell(f"fuzzed frames, first answers: {dict(fuzzing.statuses)}")
    assert fuzzing.statuses.keys() == {b"101"}
