"""One subscriber: the response that its events are written to, what it asked for, and until when it may go on."""

import asyncio
import math
from collections.abc import Callable
from typing import Protocol, TypeAlias

from msgspec import Struct

from app.config.settings import Site
from app.core.catch_up import CatchUp
from app.core.message import LiveMessage
from app.core.seat import Seat
from app.protocols.topics.frames import KEEP_ALIVE_COMMENT, KEEP_ALIVE_FRAME, Encoding, Event, to_chunk
from app.protocols.topics.notice import names_joined
from app.protocols.topics.requests import TopicSubscription
from app.transport.deadline_wheel import NOT_WAITING
from app.transport.streaming import StreamingResponse

#: How an event is encoded, and whether as chunks of HTTP: streams with an equal one share their bytes.
Writing: TypeAlias = tuple[Encoding, bool]


class Keeper(Protocol):
    """Who looks after streams."""

    def stream_due(self, stream: "Stream", now: float) -> None:
        """The deadline of the stream has passed."""

    def stream_over(self, stream: "Stream", reason: str) -> None:
        """The stream's response has ended."""


class Caller(Struct, frozen=True):
    """Whose stream it is. Its repr names nobody."""

    subscription: TopicSubscription
    #: Whom a bind key has named; None: not bound.
    user: str | None
    encoding: Encoding
    #: Its place among those that the site's limits count.
    seat: Seat
    #: Of its request, credentials taken out, `name: value` by line.
    headers: bytes

    def __repr__(self) -> str:
        return f"Caller({self.subscription!r})"


class Stream:
    """Lives from the request to the end of the response; its keeper is told of both its deadlines and its end."""

    __slots__ = (
        "_drained",
        "_response",
        "bucket",
        "caller",
        "deadline",
        "ends_at",
        "held",
        "is_over",
        "keeper",
        "last_seq",
        "names",
        "number",
        "site",
        "write",
        "writing",
        "wrote_at",
    )

    def __init__(self, keeper: Keeper, caller: Caller, site: Site) -> None:
        self.keeper = keeper
        self.caller = caller
        self.site = site
        #: Unique in the site; 0 until the store has given one.
        self.number = 0
        #: Up to here it got what it asked for of the history.
        self.last_seq = 0
        #: Of the audiences that it has joined, each once.
        self.names = list(dict.fromkeys(names_joined(wish.topic) for wish in caller.subscription.wishes))
        self.writing: Writing = (caller.encoding, False)
        #: Takes ready bytes, as `writing` says.
        self.write: Callable[[bytes], None] = _drop
        self._response: StreamingResponse | None = None
        self.is_over = False
        #: Set until it is live, or over.
        self.held: CatchUp[LiveMessage] | None = CatchUp()
        self._drained: asyncio.Event | None = None
        # Both in seconds of the loop's clock.
        self.wrote_at = 0.0
        self.ends_at = math.inf
        # Of the deadline wheel.
        self.bucket = NOT_WAITING
        self.deadline = 0.0

    @property
    def client(self) -> str:
        """The client's id."""
        return self.caller.subscription.client

    @property
    def user(self) -> str | None:
        """Whom a bind key has named."""
        return self.caller.user

    def answer_with(self, response: StreamingResponse) -> None:
        """Events are written to this response from now on."""
        self._response = response
        self.writing = (self.caller.encoding, response.is_chunked)
        self.write = response.write_frame

    def hold(self, message: LiveMessage) -> None:
        """Keeps a message until the stream is live."""
        if self.held is not None:
            self.held.hold(message.seq, len(message.body), message)

    def miss(self) -> None:
        """Messages are lost. A stream that is not live yet reads its history again, or is told `_resync`."""
        if self.held is not None:
            self.held.lose()

    def write_event(self, event: Event, topic: str) -> None:
        """Writes an event that is meant for this stream alone."""
        self.write_data(event.encode(topic, topic, self.caller.encoding, with_id=event.seq > 0))

    def write_data(self, data: bytes) -> None:
        """Writes bytes of the body."""
        self.write(to_chunk(data) if self.writing[1] else data)

    def write_keep_alive(self, now: float) -> None:
        """Shows that the stream lives."""
        self.wrote_at = now
        self.write_data(KEEP_ALIVE_FRAME if self.caller.encoding is Encoding.FRAMES else KEEP_ALIVE_COMMENT)

    def end(self, reason: str) -> bool:
        """Ends the response; False when there is none."""
        if self._response is None:
            return False
        self._response.end(reason)
        return True

    async def drained(self) -> None:
        """Waits until what was written has left the process, or the stream is over."""
        while self._response is not None and self._response.is_slow and not self.is_over:
            self._drained = asyncio.Event()
            await self._drained.wait()

    def stream_drained(self) -> None:
        """From the response."""
        if self._drained is not None:
            self._drained.set()

    def stream_ended(self, reason: str) -> None:
        """From the response."""
        if self.is_over:
            return
        self.is_over = True
        self.write = _drop
        self._response = None
        self.stream_drained()
        self.keeper.stream_over(self, reason)

    def deadline_passed(self, now: float) -> None:
        """From the deadline wheel."""
        self.keeper.stream_due(self, now)


def _drop(data: bytes) -> None:
    """Before the response and after it nothing can be written."""
