"""HTTP responses that go on for long: their bytes go straight to the socket through the outbox, without a task each.

The HTTP connection puts a `StreamOffer` into the scope's extensions. Knows nothing of the content.
"""

import asyncio
import http
from collections.abc import Sequence
from typing import Any, Protocol

from msgspec import Struct

from app.transport.listener import Header
from app.transport.outbox import OUTBOX_FULL, Outbox, TurnFlusher, closings

EXTENSION = "recado.stream"

CLIENT_LEFT = "client left"
#: The time in which a peer has to read the bytes before the end.
_END_TIMEOUT_SECONDS = 5.0
#: A client of a stream has no reason to send more on its connection.
_MAX_UNASKED_BYTES = 1 << 16


class StreamHead(Struct, frozen=True):
    """The head of a response."""

    headers: Sequence[Header]
    status: int = 200
    #: With more bytes waiting for the socket the stream is cut off.
    max_outbox_bytes: int = 1_000_000


class StreamListener(Protocol):
    """The writer of a stream, which is told of its end."""

    def stream_ended(self, reason: str) -> None:
        """Learn that the response is over, ended by either side; called once."""

    def stream_drained(self) -> None:
        """Learn that a slow socket has taken all waiting bytes."""


class StreamingResponse(Outbox):
    """The body of a response, from its head to the loss of the socket; no other code closes the socket.

    `write_frame` takes bytes in the form for the socket: where `is_chunked`, chunks of HTTP/1.1.
    """

    __slots__ = ("_connections", "_end_timer", "_is_ending", "_listener", "_reason", "_unasked_bytes", "is_chunked")

    def __init__(self, socket: "StreamSocket", listener: StreamListener) -> None:
        super().__init__(socket.transport, socket.flusher)
        self._connections = socket.connections
        self._listener: StreamListener | None = listener
        self.is_chunked = socket.is_chunked
        if socket.is_slow:
            self.begin_slow()
        self._is_ending = False
        self._reason = CLIENT_LEFT
        self._unasked_bytes = 0
        self._end_timer: asyncio.TimerHandle | None = None

    def end(self, reason: str) -> None:
        """End the response behind the waiting bytes; a peer that does not read them is cut off after a while."""
        if self._is_ending:
            return
        if self.is_chunked:
            self.write_frame(b"0\r\n\r\n")
        self.flush()
        # The flush may have ended the stream, by an overflow.
        if not self._is_ending:
            self._is_ending = True
            self._reason = reason
            self._accepts_frames = False
            self._end_timer = asyncio.get_running_loop().call_later(_END_TIMEOUT_SECONDS, self._transport.abort)
            self._transport.close()

    def shutdown(self) -> None:
        """End the response because uvicorn stops."""
        self.end("server stopped")

    def data_received(self, data: bytes) -> None:
        """Drop bytes that the client sends behind its request, and cut off a client that sends many."""
        self._unasked_bytes += len(data)
        if self._unasked_bytes > _MAX_UNASKED_BYTES:
            self._cut_off("client talks")

    def eof_received(self) -> None:
        """Let the transport close: the client has left."""

    def resume_writing(self) -> None:
        """Tell the listener that the socket has drained."""
        super().resume_writing()
        if self._listener is not None:
            self._listener.stream_drained()

    def connection_lost(self, exc: Exception | None) -> None:
        """Tell the listener of the end and release everything."""
        self._is_ending = True
        self._accepts_frames = False
        self.discard_collected()
        self._connections.discard(self)
        if self._end_timer is not None:
            self._end_timer.cancel()
            self._end_timer = None
        listener, self._listener = self._listener, None
        if listener is not None:
            listener.stream_ended(self._reason)

    def outbox_overflowed(self) -> None:
        """Cut off a client that does not read."""
        if not self._is_ending:
            closings[OUTBOX_FULL] += 1
        self._cut_off(OUTBOX_FULL)

    def _cut_off(self, reason: str) -> None:
        if not self._is_ending:
            self._is_ending = True
            self._reason = reason
        self._accepts_frames = False
        self._transport.abort()


class StreamSocket(Struct, frozen=True):
    """A socket that an HTTP connection has released. Lives while it is taken over."""

    transport: asyncio.Transport
    flusher: TurnFlusher
    #: The server's set of connections, which it counts and asks to shut down.
    connections: set[Any]
    #: Whether the client understands chunks.
    is_chunked: bool
    #: Whether the client has not read the answers to its earlier requests.
    is_slow: bool


class StreamOffer(Protocol):
    """The way for an application to take a request's socket over; made for each request, lives as long as that."""

    def take_over(self) -> StreamSocket | None:
        """Return the socket; None when the client has left. The request's body must have been read."""


class StatusLine(Protocol):
    """The status line of the response to a request, beside the StreamOffer; lives as long as the request."""

    def give_reason(self, reason: str) -> None:
        """Put this reason behind the status of a response that has not begun. Characters that it cannot hold become
        `?`."""


class AnswerWatch(Protocol):
    """The way of a long answer that an application sends in pieces; lives as long as the request."""

    @property
    def is_gone(self) -> bool:
        """Whether the client has left: further pieces reach nobody."""

    def cut_off(self) -> None:
        """Break the answer off, so that the client sees that it is not whole. The application returns then."""


class Shortcut(Protocol):
    """The way of a short request and its short answer past the messages of ASGI; lives as long as the request."""

    def take_body(self) -> bytes | None:
        """Take the body if all of it has arrived; None: it is to be received."""

    def answer(self, headers: bytes, body: bytes) -> bool:
        """Write the whole answer with the status 200. `headers` are lines with their ends, without the length. False:
        nothing is written, the answer is to be sent."""


def open_stream(offer: StreamOffer, head: StreamHead, listener: StreamListener) -> StreamingResponse | None:
    """Begin a response that goes on for long; None when the client has left."""
    socket = offer.take_over()
    if socket is None:
        return None
    stream = StreamingResponse(socket, listener)
    socket.connections.add(stream)
    socket.transport.set_protocol(stream)
    stream.open_outbox(head.max_outbox_bytes)
    framing = [(b"transfer-encoding", b"chunked")] if socket.is_chunked else []
    # Leaves in one write with the listener's first bytes.
    stream.write_frame(_head_bytes(head.status, [*head.headers, *framing, (b"connection", b"close")]))
    return stream


def _head_bytes(status: int, headers: Sequence[Header]) -> bytes:
    line = b"HTTP/1.1 %d %s\r\n" % (status, http.HTTPStatus(status).phrase.encode())
    return line + b"".join(b"%s: %s\r\n" % header for header in headers) + b"\r\n"
