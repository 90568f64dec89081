"""One WebSocket: messages in to a listener, frames out through the outbox, the closing handshake (RFC 6455).

Knows nothing of HTTP, uvicorn or ASGI: the upgrade request is answered behind `Upgrade`.
"""

import asyncio
import logging
from collections.abc import Callable
from typing import Any

from picows import WSFrame

from app.transport import frames
from app.transport.connection_state import Fragments, State
from app.transport.listener import Header, Listener, Upgrade
from app.transport.outbox import OUTBOX_FULL, Outbox, closings
from app.transport.parser import MAX_BYTES_A_TURN, Parser, ParserPool
from app.transport.share import ServerShare

logger = logging.getLogger(__name__)

_payload_of_short_text = frames.payload_of_short_text

# The time in which a peer has to answer our close frame, or to read the bytes before it.
CLOSE_TIMEOUT_SECONDS = 5.0


# The look-up of a member in its enum costs more than all other steps on the way of a frame.
_UPGRADING, _OPEN, _CLOSING, _SHUT, _CLOSED = State


class WebSocketConnection(Outbox):
    """One WebSocket from its upgrade request to the loss of its socket; no other code closes the socket.

    Methods never raise towards the caller and do nothing once the connection is closed.
    """

    __slots__ = (
        "_close_code",
        "_close_reason",
        "_close_timer",
        "_fragments",
        "_is_paused",
        "_is_reading_on",
        "_listener",
        "_max_message_bytes",
        "_parser",
        "_parsers",
        "_reads_on",
        "_share",
        "_state",
        "_upgrade",
    )

    def __init__(self, transport: asyncio.Transport, share: ServerShare, upgrade: Upgrade) -> None:
        super().__init__(transport, share.flusher)
        self._share = share
        # None once the request is answered, or cannot be answered any more.
        self._upgrade: Upgrade | None = upgrade
        self._state = _UPGRADING
        self._listener: Listener | None = None
        self._max_message_bytes: int
        self._parsers: ParserPool
        # Both are set only while a message is half received, the parser also while a rest of a read waits.
        self._parser: Parser | None = None
        self._fragments: Fragments | None = None
        # Whether the listener has paused reading, and whether the rest is read in the next turn.
        self._is_paused = False
        self._is_reading_on = False
        # Whether messages are passed on until the peer's close frame, although ours has left.
        self._reads_on = False
        self._close_code = frames.CLOSE_ABNORMAL
        self._close_reason = ""
        self._close_timer: asyncio.TimerHandle | None = None

    # Called by the application

    @property
    def closed(self) -> bool:
        """Whether either side has begun to close: no message passes any more."""
        return self._state is not _OPEN and self._state is not _UPGRADING

    @property
    def is_upgrading(self) -> bool:
        """Whether the upgrade request is not answered yet."""
        return self._state is _UPGRADING

    def is_heard_by(self, listener: Listener) -> bool:
        """Tell whether this is the listener of the messages."""
        return self._listener is listener

    def accept(
        self,
        listener: Listener,
        *,
        max_message_bytes: int,
        max_outbox_bytes: int,
        subprotocol: str | None = None,
        headers: list[Header] | None = None,
    ) -> None:
        """Answer 101 in one write with the frames of this turn; messages reach the listener from the next turn on.

        A message over `max_message_bytes` closes with 1009, more than `max_outbox_bytes` of waiting frames with 1008.
        """
        upgrade = self._upgrade
        if upgrade is None:
            # The peer left, or the server stops. The listener learns it as any other end, not within this call.
            asyncio.get_running_loop().call_soon(listener.connection_lost, frames.CLOSE_ABNORMAL, "")
            return
        answer, self._upgrade = upgrade.accept(subprotocol, headers or []), None
        self._state = _OPEN
        self._listener = listener
        self.limit_message(max_message_bytes)
        self._share.connections.add(self)
        self._transport.set_protocol(self)
        self.open_outbox(max_outbox_bytes)
        self.write_frame(answer)
        if early := upgrade.take_early_bytes():
            # These bytes come first: the socket must not be read before them.
            self._transport.pause_reading()
            asyncio.get_running_loop().call_soon(self._receive_early, early)

    def reject(self, status: int = 403, body: bytes = b"", headers: list[Header] | None = None) -> None:
        """Answer the upgrade request with this HTTP status instead of accepting it."""
        if self._upgrade is not None:
            self._upgrade.write_refusal(status, body, headers or [])
            self._upgrade = None
            self._state = _CLOSING
            self._close_transport()

    def hand_over(self) -> tuple[asyncio.Transport, bytes, set[Any]] | None:
        """Release a socket whose upgrade request is not answered; None when it is answered, or the peer has left.

        Return the transport, the bytes that the peer has sent behind its request, and the server's set of connections,
        which it asks to shut down.
        """
        upgrade, self._upgrade = self._upgrade, None
        if upgrade is None:
            return None
        self._state = _CLOSED
        return self._transport, upgrade.hand_over(), self._share.connections

    def write_text(self, payload: bytes) -> None:
        """Send one text message; `payload` is valid UTF-8."""
        self.write_frame(frames.text_frame(payload))

    def write_binary(self, payload: bytes) -> None:
        """Send one binary message."""
        self.write_frame(frames.binary_frame(payload))

    def write_ping(self) -> None:
        """Ask the peer for a pong, which proves that it has received all earlier frames."""
        self.write_frame(frames.ping_frame())

    def close(self, code: int = frames.CLOSE_NORMAL, reason: str = "") -> None:
        """Send a close frame behind the waiting frames and await the peer's, at most CLOSE_TIMEOUT_SECONDS."""
        if self._state is _UPGRADING:
            self.reject()
        elif self._state is _OPEN:
            self._send_close(code, reason)
            # A paused reader would never see the peer's close frame.
            self.resume_reading()

    def leave(self, code: int = frames.CLOSE_NORMAL, reason: str = "") -> None:
        """Close as `close` does, but pass on messages that the peer sends before it learns of that (RFC 6455, 1.4)."""
        self._reads_on = True
        self.close(code, reason)

    def abort(self) -> None:
        """Drop the socket now, with all waiting frames."""
        if self._state is not _CLOSED:
            self._upgrade = None
            self._shut()
            self._accepts_frames = False
            self._transport.abort()

    def limit_message(self, max_bytes: int) -> None:
        """Bound the messages that arrive from here on; short frames pass without a check of the limit."""
        self._max_message_bytes = max(max_bytes, frames.MAX_SHORT_PAYLOAD_BYTES)
        self._parsers = self._share.parsers_for(self._max_message_bytes)

    def pause_reading(self) -> None:
        """Leave the peer's bytes in the kernel; for listeners that cannot take more now."""
        self._is_paused = True
        self._transport.pause_reading()

    def resume_reading(self) -> None:
        """Read the peer's bytes again."""
        self._is_paused = False
        if self._parser is not None and self._parser.has_rest:
            self._read_on_soon()
        elif not self._transport.is_closing():
            self._transport.resume_reading()

    # Called by uvicorn

    def shutdown(self) -> None:
        """Begin to close because the server stops."""
        self.close(frames.CLOSE_SERVICE_RESTART)

    # Called by the event loop

    def data_received(self, data: bytes) -> None:
        """Parse the bytes that the socket received."""
        parser = self._parser
        if parser is None:
            if self._state is _SHUT:
                return
            if self._fragments is None and self._state is _OPEN:
                payload = _payload_of_short_text(data)
                if payload is not None:
                    try:
                        self._listener.text_received(payload)  # type: ignore[union-attr]  # set while OPEN
                    except Exception:
                        self._listener_failed()
                    return
            self._parser = parser = self._parsers.borrow()
        # A parser that holds half a frame stays with this connection until the other half arrives.
        if parser.read(self, data):
            self._parser = None
            self._parsers.give_back(parser)
        if parser.has_rest or (len(data) >= MAX_BYTES_A_TURN and not self._transport.is_closing()):
            # Others have their turn before the rest; also behind a full read, or the loop reads on at once.
            self._transport.pause_reading()
            self._read_on_soon()

    def _read_on_soon(self) -> None:
        if not self._is_reading_on:
            self._is_reading_on = True
            asyncio.get_running_loop().call_soon(self._read_on)

    def _read_on(self) -> None:
        self._is_reading_on = False
        if self._is_paused:
            return
        parser = self._parser
        if parser is not None and parser.has_rest and parser.read_on(self):
            self._parser = None
            self._parsers.give_back(parser)
        if not self._is_paused:
            # Behind the rest, the socket; also when the connection is shut, for the peer's last bytes.
            self.resume_reading()

    def _receive_early(self, data: bytes) -> None:
        # In this order, because the listener may pause reading again.
        self._transport.resume_reading()
        self.data_received(data)

    def eof_received(self) -> None:
        """Let the transport close; a peer that ends its side without a close frame has vanished."""
        self._start_close_timer()

    def resume_writing(self) -> None:
        """Tell the listener that the socket has drained."""
        super().resume_writing()
        if self._listener is not None:
            self._listener.writing_resumed()

    def connection_lost(self, exc: Exception | None) -> None:
        """Tell the listener of the end and release everything."""
        self._state = _CLOSED
        self._accepts_frames = False
        self.discard_collected()
        self._upgrade = None
        self._drop_received()
        self._share.connections.discard(self)
        if self._close_timer is not None:
            self._close_timer.cancel()
            self._close_timer = None
        listener, self._listener = self._listener, None
        if listener is not None:
            listener.connection_lost(self._close_code, self._close_reason)

    # Called by the parser

    def frame_received(self, frame: WSFrame) -> None:
        """Take one frame of the peer; it is valid only during this call."""
        opcode: int = frame.msg_type  # type: ignore[assignment]  # picows declares an Enum, it is an IntEnum
        if frame.rsv1 or frame.rsv2 or frame.rsv3:
            # Only extensions use these bits, and no extension is ever agreed on (5.2).
            self.fail(frames.CLOSE_PROTOCOL_ERROR, "a reserved bit is set")
        elif opcode == frames.OPCODE_CLOSE:
            self._close_received(frame.get_payload_as_bytes())
        elif self._state is not _OPEN and not (self._reads_on and self._state is _CLOSING):
            pass
        elif opcode == frames.OPCODE_PING:
            self.write_frame(frames.pong_frame(frame.get_payload_as_bytes()))
        elif opcode == frames.OPCODE_PONG:
            self._pass_on(self._listener.pong_received)  # type: ignore[union-attr]  # set while OPEN
        else:
            self._data_frame_received(opcode, bool(frame.fin), frame.get_payload_as_bytes())

    def fail(self, code: int, reason: str) -> None:
        """Close because the peer broke the protocol (7.1.7)."""
        if self._state is _OPEN:
            self._send_close(code, reason)
        if self._state is _CLOSING:
            self._shut()
            # Closing at once would reset the connection if the peer is still sending, and lose our close frame.
            if self._transport.can_write_eof():
                self._transport.write_eof()
            else:
                self._close_transport()

    # Messages

    def _data_frame_received(self, opcode: int, is_last: bool, payload: bytes) -> None:
        fragments = self._fragments
        if opcode != frames.OPCODE_CONTINUATION:
            is_text = opcode == frames.OPCODE_TEXT
            if fragments is not None:
                self.fail(frames.CLOSE_PROTOCOL_ERROR, "a new message within a fragmented one")
            elif is_last:
                self._message_received(is_text, payload)
            else:
                self._fragments = Fragments(is_text, payload)
        elif fragments is None:
            self.fail(frames.CLOSE_PROTOCOL_ERROR, "a continuation of no message")
        elif len(fragments.payload) + len(payload) > self._max_message_bytes:
            self.fail(frames.CLOSE_TOO_BIG, f"a message of more than {self._max_message_bytes} bytes")
        else:
            fragments.payload += payload
            if is_last:
                self._fragments = None
                self._message_received(fragments.is_text, bytes(fragments.payload))

    def _message_received(self, is_text: bool, payload: bytes) -> None:
        if not is_text:
            self._pass_on(self._listener.binary_received, payload)  # type: ignore[union-attr]  # set while OPEN
        elif frames.is_utf8(payload):
            self._pass_on(self._listener.text_received, payload)  # type: ignore[union-attr]  # the same
        else:
            self.fail(frames.CLOSE_INVALID_TEXT, "a text message is not UTF-8")

    def _pass_on(self, receive: Callable[..., None], *payload: bytes) -> None:
        try:
            receive(*payload)
        except Exception:
            self._listener_failed()

    def _listener_failed(self) -> None:
        logger.exception("a WebSocket listener failed")
        self.close(frames.CLOSE_INTERNAL_ERROR)

    # The closing handshake

    def _close_received(self, payload: bytes) -> None:
        code = int.from_bytes(payload[:2], "big") if payload else frames.CLOSE_NO_STATUS
        if payload and not frames.may_be_received(code):
            self.fail(frames.CLOSE_PROTOCOL_ERROR, f"close code {code} is not allowed")
            return
        if self._state is _OPEN:
            self._send_close(code, payload[2:].decode())
        if self._state is _CLOSING:
            self._shut()
            self._close_transport()

    def _send_close(self, code: int, reason: str) -> None:
        self._state = _CLOSING
        self._close_code = code
        self._close_reason = reason
        self.write_frame(frames.close_frame(code, reason))
        self._accepts_frames = False
        self._start_close_timer()
        self.flush()

    def _shut(self) -> None:
        self._state = _SHUT
        self._drop_received()

    def _drop_received(self) -> None:
        self._fragments = None
        parser, self._parser = self._parser, None
        if parser is not None:
            parser.close()

    def _close_transport(self) -> None:
        # A peer that does not read would keep the transport from ever being flushed.
        self._start_close_timer()
        self._transport.close()

    def _start_close_timer(self) -> None:
        if self._close_timer is None:
            self._close_timer = asyncio.get_running_loop().call_later(CLOSE_TIMEOUT_SECONDS, self.abort)

    def outbox_overflowed(self) -> None:
        """Drop a peer that does not read: a close frame would wait behind all unread frames."""
        if self._state is not _SHUT:
            closings[OUTBOX_FULL] += 1
            self._close_code = frames.CLOSE_POLICY_VIOLATION
            self._close_reason = OUTBOX_FULL
            self.abort()
