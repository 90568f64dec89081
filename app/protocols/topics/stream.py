"""One subscriber: its subscription, the response for its events, and its deadlines."""

import asyncio
import math
from collections.abc import Callable
from typing import Protocol, TypeAlias

from msgspec import Struct

from app.clock import now_ms
from app.config.settings import Site
from app.core.catch_up import CatchUp
from app.core.live import ConnectionFacts, Measures
from app.core.message import LiveMessage
from app.core.seat import Seat
from app.protocols.topics.frames import KEEP_ALIVE_COMMENT, KEEP_ALIVE_FRAME, Encoding, Event, to_chunk
from app.protocols.topics.notice import CONNECTION_PATTERNS, exact_name, names_joined
from app.protocols.topics.requests import TopicSubscription
from app.protocols.topics.topic import CONNECTION_PREFIX, is_pattern
from app.transport.deadline_wheel import NOT_WAITING
from app.transport.streaming import StreamingResponse

#: The encoding of events, and whether they are chunks of HTTP. Streams with an equal Writing share encoded bytes.
Writing: TypeAlias = tuple[Encoding, bool]


class Keeper(Protocol):
    """The side that manages streams: their deadlines and their ends."""

    def stream_due(self, stream: "Stream", now: float) -> None:
        """The deadline of the stream has passed."""

    def stream_over(self, stream: "Stream", reason: str) -> None:
        """The stream's response has ended."""


class Caller(Struct, frozen=True):
    """The client behind a stream. Its repr names no user."""

    subscription: TopicSubscription
    #: The user that a bind key has named; None: not bound.
    user: str | None
    encoding: Encoding
    #: Its place among the connections that the site's limits count.
    seat: Seat
    #: The headers of its request without credentials, one `name: value` on a line.
    headers: bytes
    #: The site's name and the client's address, for which the levels of its topics count.
    site: str = ""
    address: str = ""
    #: Whether it came to a path of es-web-notify, and expects the events of that.
    is_original: bool = False
    #: Whether its wildcards in the first place stand for reserved topics, too.
    hears_reserved: bool = False
    user_agent: str = ""
    tls: str | None = None

    def facts_of(self, connected_at: int) -> ConnectionFacts:
        """The facts of its stream for pages and the journal."""
        client = self.subscription.client
        return ConnectionFacts(self.user, client, self.address, self.user_agent, "", self.tls, connected_at)

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
        "facts",
        "held",
        "instances",
        "is_over",
        "keeper",
        "last_seq",
        "measured",
        "messages",
        "names",
        "number",
        "replay",
        "site",
        "sync_ms",
        "write",
        "writing",
        "wrote_at",
    )

    def __init__(self, keeper: Keeper, caller: Caller, site: Site) -> None:
        self.keeper = keeper
        self.caller = caller
        self.site = site
        #: Unique in the site; 0 until the store has assigned one.
        self.number = 0
        #: The number of its client's streams on all nodes when it joined, itself included.
        self.instances = 0
        #: The history up to this seq has been written.
        self.last_seq = 0
        #: The names of the audiences that it has joined, each once.
        self.names = list(
            dict.fromkeys(
                name
                for wish in caller.subscription.wishes
                for name in names_joined(wish.topic, wish.levels, hides_nothing=caller.hears_reserved)
            )
        )
        self.writing: Writing = (caller.encoding, False)
        #: Writes encoded bytes in the form that `writing` describes.
        self.write: Callable[[bytes], None] = _drop
        self._response: StreamingResponse | None = None
        self.is_over = False
        #: Set until the stream is live or over.
        self.held: CatchUp[LiveMessage] | None = CatchUp()
        self._drained: asyncio.Event | None = None
        # Both in seconds on the loop's clock.
        self.wrote_at = 0.0
        self.ends_at = math.inf
        #: Only with a journal.
        self.facts: ConnectionFacts | None = None
        #: The events that were written to it, those before it was live, and how long it took to be live.
        self.messages = self.replay = 0
        self.sync_ms: int | None = None
        #: Its measures at its end.
        self.measured: Measures | None = None
        # Both belong to the deadline wheel.
        self.bucket = NOT_WAITING
        self.deadline = 0.0

    @property
    def client(self) -> str:
        """The client's id."""
        return self.caller.subscription.client

    @property
    def user(self) -> str | None:
        """The user that a bind key has named; None: not bound."""
        return self.caller.user

    @property
    def watches_itself(self) -> bool:
        """Whether its subscription may match the topic of its own client."""
        return CONNECTION_PATTERNS in self.names or exact_name(CONNECTION_PREFIX + self.client) in self.names

    def watched(self) -> list[str]:
        """The clients whose streams it asks for by name. es-web-notify took a wildcard there for a name, too."""
        return [
            wish.topic.removeprefix(CONNECTION_PREFIX)
            for wish in self.caller.subscription.wishes
            if wish.topic.startswith(CONNECTION_PREFIX)
            and (not is_pattern(wish.levels) or (self.caller.is_original and len(wish.levels) == 2))
        ]

    def answer_with(self, response: StreamingResponse) -> None:
        """From now on events are written to this response."""
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
        """Writes a keep-alive, which shows the client that the stream lives."""
        self.wrote_at = now
        self.write_data(KEEP_ALIVE_FRAME if self.caller.encoding is Encoding.FRAMES else KEEP_ALIVE_COMMENT)

    @property
    def live_id(self) -> str:
        """Its number; see `LiveConnection`."""
        return str(self.number)

    def measures(self) -> Measures:
        """Measures it; see `LiveConnection`."""
        response, encoding = self._response, self.caller.encoding.value
        if response is None:
            return Measures(encoding, None, None, self.messages, self.replay, self.sync_ms)
        read, written = response.wire_bytes() or (None, None)
        counted = (self.messages, self.replay, self.sync_ms)
        return Measures(encoding, read, written, *counted, response.buffered_bytes)

    def disconnect(self, reason: str) -> None:
        """Ends it; see `LiveConnection`."""
        self.end(reason)

    def note_live(self) -> None:
        """Its history is written."""
        self.replay = self.messages
        if self.facts is not None:
            self.sync_ms = max(0, now_ms() - self.facts.connected_at)

    def end(self, reason: str) -> bool:
        """Ends the response; False when there is none."""
        if self._response is None:
            return False
        self._response.end(reason)
        return True

    async def drained(self) -> None:
        """Waits until everything written has left the process, or until the stream is over."""
        while self._response is not None and self._response.is_slow and not self.is_over:
            self._drained = asyncio.Event()
            await self._drained.wait()

    def stream_drained(self) -> None:
        """Everything written has left the process. Called by the response."""
        if self._drained is not None:
            self._drained.set()

    def stream_ended(self, reason: str) -> None:
        """The response has ended. Called by the response."""
        if self.is_over:
            return
        self.is_over = True
        if self.facts is not None:
            self.measured = self.measures()
        self.write = _drop
        self._response = None
        self.stream_drained()
        self.keeper.stream_over(self, reason)

    def deadline_passed(self, now: float) -> None:
        """The stream's deadline has passed. Called by the deadline wheel."""
        self.keeper.stream_due(self, now)


def _drop(data: bytes) -> None:
    """Drops data: without a response, before its start or after its end, nothing can be written."""
