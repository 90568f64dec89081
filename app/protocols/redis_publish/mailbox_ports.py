"""What Redis PUBLISH needs of its Redis: users' mailboxes, the subscription, the stream. The adapters are in `store`.

A mailbox is the list of messages that wait for one user, and who of the user is connected to which node. It lives in
the application's Redis, which may be another than the server's own.
"""

from collections.abc import AsyncIterator, Awaitable, Sequence
from typing import Protocol

from msgspec import Struct


class Letter(Struct, frozen=True):
    """One message on its way into mailboxes. Its repr has no payload."""

    #: JSON text, as it is kept and sent; no two of a user are equal.
    entry: bytes
    #: Where it came from the stream: the id there, and the one that the application gave it.
    stream_id: str = ""
    dedupe_id: str = ""

    def __repr__(self) -> str:
        return f"Letter({self.stream_id or 'published'}, {len(self.entry)} bytes)"


class LetterOutcome(Struct, frozen=True):
    """What became of a letter in one mailbox."""

    #: 'delivered': told to the user's nodes; 'queued': nobody is connected; 'duplicate': it had been there before.
    result: str
    #: Older messages that were dropped because the mailbox was full.
    dropped: int


class Part(Struct, frozen=True):
    """The oldest of what waits for one connection."""

    #: The number of the last message told to the user's nodes: those told later are not in this answer.
    last_told: int
    #: Whether the connection is the first of its user, over all nodes.
    is_first: bool
    #: Whether more waits; otherwise the connection hears messages live from here on.
    has_more: bool
    entries: Sequence[bytes]


class Told(Struct, frozen=True):
    """A message for connections of this node that hear messages live."""

    user: str
    #: Grows by one with each message told to the user's nodes.
    number: int
    #: The user's first connection, whose `bubble` is true.
    first: tuple[str, int]
    #: Whether it also waits in the list: for connections that still fetch, or for the client's ack.
    is_listed: bool
    entry: bytes


class Mailboxes(Protocol):
    """The mailboxes of a site. Methods raise StoreUnavailable when they may not have happened; each is atomic.

    Commands take effect in the order of the calls, not in that of the awaits. Nothing blocks.
    """

    def key_of(self, user: str) -> Awaitable[bytes | None]:
        """The key that the user has to know, None where the application has set none."""

    def members(self, channel: str) -> AsyncIterator[list[str]]:
        """The users who have subscribed to a channel of the application, each once, in parts."""

    def deliver(self, user: str, letter: Letter, until_ms: int) -> Awaitable[LetterOutcome]:
        """Puts a letter into a user's mailbox or tells the nodes that the user is connected to, once.

        Refused with StoreUnavailable after `until_ms` of Redis's clock: then the lease is somebody else's.
        """

    def join(self, user: str, connection: int) -> Awaitable[Part]:
        """Registers a connection and answers the first part of what waits; the oldest over conn_limit is dropped.

        For a connection that is registered already it answers anew what no client is known to have.
        """

    def take(self, user: str, connection: int, confirmed: Sequence[bytes]) -> Awaitable[Part | None]:
        """Takes out what a client has, and answers the next part; None when the connection is not registered."""

    def confirm(self, user: str, entries: Sequence[bytes]) -> Awaitable[None]:
        """Takes out what a client has. Repeating it changes nothing."""

    def leave(self, user: str, connection: int, is_last_here: bool) -> Awaitable[None]:
        """Takes a connection out; with the user's last, what no client is known to have waits. Idempotent."""


class MailListener(Protocol):
    """Who serves the connections of this node: plain calls in the order in which Redis published; nothing blocks."""

    def message_told(self, told: Told) -> None:
        """A message for a user with connections on this node."""

    def message_done(self, user: str, digest: str) -> None:
        """One of the user's connections has acknowledged the entry with this SHA-1, in hex."""

    def connection_dropped(self, user: str, connection: int) -> None:
        """The user has opened one connection more than allowed: this one has to go."""

    def subscription_interrupted(self) -> None:
        """What was told meanwhile is missing, or the node was taken for dead: all its connections join anew."""


class PublishReader(Protocol):
    """Who takes in what the application sends, while this node owns the subscription."""

    def lease_renewed(self, until_ms: int, until: float) -> None:
        """The lease is surely this node's until then, on Redis's clock and (in seconds) on `time.monotonic`'s."""

    def lease_taken(self, gap_ms: int) -> None:
        """This node owns the subscription from here on; nobody did for `gap_ms`."""

    async def lease_lost(self) -> None:
        """It does no more; returns when everything that it has heard of is delivered or given up."""

    async def stop_reading(self) -> None:
        """The stream is read no further; what is PUBLISHed still is."""

    def message_published(self, destination: str, payload: bytes) -> None:
        """The application has PUBLISHed to its channel `<prefix>.<destination>`; a plain call, in Redis's order.

        Before the lease is taken it is held: this node may have been listening before the lease was handed to it.
        """

    def forget_published(self) -> None:
        """What was PUBLISHed until here, and is held, is another's."""


class StreamEntry(Struct, frozen=True):
    """One entry of the application's stream."""

    id: str
    fields: dict[bytes, bytes]


class PublishStream(Protocol):
    """The application's stream through its consumer group. Raises StoreUnavailable; whoever asks may ask again."""

    async def claim(self) -> list[StreamEntry]:
        """What any node, dead ones among them, has read and not acknowledged, oldest first; [] when that was all."""

    async def read(self) -> list[StreamEntry]:
        """What nobody has read yet, oldest first; waits a moment for it, and may answer []."""

    async def acknowledge(self, ids: Sequence[str]) -> None:
        """These are in their mailboxes; they leave the stream."""

    async def stop(self) -> None:
        """Lets a `read` that waits answer at once."""
