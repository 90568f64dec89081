"""HTTP as it is spoken, and its bounds: the size of heads, deadlines, upgrade offers, ends of the client's side."""

import asyncio
import gc
import logging
import socket
import struct
import time
import weakref

import pytest

from app.transport import http, http_head, http_unread, refusals
from app.transport.http_wait import Wait
from tests.support.waiting import until
from tests.transport.serving import (
    DEADLINE_SECONDS,
    TEXT,
    FastLane,
    Message,
    Peer,
    Receive,
    Send,
    Served,
    client_frame,
    serving,
)

UPGRADE = (
    b"GET /socket HTTP/1.1\r\nHost: x\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
    b"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\n\r\n"
)

#: More than the buffers of two sockets hold.
HUGE_BYTES = 20_000_000


class Application:
    """Answers an HTTP request with its path and body, and accepts WebSockets; the answer to /slow waits for `go`."""

    def __init__(self) -> None:
        self.fast_lane = FastLane()
        self.go = asyncio.Event()
        self.bodies: list[bytes] = []
        self.gone = 0
        self.polls = 0
        self.headers: list[tuple[bytes, bytes]] = []

    async def __call__(self, scope: Message, receive: Receive, send: Send) -> None:
        if scope["type"] == "websocket":
            await self.fast_lane(scope, receive, send)
            return
        self.headers = scope["headers"]
        if scope["path"] == "/unread":
            await self._answer(send, b"unread")
            return
        body = b""
        while True:
            message = await receive()
            if message["type"] == "http.disconnect":
                self.gone += 1
                return
            body += message["body"]
            if not message["more_body"]:
                break
        self.bodies.append(body)
        if scope["path"] == "/slow":
            await self.go.wait()
        if scope["path"] == "/poll":
            self.polls += 1
            while (await receive())["type"] != "http.disconnect":
                pass
            self.gone += 1
            return
        if scope["path"] == "/huge":
            await self._answer(send, b"x" * HUGE_BYTES)
            return
        await self._answer(send, b"x" * 100_000 if scope["path"] == "/large" else scope["path"].encode() + b" " + body)

    @staticmethod
    async def _answer(send: Send, body: bytes) -> None:
        headers = [(b"content-length", b"%d" % len(body))]
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        await send({"type": "http.response.body", "body": body})


async def answer(peer: Peer) -> tuple[int, bytes]:
    """Read one response: status and body."""
    status, headers = await peer.response()
    async with asyncio.timeout(DEADLINE_SECONDS):
        return status, await peer.reader.readexactly(int(headers.get("content-length", 0)))


async def asked(served: Served, data: bytes, piece: int = 1 << 20) -> Peer:
    """Return a peer that has sent these bytes, in pieces that the server gets one by one."""
    peer = await served.socket()
    for start in range(0, len(data), piece):
        peer.writer.write(data[start : start + piece])
        if len(data) > piece:
            await asyncio.sleep(0)
            await asyncio.sleep(0)
    return peer


def get(path: bytes, *headers: bytes) -> bytes:
    """A request without a body."""
    return b"GET %b HTTP/1.1\r\nHost: x\r\n" % path + b"".join(header + b"\r\n" for header in headers) + b"\r\n"


# Heads


@pytest.mark.parametrize("kind", ["a value", "long headers", "a query", "an upgrade"])
@pytest.mark.parametrize("has_end", [True, False])
async def test_a_head_has_a_size(kind: str, has_end: bool) -> None:
    """More than 64 KB of head is answered 431, whether it ends or not, and the connection is closed."""
    large = b"c" * http.MAX_HEAD_BYTES
    data = {
        "a value": get(b"/", b"cookie: " + large),
        "long headers": get(b"/", *[b"a: " + b"b" * 200] * 400),
        "a query": get(b"/?" + large),
        "an upgrade": UPGRADE[:-2] + b"cookie: " + large + b"\r\n\r\n",
    }[kind]
    before = refusals.refused[refusals.HEAD_TOO_LARGE]
    application = Application()
    async with serving(application) as served:
        peer = await asked(served, data if has_end else data[:-4] + b"c" * 100_000)
        assert (await answer(peer))[0] == 431
        assert await peer.end() == b""
        assert refusals.refused[refusals.HEAD_TOO_LARGE] == before + 1
    assert not application.bodies


@pytest.mark.parametrize("in_pieces", [False, True])
async def test_headers_have_a_number(in_pieces: bool) -> None:
    """More than 512 headers are answered 431, and the connection is closed; as many are served."""
    lines = [b"a: b"] * (http_head.MAX_HEADERS - 1)
    application = Application()
    async with serving(application) as served:
        peer = await asked(served, get(b"/", *lines))
        assert (await answer(peer))[0] == 200
        before = refusals.refused[refusals.HEAD_TOO_LARGE]
        data = get(b"/", *lines, b"a: b")
        peer = await asked(served, data[:2_000])
        if in_pieces:
            await peer.writer.drain()
        peer.writer.write(data[2_000:])
        assert (await answer(peer))[0] == 431
        assert await peer.end() == b""
        assert refusals.refused[refusals.HEAD_TOO_LARGE] == before + 1
    assert len(application.bodies) == 1


@pytest.mark.parametrize(
    "kind", ["a path", "percent signs", "percent signs of a path", "an upgrade", "behind another request"]
)
async def test_a_path_has_a_size(kind: str) -> None:
    """A path over 8 KB, or a target with too many percent signs, is answered 414, and the connection is closed, behind
    the response to an earlier request. A query may be longer, and a path as long as the bound is served."""
    path = b"/" + b"c" * (http_head.MAX_PATH_BYTES - 1)
    data = {
        "a path": get(path + b"c"),
        "percent signs of a path": get(b"/" + b"%" * (http_head.MAX_PATH_BYTES // 3 + 1)),
        "percent signs": get(b"/?" + b"%" * (http_head.MAX_ESCAPES + 1)),
        "an upgrade": UPGRADE.replace(b"/socket", path + b"c"),
        "behind another request": get(b"/first") + get(path + b"c?a=b"),
    }[kind]
    before = refusals.refused[refusals.TARGET_TOO_LONG]
    application = Application()
    async with serving(application) as served:
        peer = await asked(served, data + b"c" * 1_000)
        assert (await answer(peer))[0] == (200 if kind == "behind another request" else 414)
        assert await peer.end() == b""
        assert refusals.refused[refusals.TARGET_TOO_LONG] == before + 1
        peer = await asked(served, get(path + b"?" + path + b"%" * http_head.MAX_ESCAPES))
        assert (await answer(peer))[0] == 200
    assert len(application.bodies) == 1 + (kind == "behind another request")


async def test_a_refused_client_is_not_read_for_ever() -> None:
    """A client that goes on sending behind its refusal is cut off after a megabyte."""
    async with serving(Application()) as served:
        peer = await asked(served, get(b"/")[:-2] + b"cookie: " + b"c" * 100_000)
        assert (await answer(peer))[0] == 431

        def is_cut_off() -> bool:
            peer.writer.write(b"c" * 100_000)
            return not served.connections

        sent = time.monotonic()
        await until(is_cut_off, "the end")
        assert time.monotonic() < sent + 1.5


async def test_a_head_within_its_size() -> None:
    """A head of nearly 64 KB is served, also in pieces, with a large body behind it."""
    head = b"POST /a HTTP/1.1\r\nHost: x\r\nContent-Length: 100000\r\nCookie: " + b"c" * 65_000 + b"\r\n\r\n"
    async with serving(Application()) as served:
        for piece in (1 << 20, 997):
            peer = await asked(served, head + b"b" * 100_000, piece)
            assert await answer(peer) == (200, b"/a " + b"b" * 100_000)


async def test_the_cost_of_a_head_is_linear() -> None:
    """A head in small pieces costs a piece what a piece costs, not what all before it cost."""
    async with serving(Application()) as served:
        peer = await served.socket()
        peer.writer.write(b"GET / HTTP/1.1\r\nHost: x\r\nCookie: ")
        await until(lambda: bool(served.connections), "the connection")
        (protocol,) = served.connections
        await until(lambda: protocol._part, "the head")
        fed = []

        class Counting:
            def feed_data(self, data: bytes) -> None:
                fed.append(len(data))

        protocol.parser = Counting()
        for _ in range(60_000):
            protocol.data_received(b"c")
        assert len(fed) < 20
        assert sum(fed) > 30_000


@pytest.mark.parametrize("piece", [1, 3, 50])
async def test_a_request_in_pieces(piece: int) -> None:
    """How the network cuts a request makes no difference."""
    data = b"POST /a HTTP/1.1\r\nHost: x\r\nContent-Length: 5\r\nX-Long: " + b"v" * 300 + b"\r\n\r\nhello" + get(b"/b")
    async with serving(Application()) as served:
        peer = await served.socket()
        await until(lambda: bool(served.connections), "the connection")
        (protocol,) = served.connections
        for start in range(0, len(data), piece):
            protocol.data_received(data[start : start + piece])
        assert await answer(peer) == (200, b"/a hello")
        assert await answer(peer) == (200, b"/b ")


async def test_trailers_have_a_size() -> None:
    """Trailers of a chunked body are no headers, and bounded."""
    head = b"POST /slow HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nhi\r\n0\r\n"
    application = Application()
    application.go.set()
    async with serving(application) as served:
        peer = await asked(served, head + b"X-Trailer: 1\r\n\r\n")
        assert await answer(peer) == (200, b"/slow hi")
        assert b"x-trailer" not in dict(application.headers)
        peer = await asked(served, head + b"X: y\r\n" * 30_000, 4096)
        assert (await answer(peer))[0] == 431
        assert await peer.end() == b""


# Deadlines


async def test_nothing_sent(monkeypatch: pytest.MonkeyPatch) -> None:
    """A connection on which nothing is sent is closed."""
    monkeypatch.setattr(http, "FIRST_BYTE_SECONDS", 0.05)
    before = refusals.refused[refusals.NOTHING_SENT]
    async with serving(Application()) as served:
        peer = await served.socket()
        assert await peer.end() == b""
        assert refusals.refused[refusals.NOTHING_SENT] == before + 1


@pytest.mark.parametrize("begun", [b"G", get(b"/")[:-2], UPGRADE[:-2], get(b"/a") + b"GET /"])
async def test_half_a_head(begun: bytes, monkeypatch: pytest.MonkeyPatch) -> None:
    """A head that does not end is answered 408 at its deadline, although bytes of it keep arriving."""
    monkeypatch.setattr(http, "HEAD_SECONDS", 0.2)
    before = refusals.refused[refusals.HEAD_TOO_SLOW]
    async with serving(Application()) as served:
        peer = await asked(served, begun)
        if begun.startswith(get(b"/a")):
            assert await answer(peer) == (200, b"/a ")

        def is_refused() -> bool:
            if begun != b"G":
                peer.writer.write(b"a")
            return refusals.refused[refusals.HEAD_TOO_SLOW] > before

        await until(is_refused, "the deadline")
        assert (await answer(peer))[0] == 408
        assert await peer.end() == b""


@pytest.mark.parametrize("path", [b"/a", b"/unread"])
async def test_half_a_body(path: bytes, monkeypatch: pytest.MonkeyPatch) -> None:
    """A body that does not end closes the connection at its deadline, read or unread, although bytes keep arriving. A
    request that was answered gets no second response."""
    monkeypatch.setattr(http, "BODY_SECONDS", 0.2)
    before = refusals.refused[refusals.BODY_TOO_SLOW]
    application = Application()
    async with serving(application) as served:
        peer = await asked(served, b"POST %b HTTP/1.1\r\nHost: x\r\nContent-Length: 100000\r\n\r\na" % path)
        if path == b"/unread":
            assert await answer(peer) == (200, b"unread")

        def is_refused() -> bool:
            peer.writer.write(b"a")
            return refusals.refused[refusals.BODY_TOO_SLOW] > before

        await until(is_refused, "the deadline")
        if path == b"/a":
            assert (await answer(peer))[0] == 408
        assert await peer.end() == b""
        assert application.gone == (path == b"/a")


async def test_an_idle_connection_keeps_no_head() -> None:
    """Between requests a connection holds nothing of the last one, whose head has up to 64 KB, and serves the next."""
    async with serving(Application()) as served:
        peer = await asked(served, get(b"/a?" + b"x" * 50_000, b"Cookie: " + b"y" * 10_000))
        assert (await answer(peer))[0] == 200
        (protocol,) = served.connections
        assert (protocol.url, protocol.scope, protocol.cycle.scope) == (b"", {}, {})
        peer.writer.write(get(b"/b") + get(b"/c"))
        assert [(await answer(peer))[0] for _ in range(2)] == [200, 200]
        peer.close()


async def test_one_timer(monkeypatch: pytest.MonkeyPatch) -> None:
    """A request that is answered in time leaves the keep-alive deadline alone; a body behind the answer renews it."""
    monkeypatch.setattr(http, "FIRST_BYTE_SECONDS", 0.5)
    monkeypatch.setattr(http, "HEAD_SECONDS", 0.5)
    monkeypatch.setattr(http, "BODY_SECONDS", 0.5)
    async with serving(Application(), timeout_keep_alive=1.0) as served:
        peer = await asked(served, b"POST /unread HTTP/1.1\r\nHost: x\r\nContent-Length: 2\r\n\r\n")
        assert await answer(peer) == (200, b"unread")
        (protocol,) = served.connections
        peer.writer.write(b"hi")
        await until(lambda: protocol._wait is Wait.NEXT_REQUEST, "the body")
        peer.writer.write(get(b"/a"))
        assert await answer(peer) == (200, b"/a ")
        peer.writer.write(b"\r\n")
        assert await peer.end() == b""


# Upgrades

H2C = b"Connection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\nHTTP2-Settings: AAEAAEAAAAIAAAABAAMAAABkAAQB\r\n"


@pytest.mark.parametrize("piece", [1 << 20, 7])
@pytest.mark.parametrize("is_chunked", [True, False])
async def test_an_offer_of_another_protocol_is_ignored(piece: int, is_chunked: bool) -> None:
    """A request that offers HTTP/2 is served as HTTP/1.1 with its body, in any form, and the connection goes on."""
    body = (
        b"Transfer-Encoding: chunked\r\n\r\n3\r\nhel\r\n2\r\nlo\r\n0\r\n\r\n"
        if is_chunked
        else b"Content-Length: 5\r\n\r\nhello"
    )
    application = Application()
    async with serving(application) as served:
        request = b"POST /a HTTP/1.1\r\nHost: x\r\nX-Own: 1\r\n" + H2C + body
        peer = await asked(served, request * 2 + get(b"/b"), piece)
        for expected in (b"/a hello", b"/a hello", b"/b "):
            assert await answer(peer) == (200, expected)
        peer.writer.write(request)
        assert await answer(peer) == (200, b"/a hello")
        assert dict(application.headers)[b"x-own"] == b"1"
        peer.writer.write(UPGRADE)
        assert (await peer.response())[0] == 101


@pytest.mark.parametrize("lines", [(b"keep-alive", b"Upgrade"), (b"Upgrade", b"keep-alive"), (b"keep-alive, Upgrade",)])
async def test_lines_of_connection_are_one_list(lines: tuple[bytes, ...]) -> None:
    """Several Connection headers mean the same as one with all their values."""
    connection = b"".join(b"Connection: %b\r\n" % line for line in lines)
    async with serving(Application()) as served:
        peer = await asked(served, UPGRADE.replace(b"Connection: Upgrade\r\n", connection))
        assert (await peer.response())[0] == 101


async def test_a_pipelined_upgrade_outlives_the_request_before_it() -> None:
    """The keep-alive deadline of an earlier request does not close a WebSocket."""
    application = Application()
    async with serving(application) as served:
        peer = await served.socket()
        await until(lambda: bool(served.connections), "the connection")
        protocols = list(served.connections)
        peer.writer.write(get(b"/a") + UPGRADE + client_frame(TEXT, b"early"))
        assert await answer(peer) == (200, b"/a ")
        assert (await peer.response())[0] == 101
        assert all(protocol.timeout_keep_alive_task is None for protocol in protocols)
        peer.send(TEXT, b"alive")
        recorder = application.fast_lane.recorders[0]
        assert await recorder.until_received(2) == [b"early", b"alive"]


async def test_a_pipelined_upgrade_waits_for_the_response_before_it() -> None:
    """The 101 comes behind the response of the request before it, and the early frames are not lost."""
    application = Application()
    async with serving(application) as served:
        peer = await asked(served, get(b"/slow") + UPGRADE + client_frame(TEXT, b"early"))
        await until(lambda: bool(application.bodies), "the request")
        assert not application.fast_lane.recorders
        application.go.set()
        assert await answer(peer) == (200, b"/slow ")
        assert (await peer.response())[0] == 101
        assert await application.fast_lane.recorders[0].until_received(1) == [b"early"]


# Ends


@pytest.mark.parametrize("data", [get(b"/slow"), get(b"/a") + get(b"/slow")])
async def test_a_half_closed_client_is_answered(data: bytes) -> None:
    """A client that ends its side behind its request gets the answer, and then the end."""
    application = Application()
    async with serving(application) as served:
        peer = await asked(served, data)
        peer.writer.write_eof()
        await until(lambda: len(application.bodies) == data.count(b"GET"), "the requests")
        application.go.set()
        if data.startswith(get(b"/a")):
            assert await answer(peer) == (200, b"/a ")
        assert await answer(peer) == (200, b"/slow ")
        assert await peer.end() == b""


async def test_a_half_closed_client_is_not_kept_for_ever(monkeypatch: pytest.MonkeyPatch) -> None:
    """A client that has ended its side, perhaps because it is gone, waits for its answer for a bounded time."""
    monkeypatch.setattr(http, "HALF_CLOSED_SECONDS", 0.05)
    async with serving(Application()) as served:
        peer = await asked(served, get(b"/slow"))
        peer.writer.write_eof()
        assert await peer.end() == b""
        await until(lambda: not served.connections, "the end")


@pytest.mark.parametrize("data", [get(b"/poll"), b"POST /a HTTP/1.1\r\nHost: x\r\nContent-Length: 9\r\n\r\nhi"])
async def test_a_poll_learns_that_the_client_is_gone(data: bytes, caplog: pytest.LogCaptureFixture) -> None:
    """An application that waits for its client's end hears of it, also in the middle of a body; there is no warning."""
    application = Application()
    with caplog.at_level(logging.WARNING):
        async with serving(application) as served:
            peer = await asked(served, data)
            await until(lambda: any(one.cycle for one in served.connections), "the request")
            peer.writer.write_eof()
            await until(lambda: application.gone == 1, "the client's end")
            assert await peer.end() == b""
    assert not caplog.records


async def test_unread_answers_meet_a_closed_socket(caplog: pytest.LogCaptureFixture) -> None:
    """Many pipelined requests whose client leaves without reading end without a traceback or a warning."""
    application = Application()
    with caplog.at_level(logging.WARNING):
        async with serving(application) as served:
            peer = await served.socket()
            peer.pause_reading()
            peer.writer.write(get(b"/large") * 300)
            await until(lambda: bool(served.connections), "the connection")
            (connection,) = served.connections
            await until(lambda: connection.flow.write_paused and connection.pipeline, "an answer that waits")
            peer.writer.transport.abort()
            await until(lambda: not served.connections, "the end")
            await until(lambda: not served.server.server_state.tasks, "the requests")
    assert not caplog.records
    assert len(application.bodies) < 300


@pytest.mark.parametrize("is_read", [True, False])
async def test_pipelined_requests_wait_as_bytes(is_read: bool) -> None:
    """Of a flood of pipelined requests few exist at a time, whether the answers are read or not; all are answered."""
    count = 5_000
    async with serving(Application()) as served:
        peer = await served.socket()
        if not is_read:
            peer.pause_reading()
        peer.writer.write(b"GET /a HTTP/1.1\r\n\r\n" * count)
        peer.writer.write_eof()
        await until(lambda: bool(served.connections), "the connection")
        (connection,) = served.connections
        most = 0

        def look() -> bool:
            nonlocal most
            most = max(most, len(connection.pipeline))
            # Unread answers fill the buffers of the sockets, which then hold the rest back.
            return bool(connection.transport.is_closing() or connection.flow.write_paused)

        await until(look, "the last answer, or the first that waits")
        assert 0 < most <= http.MAX_PIECE_BYTES // 18
        peer.resume_reading()
        answers = await peer.end()
        assert answers.count(b"HTTP/1.1 200 OK") == count


async def test_a_body_behind_another_request_has_no_deadline_yet() -> None:
    """While the server reads no body because another request is served first, the body's deadline does not run."""
    application = Application()
    async with serving(application) as served:
        peer = await served.socket()
        peer.writer.write(b"GET /slow HTTP/1.1\r\n\r\nPOST /a HTTP/1.1\r\nContent-Length: 2000\r\n\r\n")
        await until(lambda: application.bodies == [b""], "the first request")
        (connection,) = served.connections
        assert connection.pipeline
        assert connection.timeout_keep_alive_task is None
        application.go.set()
        assert await answer(peer) == (200, b"/slow ")
        assert connection.timeout_keep_alive_task is not None
        peer.writer.write(b"x" * 2000)
        assert (await answer(peer))[1] == b"/a " + b"x" * 2000


async def test_requests_that_wait_leave_nothing_behind() -> None:
    """A lost connection is freed at once, with the requests that never began: no collector is needed."""
    application = Application()
    gc.collect()
    gc.disable()
    try:
        async with serving(application) as served:
            peer = await served.socket()
            peer.writer.write(b"GET /slow HTTP/1.1\r\n\r\n" + b"GET /a HTTP/1.1\r\n\r\n" * 3)
            await until(lambda: application.bodies == [b""], "the first request")
            lost = [weakref.ref(connection) for connection in served.connections]
            # A reset: the end of its side alone would not mean that the client is gone.
            reset = struct.pack("ii", 1, 0)
            peer.writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, reset)
            peer.writer.transport.abort()
            await until(lambda: not served.connections, "the end of the connection")
            application.go.set()
            await until(lambda: [one() for one in lost] == [None], "the end of the connection's object")
    finally:
        gc.enable()


@pytest.mark.parametrize("behind", [UPGRADE + b"x" * (4 << 20), b"GET /a HTTP/1.1\r\n\r\n" * 250_000])
async def test_bytes_behind_a_poll_are_bounded(behind: bytes) -> None:
    """A request that asks whether its client is still there does not make the server read on without a bound."""
    application = Application()
    async with serving(application) as served:
        peer = await served.socket()
        peer.writer.write(b"GET /poll HTTP/1.1\r\n\r\n" + behind)
        # Its second question makes uvicorn read on.
        await until(lambda: application.polls > 0, "the poll")
        (connection,) = served.connections

        def held() -> int:
            return len(connection._early or b"") + len(connection._behind)

        await until(lambda: connection.flow.read_paused or held() > 1 << 20, "the pause")
        assert 0 < held() < 1 << 20
        # The client's end would be found behind its bytes.
        connection.transport.abort()


@pytest.mark.parametrize("head", [b"Connection: close", b"Connection: keep-alive"])
async def test_an_answer_that_is_not_read(head: bytes, monkeypatch: pytest.MonkeyPatch) -> None:
    """A client that reads nothing of its answer is cut off, also behind the end of its connection, and counted."""
    monkeypatch.setattr(http_unread, "UNREAD_SECONDS", 0.1)
    before = refusals.refused[refusals.ANSWER_UNREAD]
    async with serving(Application(), timeout_keep_alive=0.05) as served:
        peer = await served.socket()
        peer.pause_reading()
        peer.writer.write(get(b"/huge", head))
        await until(lambda: refusals.refused[refusals.ANSWER_UNREAD] > before, "the end of its patience")
        await until(lambda: not served.connections, "the end of the connection")
