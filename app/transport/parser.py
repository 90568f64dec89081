"""Reads client frames with picows, and lends its parsers to the connections.

A parser with its buffers weighs several KB and an idle connection needs none, so the connections of one server share
a few: a connection borrows one for each read and keeps it only while it has received half a frame. Knows nothing of
messages, closing or listeners, which belong to the connection.
"""

from collections.abc import Callable
from time import perf_counter
from typing import Any, Protocol

from picows.picows import (  # type: ignore[attr-defined]  # picows does not declare WSProtocol
    WSAutoPingStrategy,
    WSFrame,
    WSListener,
    WSProtocol,
    WSTransport,
)

from app.transport import frames

# The frames of one connection that are worked off in one turn of the loop, and their bytes.
MAX_FRAMES_A_TURN = 64
MAX_BYTES_A_TURN = 1 << 16
# Frames whose turn took longer are fewer in the next: their sender is to cost others as little as one of small frames.
_TURN_SECONDS = 0.0005
_MAX_SURE_BYTES = 6 * MAX_FRAMES_A_TURN
# picows doubles a full buffer; the first size holds the messages of phones.
_READ_BUFFER_BYTES = 4096
# A bound for returned parsers: more than one is in use only while connections keep theirs.
_MAX_IDLE_PARSERS = 8
# A parser with a larger buffer is dropped, since buffers never shrink.
_MAX_IDLE_BUFFER_BYTES = 1 << 18

# picows parses frames only behind a handshake. uvicorn has already read the real one, so each parser is shown this.
_HANDSHAKE = (
    b"GET / HTTP/1.1\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
    b"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\n\r\n"
)


class FrameReceiver(Protocol):
    """The connection whose bytes a parser reads, as the parser sees it."""

    def frame_received(self, frame: WSFrame) -> None:
        """Take one frame; it is valid only during the call."""

    def fail(self, code: int, reason: str) -> None:
        """Learn that the peer has broken the protocol; called after the frames in front of the breach."""


class _NoLogger:
    """Stands where picows expects a logger; lives as long as the module. picows would make a child logger each time."""

    def isEnabledFor(self, _level: int) -> bool:
        return False

    def _ignore(self, *_args: Any, **_kwargs: Any) -> None:
        pass

    debug = info = warning = error = exception = log = _ignore


class _Sink:
    """Stands where picows expects its asyncio transport; lives as long as its parser.

    picows writes there the answer of the handshake, or a close frame when the peer has broken the protocol: by that
    frame the parser learns of the breach.
    """

    __slots__ = ("written",)

    def __init__(self) -> None:
        self.written: bytes | None = None

    def get_extra_info(self, name: str, default: Any = None) -> Any:
        """Pose as the socket and, so that picows never writes to a file descriptor itself, as TLS."""
        return self if name in {"socket", "ssl_object"} else default

    def fileno(self) -> int:
        return -1

    def setsockopt(self, *_args: Any) -> None:
        pass

    def getsockopt(self, *_args: Any) -> int:
        return 0

    def get_write_buffer_size(self) -> int:
        return 0

    def write(self, data: bytes) -> None:
        self.written = bytes(data)

    def close(self) -> None:
        pass

    abort = close


class Parser(WSListener):
    """One picows parser; lives in its pool, or with the connection whose unfinished frame or rest it holds."""

    def __init__(self, max_frame_bytes: int) -> None:
        self.max_frame_bytes = max_frame_bytes
        self._receiver: FrameReceiver | None = None
        self._is_closed = False
        # The bytes of the unfinished frame that picows holds, and the first of them.
        self._unfinished_bytes = 0
        self._unfinished_head = b""
        # The bytes behind the frames of this turn, worked off up to the position.
        self._rest = bytearray()
        self._rest_position = 0
        self._frames_a_turn = MAX_FRAMES_A_TURN
        self._sink = _Sink()
        self._picows = WSProtocol(
            None, None, False, lambda _request: self, _NO_LOGGER, False, None,
            False, 0, 0, WSAutoPingStrategy.PING_WHEN_IDLE, False, max_frame_bytes, None, _READ_BUFFER_BYTES,
        )  # fmt: skip
        self._picows.connection_made(self._sink)
        self._get_buffer: Callable[[int], memoryview] = self._picows.get_buffer
        self._buffer_updated: Callable[[int], None] = self._picows.buffer_updated
        self._feed(_HANDSHAKE, 0, len(_HANDSHAKE))
        self._unfinished_bytes = 0
        self._sink.written = None

    def _feed(self, data: bytes | bytearray, start: int, end: int) -> None:
        while start < end:
            buffer = self._get_buffer(0)
            size = min(end - start, len(buffer))
            buffer[:size] = data if size == len(data) else memoryview(data)[start : start + size]
            # Unless a frame ends in these bytes, they belong to the unfinished frame.
            self._unfinished_bytes += size
            self._buffer_updated(size)
            start += size

    def on_ws_frame(self, _transport: WSTransport, frame: WSFrame) -> None:
        """Pass one whole frame on (picows calls this)."""
        self._unfinished_bytes = frame.tail_size
        self._receiver.frame_received(frame)  # type: ignore[union-attr]

    @property
    def has_rest(self) -> bool:
        """Whether bytes wait for the next turn: `read_on` reads them."""
        return bool(self._rest)

    def read(self, receiver: FrameReceiver, data: bytes) -> bool:
        """Report the whole frames in `data`, at most MAX_FRAMES_A_TURN; return True if no byte is left.

        More frames wait as the rest, and `data` joins a rest that waits already.
        """
        if self._rest:
            self._rest += data
            return False
        size = len(data)
        # So few bytes hold no more frames, since a client's frame has six bytes at least.
        began = perf_counter()
        end = size if size <= _MAX_SURE_BYTES else self._turn_end(data, 0)
        self._report(receiver, data, 0, end)
        if end < size and not self._is_closed:
            self._rest += memoryview(data)[end:]
            self._pace(perf_counter() - began)
            return False
        return self._unfinished_bytes == 0 and not self._is_closed

    def read_on(self, receiver: FrameReceiver) -> bool:
        """Report the next frames of the rest, as `read` does."""
        began = perf_counter()
        end = self._turn_end(self._rest, self._rest_position)
        self._report(receiver, self._rest, self._rest_position, end)
        if self._is_closed or end < len(self._rest):
            self._rest_position = end
            self._pace(perf_counter() - began)
            return False
        # A new one, since a bytearray keeps its memory.
        self._rest = bytearray()
        self._rest_position = 0
        self._frames_a_turn = MAX_FRAMES_A_TURN
        return self._unfinished_bytes == 0

    def _report(self, receiver: FrameReceiver, data: bytes | bytearray, start: int, end: int) -> None:
        """Feed one turn's frames to picows."""
        self._receiver = receiver
        self._feed(data, start, end)
        self._receiver = None
        if self._is_closed:
            self._release()
        elif self._sink.written is not None:
            breach = self._sink.written
            receiver.fail(int.from_bytes(breach[2:4], "big"), breach[4:].decode())
            self.close()
        elif self._unfinished_bytes:
            self._remember_head(data, start, end)

    def _turn_end(self, data: bytes | bytearray, start: int) -> int:
        """Return where the frames of one turn end."""
        if self._unfinished_bytes == 0:
            return frames.end_of_frames(data, start, self._frames_a_turn, MAX_BYTES_A_TURN)
        head = self._unfinished_head + data[start : start + frames.MAX_HEAD_BYTES]
        length = frames.frame_length(head, 0)
        next_frame = start + length - self._unfinished_bytes
        if length == 0 or next_frame >= len(data):
            return len(data)
        return frames.end_of_frames(data, next_frame, self._frames_a_turn - 1, MAX_BYTES_A_TURN)

    def _pace(self, seconds: float) -> None:
        if seconds > _TURN_SECONDS:
            self._frames_a_turn = max(1, self._frames_a_turn // 2)
        elif seconds < _TURN_SECONDS / 4:
            self._frames_a_turn = min(MAX_FRAMES_A_TURN, self._frames_a_turn * 2)

    def _remember_head(self, data: bytes | bytearray, start: int, end: int) -> None:
        begin = end - self._unfinished_bytes
        known = b"" if begin >= start else self._unfinished_head
        begin = max(begin, start)
        self._unfinished_head = (known + data[begin : min(end, begin + frames.MAX_HEAD_BYTES)])[: frames.MAX_HEAD_BYTES]

    def close(self) -> None:
        """Free the buffers, within a report at its end: picows and this object refer to each other."""
        self._is_closed = True
        if self._receiver is None:
            self._release()

    def _release(self) -> None:
        self._rest = bytearray()
        self._picows = self._get_buffer = self._buffer_updated = None  # type: ignore[assignment]

    @property
    def is_reusable(self) -> bool:
        """Whether a parser that holds nothing may read another connection: it has seen no close frame and is small."""
        return self._picows.transport.close_handshake is None and len(self._get_buffer(0)) <= _MAX_IDLE_BUFFER_BYTES


class ParserPool:
    """The idle parsers of a server's connections with one limit; lives as long as the server.

    Its parsers refuse longer frames than `max_frame_bytes` with 1009.
    """

    __slots__ = ("_idle", "_max_frame_bytes")

    def __init__(self, max_frame_bytes: int) -> None:
        self._max_frame_bytes = max_frame_bytes
        self._idle: list[Parser] = []

    def borrow(self) -> Parser:
        """Return a parser that holds nothing."""
        return self._idle.pop() if self._idle else Parser(self._max_frame_bytes)

    def give_back(self, parser: Parser) -> None:
        """Take back a parser that holds nothing; one too many, of another limit, or with a large buffer, is closed."""
        is_ours = parser.max_frame_bytes == self._max_frame_bytes
        if is_ours and len(self._idle) < _MAX_IDLE_PARSERS and parser.is_reusable:
            self._idle.append(parser)
        else:
            parser.close()


_NO_LOGGER = _NoLogger()
