"""uvicorn's HTTP protocol with one repair and one addition.

The repair: bytes behind an upgrade request are not lost. The addition: an application may take the socket over for a
response that goes on for long. Given to uvicorn as `http=` class beside WebSocketProtocol; knows nothing of WebSockets.
The names of uvicorn that this module overrides and uses are listed in `internals`.
"""

import asyncio
import sys
import weakref
from typing import Any, cast

import httptools
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol, RequestResponseCycle

from app.transport.share import share_of
from app.transport.streaming import EXTENSION, StreamSocket


class Offer:
    """The StreamOffer in the scope of one request; it keeps neither the request nor its connection alive."""

    __slots__ = ("_cycle", "_protocol")

    def __init__(self, protocol: "HttpProtocol", cycle: RequestResponseCycle) -> None:
        # Both refer to this object: with strong references only the garbage collector would free them.
        self._protocol = weakref.ref(protocol)
        self._cycle = weakref.ref(cycle)

    def take_over(self) -> StreamSocket | None:
        """Take the socket over; see `StreamOffer`."""
        protocol, cycle = self._protocol(), self._cycle()
        return None if protocol is None or cycle is None else protocol.take_over(cycle)


class HttpProtocol(HttpToolsProtocol):
    """One HTTP connection of uvicorn; lives until it is closed or upgraded."""

    _received = b""

    def data_received(self, data: bytes) -> None:
        """Read requests; keep the bytes meanwhile, in case they hold more than an upgrade request."""
        self._received = data
        super().data_received(data)
        self._received = b""

    def on_headers_complete(self) -> None:
        """Begin to serve the request, whose task runs after this turn, with an offer to stream its response."""
        before = self.cycle
        super().on_headers_complete()
        cycle = self.cycle
        if cycle is not before:
            extensions: dict[str, Any] = {EXTENSION: Offer(self, cycle)}
            self.scope["extensions"] = extensions

    def take_over(self, cycle: RequestResponseCycle) -> StreamSocket | None:
        """Release the socket for good, None when it is lost; requests behind this one are not served."""
        if cycle.disconnected or self.transport.is_closing():
            return None
        # As after a complete response: uvicorn then does nothing more for the request.
        cycle.response_started = cycle.response_complete = True
        self.pipeline.clear()
        self._unset_keepalive_if_required()
        self.flow.resume_reading()
        self.connections.discard(self)
        self.parser = None  # type: ignore[assignment]  # as uvicorn itself does at the connection's end
        flusher = share_of(self.server_state).flusher
        is_chunked = cycle.scope["http_version"] != "1.0"
        return StreamSocket(self.transport, flusher, self.connections, is_chunked, self.flow.write_paused)

    def handle_websocket_upgrade(self) -> None:
        """Hand the socket over, with the frames that a hasty client has sent behind its request."""
        # uvicorn calls this while it handles the exception that tells the end of the request.
        upgrade = sys.exception()
        super().handle_websocket_upgrade()
        protocol = cast(asyncio.Protocol, self.transport.get_protocol())
        if self.flow.write_paused:
            # asyncio told this protocol, which no longer owns the socket.
            protocol.pause_writing()
        if isinstance(upgrade, httptools.HttpParserUpgrade):
            early = self._received[upgrade.args[0] :]
            if early:
                protocol.data_received(early)
        # The parser refers to this object: without the cycle both are freed now, not by a later garbage collection.
        self.parser = None  # type: ignore[assignment]  # as uvicorn itself does at the connection's end
