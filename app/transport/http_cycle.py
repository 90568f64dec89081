"""One request that an application serves under uvicorn, with a client that may have ended its side of the connection.

Knows nothing of the bytes on the wire. The names of uvicorn that this module uses are listed in `internals`.
"""

import asyncio
import re
import weakref
from collections import deque
from typing import Any, cast

from uvicorn.protocols.http.httptools_impl import RequestResponseCycle

from app.transport.streaming import StreamSocket

_MAX_REASON_BYTES = 200
_OK = b"HTTP/1.1 200 OK\r\n"
_UNPRINTABLE = re.compile(rb"[^ -~]")


class RunningRequest:
    """The application of one request, as uvicorn calls it; lives until the response is complete.

    A client that has ended its side may wait for the answer, or be gone. It counts as gone for an application that
    waits for its leaving, as a poll does, once that has all of the body.
    """

    __slots__ = ("_app", "_is_half_closed", "_is_read", "cycle")

    def __init__(self, cycle: RequestResponseCycle, app: Any, is_half_closed: bool) -> None:
        self.cycle = cycle
        self._app = app
        self._is_half_closed = is_half_closed
        self._is_read = False

    async def __call__(self, scope: Any, _receive: Any, send: Any) -> Any:
        """Run the application."""
        return await self._app(scope, self._receive, send)

    def half_close(self) -> None:
        """Learn that the client has ended its side."""
        self._is_half_closed = True
        self.cycle.message_event.set()

    async def _receive(self) -> Any:
        if self._is_read and self._is_half_closed:
            return self._leave()
        message = await self.cycle.receive()
        if message["type"] == "http.request":
            if self._is_read and self._is_half_closed:
                return self._leave()
            self._is_read = not message["more_body"]
        return message

    def _leave(self) -> Any:
        leave(self.cycle)
        return {"type": "http.disconnect"}


class Offer:
    """The StreamOffer, StatusLine, AnswerWatch and Shortcut in the scope of one request. It keeps neither the request
    nor its connection alive."""

    __slots__ = ("_cycle", "_protocol")

    def __init__(self, protocol: Any, cycle: RequestResponseCycle) -> None:
        # Both refer to this object: with strong references only the garbage collector would free them.
        self._protocol = weakref.ref(protocol)
        self._cycle = weakref.ref(cycle)

    def take_over(self) -> StreamSocket | None:
        """Take the socket over; see `StreamOffer`."""
        protocol, cycle = self._protocol(), self._cycle()
        if protocol is None or cycle is None:
            return None
        socket: StreamSocket | None = protocol.take_over(cycle)
        return socket

    @property
    def is_gone(self) -> bool:
        """Whether the client has left; see `AnswerWatch`."""
        cycle = self._cycle()
        return cycle is None or cycle.disconnected

    def cut_off(self) -> None:
        """Break the answer off; see `AnswerWatch`."""
        cycle = self._cycle()
        if cycle is not None and not cycle.response_complete:
            disconnect(cycle)
            cycle.transport.abort()

    def take_body(self) -> bytes | None:
        """Take the body, if it is here; see `Shortcut`."""
        cycle = self._cycle()
        if cycle is None or cycle.more_body or cycle.disconnected:
            return None
        body, cycle.body = bytes(cycle.body), bytearray()
        cycle.flow.resume_reading()
        return body

    def answer(self, headers: bytes, body: bytes) -> bool:
        """Answer with the status 200, if nothing is in the way; see `Shortcut`."""
        cycle = self._cycle()
        if cycle is None or cycle.disconnected or cycle.response_started or not cycle.keep_alive:
            return False
        if cycle.flow.write_paused or cycle.default_headers:
            return False
        # As uvicorn's `send` does for the two messages of a response.
        cycle.response_started = cycle.response_complete = True
        cycle.waiting_for_100_continue = False
        cycle.transport.write(b"%b%bcontent-length: %d\r\n\r\n%b" % (_OK, headers, len(body), body))
        cycle.message_event.set()
        cycle.on_response()
        return True

    def give_reason(self, reason: str) -> None:
        """Name the reason in the status line; see `StatusLine`."""
        cycle = self._cycle()
        if cycle is not None and not cycle.response_started:
            cycle.transport = cast(asyncio.Transport, _WithReason(cycle, reason_phrase(reason)))


class _WithReason:
    """Stands for the transport of a request until its status line is written, and puts a reason into that.

    uvicorn takes the status line from a table by the status alone.
    """

    __slots__ = ("_cycle", "_reason", "_transport")

    def __init__(self, cycle: RequestResponseCycle, reason: bytes) -> None:
        # The request refers to this object: see `Offer`.
        self._cycle = weakref.ref(cycle)
        self._transport = cycle.transport
        self._reason = reason

    def write(self, data: bytes) -> None:
        """Write the head of the response."""
        cycle = self._cycle()
        if cycle is not None:
            cycle.transport = self._transport
        line, end, rest = data.partition(b"\r\n")
        version, status, _ = line.split(b" ", 2)
        self._transport.write(b" ".join((version, status, self._reason)) + end + rest)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._transport, name)


def reason_phrase(reason: str) -> bytes:
    """The reason as a status line carries it: printable ASCII, not too long."""
    return _UNPRINTABLE.sub(b"?", reason.encode("ascii", "replace")[:_MAX_REASON_BYTES]).strip()


def forget_head(protocol: Any) -> None:
    """Free the head of the answered request: a connection that waits for the next one would keep 64 KB twice."""
    protocol.scope = protocol.cycle.scope = {}
    protocol.url = b""


def leave(cycle: RequestResponseCycle) -> None:
    """Close the connection of a request without a response."""
    disconnect(cycle)
    cycle.transport.close()


def disconnect(cycle: RequestResponseCycle) -> None:
    """Tell a request that its client is gone: nothing is written any more."""
    if not cycle.response_complete:
        cycle.disconnected = True
        cycle.message_event.set()


def drop(cycle: RequestResponseCycle) -> None:
    """Disconnect a request that no application serves: it refers to the connection, and the connection to it."""
    disconnect(cycle)
    cycle.on_response = _do_nothing


def drop_all(pipeline: deque[Any]) -> None:
    """Drop the requests that wait."""
    while pipeline:
        drop(pipeline.pop()[0])


def _do_nothing() -> None:
    pass
