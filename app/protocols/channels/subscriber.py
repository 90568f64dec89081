"""One WebSocket of a subscriber: what it has subscribed to, what is written to it, its heartbeat.

Synchronous; whom it listens to and what its actions do is its owner's part.
"""

import asyncio
from collections.abc import Callable
from enum import Enum
from typing import Any, Protocol

from app.core.catch_up import CatchUp
from app.core.seat import NO_SEAT, Seat
from app.protocols.channels import messages
from app.protocols.channels.channel_store import Claim, Position
from app.protocols.channels.messages import Push
from app.protocols.channels.sockets import Ending, Heartbeat, SubscriberSocket
from app.transport.deadline_wheel import NOT_WAITING
from app.transport.frames import text_frame


class Owner(Protocol):
    """Who acts for subscribers: the door that they came through."""

    def last_seq(self) -> int:
        """The newest seq up to which all who are live have been written what is for them."""

    def action_received(self, subscriber: "Subscriber") -> None:
        """Something came into an empty inbox."""

    def position_confirmed(self, subscriber: "Subscriber") -> None:
        """A resumable subscriber is still there, and has everything up to its position."""

    def pushed(self, subscriber: "Subscriber") -> None:
        """A resumable subscriber was written to for the first time since its last ping: it is to be pinged again, so
        that what it has is known when its connection ends."""

    def lost(self, subscriber: "Subscriber", reason: str) -> None:
        """The WebSocket is gone."""


class Resumption:
    """What makes a subscriber resumable. Lives as long as its connection; the rest is in Redis."""

    __slots__ = ("claim", "is_behind", "pinged_seq", "replayed_seq", "seq")

    def __init__(self, position: Position) -> None:
        self.claim: Claim = position.claim
        #: Up to here it has everything for sure.
        self.seq = position.seq
        #: Up to here it has everything once the pong is there.
        self.pinged_seq = position.seq
        #: Up to here it was written everything when it went live.
        self.replayed_seq = 0
        #: Whether it was written to since the last ping.
        self.is_behind = False

    @property
    def position(self) -> Position:
        """As Redis keeps it."""
        return Position(self.claim, self.seq)


class SubscriberPhase(Enum):
    """What a subscriber does with pushes."""

    #: Its first CLIENT_ACK, or the pushes that it missed, are not written yet: live pushes are held.
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
        "inbox",
        "is_closing",
        "is_served",
        "phase",
        "resumption",
        "seat",
        "uuid",
    )

    def __init__(self, uuid: str, owner: Owner, heartbeat: Heartbeat, seat: Seat = NO_SEAT) -> None:
        self.uuid = uuid
        #: Its place among those that the site's limits count.
        self.seat = seat
        #: In the order of subscribing; changed by `enter` and `leave`.
        self.channels: dict[str, None] = {}
        self.phase = SubscriberPhase.OPENING
        self.resumption: Resumption | None = None
        #: What it has sent and nobody has looked at; whether somebody does.
        self.inbox: list[bytes] = []
        self.is_served = True
        #: Whether it was told to leave.
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
        self._socket: SubscriberSocket
        self._write_frame: Callable[[bytes], None]

    def attach(self, socket: SubscriberSocket) -> None:
        """The WebSocket is accepted: from here on it is heard and kept alive."""
        self._socket = socket
        self._write_frame = socket.write_frame
        self._schedule(self._heartbeat.interval_seconds)

    # What its owner calls

    def enter(self, channel: str) -> None:
        """It gets what is pushed there."""
        self.channels[channel] = None
        self._prefix = None

    def leave(self, channel: str) -> None:
        """It gets nothing of that any more."""
        self.channels.pop(channel, None)
        self._prefix = None

    def expel(self, channel: str) -> None:
        """The channel is deleted. Who may come back is told, so that it can do something about it; the original tells
        nobody. One that is being opened is told at its end."""
        self.leave(channel)
        if self.resumption is not None and self.phase is _LIVE:
            self.acknowledge()

    def acknowledge(self, extra: dict[str, Any] | None = None) -> None:
        """Tells it who it is and what it has subscribed to."""
        self.write(messages.client_ack(self.uuid, self.channels, extra))

    def write(self, text: bytes) -> None:
        """Sends one message."""
        self._write_frame(text_frame(text))

    def push(self, push: Push) -> None:
        """Writes a push, or holds it. The hot path: once a delivery."""
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
        """Writes a push whatever the phase."""
        prefix = self._prefix
        if prefix is None:
            prefix = self._prefix = messages.push_prefix(self.uuid, self.channels)
        self._write_frame(push.frame(prefix))

    def forget_held(self) -> None:
        """The history is about to be read: its page covers every push that was held before."""
        if self._held is not None:
            self._held.restart()

    @property
    def has_gap(self) -> bool:
        """Whether more was pushed than is held: the history has to be read again before it goes live."""
        return self._held is not None and self._held.has_gap

    def go_live(self, last_seq: int) -> None:
        """Everything up to `last_seq` is written: the held pushes beyond it follow, then live pushes."""
        if self.phase is SubscriberPhase.OPENING:
            self.phase = SubscriberPhase.LIVE
            if self.resumption is not None:
                self.resumption.replayed_seq = last_seq
            held, self._held = self._held, None
            for push in held.release(last_seq) if held is not None else ():
                # Also the pushes of a channel that was deleted since: they were accepted before.
                self.push(push)

    async def confirm(self, seq: int) -> None:
        """Waits until it has what was written, which is everything up to `seq`, or is gone."""
        if self.phase is SubscriberPhase.CLOSED:
            return
        received = self._received = asyncio.get_running_loop().create_future()
        self._ping(seq)
        await received

    def ping(self) -> None:
        """Asks for a pong, which confirms all that it was written."""
        if self.phase is not SubscriberPhase.LIVE:
            return
        if not self._pings:
            self._ping(self._owner.last_seq())
        elif self.resumption is not None:
            # Once the pong of the one before is here.
            self.resumption.is_behind = True

    def close(self, ending: Ending) -> None:
        """Ends it; the client may connect anew."""
        if self.phase is not SubscriberPhase.CLOSED:
            self.is_closing = True
            self._socket.close(*ending.value)

    # What the transport calls

    def text_received(self, payload: bytes) -> None:
        """One text message."""
        self.inbox.append(payload)
        if not self.is_served:
            self.is_served = True
            self._owner.action_received(self)
        elif len(self.inbox) == 1:
            # One at a time, in their order: what comes further waits outside this process.
            self._socket.pause_reading()

    def served(self) -> None:
        """The inbox is empty again."""
        self.is_served = False
        if self.phase is not SubscriberPhase.CLOSED:
            self._socket.resume_reading()

    def binary_received(self, payload: bytes) -> None:
        """One binary message: the contract knows none."""
        self.write(messages.error(400, messages.BAD_JSON, "Expected a text message, got a binary one."))

    def pong_received(self) -> None:
        """It has what was written before the ping."""
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
        """Nothing to do: pongs tell what the client has."""

    def connection_lost(self, code: int, reason: str) -> None:
        """The WebSocket is gone."""
        self.phase = SubscriberPhase.CLOSED
        self._heartbeat.wheel.cancel(self)
        self.inbox.clear()
        self._held = None
        self._resolve_received()
        self._owner.lost(self, reason or f"code {code}")

    # What the wheel calls

    def deadline_passed(self, now: float) -> None:
        """It was silent for an interval, or for longer than a pong takes."""
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
