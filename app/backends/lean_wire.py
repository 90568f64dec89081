"""`LeanWire`: one connection that carries one exchange of HTTP/1.1 at a time, read by httptools."""

import asyncio
from collections.abc import Callable
from functools import partial

import httptools
from msgspec import Struct

from app.backends.exchange import BackendError, Header, cause_of

_MAX_HEAD_BYTES = 65_536
#: Interim answers (1xx) before the answer. RFC 9110, 15.2, names no bound.
_MAX_INTERIM = 8
#: The bytes of an answer for each byte of its longest body. A chunk may have one byte, and a head of some more.
_MAX_WIRE_FACTOR = 8


class WireAnswer(Struct):
    """An answer as it came. Lives until it is read."""

    status: int
    headers: list[Header]
    body: bytes
    #: Whether the body is the whole one. A longer one than may be is not read to its end.
    is_whole: bool


class LeanWire(asyncio.Protocol):
    """The protocol of the connection. Lives until either side closes it."""

    def __init__(self, max_body_bytes: int) -> None:
        self.is_open = False
        self.idle_since = 0.0
        #: Whether a byte of an answer has come since the last request.
        self.has_read = False
        self._max_body_bytes = max_body_bytes
        self._transport: asyncio.Transport | None = None
        self._parser = httptools.HttpResponseParser(self)
        #: Gets the answer, or the error, of the exchange under way.
        self._receive: Receive | None = None
        self._outcome: WireAnswer | BackendError | None = None
        #: Set while the peer reads more slowly than `write` brings.
        self._drained: asyncio.Future[None] | None = None
        self._has_length = False
        self._wire_bytes = self._interim = 0
        self._begin_answer()

    def ask(self, request: bytes) -> "asyncio.Future[WireAnswer]":
        """Sends a request, or its begin; the future gets its answer, or a BackendError."""
        waiter: asyncio.Future[WireAnswer] = asyncio.get_running_loop().create_future()
        self.ask_for(request, partial(_settle, waiter))
        return waiter

    def ask_for(self, request: bytes, receive: "Receive") -> None:
        """Sends a request, or its begin; `receive` is called with its answer, or a BackendError, once."""
        assert self._transport is not None, "a connection is asked once it is made"
        self._receive = receive
        self.has_read = False
        self._wire_bytes = self._interim = 0
        self._begin_answer()
        if self.is_open:
            self._transport.write(request)
        else:
            self._fail("connection failed", "ConnectionClosed")
            self._deliver()

    async def write(self, data: bytes) -> None:
        """Sends more of a request, and waits until the peer reads it."""
        if self.is_open and self._transport is not None:
            self._transport.write(data)
        if self._drained is not None:
            await self._drained

    def close(self) -> None:
        """Closes the connection at once."""
        self.is_open = False
        if self._transport is not None:
            self._transport.abort()

    # From the transport

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Keep the transport."""
        self._transport = transport  # type: ignore[assignment]  # that of a stream
        self.is_open = True

    def data_received(self, data: bytes) -> None:
        """Read a part of the answer. Bytes that nobody has asked for end the connection."""
        if self._receive is None:
            # Also those that no answer begins with: empty lines, and interim answers without end.
            self.close()
            return
        self.has_read = True
        self._wire_bytes += len(data)
        try:
            self._parser.feed_data(data)
        except httptools.HttpParserUpgrade:
            self.close()
        except httptools.HttpParserError as error:
            self._fail("not an HTTP answer", type(error).__name__)
        if self._outcome is None:
            self._check_bounds()
        elif self._has_begun:
            self.close()
        self._deliver()

    def connection_lost(self, exc: Exception | None) -> None:
        """End the exchange under way. A body without a length ends with its connection (RFC 9112, 6.3)."""
        self.is_open = False
        self.resume_writing()
        if exc is None and self._has_head and not self._has_length:
            self._end(is_last=True)
        self._fail("connection failed", cause_of(exc or ConnectionResetError()))
        self._deliver()

    def pause_writing(self) -> None:
        """Hold `write` back."""
        self._drained = asyncio.get_running_loop().create_future()

    def resume_writing(self) -> None:
        """Let `write` go on."""
        if self._drained is not None and not self._drained.done():
            self._drained.set_result(None)
        self._drained = None

    # From the parser

    def on_message_begin(self) -> None:
        """Note that bytes of an answer have come."""
        self._has_begun = True

    def on_header(self, name: bytes, value: bytes) -> None:
        """Keep it. A body has a length, or is chunked, or ends with its connection."""
        if self._has_head:
            return  # a trailer
        self._headers.append((name, value))
        if name.lower() in (b"content-length", b"transfer-encoding"):
            self._has_length = True

    def on_headers_complete(self) -> None:
        """Note the status."""
        self._status = self._parser.get_status_code()
        self._has_head = True

    def on_body(self, body: bytes) -> None:
        """Collect it."""
        self._body_bytes += len(body)
        self._body.append(body)

    def on_message_complete(self) -> None:
        """End the answer, unless it is an interim one."""
        if 100 <= self._status < 200 and self._status != 101:
            self._interim += 1
            self._begin_answer()
        else:
            self._end(is_last=not self._parser.should_keep_alive())

    # The answer

    def _begin_answer(self) -> None:
        self._has_begun = self._has_head = self._has_length = False
        self._status = self._body_bytes = 0
        self._headers: list[Header] = []
        self._body: list[bytes] = []

    def _is_too_long(self) -> bool:
        most = self._max_body_bytes
        return self._body_bytes > most or self._wire_bytes > _MAX_HEAD_BYTES + _MAX_WIRE_FACTOR * most

    def _check_bounds(self) -> None:
        if self._is_too_long():
            self._end(is_last=True)
        elif self._interim > _MAX_INTERIM or (not self._has_head and self._wire_bytes > _MAX_HEAD_BYTES):
            self._fail("not an HTTP answer", "HeadTooLong")

    def _end(self, is_last: bool) -> None:
        if is_last:
            self.close()
        if self._receive is not None and self._outcome is None:
            self._has_begun = False
            body = b"".join(self._body)
            self._outcome = WireAnswer(self._status, self._headers, body, not self._is_too_long())

    def _fail(self, reason: str, cause: str) -> None:
        self.close()
        if self._receive is not None and self._outcome is None:
            self._outcome = BackendError(reason, cause, was_answered=False)

    def _deliver(self) -> None:
        """Tell the outcome. Not within a call of the parser, which would take an error there for one of the answer."""
        receive, outcome = self._receive, self._outcome
        if receive is not None and outcome is not None:
            self._receive = self._outcome = None
            receive(outcome)


Receive = Callable[[WireAnswer | BackendError], None]


def _settle(waiter: "asyncio.Future[WireAnswer]", outcome: WireAnswer | BackendError) -> None:
    if waiter.done():
        return
    if isinstance(outcome, BackendError):
        waiter.set_exception(outcome)
    else:
        waiter.set_result(outcome)
