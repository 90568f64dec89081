"""uvicorn's HTTP protocol with one thing mended, bytes behind an upgrade request are not lost, and one added: an
application may take the socket over for a response that goes on for long.

Given to uvicorn as `http=` class beside WebSocketProtocol; knows nothing of WebSockets.
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
    """The StreamOffer of one request, in whose scope it stands: it keeps neither the request nor its connection."""

    __slots__ = ("_cycle", "_protocol")

    def __init__(self, protocol: "HttpProtocol", cycle: RequestResponseCycle) -> None:
        # Each leads back to this: were they held, only the garbage collector would free them.
        self._protocol = weakref.ref(protocol)
        self._cycle = weakref.ref(cycle)

    def take_over(self) -> StreamSocket | None:
        """The socket; see `StreamOffer`."""
        protocol, cycle = self._protocol(), self._cycle()
        return None if protocol is None or cycle is None else protocol.take_over(cycle)


class HttpProtocol(HttpToolsProtocol):
    """One HTTP connection of uvicorn; lives until it is closed or upgraded."""

    _received = b""

    def data_received(self, data: bytes) -> None:
        """Read requests, remembering what the socket gave in case it holds more than an upgrade request."""
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
        """Let go of the socket for good, None when it is lost: nothing that comes behind this request is served."""
        if cycle.disconnected or self.transport.is_closing():
            return None
        # As after a response that is complete: uvicorn then leaves the rest alone.
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
        # uvicorn calls this where it handles the exception that says where the request ended.
        upgrade = sys.exception()
        super().handle_websocket_upgrade()
        protocol = cast(asyncio.Protocol, self.transport.get_protocol())
        if self.flow.write_paused:
            # Told to this protocol, which is not asked any more.
            protocol.pause_writing()
        if isinstance(upgrade, httptools.HttpParserUpgrade):
            early = self._received[upgrade.args[0] :]
            if early:
                protocol.data_received(early)
        # It refers to this object: without the cycle both are freed now, not at some garbage collection.
        self.parser = None  # type: ignore[assignment]  # as uvicorn itself does at the connection's end
