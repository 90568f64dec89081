"""One connection: answers in parts, without a length, behind interim ones, encoded, and what is no answer."""

import asyncio
import gzip
import zlib
from collections.abc import Callable
from typing import Any, cast

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.backends.exchange import MAX_ANSWER_BYTES, BackendAnswer, BackendError
from app.backends.lean_pool import body_of
from app.backends.lean_wire import LeanWire
from tests.backends.conftest import http_answer

REQUEST = b"GET / HTTP/1.1\r\n\r\n"
CHUNKED = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"


class Transport:
    """A transport that remembers, and that tells the loss of the connection when the test says so."""

    def __init__(self) -> None:
        self.written = b""
        self.is_aborted = False

    def write(self, data: bytes) -> None:
        """Remember."""
        self.written += data

    def abort(self) -> None:
        """Remember."""
        self.is_aborted = True


class Case:
    """A connection that has been asked once."""

    def __init__(self) -> None:
        self.wire = LeanWire(MAX_ANSWER_BYTES)
        self.transport = Transport()
        self.wire.connection_made(cast(Any, self.transport))
        self.answer = self.wire.ask(REQUEST)

    def read(self, data: bytes, part: int = 1_000_000) -> None:
        """Bring the bytes in parts, as long as the connection is open."""
        for at in range(0, len(data), part):
            if self.wire.is_open:
                self.wire.data_received(data[at : at + part])

    def outcome(self) -> BackendAnswer | str:
        """The answer, or the reason why there is none."""
        try:
            answer = self.answer.result()
            return BackendAnswer(answer.status, body_of(answer) if answer.status == 200 else b"")
        except BackendError as error:
            return str(error)


@pytest.mark.parametrize("part", [1, 7, 1_000_000])
@pytest.mark.parametrize(
    "answer",
    [
        http_answer(b'["a"]'),
        CHUNKED + b'2\r\n["\r\n3;x=y\r\na"]\r\n0\r\nX-Trailer: 1\r\n\r\n',
        b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\n" + http_answer(b'["a"]'),
        http_answer(gzip.compress(b'["a"]'), "200 OK", "content-encoding: gzip"),
        http_answer(zlib.compress(b'["a"]'), "200 OK", "Content-Encoding: deflate"),
        http_answer(zlib.compress(b'["a"]', wbits=-15), "200 OK", "Content-Encoding: deflate"),
        http_answer(b'["a"]', "200 OK", "Content-Encoding: identity"),
    ],
    ids=["length", "chunked", "interim", "gzip", "deflate", "raw deflate", "identity"],
)
async def test_an_answer(answer: bytes, part: int) -> None:
    """An answer is whole however its bytes come in, and the connection serves for the next one."""
    case = Case()
    case.read(answer, part)
    assert case.outcome() == BackendAnswer(200, b'["a"]')
    assert case.wire.is_open
    case.answer = case.wire.ask(REQUEST)
    assert not case.wire.has_read
    case.read(answer, part)
    assert case.outcome() == BackendAnswer(200, b'["a"]')
    assert case.transport.written == 2 * REQUEST


@pytest.mark.parametrize(
    ("answer", "expected"),
    [
        (b"HTTP/1.0 200 OK\r\nContent-Length: 2\r\n\r\n[]", BackendAnswer(200, b"[]")),
        (b"HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 2\r\n\r\n[]", BackendAnswer(200, b"[]")),
        (b"HTTP/1.1 101 Hello\r\nConnection: upgrade\r\nUpgrade: websocket\r\n\r\n\x81\0", BackendAnswer(101, b"")),
        (http_answer(b"[]") + b"HTTP/1.1 200 OK\r\n", BackendAnswer(200, b"[]")),
        (http_answer(b"x" * 2 * MAX_ANSWER_BYTES, "403 Forbidden"), BackendAnswer(403, b"")),
    ],
    ids=["1.0", "close", "upgrade", "one more answer", "long refusal"],
)
async def test_the_last_answer(answer: bytes, expected: BackendAnswer) -> None:
    """An answer after which the connection serves for no other."""
    case = Case()
    case.read(answer, 65_536)
    assert case.outcome() == expected
    assert not case.wire.is_open
    assert case.transport.is_aborted


async def test_a_body_without_a_length() -> None:
    """The end of the connection ends such a body; a broken connection does not."""
    for error, expected in ((None, BackendAnswer(200, b"[]")), (ConnectionResetError(), "connection failed")):
        case = Case()
        case.read(b"HTTP/1.1 200 OK\r\n\r\n[")
        case.read(b"]")
        assert not case.answer.done()
        case.wire.connection_lost(error)
        assert case.outcome() == expected


@pytest.mark.parametrize("seen", [b"", b"HTTP/1.1 2", http_answer(b"[]")[:-1], CHUNKED + b"2\r\n[]\r\n"])
async def test_an_answer_that_breaks_off(seen: bytes) -> None:
    """The end of the connection in the middle of an answer is a failure."""
    case = Case()
    case.read(seen)
    case.wire.connection_lost(None)
    assert case.outcome() == "connection failed"
    assert case.wire.has_read == bool(seen)


TOO_LONG = f"answer longer than {MAX_ANSWER_BYTES} bytes"
NO_HTTP = "not an HTTP answer"
UNDECODED = "answer could not be decoded"


@pytest.mark.parametrize(
    ("answer", "reason"),
    [
        (b"SSH-2.0-OpenSSH_9.2\r\n", NO_HTTP),
        (b"HTTP/1.1 200 OK\r\n" + b"X: 1\r\n" * 20_000, NO_HTTP),
        (b"HTTP/1.1 200 OK\r\nX: " + b"x" * 100_000, NO_HTTP),
        (b"HTTP/1.1 102 Processing\r\n\r\n" * 9, NO_HTTP),
        (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nContent-Length: 2\r\n\r\n[]", NO_HTTP),
        (CHUNKED + b"1\r\nx\r\n" * (MAX_ANSWER_BYTES + 1), TOO_LONG),
        (CHUNKED + b"1;" + b"x" * 9 * MAX_ANSWER_BYTES, TOO_LONG),
        (http_answer(b"[]", "200 OK", "Content-Encoding: br"), UNDECODED),
        (http_answer(gzip.compress(b"[]")[:-1], "200 OK", "Content-Encoding: gzip"), UNDECODED),
    ],
    ids=["ssh", "many headers", "long header", "interim", "two lengths", "chunks", "extension", "br", "cut gzip"],
)
async def test_no_usable_answer(answer: bytes, reason: str) -> None:
    """Bytes that are no answer, or too many, are refused with a reason."""
    case = Case()
    case.read(answer, 65_536)
    assert case.outcome() == reason


async def test_a_bomb_is_not_unpacked() -> None:
    """A compressed body is unpacked to the bound at most."""
    case = Case()
    case.read(http_answer(gzip.compress(b"\0" * 200_000_000, 1), "200 OK", "Content-Encoding: gzip"))
    assert case.outcome() == TOO_LONG


@pytest.mark.parametrize("more", [http_answer(b'["of another user"]'), b"HTTP/1.1 103 Hints\r\n\r\n", b"\r\n"])
async def test_bytes_that_nobody_asked_for(more: bytes) -> None:
    """Bytes on an idle connection close it: the next answer would be another's, and others could come without end."""
    case = Case()
    case.read(http_answer(b"[]"))
    case.read(more)
    assert case.outcome() == BackendAnswer(200, b"[]")
    assert not case.wire.is_open


async def test_a_peer_that_speaks_first() -> None:
    """Bytes before the first request close the connection, and the request fails."""
    wire, transport = LeanWire(MAX_ANSWER_BYTES), Transport()
    wire.connection_made(cast(Any, transport))
    wire.data_received(http_answer(b'["of nobody"]'))
    assert transport.is_aborted
    with pytest.raises(BackendError, match="connection failed"):
        await wire.ask(REQUEST)


async def test_a_caller_that_has_left() -> None:
    """An answer for a cancelled caller reaches nobody."""
    case = Case()
    case.answer.cancel()
    case.read(http_answer(b"[]"))
    assert case.answer.cancelled()


@given(st.binary(max_size=300), st.sampled_from([b"", b"HTTP/1.1 200 OK\r\n", CHUNKED]), st.integers(1, 40))
def test_any_bytes(noise: bytes, begin: bytes, part: int) -> None:
    """No bytes raise past the connection, and a second connection that gets them in one part ends alike."""

    async def end_of(part: int) -> Callable[[], Any]:
        case = Case()
        case.read(begin + noise, part)
        case.wire.connection_lost(None)
        return case.outcome

    ends = [asyncio.run(end_of(part))() for part in (part, 10_000)]
    assert ends[0] == ends[1]
    assert isinstance(ends[0], BackendAnswer) or ends[0] in (NO_HTTP, "connection failed", UNDECODED)


def test_errors_are_ours() -> None:
    """A failure is a BackendError, of which only a reason and a class are told."""

    async def fail() -> BaseException | None:
        case = Case()
        case.read(b"\x16\x03\x01\0\0")
        return case.answer.exception()

    error = asyncio.run(fail())
    assert isinstance(error, BackendError)
    assert (error.cause, error.was_answered) == ("HttpParserError", False)
