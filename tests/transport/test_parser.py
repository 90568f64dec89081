"""The parsers on picows: their reports, when they hold bytes, when they may be used again."""

from typing import Any

from app.transport.parser import Parser, ParserPool
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
    assert Parser(1 << 20).read(receiver, data)
    assert receiver.reports[0] == (BINARY, b"x" * 1_000_000)
    assert receiver.reports[1:] == [(TEXT, b"a")] * 50_000


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
