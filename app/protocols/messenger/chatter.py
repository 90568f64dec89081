"""One connection of a messenger: what the core writes to, and what waits for its turn. No I/O of its own."""

from collections.abc import Awaitable, Callable, Sequence
from typing import Any, Protocol

import msgspec
from msgspec import Struct

from app.core.live import Measures
from app.protocols.messenger.caller import ChatCaller
from app.protocols.messenger.event_gate import EventGate
from app.protocols.messenger.login_ports import LoginAttempt
from app.socketio.device_receiver import DeviceLink, DeviceReceiver
from app.transport.deadline_wheel import NOT_WAITING

#: The work behind the answer to an event.
Then = Callable[[], Awaitable[None]]


class Arrival(Struct, frozen=True):
    """The circumstances of a connect. Lives as long as its connection."""

    address: str
    user_agent: str
    #: The version of Engine.IO.
    version: str
    tls: str | None
    connected_at: int
    waited_ms: int | None


class ChatLink(DeviceLink, Protocol):
    """The namespace of one client; see `NamespaceConnection`."""

    ack_received: Callable[[int], None]

    @property
    def log_name(self) -> str:
        """The connection in log lines."""

    @property
    def engine_version(self) -> int:
        """The version of Engine.IO."""

    @property
    def is_closed(self) -> bool:
        """Whether nothing can be sent any more."""

    def confirm(self) -> None:
        """Answers the connect."""

    def hold_session(self) -> None:
        """Lets the session stay."""

    def send_event(self, event: str, args: Sequence[Any]) -> None:
        """Writes an event that is kept nowhere."""

    def send_ack_body(self, ack_id: int, body: bytes) -> None:
        """Answers an event, with a list of JSON."""

    def disconnect(self) -> None:
        """Takes the client out of the namespace, for good."""


class Chatter(DeviceReceiver):
    """The client of one connection. Lives from its connect to its disconnect, logged in or not."""

    __slots__ = (
        *("arrival", "attempt", "authorise_ms", "bucket", "caller", "deadline", "gate", "is_closed"),
        *("link", "login_at", "logins", "on_deadline", "then"),
    )

    def __init__(self, link: ChatLink, caller: ChatCaller, arrival: Arrival) -> None:
        super().__init__(link, f"42/{caller.site.name},".encode(), with_ack=True)
        self.link = link
        self.caller = caller
        self.device_id = caller.device
        self.arrival = arrival
        self.gate = EventGate()
        #: A login between its two steps.
        self.attempt: LoginAttempt | None = None
        #: Its events `login` so far, and the time of the first one or of its session.
        self.logins = 0
        self.login_at: int | None = None
        #: The time from then until it was in.
        self.authorise_ms: int | None = None
        self.is_closed = False
        #: Set by the handler of an event: the work that follows its answer.
        self.then: Then | None = None
        #: Called at its deadline: that of its login, later that of its session.
        self.on_deadline: Callable[[Chatter], None] = lambda chatter: None
        self.bucket = NOT_WAITING
        self.deadline = 0.0

    def deadline_passed(self, now: float) -> None:
        """The deadline wheel calls this."""
        self.on_deadline(self)

    def login_began(self, now: int) -> None:
        """Its first `login` has come, or its session; again does nothing."""
        if self.login_at is None:
            self.login_at = now

    def authorised(self, now: int) -> None:
        """It is in; again does nothing."""
        if self.authorise_ms is None and self.login_at is not None:
            self.authorise_ms = now - self.login_at

    def measures(self) -> Measures:
        """Measures it; its synchronisation is that of the messenger, once there was one."""
        measured, sync_ms = super().measures(), self.caller.measure.first_ms
        return measured if sync_ms is None else msgspec.structs.replace(measured, sync_ms=sync_ms)
