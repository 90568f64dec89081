"""What topics need of the store beyond audiences: who is connected on all nodes, what is registered, what was used."""

from collections.abc import Awaitable, Mapping, Sequence
from enum import Enum
from typing import Protocol

from msgspec import Struct

from app.config.settings import Site


class Opened(Struct, frozen=True):
    """A stream that the store knows now."""

    #: Its number, unique in the site over all nodes and times, below 2^53.
    number: int
    #: How many streams of its client there are on all nodes, with this one.
    instances: int
    #: Whether any node listens to what clients come and go.
    is_watched: bool


class Closed(Struct, frozen=True):
    """A stream that the store has forgotten."""

    instances: int
    is_watched: bool


class Extension(Enum):
    """What came of asking that a stream may go on."""

    #: It may, and its secret is the new one.
    EXTENDED = "extended"
    #: There is no such stream.
    UNKNOWN = "unknown"
    #: The secret is not its own.
    WRONG = "wrong"
    #: It was extended as often as it may.
    EXHAUSTED = "exhausted"


class Departure(Struct, frozen=True):
    """A client of which a dead node held streams."""

    client: str
    #: How many of its streams are left on all nodes.
    instances: int


class TopicStore(Protocol):
    """Streams, registered topics and used keys of all nodes. Every method is atomic and raises StoreUnavailable.

    Counts are told as they are on this node, not as changes, so every method but `open` and `see` may be repeated.
    Commands take effect in the order of the calls.
    """

    def open(self, site: Site, client: str, streams: int, secret: bytes, timeout_ms: int) -> Awaitable[Opened]:
        """A stream of a client begins; `streams` is how many this node holds of the client, with it.

        `secret` is the digest of what may extend it, `timeout_ms` how long it lives unless it is.
        """

    def close(self, site: Site, client: str, streams: int, number: int | None) -> Awaitable[Closed]:
        """A stream has ended; `streams` is how many this node still holds of the client."""

    def extend(
        self, site: Site, number: int, secret: bytes, new_secret: bytes, timeout_ms: int, at_most: int
    ) -> Awaitable[Extension]:
        """Lets a stream of any node go on for so long, at most so often."""

    def remaining_ms(self, site: Site, number: int) -> Awaitable[int]:
        """How long a stream may still go on; 0 or less: no longer."""

    def bury(self, site: Site, node: str) -> Awaitable[tuple[bool, Sequence[Departure]]]:
        """Takes out a part of the streams that a dead node held: whether more are left, and whose they were.

        Each departure is answered to one caller, also when several nodes bury at the same time.
        """

    def restore(self, site: Site, streams: Mapping[str, int]) -> Awaitable[None]:
        """Tells how many streams this node holds by client, after the store has lost it. Reads `streams` as it goes."""

    def instances(self, site: Site, client: str) -> Awaitable[int]:
        """How many streams of a client there are on all nodes."""

    def clients(self, site: Site) -> Awaitable[dict[str, int]]:
        """The same of all clients."""

    def register(self, site: Site, topic: str, registration: bytes) -> Awaitable[bool]:
        """Keeps a registration, in the place of any; whether there was none. Raises StoreError for one too many."""

    def registrations(self, site: Site, topics: Sequence[str]) -> Awaitable[list[bytes | None]]:
        """The registrations of these topics, None for those without."""

    def unregister(self, site: Site, topic: str) -> Awaitable[bool]:
        """Forgets a registration; whether there was one."""

    def see(self, site: Site, mark: bytes, ttl_ms: int) -> Awaitable[bool]:
        """Whether this mark is seen for the first time within `ttl_ms`, on any node."""

    def answer(self, site: Site, question: str, answer: bytes) -> Awaitable[None]:
        """Answers a question of some node, which asks within seconds."""

    def answers(self, site: Site, question: str) -> Awaitable[list[bytes]]:
        """What has been answered so far."""
