"""HTTP responses that go on for long: their bytes go straight to the socket through the outbox, without a task each.

The HTTP connection offers `StreamOffer` in the scope's extensions; under another ASGI server `AsgiStream` does the same
the ordinary way. Knows nothing of what is written.
"""

import asyncio
import http
from collections import deque
from collections.abc import Awaitable, Callable, MutableMapping, Sequence
from typing import Any, Protocol

from msgspec import Struct

from app.transport.handshake import Header
from app.transport.outbox import OUTBOX_FULL, Outbox, TurnFlusher, closings

EXTENSION = "recado.stream"

CLIENT_LEFT = "client left"
#: How long a peer may take to read what was written before the end.
_END_TIMEOUT_SECONDS = 5.0
#: A client of a stream has nothing more to say on its connection.
_MAX_UNASKED_BYTES = 1 << 16


class StreamHead(Struct, frozen=True):
    """What a response begins with."""

    headers: Sequence[Header]
    status: int = 200
    #: When more bytes than this wait for the socket the stream is cut off.
    max_outbox_bytes: int = 1_000_000


class StreamListener(Protocol):
    """Who is told what becomes of a stream."""

    def stream_ended(self, reason: str) -> None:
        """The response is over, whoever ended it; called once."""

    def stream_drained(self) -> None:
        """What waited for a slow socket is written."""


class StreamingResponse(Outbox):
    """The body of a response, from its head to the loss of the socket; nobody else closes that.

    `write_frame` takes bytes as they go to the socket: where `is_chunked`, chunks of HTTP/1.1.
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
        """Ends the response behind what waits; a peer that does not read it is cut off after a while."""
        if self._is_ending:
            return
        if self.is_chunked:
            self.write_frame(b"0\r\n\r\n")
        self.flush()
        # An overflow has ended it by now.
        if not self._is_ending:
            self._is_ending = True
            self._reason = reason
            self._accepts_frames = False
            self._end_timer = asyncio.get_running_loop().call_later(_END_TIMEOUT_SECONDS, self._transport.abort)
            self._transport.close()

    def shutdown(self) -> None:
        """uvicorn stops."""
        self.end("server stopped")

    def data_received(self, data: bytes) -> None:
        """Nothing that the client says behind its request is of interest."""
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
        """Tell the listener of the end and let go of everything."""
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
    """A socket that an HTTP connection has let go of. Lives while it is taken over."""

    transport: asyncio.Transport
    flusher: TurnFlusher
    #: Those that the server counts and asks to shut down.
    connections: set[Any]
    #: Whether the client understands chunks.
    is_chunked: bool
    #: Whether the client has not read what was answered before.
    is_slow: bool


class StreamOffer(Protocol):
    """Lets an application take a request's socket over; made for each request, it lives as long as that."""

    def take_over(self) -> StreamSocket | None:
        """The socket; None when the client has left. The request's body must have been read."""


def open_stream(offer: StreamOffer, head: StreamHead, listener: StreamListener) -> StreamingResponse | None:
    """Begins a response that goes on for long; None when the client has left."""
    socket = offer.take_over()
    if socket is None:
        return None
    stream = StreamingResponse(socket, listener)
    socket.connections.add(stream)
    socket.transport.set_protocol(stream)
    stream.open_outbox(head.max_outbox_bytes)
    framing = [(b"transfer-encoding", b"chunked")] if socket.is_chunked else []
    # Leaves in one write with what the listener has to say at once.
    stream.write_frame(_head_bytes(head.status, [*head.headers, *framing, (b"connection", b"close")]))
    return stream


def _head_bytes(status: int, headers: Sequence[Header]) -> bytes:
    line = b"HTTP/1.1 %d %s\r\n" % (status, http.HTTPStatus(status).phrase.encode())
    return line + b"".join(b"%s: %s\r\n" % header for header in headers) + b"\r\n"


class AsgiStream:
    """The same over ASGI's receive and send, for other servers; lives as long as `run`, which its opener awaits."""

    is_chunked = False

    def __init__(self, listener: StreamListener, max_outbox_bytes: int) -> None:
        self._listener = listener
        self._max_outbox_bytes = max_outbox_bytes
        self._waiting: deque[bytes] = deque()
        self._waiting_bytes = 0
        self._changed = asyncio.Event()
        self._end_reason: str | None = None
        self._cut_off = asyncio.Event()

    @property
    def is_slow(self) -> bool:
        """Whether something waits to be sent."""
        return bool(self._waiting)

    def write_frame(self, frame: bytes) -> None:
        """Lets bytes follow those before."""
        if self._end_reason is not None:
            return
        self._waiting.append(frame)
        self._waiting_bytes += len(frame)
        if len(self._waiting) > 1 and self._waiting_bytes > self._max_outbox_bytes:
            closings[OUTBOX_FULL] += 1
            self._end_reason = OUTBOX_FULL
            self._cut_off.set()
        self._changed.set()

    def end(self, reason: str) -> None:
        """Ends the response behind what waits."""
        self._end_reason = self._end_reason or reason
        self._changed.set()

    async def run(
        self,
        head: StreamHead,
        receive: Callable[[], Awaitable[MutableMapping[str, Any]]],
        send: Callable[[MutableMapping[str, Any]], Awaitable[None]],
    ) -> None:
        """Sends until the end or until the client has left."""
        sending = asyncio.create_task(self._send_all(head, send))
        leaving = asyncio.create_task(_left(receive))
        cut_off = asyncio.create_task(self._cut_off.wait())
        try:
            await asyncio.wait((sending, leaving, cut_off), return_when=asyncio.FIRST_COMPLETED)
        finally:
            for task in (sending, leaving, cut_off):
                task.cancel()
            await asyncio.gather(sending, leaving, cut_off, return_exceptions=True)
            reason, self._end_reason = self._end_reason or CLIENT_LEFT, "over"
            self._listener.stream_ended(reason)

    async def _send_all(self, head: StreamHead, send: Callable[[MutableMapping[str, Any]], Awaitable[None]]) -> None:
        await send({"type": "http.response.start", "status": head.status, "headers": list(head.headers)})
        while True:
            while self._waiting:
                data = b"".join(self._waiting)
                await send({"type": "http.response.body", "body": data, "more_body": True})
                # What is being sent waits until it is sent.
                sent = 0
                while sent < len(data):
                    sent += len(self._waiting.popleft())
                self._waiting_bytes -= sent
            self._listener.stream_drained()
            if self._end_reason is not None:
                break
            self._changed.clear()
            await self._changed.wait()
        await send({"type": "http.response.body", "body": b""})


async def _left(receive: Callable[[], Awaitable[MutableMapping[str, Any]]]) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass


Stream = StreamingResponse | AsgiStream
