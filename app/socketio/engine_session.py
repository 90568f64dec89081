"""One Engine.IO session: its transport, its heartbeat, its upgrade and its end.

Synchronous decisions only; knows neither HTTP nor the meaning of messages.

    POLLING --offer_socket--> PROBING --take_socket--> WEBSOCKET
       ^-------probe_lost--------'

    any of them --server disconnect--> LEAVING --a moment later--> CLOSING --its client knows--> CLOSED
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Collection

from app.socketio.allowance import Allowance
from app.socketio.engine_mailbox import Mailbox
from app.socketio.engine_origins import allow_origins
from app.socketio.engine_outlet import OUTBOX_FULL, EngineOutlet
from app.socketio.engine_packet import (
    CLOSE,
    NOOP,
    PING,
    PONG,
    BinaryPacket,
    EncodedPacket,
    MalformedPacket,
    Packet,
    PacketFlood,
)
from app.socketio.engine_payload import read_base64
from app.socketio.engine_ports import FrameSocket, SessionListener, SessionOwner
from app.socketio.engine_posted import PostedPackets
from app.socketio.engine_receipts import Receipts
from app.socketio.engine_state import SessionState
from app.transport.deadline_wheel import NOT_WAITING
from app.transport.refusals import refused

#: The reason of a close of which the client must learn for sure, because it is present and comes back to another node.
SERVER_DISCONNECT = "server disconnect"
#: Longer than the round trip to most clients.
_QUIET_SECONDS = 0.25
_V3_BINARY_MESSAGE = b"\x04"
_EVENTS = (b"42", b"45")
"""How a packet begins that a client may answer."""
_MAX_UNANSWERED = 20_000
"""As many small messages as an outbox of twice its default size holds. So many packets are read in one turn."""


class EngineSession(EngineOutlet):
    """Lives from the handshake to the close; closed by its client, its deadline, its bound, or `close()`.

    It is the listener of the WebSocket that it began on. No task or timer belongs to it.
    """

    __slots__ = (
        "_awaits_pong",
        "_leaving",
        "_probe",
        "_receipts",
        "allowance",
        "allowed_origins",
        "bucket",
        "deadline",
        "is_encoded_twice",
        "is_posting",
        "listener",
        "origins",
        "posted",
        "sid",
        "supports_binary",
        "unanswered",
    )

    def __init__(self, owner: SessionOwner, sid: str, version: int) -> None:
        """Create a session in state POLLING; `start` begins it. `version` is the protocol's, 3 or 4."""
        super().__init__(owner, version)
        self.sid = sid
        self.listener: SessionListener | None = None
        """Set from `start` to the end; without a listener no message is received."""
        self.supports_binary = True
        self.is_encoded_twice = version == 3
        """Whether text in polling payloads may be UTF-8 encoded twice (1.x clients); see `decode_payload_v3`."""
        self.allowance: Allowance | None = None
        """The packets that a client in no site may send; set by the listener, None lifts the bound."""
        self.origins: tuple[str, ...] = ()
        """The origins that its requests have told, and the ones that it may have (None: any); see `engine_origins`."""
        self.allowed_origins: Collection[str] | None = None
        self.is_posting = False
        self.unanswered = 0
        """The messages that the client has fetched, less the packets that it has brought since: it may answer each."""
        self.posted: PostedPackets | None = None
        """Set while packets of a POST wait for their turn."""
        self.bucket = NOT_WAITING
        self.deadline = 0.0
        self._awaits_pong = False
        self._receipts: Receipts | None = None
        self._probe: FrameSocket | None = None
        # The session's WebSocket while state is LEAVING or CLOSING.
        self._leaving: FrameSocket | None = None

    def start(self, listener: SessionListener, socket: FrameSocket | None, now: float) -> None:
        """Begin the heartbeat and greet the client; with a socket the session starts on it."""
        if self.state is SessionState.CLOSED:
            listener.session_closed("transport close")
            return
        settings = self._owner.settings
        self.listener = listener
        if socket is not None:
            self.state = SessionState.WEBSOCKET
            self.socket = socket
        else:
            self.mailbox = Mailbox(settings.max_outbox_bytes)
        wait = settings.ping_interval_seconds + (settings.ping_timeout_seconds if self.version == 3 else 0.0)
        self._owner.heartbeats.schedule(self, now + wait)
        self.send_encoded(self._owner.open_packet(self.sid, has_upgrade=socket is None))

    # Sending

    def limit_message(self, max_bytes: int) -> None:
        """Bound the messages of the client from here on, also on a WebSocket that is about to take over."""
        super().limit_message(max_bytes)
        if self._probe is not None:
            self._probe.limit_message(max_bytes)

    def allow_origins(self, allowed: Collection[str] | None) -> bool:
        """Bind the session to these origins (None: any) from here on; False: it has told another one."""
        return allow_origins(self, allowed)

    @property
    def answers_ahead(self) -> bool:
        """Whether the client answers our pings ahead of what its code has written: a version 3 client keeps what it
        writes until an earlier write has ended, while its WebSocket answers at once."""
        return self.version == 3 and self.socket is not None

    def confirm_receipt(self, received: Callable[[], None]) -> None:
        """Call `received` once the client has all packets sent before, if that ever becomes known.

        A version 4 client answers a ping of Engine.IO. A version 3 client answers a ping of its WebSocket, or polls
        again.
        """
        if self.state is SessionState.CLOSED:
            return
        if self._receipts is None:
            self._receipts = Receipts(has_heartbeat_open=self._awaits_pong)
        self._receipts.ask(received)
        if self.version == 4:
            self.send_encoded(PING)
        elif self.socket is not None:
            self.socket.write_ping()
        elif self.mailbox is not None and not self.mailbox.has_payload:
            # The packets in question were fetched before: without another payload the next poll could come late.
            self.send_encoded(NOOP)

    # Receiving

    def packet_received(self, packet: bytes | BinaryPacket) -> None:
        """Handle a packet of a POST; no-op after the end of the session. Raises MalformedPacket."""
        if self.listener is None:
            return
        if isinstance(packet, BinaryPacket):
            self.listener.binary_received(packet.data)
        elif packet[:1] == b"4":
            self.listener.message_received(packet)
        else:
            self._control_received(packet)

    def refuse(self, error: MalformedPacket) -> None:
        """End the session because of a packet."""
        if isinstance(error, PacketFlood):
            refused[error.reason] += 1
        self.close(error.reason)

    def text_received(self, payload: bytes) -> None:
        """Handle a text message of the session's WebSocket."""
        listener = self.listener
        if listener is None:
            return
        try:
            if payload[:1] == b"4":
                listener.message_received(payload)
            else:
                self._control_received(payload)
        except MalformedPacket as error:
            self.refuse(error)

    def binary_received(self, payload: bytes) -> None:
        """Handle a binary message of the session's WebSocket; version 3 puts the packet type before it."""
        if self.listener is None:
            return
        try:
            if self.version == 4:
                self.listener.binary_received(payload)
            elif payload[:1] == _V3_BINARY_MESSAGE:
                self.listener.binary_received(payload[1:])
            else:
                raise MalformedPacket
        except MalformedPacket as error:
            self.refuse(error)

    def pong_received(self) -> None:
        """Take a version 3 client's pong: the client has all frames sent before our ping."""
        if self._receipts is not None:
            self._receipts.answer()

    def writing_resumed(self) -> None:
        """Nothing to do: the transport bounds its outbox, and no code waits for it."""

    def connection_lost(self, code: int, reason: str) -> None:
        """End the session, whose WebSocket is lost."""
        self._keep_wire_bytes()
        self.socket = self._leaving = None
        if reason == OUTBOX_FULL:
            self._owner.outbox_full_total += 1
            self._finish(reason)
        else:
            self._finish("transport close" if self.is_open else SERVER_DISCONNECT)

    def _control_received(self, packet: bytes) -> None:
        kind = packet[:1]
        settings = self._owner.settings
        if not self.is_open:
            return  # the session ends: only acks matter now
        if self.allowance is not None:
            self.allowance.spend()
        if kind == b"2" and self.version == 3:
            self._wait(settings.ping_interval_seconds + settings.ping_timeout_seconds)
            self.send_encoded(PONG if packet == b"2" else EncodedPacket(b"3" + packet[1:]))
        elif kind == b"3" and self.version == 4:
            if self._receipts is not None and self._receipts.answer():
                return
            if self._awaits_pong:
                self._awaits_pong = False
                self._wait(settings.ping_interval_seconds)
        elif kind == b"1":
            self.close("client disconnect", farewell=NOOP)
        elif kind == b"b":
            self.packet_received(read_base64(packet, self.version))
        elif kind not in (b"0", b"5", b"6"):  # an open, a repeated upgrade, or a noop: nothing to do
            raise MalformedPacket

    # Time

    def deadline_passed(self, now: float) -> None:
        """Act on the heartbeat: version 4 pings and then waits for the pong, version 3 has missed a ping."""
        if self.state is SessionState.LEAVING:
            self._tell_to_leave()
        elif self.state is SessionState.CLOSING:
            self.give_up()
        elif self.is_open:
            if self.version == 4 and not self._awaits_pong:
                self._awaits_pong = True
                timeout = self._owner.settings.ping_timeout_seconds
                # Counted from the moment when the ping was due, not from this later turn of the loop, so that the sum
                # is exact. A loop that was held up for long must not cost the client its time, though.
                due = max(self.deadline, now - timeout / 4)
                self._owner.heartbeats.schedule(self, due + timeout)
                if self._receipts is not None:
                    self._receipts.ask(None)
                self.send_encoded(PING)
            else:
                self.close("ping timeout")

    def check_deadline(self, now: float) -> None:
        """Close a session whose time is up though its tick has not come yet."""
        if self.deadline <= now and (self.version == 3 or self._awaits_pong):
            self.deadline_passed(now)

    def _wait(self, seconds: float) -> None:
        self._owner.heartbeats.schedule(self, asyncio.get_running_loop().time() + seconds)

    # Polling and the upgrade

    def poll_received(self) -> None:
        """Note that the client polls: it has the previous payload."""
        if self.version == 3 and self._receipts is not None:
            self._receipts.poll_received()

    def take_payload(self) -> list[Packet]:
        """Take the waiting packets as the answer of one poll."""
        if self.version == 3 and self._receipts is not None:
            self._receipts.payload_fetched()
        packets: list[Packet] = self.mailbox.take_payload() if self.mailbox is not None else [NOOP]
        # Pongs and refusals are no messages: a client could draw any number of them.
        events = sum(not isinstance(packet, BinaryPacket) and packet.packet[:2] in _EVENTS for packet in packets)
        self.unanswered = min(self.unanswered + events, _MAX_UNANSWERED)
        if self.state is SessionState.CLOSING:
            self._finish(SERVER_DISCONNECT)
        return packets

    def offer_socket(self, socket: FrameSocket) -> bool:
        """Note that a WebSocket wants to take over; False if there is one already."""
        if self.state is not SessionState.POLLING or self.listener is None:
            return False
        self.state = SessionState.PROBING
        self._probe = socket
        return True

    def probe_answered(self) -> None:
        """Answer the waiting poll, and any later one, at once: the probed client waits for its poll to end."""
        if self.state is SessionState.PROBING and self.mailbox is not None:
            self.mailbox.owe_polls(True)

    def probe_lost(self, socket: FrameSocket) -> None:
        """Go on polling: the WebSocket was lost before it took over."""
        if self._probe is socket and self.state is SessionState.PROBING and self.mailbox is not None:
            self._probe = None
            self.mailbox.owe_polls(False)
            self.state = SessionState.POLLING

    def take_socket(self, socket: FrameSocket) -> bool:
        """Move to the offered WebSocket; the waiting packets leave on it first, in order."""
        mailbox = self.mailbox
        if self._probe is not socket or self.state is not SessionState.PROBING or mailbox is None:
            return False
        self.state = SessionState.WEBSOCKET
        self.socket = socket
        socket.limit_outbox(mailbox.max_bytes)
        socket.limit_message(self.max_message_bytes)
        self._probe = self.mailbox = None
        packets = mailbox.take_packets()
        mailbox.wake()  # a client that still polls gets a noop
        for packet in packets:
            if isinstance(packet, BinaryPacket):
                self.send_binary(packet.data)
            else:
                self.send_encoded(packet)
        if self.version == 3 and self._receipts is not None and self._receipts.is_waiting:
            socket.write_ping()
        if self.listener is not None:
            self.listener.sender_changed()
        return True

    # The end

    def close(self, reason: str, farewell: EncodedPacket = CLOSE) -> None:
        """End the session; earlier packets still leave. A waiting poll is answered with `farewell` at the end."""
        if not self.is_open:
            return
        self._keep_wire_bytes()
        mailbox = self.mailbox
        socket, self.socket = self.socket, None
        if reason == SERVER_DISCONNECT and self.listener is not None:
            # Acks are on their way; without them their messages would be replayed on the client's next connection. A
            # client that knows of the close sends no more acks: it is told after these had the time to arrive.
            self.state = SessionState.LEAVING
            self._leaving = socket
            self._close_probe()
            self._wait(_QUIET_SECONDS)
            self.listener.sender_changed()
            return
        if socket is not None:
            socket.close()
        elif mailbox is not None and mailbox.has_waiting_poll:
            mailbox.add_farewell(farewell)
        self._finish(reason)

    def give_up(self) -> None:
        """End a closed session whose client has not followed: the client is gone."""
        socket, self._leaving = self._leaving, None
        if socket is not None:
            socket.abort()
        self._finish(SERVER_DISCONNECT)

    def _tell_to_leave(self) -> None:
        self.state = SessionState.CLOSING
        # The client has as long as for a pong.
        self._wait(self._owner.settings.ping_timeout_seconds)
        if self._leaving is not None:
            self._leaving.leave()
        elif self.mailbox is not None:
            is_polled = self.mailbox.has_waiting_poll
            self.mailbox.add_farewell(CLOSE)
            if is_polled:
                self._finish(SERVER_DISCONNECT)

    def _finish(self, reason: str) -> None:
        if self.state is not SessionState.CLOSED:
            self._end()
            self._notify(reason)

    def _end(self) -> None:
        self.state = SessionState.CLOSED
        self._owner.heartbeats.cancel(self)
        self._owner.forget(self.sid)
        # The questions refer to this session, by those who ask.
        self._receipts = None
        self._close_probe()

    def _close_probe(self) -> None:
        probe, self._probe = self._probe, None
        if probe is not None:
            probe.close()

    def _notify(self, reason: str) -> None:
        listener, self.listener = self.listener, None
        if listener is not None:
            listener.session_closed(reason)
