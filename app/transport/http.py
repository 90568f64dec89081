"""uvicorn's HTTP protocol with bounds, repairs and one addition.

The bounds: a head has a size, and each wait for the client a deadline, with one timer for all. The repairs: bytes
behind an upgrade request are not lost; an offer to upgrade to anything but a WebSocket is ignored, as HTTP allows; an
upgrade waits for the responses before it; a client that ends its side behind its request gets its response. The
addition: an application may take the socket over for a response that goes on for long. Given to uvicorn as `http=`
class beside WebSocketProtocol; knows nothing of WebSockets. The names of uvicorn that this module overrides and uses
are listed in `internals`.
"""

import asyncio
from typing import Any, cast

import httptools
from uvicorn.protocols.http.httptools_impl import RequestResponseCycle
from uvicorn.protocols.utils import is_ssl

from app.transport import handshake, refusals, tls_text
from app.transport.http_cycle import Offer, RunningRequest, disconnect, drop, drop_all, forget_head, leave
from app.transport.http_head import HeadProtocol, check_target, refusal_of
from app.transport.http_upgrade import UpgradeProtocol
from app.transport.http_wait import Wait
from app.transport.share import share_of
from app.transport.streaming import EXTENSION, StreamSocket

#: The bytes of a request's head: request line and headers.
MAX_HEAD_BYTES = 1 << 16
#: The bytes behind the last byte of a chunked body: extensions of chunks, and trailers.
MAX_TRAILER_BYTES = 1 << 13
#: The time for the first byte of a connection, and for a head from its first byte on.
FIRST_BYTE_SECONDS = 10.0
HEAD_SECONDS = 30.0
#: The time for a body from its head on. Longer than the deadline of applications, whose answers say more: this one is
#: for the bodies that no application reads.
BODY_SECONDS = 40.0
#: The bytes of a read with several requests that the parser gets at once: it cannot stop within them.
MAX_PIECE_BYTES = 512
#: The time for the responses to a client that has ended its side: it cannot be told from one that has left.
HALF_CLOSED_SECONDS = 30.0
# The time in which a refused client has to read the answer, and the further bytes of it that are dropped meanwhile.
_LINGER_SECONDS = 2.0
_MAX_LINGER_BYTES = 1 << 20

# The look-up of a member in its enum costs more than the comparison.
_FIRST_BYTE, _HEAD, _BODY, _RESPONSE, _NEXT_REQUEST, _END = Wait


class HttpProtocol(UpgradeProtocol, HeadProtocol):
    """One HTTP connection of uvicorn; lives until it is closed or upgraded."""

    # Slots, since Python keeps the attributes of an object in a slower form from the 31st on, and uvicorn has 28.
    __slots__ = (
        "_behind",
        "_early",
        "_has_end_behind",
        "_head_bytes",
        "_held",
        "_ignores_upgrade",
        "_is_half_closed",
        "_is_upgrade",
        "_part",
        "_running",
        "_trailer_bytes",
        "_unasked_bytes",
        "_wait",
    )

    def __init__(self, *arguments: Any, **named: Any) -> None:
        super().__init__(*arguments, **named)
        # None: a message has begun since the last look.
        self._wait: Wait | None = None
        # The part of a request that has begun and not ended: _HEAD, _BODY or None.
        self._part: Wait | None = None
        # The bytes of the unfinished head that the parser has, and those that it gets with the next ones.
        self._head_bytes = 0
        self._held = bytearray()
        self._trailer_bytes = 0
        # The bytes behind a refused request.
        self._unasked_bytes = 0
        # The request whose response is being made.
        self._running: RunningRequest | None = None
        # Whether the client has ended its side.
        self._is_half_closed = False
        # Whether the request is an upgrade, and whether the one that it offers is ignored.
        self._is_upgrade = self._ignores_upgrade = False
        # The bytes behind requests that wait for responses, and whether the client's end is behind them.
        self._behind, self._has_end_behind = b"", False
        # The bytes behind an upgrade request that waits for the responses before it.
        self._early: bytes | None = None

    def new_parser(self) -> httptools.HttpRequestParser:
        """A parser for this connection."""
        parser = httptools.HttpRequestParser(self)
        # As in uvicorn: a client may send its next request before the answer that closes the connection.
        parser.set_dangerous_leniencies(lenient_data_after_close=True)
        return parser

    # Called by the event loop

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Begin to wait for the first byte."""
        super().connection_made(transport)
        self._wait_for(_FIRST_BYTE)

    def data_received(self, data: bytes) -> None:
        """Read requests. Many small pieces of a header reach the parser in few, since it copies what it has."""
        if self._early is not None:
            self._early += data
            self.flow.pause_reading()
        elif self._behind:
            self._behind += data
            self.flow.pause_reading()
        elif self._wait is not _END:
            if self._part is _HEAD:
                data = self._joined(data)
            self._parse(data)
            self._look()
        else:
            self._unasked_bytes += len(data)
            if self._unasked_bytes > _MAX_LINGER_BYTES:
                self.transport.abort()

    def eof_received(self) -> bool | None:  # type: ignore[override]
        """Answer the whole requests and close then; a client in the middle of a request is gone."""
        if self._behind and not is_ssl(self.transport):
            self._has_end_behind = self._is_half_closed = True
            if self._running is not None:
                self._running.half_close()
            return True
        cycle = cast("RequestResponseCycle | None", self.cycle)
        if cycle is None or cycle.response_complete or cycle.more_body or is_ssl(self.transport):
            return None
        self._early = None
        self._close_behind_responses()
        self._is_half_closed = True
        if self._running is not None:
            self._running.half_close()
        self._wait_for(_END)
        self.timeout_keep_alive_task = self.loop.call_later(HALF_CLOSED_SECONDS, self.transport.abort)
        return True

    def connection_lost(self, exc: Exception | None) -> None:
        """Tell all requests in hand: their responses would meet a closed socket."""
        self._wait_for(_END)
        self._early = None
        self._behind = b""
        drop_all(self.pipeline)
        if self._running is not None:
            disconnect(self._running.cycle)
            self._running = None
        super().connection_lost(exc)

    # Reading

    def _joined(self, data: bytes) -> bytes:
        """Return the bytes for the parser: none until a line ends, or as many wait as the parser has."""
        self._held += data
        size = len(self._held)
        if b"\n" not in data and size < self._head_bytes and size + self._head_bytes < MAX_HEAD_BYTES:
            return b""
        held, self._held = self._held, bytearray()
        return bytes(held)

    def _parse(self, data: bytes) -> None:
        limit = MAX_HEAD_BYTES
        # The look for the last end of a line costs next to nothing, and spares large bodies the count.
        if len(data) > MAX_PIECE_BYTES < data.rfind(b"\r") and data.count(b"\r\n\r\n") > 1:
            limit = MAX_PIECE_BYTES
        while data and self._wait is not _END:
            if self.pipeline:
                # The rest waits as bytes, most of it in the kernel.
                self._behind = data
                self.flow.pause_reading()
                return
            if self._part is _BODY:
                piece = data[:limit]
                self._trailer_bytes += len(piece)
            else:
                piece = data[: min(limit, MAX_HEAD_BYTES - self._head_bytes)]
                self._head_bytes += len(piece)
            try:
                self.parser.feed_data(piece)
            except httptools.HttpParserUpgrade as upgrade:
                data = self._upgrade_offered(piece[upgrade.args[0] :] + data[len(piece) :])
            except httptools.HttpParserError as error:
                self.logger.warning("Invalid HTTP request received.")
                self._refuse(*refusal_of(error))
            else:
                data = data[len(piece) :]
                if self._head_bytes >= MAX_HEAD_BYTES or self._trailer_bytes > MAX_TRAILER_BYTES:
                    self._check_sizes()

    def _read_on(self) -> None:
        if not self._behind:
            return
        behind, self._behind = self._behind, b""
        self.flow.resume_reading()
        self._parse(behind)
        self._look()
        if self._has_end_behind and not self._behind and not self.eof_received():
            self.transport.close()

    def _check_sizes(self) -> None:
        if self._part is not _BODY and self._head_bytes >= MAX_HEAD_BYTES:
            self._refuse(431, refusals.HEAD_TOO_LARGE, f"expected at most {MAX_HEAD_BYTES} bytes of request head")
        elif self._part is _BODY and self._trailer_bytes > MAX_TRAILER_BYTES:
            self._refuse(431, refusals.TRAILERS_TOO_LARGE, f"expected at most {MAX_TRAILER_BYTES} bytes of trailers")

    # Called by the parser

    def on_message_begin(self) -> None:
        """Begin a head."""
        super().on_message_begin()
        self._wait = None
        self._part = _HEAD

    def on_headers_complete(self) -> None:
        """Begin to serve the request, whose task runs after this turn, with an offer to stream its response."""
        check_target(self.url)
        self._part = _BODY
        self._head_bytes = self._trailer_bytes = 0
        if self.parser.should_upgrade():
            self._is_upgrade = self.offers_websocket()
            self._ignores_upgrade = not self._is_upgrade and self.parser.get_method() != b"CONNECT"
            if self._is_upgrade or self._ignores_upgrade:
                return
        before = self.cycle
        super().on_headers_complete()
        if (cycle := self.cycle) is not before:
            self.scope["extensions"] = cast("Any", {EXTENSION: Offer(self, cycle), **tls_text.entry(self.transport)})
            # For the headers behind a chunked body: the request is served already.
            self.headers = []

    def on_body(self, body: bytes) -> None:
        """Take bytes of the body."""
        self._trailer_bytes = 0
        super().on_body(body)

    def on_message_complete(self) -> None:
        """End the request's body."""
        self._part = None
        if not self._ignores_upgrade and not self._is_upgrade:
            super().on_message_complete()

    # Deadlines

    def _look(self) -> None:
        """Set the deadline of the present wait, unless it is set already."""
        if self._wait is not _END:
            wait = self._present_wait()
            if wait is not self._wait:
                self._wait_for(wait)

    def _present_wait(self) -> Wait:
        if self._part is not None:
            # Behind a request that waits the client is not read.
            return _RESPONSE if self.pipeline else self._part
        if self.cycle is None:
            return _FIRST_BYTE
        return _NEXT_REQUEST if self.cycle.response_complete else _RESPONSE

    def _wait_for(self, wait: Wait) -> None:
        self._wait = wait
        if self.timeout_keep_alive_task is not None:
            self._unset_keepalive_if_required()
        if wait is _NEXT_REQUEST:
            handler = self.timeout_keep_alive_handler
            self.timeout_keep_alive_task = self.loop.call_later(self.timeout_keep_alive, handler)
        elif wait is not _RESPONSE and wait is not _END:
            seconds = HEAD_SECONDS if wait is _HEAD else BODY_SECONDS if wait is _BODY else FIRST_BYTE_SECONDS
            self.timeout_keep_alive_task = self.loop.call_later(seconds, self._deadline_passed)

    def _deadline_passed(self) -> None:
        self.timeout_keep_alive_task = None
        if self._wait is _HEAD:
            self._refuse(408, refusals.HEAD_TOO_SLOW, f"expected the request head within {HEAD_SECONDS:g} seconds")
        elif self._wait is _BODY:
            self._refuse(408, refusals.BODY_TOO_SLOW, f"expected the body within {BODY_SECONDS:g} seconds")
        else:
            refusals.refused[refusals.NOTHING_SENT] += 1
            self.transport.close()

    # Refusing

    def _refuse(self, status: int, reason: str, text: str) -> None:
        """Read no more requests, answer with the status if this request has no response yet, and close."""
        refusals.refused[reason] += 1
        self._wait_for(_END)
        self._held, self._behind = bytearray(), b""
        cycle = cast("RequestResponseCycle | None", self.cycle)
        if cycle is not None and self._part is _BODY and not cycle.response_complete:
            if self._running is None or self._running.cycle is not cycle:
                drop(self.pipeline.popleft()[0])
            elif cycle.response_started:
                leave(cycle)
                return
            else:
                self._running = None
            disconnect(cycle)
        if self._running is not None:
            self._close_behind_responses()
            return
        if cycle is None or self._part is not _BODY or not cycle.response_complete:
            self.transport.write(handshake.refusal(status, text.encode(), list(self.server_state.default_headers)))
        self._linger()

    def _linger(self) -> None:
        """Close once the client has ended its side: a reset, at its further bytes, would destroy the answer."""
        if not self.transport.can_write_eof():
            self.transport.close()
            return
        self.transport.write_eof()
        self.flow.resume_reading()
        self.timeout_keep_alive_task = self.loop.call_later(_LINGER_SECONDS, self.transport.abort)

    def _close_behind_responses(self) -> None:
        if self.pipeline:
            self.pipeline[0][0].keep_alive = False
        elif self._running is not None:
            self._running.cycle.keep_alive = False

    # Called by uvicorn

    def _start_asgi_task(self, cycle: Any, app: Any) -> None:
        self._running = RunningRequest(cycle, app, self._is_half_closed)
        super()._start_asgi_task(cycle, self._running)

    def on_response_complete(self) -> None:
        """Go on with the requests behind this one."""
        self._running = None
        super().on_response_complete()
        if self._wait is _END or self.transport.is_closing():
            return
        if self._behind:
            self.flow.pause_reading()
            if not self.pipeline:
                self.loop.call_soon(self._read_on)
        if self._running is None and self._part is None:
            self._wait = _NEXT_REQUEST  # uvicorn has set the deadline
        else:
            self._wait = None
            self._look()
        if self._early is not None and self._running is None:
            early, self._early = self._early, None
            self._hand_over(early)
        elif self._wait is _NEXT_REQUEST:
            forget_head(self)

    def take_over(self, cycle: RequestResponseCycle) -> StreamSocket | None:
        """Release the socket for good, None when it is lost; requests behind this one are not served."""
        if cycle.disconnected or self.transport.is_closing():
            return None
        if self._is_half_closed:
            leave(cycle)
            return None
        # As after a complete response: uvicorn then does nothing more for the request.
        cycle.response_started = cycle.response_complete = True
        drop_all(self.pipeline)
        self._running, self._early, self._behind = None, None, b""
        self._wait_for(_END)
        self.end_watch()
        self.flow.resume_reading()
        self.connections.discard(self)
        self.parser = None  # type: ignore[assignment]  # as uvicorn itself does at the connection's end
        flusher = share_of(self.server_state).flusher
        is_chunked = cycle.scope["http_version"] != "1.0"
        return StreamSocket(self.transport, flusher, self.connections, is_chunked, self.flow.write_paused)

    # Upgrades

    def _upgrade_offered(self, behind: bytes) -> bytes:
        """Upgrade, or go on with HTTP; return the bytes to be parsed."""
        if not self._ignores_upgrade:
            if self._running is None:
                self._hand_over(behind)
            else:
                self._early = behind
                self.flow.pause_reading()
            return b""
        # The parser has skipped the body: another one reads the request without the offer.
        self._ignores_upgrade = False
        version = self.parser.get_http_version().encode()
        line = b"%b %b HTTP/%b" % (self.parser.get_method(), self.url, version)
        head = handshake.head_without_offer(line, self.headers)
        self.parser = self.new_parser()
        return head + behind

    def _hand_over(self, early: bytes) -> None:
        # A deadline of an earlier request would close the WebSocket.
        self._wait_for(_END)
        self.upgrade(early)
