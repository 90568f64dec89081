"""One Engine.IO session: what waits for it, which transport carries it, its heartbeat, its upgrade and its end.

Synchronous decisions only; knows neither HTTP nor what the messages mean.

    POLLING --probe--> PROBING --"5"--> WEBSOCKET
       ^------lost-------'                  |
       '--close()--> CLOSING --poll--> CLOSED
"""

from __future__ import annotations

import asyncio
import enum
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Protocol

from app.protocols.sites.deadline_wheel import NOT_WAITING, DeadlineWheel
from app.protocols.sites.engine_packet import (
    CLOSE,
    NOOP,
    PING,
    PONG,
    PONG_PROBE,
    BinaryPacket,
    EncodedPacket,
    MalformedPacket,
    Packet,
)


@dataclass(frozen=True, slots=True)
class EngineSettings:
    """What all sessions of one server share; lives as long as the server."""

    ping_interval_seconds: float = 25.0
    ping_timeout_seconds: float = 20.0
    max_payload_bytes: int = 1_000_000
    max_outbox_bytes: int = 1_000_000
    allowed_origins: Sequence[str] | None = None
    """Values of the Origin header that may connect; None: any."""


class SessionState(enum.Enum):
    """How far a session has come."""

    POLLING = "requests carry it"
    PROBING = "requests carry it, a WebSocket has been offered and not yet taken"
    WEBSOCKET = "a WebSocket carries it"
    CLOSING = "closed by us while no poll waited: the last packets wait for one"
    CLOSED = "over"


class FrameSocket(Protocol):
    """A WebSocket as the transport offers it; no method raises, all are no-ops after the close."""

    @property
    def buffered_bytes(self) -> int:
        """What waits in this process for the socket."""

    def write_frame(self, frame: bytes) -> None:
        """Send a ready, unmasked text frame."""

    def write_binary(self, payload: bytes) -> None:
        """Send a binary message."""

    def close(self, code: int = 1000, reason: str = "") -> None:
        """Start the close handshake."""


class SessionListener(Protocol):
    """Who understands a session's messages; one object per session, let go with it."""

    def session_started(self) -> None:
        """The client has been greeted: the listener may send."""

    def message_received(self, packet: bytes) -> None:
        """A text message: valid UTF-8 with its leading ``4``. May raise MalformedPacket: the session is closed."""

    def binary_received(self, data: bytes) -> None:
        """A binary message, without prefix. May raise MalformedPacket: the session is closed."""

    def session_closed(self, reason: str) -> None:
        """Called exactly once; nothing is received or sent any more."""


class SessionOwner(Protocol):
    """What a session needs of its server."""

    settings: EngineSettings
    heartbeats: DeadlineWheel
    outbox_full_total: int

    def open_packet(self, session: EngineSession, has_upgrade: bool) -> EncodedPacket:
        """The packet that tells the client its sid and the server's settings."""

    def forget(self, session: EngineSession) -> None:
        """The session id is no longer known."""


class EngineSession:
    """Lives from the handshake to the close; closed by its client, its deadline, its bound, or `close()`.

    It is the listener of its WebSocket. No task or timer belongs to it: while polling, one future while a poll waits.
    """

    __slots__ = (
        "_awaits_pong",
        "_is_poll_owed",
        "_outbox",
        "_outbox_bytes",
        "_owner",
        "_poll",
        "_probe",
        "bucket",
        "deadline",
        "is_encoded_twice",
        "is_posting",
        "listener",
        "sid",
        "socket",
        "state",
        "supports_binary",
        "version",
    )

    def __init__(self, owner: SessionOwner, sid: str, version: int) -> None:
        """Create a session in state POLLING; `start` gives it life. `version` is that of the protocol, 3 or 4."""
        self._owner = owner
        self.sid = sid
        self.version = version
        self.state = SessionState.POLLING
        self.listener: SessionListener | None = None
        self.socket: FrameSocket | None = None
        """Set while state is WEBSOCKET and only then: the hot path asks nothing else."""
        self.supports_binary = True
        self.is_encoded_twice = version == 3
        """Whether text in polling payloads may be UTF-8 encoded twice (1.x clients); see `decode_payload_v3`."""
        self.is_posting = False
        self.bucket = NOT_WAITING
        self.deadline = 0.0
        self._awaits_pong = False
        self._outbox: list[Packet] | None = None
        self._outbox_bytes = 0
        self._poll: asyncio.Future[bool] | None = None
        self._is_poll_owed = False
        self._probe: UpgradeProbe | None = None

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
        wait = settings.ping_interval_seconds + (settings.ping_timeout_seconds if self.version == 3 else 0.0)
        self._owner.heartbeats.schedule(self, now + wait)
        self.send_encoded(self._owner.open_packet(self, has_upgrade=socket is None))

    # Sending

    def send_encoded(self, packet: EncodedPacket) -> None:
        """Send a text packet behind everything sent before; at once on a WebSocket, else with the next poll."""
        socket = self.socket
        if socket is not None:
            socket.write_frame(packet.frame if self.version == 4 else packet.ascii_frame)
        else:
            self._queue(packet)

    def send_binary(self, data: bytes) -> None:
        """Send a binary message behind everything sent before."""
        if self.socket is not None:
            self.socket.write_binary(data if self.version == 4 else b"\x04" + data)
        else:
            self._queue(BinaryPacket(data))

    @property
    def buffered_bytes(self) -> int:
        """What waits for this client in this process."""
        return self.socket.buffered_bytes if self.socket is not None else self._outbox_bytes

    @property
    def is_open(self) -> bool:
        """Whether the session may still send and receive."""
        return self.state not in (SessionState.CLOSING, SessionState.CLOSED)

    def _queue(self, packet: Packet) -> None:
        if not self.is_open:
            return
        self._outbox_bytes += packet.waiting_bytes
        if self._outbox is None:
            self._outbox = [packet]
        elif self._outbox_bytes <= self._owner.settings.max_outbox_bytes:
            self._outbox.append(packet)
        else:
            self._owner.outbox_full_total += 1
            self._outbox = None
            self.close("outbox full")
            return
        self._wake_poll()

    # Polling

    @property
    def has_waiting_poll(self) -> bool:
        """Whether a poll is being answered at this moment."""
        return self._poll is not None

    @property
    def has_payload(self) -> bool:
        """Whether a poll can be answered at once."""
        return bool(self._outbox) or self._is_poll_owed or not self.is_open

    async def wait_for_payload(self) -> bool:
        """Wait until a poll can be answered; False: the client gave the request up. One waiter at a time."""
        self._poll = asyncio.get_running_loop().create_future()
        try:
            return await self._poll
        finally:
            self._poll = None

    def poll_lost(self) -> None:
        """The client gave up the waiting poll."""
        if self._poll is not None and not self._poll.done():
            self._poll.set_result(False)

    def take_payload(self) -> list[Packet]:
        """Take what waits, to be written as the answer of one poll; a noop when there is nothing."""
        packets: list[Packet] = self._outbox or [NOOP]
        self._outbox = None
        self._outbox_bytes = 0
        if self.state is SessionState.CLOSING:
            self._end()
        return packets

    def packets_received(self, packets: Iterable[bytes | BinaryPacket]) -> None:
        """Handle the packets of one POST; raises MalformedPacket. The session may be closed by one of them."""
        for packet in packets:
            if self.listener is None:
                return
            if isinstance(packet, BinaryPacket):
                self.listener.binary_received(packet.data)
            elif packet[:1] == b"4":
                self.listener.message_received(packet)
            else:
                self._control_received(packet)

    def _wake_poll(self) -> None:
        if self._poll is not None and not self._poll.done():
            self._poll.set_result(True)

    # Receiving

    def _control_received(self, packet: bytes) -> None:
        kind = packet[:1]
        settings = self._owner.settings
        if kind == b"2" and self.version == 3:
            self._wait(settings.ping_interval_seconds + settings.ping_timeout_seconds)
            self.send_encoded(PONG if packet == b"2" else EncodedPacket(b"3" + packet[1:]))
        elif kind == b"3" and self.version == 4:
            if self._awaits_pong:
                self._awaits_pong = False
                self._wait(settings.ping_interval_seconds)
        elif kind == b"1":
            self.close("client disconnect", farewell=NOOP)
        elif kind not in (b"5", b"6"):  # an upgrade on the WebSocket that has it, or a noop: nothing to do
            raise MalformedPacket

    def _wait(self, seconds: float) -> None:
        self._owner.heartbeats.schedule(self, asyncio.get_running_loop().time() + seconds)

    def deadline_passed(self, now: float) -> None:
        """The heartbeat's moment: version 4 pings and then waits for the pong, version 3 has waited for a ping."""
        if self.state is SessionState.CLOSING:
            self._end()
        elif self.is_open:
            if self.version == 4 and not self._awaits_pong:
                self._awaits_pong = True
                timeout = self._owner.settings.ping_timeout_seconds
                # From the moment the ping was due, not from the later one when the loop came round to it, so that
                # the sum is exact; a loop that was held up for long must not cost the client its time, though.
                due = max(self.deadline, now - timeout / 4)
                self._owner.heartbeats.schedule(self, due + timeout)
                self.send_encoded(PING)
            else:
                self.close("ping timeout")

    def check_deadline(self, now: float) -> None:
        """Close a session whose time is up though its tick has not come yet."""
        if self.deadline <= now and (self.version == 3 or self._awaits_pong):
            self.deadline_passed(now)

    # WebSocket

    def text_received(self, payload: bytes) -> None:
        """One text message of the session's WebSocket."""
        listener = self.listener
        if listener is None:
            return
        try:
            if payload[:1] == b"4":
                listener.message_received(payload)
            else:
                self._control_received(payload)
        except MalformedPacket:
            self.close("parse error")

    def binary_received(self, payload: bytes) -> None:
        """One binary message of the session's WebSocket; version 3 puts the packet type before it."""
        if self.listener is None:
            return
        try:
            if self.version == 4:
                self.listener.binary_received(payload)
            elif payload[:1] == b"\x04":
                self.listener.binary_received(payload[1:])
            else:
                raise MalformedPacket
        except MalformedPacket:
            self.close("parse error")

    def writing_resumed(self) -> None:
        """Nothing to do: the outbox is bounded by the transport, nobody waits for it."""

    def connection_lost(self, code: int, reason: str) -> None:
        """The session's WebSocket is gone."""
        self.socket = None
        if reason == "outbox full":
            self._owner.outbox_full_total += 1
            self._finish(reason)
        else:
            self._finish("transport close")

    def offer_socket(self, probe: UpgradeProbe) -> bool:
        """Note that a WebSocket wants to take over; False if there is one already."""
        if self.state is not SessionState.POLLING:
            return False
        self.state = SessionState.PROBING
        self._probe = probe
        return True

    def probe_answered(self) -> None:
        """The client has its answer on the WebSocket and waits for its poll to end: end it, and any that follows."""
        self._is_poll_owed = True
        self._wake_poll()

    def probe_lost(self, probe: UpgradeProbe) -> None:
        """The WebSocket went away before it took over: polling goes on."""
        if self._probe is probe and self.state is SessionState.PROBING:
            self._probe = None
            self._is_poll_owed = False
            self.state = SessionState.POLLING

    def take_socket(self, socket: FrameSocket) -> None:
        """Move to the WebSocket; what waited leaves on it, in order, before anything else."""
        self.state = SessionState.WEBSOCKET
        self._probe = None
        self.socket = socket
        packets, self._outbox, self._outbox_bytes = self._outbox or [], None, 0
        self._wake_poll()  # a client that polls while it upgrades gets a noop
        for packet in packets:
            if isinstance(packet, BinaryPacket):
                self.send_binary(packet.data)
            else:
                self.send_encoded(packet)

    # The end

    def close(self, reason: str, farewell: EncodedPacket = CLOSE) -> None:
        """End the session; what was sent before still leaves. A waiting poll is answered with `farewell` at the end."""
        if not self.is_open:
            return
        if self.socket is not None:
            socket, self.socket = self.socket, None
            socket.close()
        elif self._poll is not None:
            self._outbox = [*(self._outbox or ()), farewell]
        elif self._outbox and reason == "server disconnect":
            self._outbox.append(farewell)
            self._linger(reason)
            return
        self._finish(reason)

    def _linger(self, reason: str) -> None:
        """Keep the last packets for one more poll, at most for the time a ping may take."""
        self.state = SessionState.CLOSING
        self._wait(self._owner.settings.ping_timeout_seconds)
        self._notify(reason)

    def _finish(self, reason: str) -> None:
        if self.state is not SessionState.CLOSED:
            self._end()
            self._notify(reason)

    def _end(self) -> None:
        self.state = SessionState.CLOSED
        self._owner.heartbeats.cancel(self)
        self._owner.forget(self)
        self._wake_poll()
        probe, self._probe = self._probe, None
        if probe is not None:
            probe.socket.close()

    def _notify(self, reason: str) -> None:
        listener, self.listener = self.listener, None
        if listener is not None:
            listener.session_closed(reason)


class UpgradeProbe:
    """The listener of a WebSocket that wants to take a polling session over; lives as long as that WebSocket.

    An object of its own, so that a probe that fails late cannot be taken for the one that came after it.
    """

    __slots__ = ("_is_taken", "_session", "socket")

    def __init__(self, session: EngineSession, socket: FrameSocket) -> None:
        """Bind the WebSocket to the session it asks for."""
        self.socket = socket
        self._session = session
        self._is_taken = False

    def text_received(self, payload: bytes) -> None:
        """``2probe`` is answered, ``5`` moves the session; anything else before that refuses the WebSocket."""
        if self._is_taken:
            self._session.text_received(payload)
        elif payload == b"2probe":
            self.socket.write_frame(PONG_PROBE.frame)
            self._session.probe_answered()
        elif payload == b"5" and self._session.state is SessionState.PROBING:
            self._is_taken = True
            self._session.take_socket(self.socket)
        else:
            self.socket.close()

    def binary_received(self, payload: bytes) -> None:
        """Binary messages are for the session; none may come before the upgrade."""
        if self._is_taken:
            self._session.binary_received(payload)
        else:
            self.socket.close()

    def writing_resumed(self) -> None:
        """Nothing to do."""

    def connection_lost(self, code: int, reason: str) -> None:
        """The WebSocket is gone: with the session if it had it, else only the offer is withdrawn."""
        if self._is_taken:
            self._session.connection_lost(code, reason)
        else:
            self._session.probe_lost(self)
