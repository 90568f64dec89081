"""The parsers on picows: their reports, when they hold bytes, when they may be used again."""

import gc
import weakref
from collections.abc import Callable
from typing import Any

import pytest

from app.transport import parser as parser_module
from app.transport.parser import MAX_FRAMES_A_TURN, Parser, ParserPool
from tests.transport.serving import BINARY, CLOSE, TEXT, client_frame, close_payload


class _Receiver:
    """Remembers the reports of a parser."""

    def __init__(self) -> None:
        self.reports: list[Any] = []

    def frame_received(self, frame: Any) -> None:
        self.reports.append((int(frame.msg_type), frame.get_payload_as_bytes()))

    def fail(self, code: int, reason: str) -> None:
        self.reports.append((code, bool(reason)))


async def test_whole_frames_leave_nothing() -> None:
    """Whole frames are reported in order and the parser is free again."""
    receiver = _Receiver()
    parser = Parser(1000)
    assert parser.read(receiver, client_frame(TEXT, b"a") + client_frame(BINARY, b"b"))
    assert receiver.reports == [(TEXT, b"a"), (BINARY, b"b")]
    assert parser.is_reusable


async def test_half_a_frame_is_held() -> None:
    """A parser says that it holds half a frame, until the other half has come."""
    receiver = _Receiver()
    parser = Parser(1000)
    data = client_frame(TEXT, b"a") + client_frame(TEXT, b"b" * 200)
    assert not parser.read(receiver, data[:8])
    assert not parser.read(receiver, data[8:20])
    assert parser.read(receiver, data[20:])
    assert receiver.reports == [(TEXT, b"a"), (TEXT, b"b" * 200)]


async def test_a_read_may_be_bigger_than_the_buffer() -> None:
    """A read of any size passes, in any number of frames."""
    receiver = _Receiver()
    data = client_frame(BINARY, b"x" * 1_000_000) + client_frame(TEXT, b"a") * 50_000
    parser = Parser(1 << 20)
    assert not parser.read(receiver, data)
    assert len(receiver.reports) == 1, "a large frame is the work of a turn"
    assert _read_whole(parser, receiver)
    assert receiver.reports[0] == (BINARY, b"x" * 1_000_000)
    assert receiver.reports[1:] == [(TEXT, b"a")] * 50_000


def _read_whole(parser: Parser, receiver: _Receiver) -> bool:
    is_empty = False
    while parser.has_rest:
        before = len(receiver.reports)
        is_empty = parser.read_on(receiver)
        assert len(receiver.reports) <= before + MAX_FRAMES_A_TURN
    return is_empty


class _SlowReceiver(_Receiver):
    """Needs a fixed time for each frame, by its own clock."""

    def __init__(self) -> None:
        super().__init__()
        self.now = 0.0
        self.seconds = 0.001

    def frame_received(self, frame: Any) -> None:
        self.now += self.seconds
        super().frame_received(frame)

    def turn(self, read: Callable[[], object]) -> int:
        """The frames that a turn of the parser reports."""
        before = len(self.reports)
        read()
        return len(self.reports) - before


async def test_slow_frames_are_fewer_in_a_turn(monkeypatch: pytest.MonkeyPatch) -> None:
    """The frames of a turn are halved while turns take long, down to one, and are as many as before later on."""
    receiver = _SlowReceiver()
    monkeypatch.setattr(parser_module, "perf_counter", lambda: receiver.now)
    parser = Parser(1 << 20)
    data = client_frame(TEXT, b"a") * 2_000

    def read_on() -> int:
        return receiver.turn(lambda: parser.read_on(receiver))

    assert receiver.turn(lambda: parser.read(receiver, data)) == 64
    assert [read_on() for _ in range(8)] == [32, 16, 8, 4, 2, 1, 1, 1]
    receiver.seconds = 0.0
    assert [read_on() for _ in range(8)] == [1, 2, 4, 8, 16, 32, 64, 64]
    receiver.seconds = 0.001
    while parser.has_rest:
        read_on()
    assert receiver.turn(lambda: parser.read(receiver, data)) == 64, "the next flood begins as the first"


@pytest.mark.parametrize("piece", [1, 5, 7, 13, 200, 1000, 4096, 100_000])
async def test_a_turn_has_a_bound_however_the_bytes_are_cut(piece: int) -> None:
    """No turn reports more frames than its bound, and every frame is reported in order, also begun ones."""
    receiver = _Receiver()
    payloads = [b"x" * size for size in [*range(150), 65535, 70_000, *[1] * 500, 200, *[0] * 300]]
    data = b"".join(client_frame(BINARY, payload) for payload in payloads)
    parser = Parser(1 << 20)
    is_empty = True
    for start in range(0, len(data), piece):
        before = len(receiver.reports)
        is_empty = parser.read(receiver, data[start : start + piece])
        assert len(receiver.reports) <= before + MAX_FRAMES_A_TURN
        if parser.has_rest:
            is_empty = _read_whole(parser, receiver)
    assert is_empty
    assert receiver.reports == [(BINARY, payload) for payload in payloads]


async def test_what_comes_behind_a_rest_waits() -> None:
    """Bytes that arrive while a rest waits are read behind it."""
    receiver = _Receiver()
    parser = Parser(1000)
    texts = [str(number).encode() for number in range(300)]
    for start in range(0, 300, 100):
        parser.read(receiver, b"".join(client_frame(TEXT, text) for text in texts[start : start + 100]))
    assert len(receiver.reports) == MAX_FRAMES_A_TURN
    assert _read_whole(parser, receiver)
    assert receiver.reports == [(TEXT, text) for text in texts]


@pytest.mark.parametrize("payload_bytes", [200_000, 900_000])
async def test_a_closed_parser_frees_its_buffers_at_once(payload_bytes: int) -> None:
    """A parser with half a frame, and one that came back big, are freed without the garbage collector."""
    receiver = _Receiver()
    pool = ParserPool(1 << 20)
    gc.disable()
    try:
        parser = pool.borrow()
        parser.read(receiver, client_frame(BINARY, bytes(payload_bytes))[:-1])
        half = weakref.ref(parser)
        parser.close()
        del parser
        assert half() is None
        parser = pool.borrow()
        assert parser.read(receiver, client_frame(BINARY, bytes(1_000_000)))
        big = weakref.ref(parser)
        pool.give_back(parser)
        del parser
        assert big() is None
    finally:
        gc.enable()


async def test_a_breach_is_reported_behind_the_frames_before_it() -> None:
    """Whole frames before a breach count; code and reason of the breach follow."""
    receiver = _Receiver()
    assert not Parser(100).read(receiver, client_frame(TEXT, b"a") + client_frame(TEXT, b"b" * 101))
    assert receiver.reports == [(TEXT, b"a"), (1009, True)]


async def test_the_pool_lends_what_came_back_clean() -> None:
    """A parser is lent again unless it has read a close frame or grown big."""
    receiver = _Receiver()
    pool = ParserPool(1 << 20)
    parser = pool.borrow()
    assert parser.read(receiver, client_frame(TEXT, b"a"))
    pool.give_back(parser)
    assert pool.borrow() is parser
    assert parser.read(receiver, client_frame(CLOSE, close_payload(1000)))
    pool.give_back(parser)
    big = pool.borrow()
    assert big is not parser
    assert big.read(receiver, client_frame(BINARY, b"x" * 1_000_000))
    pool.give_back(big)
    assert pool.borrow() is not big
