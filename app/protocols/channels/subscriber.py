"""One WebSocket of a subscriber: its channels, the writing of pushes, its heartbeat.

Synchronous. Its owner decides about the channels and carries out the subscriber's actions.
"""

import asyncio
from collections.abc import Callable
from enum import Enum
from typing import Any, Protocol

from app.clock import now_ms
from app.core.catch_up import CatchUp
from app.core.live import ConnectionFacts, Measures
from app.core.seat import NO_SEAT, Seat
from app.protocols.channels import messages
from app.protocols.channels.channel_store import Claim, Position
from app.protocols.channels.messages import Push
from app.protocols.channels.sockets import Ending, Heartbeat, SubscriberSocket
from app.transport.deadline_wheel import NOT_WAITING
from app.transport.frames import text_frame


class Owner(Protocol):
    """The side that acts for subscribers: the door through which they connected."""

    def last_seq(self) -> int:
        """The newest seq of the site. Every live subscriber has been written all its pushes up to this seq."""

    def action_received(self, subscriber: "Subscriber") -> None:
        """An action has arrived in an empty inbox."""

    def position_confirmed(self, subscriber: "Subscriber") -> None:
        """A resumable subscriber is still connected and has everything up to its position."""

    def pushed(self, subscriber: "Subscriber") -> None:
        """A resumable subscriber was written to for the first time since its last ping. The owner has to ping it again,
        so that its position is known when its connection ends."""

    def lost(self, subscriber: "Subscriber", reason: str) -> None:
        """The WebSocket is gone."""


class Resumption:
    """The state that makes a subscriber resumable. Lives as long as its connection; the rest is in Redis."""

    __slots__ = ("claim", "is_behind", "pinged_seq", "replayed_seq", "seq")

    def __init__(self, position: Position) -> None:
        self.claim: Claim = position.claim
        #: The client surely has everything up to this seq.
        self.seq = position.seq
        #: The client has everything up to this seq once its pong arrives.
        self.pinged_seq = position.seq
        #: Everything up to this seq had been written when the subscriber went live.
        self.replayed_seq = 0
        #: Whether something was written after the last ping.
        self.is_behind = False

    @property
    def position(self) -> Position:
        """The position in the form that Redis keeps."""
        return Position(self.claim, self.seq)


class SubscriberPhase(Enum):
    """The phases of a subscriber, by its way with pushes."""

    #: Its first CLIENT_ACK or its missed pushes are not written yet: live pushes are held.
    OPENING = "opening"
    #: Pushes are written at once.
    LIVE = "live"
    #: Nothing is written any more.
    CLOSED = "closed"


_LIVE = SubscriberPhase.LIVE


class Subscriber:
    """Lives from the acceptance of its WebSocket to the loss of it; listener of the transport, item of the wheel."""

    __slots__ = (
        "_heartbeat",
        "_held",
        "_owner",
        "_pings",
        "_prefix",
        "_received",
        "_socket",
        "_write_frame",
        "bucket",
        "channels",
        "deadline",
        "facts",
        "inbox",
        "is_closing",
        "is_served",
        "messages",
        "phase",
        "replay",
        "resumption",
        "says_only_connected",
        "seat",
        "sync_ms",
        "uuid",
    )

    def __init__(
        self,
        uuid: str,
        owner: Owner,
        heartbeat: Heartbeat,
        seat: Seat = NO_SEAT,
        says_only_connected: bool = False,
    ) -> None:
        self.uuid = uuid
        #: Whether every ack has the message of the first one.
        self.says_only_connected = says_only_connected
        #: Its place among the connections that the site's limits count.
        self.seat = seat
        #: In the order of subscribing; changed by `enter` and `leave`.
        self.channels: dict[str, None] = {}
        self.phase = SubscriberPhase.OPENING
        self.resumption: Resumption | None = None
        #: Received actions that are not carried out yet.
        self.inbox: list[bytes] = []
        #: Whether a task is carrying them out.
        self.is_served = True
        #: Whether this side has begun to close the connection.
        self.is_closing = False
        self.bucket = NOT_WAITING
        self.deadline = 0.0
        self._owner = owner
        self._heartbeat = heartbeat
        #: Set from the first push until it is live.
        self._held: CatchUp[Push] | None = None
        self._prefix: bytes | None = None
        #: Pings without their pongs.
        self._pings = 0
        self._received: asyncio.Future[None] | None = None
        #: Only with a journal.
        self.facts: ConnectionFacts | None = None
        #: The pushes that were written to it, those before it was live, and how long it took to be live.
        self.messages = self.replay = 0
        self.sync_ms: int | None = None
        self._socket: SubscriberSocket
        self._write_frame: Callable[[bytes], None]

    def attach(self, socket: SubscriberSocket) -> None:
        """The WebSocket is accepted: reading and the heartbeat begin."""
        self._socket = socket
        self._write_frame = socket.write_frame
        self._schedule(self._heartbeat.interval_seconds)

    # Called by its owner

    def enter(self, channel: str) -> None:
        """From now on the subscriber gets the pushes of this channel."""
        self.channels[channel] = None
        self._prefix = None

    def leave(self, channel: str) -> None:
        """From now on the subscriber gets no push of this channel."""
        self.channels.pop(channel, None)
        self._prefix = None

    def expel(self, channel: str) -> None:
        """The channel is deleted. A live resumable subscriber is told, so that its client can react; a plain one is
        not, as in the original. A subscriber that is still opening is told at the end of its opening."""
        self.leave(channel)
        if self.resumption is not None and self.phase is _LIVE:
            self.acknowledge(message=messages.UNSUBSCRIBED)

    def acknowledge(self, extra: dict[str, Any] | None = None, message: str = messages.CONNECTED) -> None:
        """Writes a CLIENT_ACK, which names the subscriber's uuid and its channels."""
        said = messages.CONNECTED if self.says_only_connected else message
        self.write(messages.client_ack(self.uuid, self.channels, extra, said))

    def write(self, text: bytes) -> None:
        """Writes one message."""
        self._write_frame(text_frame(text))

    def push(self, push: Push) -> None:
        """Writes a push or holds it. The hot path: runs once for each delivery."""
        if self.phase is _LIVE:
            self.write_push(push)
            resumption = self.resumption
            if resumption is not None and not resumption.is_behind:
                resumption.is_behind = True
                self._owner.pushed(self)
        elif self.phase is SubscriberPhase.OPENING:
            if self._held is None:
                self._held = CatchUp()
            self._held.hold(push.seq, push.size, push)

    def write_push(self, push: Push) -> None:
        """Writes a push in any phase."""
        prefix = self._prefix
        if prefix is None:
            prefix = self._prefix = messages.push_prefix(self.uuid, self.channels)
        self.messages += 1
        self._write_frame(push.frame(prefix))

    def forget_held(self) -> None:
        """The history is about to be read: its page covers every push that was held before."""
        if self._held is not None:
            self._held.restart()

    @property
    def has_gap(self) -> bool:
        """Whether a push was dropped from the buffer: the history has to be read again before going live."""
        return self._held is not None and self._held.has_gap

    def go_live(self, last_seq: int) -> None:
        """Everything up to `last_seq` is written. The held pushes beyond it follow, then live pushes."""
        if self.phase is SubscriberPhase.OPENING:
            self.phase = SubscriberPhase.LIVE
            self.replay = self.messages
            if self.facts is not None:
                self.sync_ms = max(0, now_ms() - self.facts.connected_at)
            if self.resumption is not None:
                self.resumption.replayed_seq = last_seq
            held, self._held = self._held, None
            for push in held.release(last_seq) if held is not None else ():
                # This includes pushes of a channel that is deleted by now: they were accepted before its deletion.
                self.push(push)

    async def confirm(self, seq: int) -> None:
        """Waits until the client has everything that was written, which reaches up to `seq`, or until it is gone."""
        if self.phase is SubscriberPhase.CLOSED:
            return
        received = self._received = asyncio.get_running_loop().create_future()
        self._ping(seq)
        await received

    def ping(self) -> None:
        """Asks for a pong, which confirms everything written so far."""
        if self.phase is not SubscriberPhase.LIVE:
            return
        if not self._pings:
            self._ping(self._owner.last_seq())
        elif self.resumption is not None:
            # An earlier ping is unanswered: the next ping follows its pong.
            self.resumption.is_behind = True

    def close(self, ending: Ending) -> None:
        """Closes the connection; the client may reconnect."""
        if self.phase is not SubscriberPhase.CLOSED:
            self.is_closing = True
            self._socket.close(*ending.value)

    # For operators

    @property
    def live_id(self) -> str:
        """Its uuid; see `LiveConnection`."""
        return self.uuid

    def measures(self) -> Measures:
        """Measures it; see `LiveConnection`."""
        read, written = self._socket.wire_bytes() or (None, None)
        waiting = 0 if self.phase is SubscriberPhase.CLOSED else self._socket.buffered_bytes
        return Measures("websocket", read, written, self.messages, self.replay, self.sync_ms, waiting)

    def disconnect(self, reason: str) -> None:
        """Ends it; see `LiveConnection`. The close frame has the reason of an operator."""
        self.close(Ending.OPERATOR)

    # Called by the transport

    def text_received(self, payload: bytes) -> None:
        """One text message."""
        self.inbox.append(payload)
        if not self.is_served:
            self.is_served = True
            self._owner.action_received(self)
        elif len(self.inbox) == 1:
            # Actions are served one at a time, in their order. Further ones wait outside this process.
            self._socket.pause_reading()

    def served(self) -> None:
        """The inbox is empty again."""
        self.is_served = False
        if self.phase is not SubscriberPhase.CLOSED:
            self._socket.resume_reading()

    def binary_received(self, payload: bytes) -> None:
        """One binary message, which the contract does not allow."""
        self.write(messages.error(400, messages.BAD_JSON, "Expected a text message, got a binary one."))

    def pong_received(self) -> None:
        """The client has everything that was written before the ping."""
        if not self._pings:
            return
        self._pings -= 1
        if self._pings:
            return
        self._schedule(self._heartbeat.interval_seconds)
        resumption = self.resumption
        if resumption is not None:
            resumption.seq = resumption.pinged_seq
            self._owner.position_confirmed(self)
            if resumption.is_behind:
                self.ping()
        self._resolve_received()

    def writing_resumed(self) -> None:
        """Nothing to do: pongs show the client's position."""

    def connection_lost(self, code: int, reason: str) -> None:
        """The WebSocket is gone."""
        self.phase = SubscriberPhase.CLOSED
        self._heartbeat.wheel.cancel(self)
        self.inbox.clear()
        self._held = None
        self._resolve_received()
        self._owner.lost(self, reason or f"code {code}")

    # Called by the deadline wheel

    def deadline_passed(self, now: float) -> None:
        """The client was silent for a ping interval, or its pong is overdue."""
        if self._pings:
            self.close(Ending.PING_TIMEOUT)
        else:
            self._ping(self._owner.last_seq() if self.phase is SubscriberPhase.LIVE else 0)

    def _ping(self, seq: int) -> None:
        resumption = self.resumption
        if resumption is not None:
            resumption.pinged_seq = max(resumption.seq, resumption.replayed_seq, seq)
            resumption.is_behind = False
        self._pings += 1
        self._socket.write_ping()
        self._schedule(self._heartbeat.timeout_seconds)

    def _schedule(self, seconds: float) -> None:
        self._heartbeat.wheel.schedule(self, asyncio.get_running_loop().time() + seconds)

    def _resolve_received(self) -> None:
        received, self._received = self._received, None
        if received is not None and not received.done():
            received.set_result(None)
