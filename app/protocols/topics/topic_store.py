"""The store of topics beyond audiences: the streams of all nodes, registered topics and used bind keys."""

from collections.abc import Awaitable, Mapping, Sequence
from enum import Enum
from typing import Protocol

from msgspec import Struct

from app.config.settings import Site


class Opened(Struct, frozen=True):
    """A stream that is now in the store."""

    #: Its number: below 2^53, unique in the site over all nodes and for all time.
    number: int
    #: The number of its client's streams on all nodes, this one included.
    instances: int
    #: Whether any node listens for this client's coming and going.
    is_watched: bool


class Closed(Struct, frozen=True):
    """A stream that is no longer in the store."""

    instances: int
    is_watched: bool


class Extension(Enum):
    """The results of an attempt to extend a stream."""

    #: The stream is extended and has the new secret.
    EXTENDED = "extended"
    #: There is no such stream.
    UNKNOWN = "unknown"
    #: The secret is not the stream's.
    WRONG = "wrong"
    #: The stream was extended as often as the limit allows.
    EXHAUSTED = "exhausted"


class Departure(Struct, frozen=True):
    """A client that had streams on a dead node."""

    client: str
    #: The number of its streams that are left on all nodes.
    instances: int


class TopicStore(Protocol):
    """Streams, registered topics and used keys of all nodes. Every method is atomic and raises StoreUnavailable.

    Methods take the present count of this node, not a change, so every method but `open` and `see` may be repeated.
    Commands take effect in the order of the calls.
    """

    def open(self, site: Site, client: str, streams: int, secret: bytes, timeout_ms: int) -> Awaitable[Opened]:
        """Registers a stream of a client. `streams` is the count of the client's streams on this node, with this one.

        `secret` is the digest of the secret that may extend the stream, `timeout_ms` its lifetime without extension.
        """

    def close(self, site: Site, client: str, streams: int, number: int | None) -> Awaitable[Closed]:
        """Takes out an ended stream. `streams` is the count of the client's streams that are left on this node."""

    def extend(
        self, site: Site, number: int, secret: bytes, new_secret: bytes, timeout_ms: int, at_most: int
    ) -> Awaitable[Extension]:
        """Gives a stream of any node `timeout_ms` from now, unless it was extended `at_most` times already."""

    def remaining_ms(self, site: Site, number: int) -> Awaitable[int]:
        """The remaining time of a stream; 0 or less: it has passed."""

    def bury(self, site: Site, node: str) -> Awaitable[tuple[bool, Sequence[Departure]]]:
        """Takes out a part of a dead node's streams. Returns whether more are left, and the departures of this part.

        Each departure is returned to one caller only, even when several nodes bury at the same time.
        """

    def restore(self, site: Site, streams: Mapping[str, int]) -> Awaitable[None]:
        """Writes the counts of this node's streams by client again, after the store has lost them. Reads `streams`
        while it runs."""

    def instances(self, site: Site, client: str) -> Awaitable[int]:
        """The number of a client's streams on all nodes."""

    def next_number(self, site: Site) -> Awaitable[int]:
        """The number that the site's next stream gets if no other one comes before it; 0: there was none yet."""

    def clients(self, site: Site) -> Awaitable[dict[str, int]]:
        """The number of streams on all nodes, for each client."""

    def register(self, site: Site, topic: str, registration: bytes) -> Awaitable[bool]:
        """Keeps a registration and replaces an earlier one; returns whether there was none. Raises StoreError when
        there are too many."""

    def registrations(self, site: Site, topics: Sequence[str]) -> Awaitable[list[bytes | None]]:
        """The registrations of these topics; None for a topic without one."""

    def unregister(self, site: Site, topic: str) -> Awaitable[bool]:
        """Forgets a registration; returns whether there was one."""

    def see(self, site: Site, mark: bytes, ttl_ms: int) -> Awaitable[bool]:
        """Whether this mark is seen for the first time within `ttl_ms`, on any node."""

    def answer(self, site: Site, question: str, answer: bytes) -> Awaitable[None]:
        """Answers a question of another node, which collects the answers within seconds."""

    def answers(self, site: Site, question: str) -> Awaitable[list[bytes]]:
        """The answers to a question so far."""
