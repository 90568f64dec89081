"""The ports of Redis PUBLISH to Redis: users' mailboxes, the subscription, the stream. The adapters are the modules
`redis_*` of this folder.

A mailbox is the list of messages that wait for one user, and the user's connections with their nodes. It lives in the
application's Redis, which may be another Redis than the server's own.
"""

from collections.abc import AsyncIterator, Awaitable, Sequence
from typing import Protocol

from msgspec import Struct


class Letter(Struct, frozen=True):
    """One message on its way into mailboxes. Its repr has no payload."""

    #: JSON text, as it is stored and sent. No two entries of a user are equal.
    entry: bytes
    #: Of a letter from the stream: its id in the stream, and the id that the application gave it.
    stream_id: str = ""
    dedupe_id: str = ""

    def __repr__(self) -> str:
        return f"Letter({self.stream_id or 'published'}, {len(self.entry)} bytes)"


class LetterOutcome(Struct, frozen=True):
    """The outcome of a letter in one mailbox."""

    #: 'delivered': told to the user's nodes; 'queued': the user is not connected; 'duplicate': it came a second time.
    result: str
    #: Older messages that were dropped because the mailbox was full.
    dropped: int


class Part(Struct, frozen=True):
    """The oldest messages that wait for one connection."""

    #: The number of the last message told to the user's nodes. Messages told later are not in this part.
    last_told: int
    #: Whether the connection is the first of its user, over all nodes.
    is_first: bool
    #: Whether more messages wait. If not, the connection hears messages live from here on.
    has_more: bool
    entries: Sequence[bytes]


class Told(Struct, frozen=True):
    """A message for the connections of this node that hear messages live."""

    user: str
    #: Grows by one with each message told to the user's nodes.
    number: int
    #: The user's first connection, whose `bubble` is true.
    first: tuple[str, int]
    #: Whether the message also waits in the list, for connections that still fetch or for the client's ack.
    is_listed: bool
    entry: bytes


class Mailboxes(Protocol):
    """The mailboxes of a site. Each method is atomic, and raises StoreUnavailable when it may not have taken effect.

    Commands take effect in the order of the calls, not in the order of the awaits. No method blocks.
    """

    def key_of(self, user: str) -> Awaitable[bytes | None]:
        """The key that the user must know; None when the application has set no key."""

    def members(self, channel: str) -> AsyncIterator[list[str]]:
        """The subscribers of a channel of the application, in parts, each user once."""

    def deliver(self, user: str, letter: Letter, until_ms: int) -> Awaitable[LetterOutcome]:
        """Puts a letter into a user's mailbox or tells the nodes that the user is connected to, once.

        Raises StoreUnavailable after `until_ms` of Redis's clock: then another node may hold the lease.
        """

    def join(self, user: str, connection: int) -> Awaitable[Part]:
        """Registers a connection and returns the first part of the waiting messages. Drops the oldest connection over
        conn_limit.

        A second call for a registered connection returns again the messages that no client is known to have.
        """

    def take(self, user: str, connection: int, confirmed: Sequence[bytes]) -> Awaitable[Part | None]:
        """Removes the messages that a client has, and returns the next part; None when the connection is not
        registered."""

    def confirm(self, user: str, entries: Sequence[bytes]) -> Awaitable[None]:
        """Removes the messages that a client has. Idempotent."""

    def leave(self, user: str, connection: int, is_last_here: bool) -> Awaitable[None]:
        """Removes a connection. After the user's last connection, messages that no client is known to have wait in the
        list. Idempotent."""


class QueueEncoding(Protocol):
    """How payloads wait in the lists of a site's users. Known once the node has looked, and may change until then."""

    is_uri: bool


class MailListener(Protocol):
    """The listener that serves this node's connections. Calls are synchronous, in the order in which Redis published,
    and never block."""

    def message_told(self, told: Told) -> None:
        """A user with connections on this node gets a message."""

    def message_done(self, user: str, digest: str) -> None:
        """One of the user's connections has acknowledged the entry with this SHA-1, in hex."""

    def connection_dropped(self, user: str, connection: int) -> None:
        """The user has opened one connection more than allowed: closes this connection."""

    def subscription_interrupted(self) -> None:
        """Messages were missed, or other nodes took this node for dead: all its connections join again."""


class PublishReader(Protocol):
    """The reader of the application's messages, while this node owns the subscription."""

    def lease_renewed(self, until_ms: int, until: float) -> None:
        """This node surely holds the lease until `until_ms` of Redis's clock, and `until` seconds of
        `time.monotonic`."""

    def lease_taken(self, gap_ms: int) -> None:
        """This node owns the subscription from here on. No node owned it for `gap_ms` before."""

    async def lease_lost(self) -> None:
        """This node no longer owns the subscription. Returns when every message that it heard is delivered or given
        up."""

    async def stop_reading(self) -> None:
        """Stops reading the stream. PUBLISHed messages are still taken in."""

    def message_published(self, destination: str, payload: bytes) -> None:
        """The application has PUBLISHed to its channel `<prefix>.<destination>`. A synchronous call, in Redis's order.

        Until this node takes the lease, the message is buffered: the node may listen before the lease is handed to it.
        """

    def forget_published(self) -> None:
        """Drops the buffered messages: another node delivers everything that was PUBLISHed until here."""


class StreamEntry(Struct, frozen=True):
    """One entry of the application's stream."""

    id: str
    fields: dict[bytes, bytes]


class PublishStream(Protocol):
    """The application's stream through its consumer group. Methods raise StoreUnavailable; the caller may retry."""

    async def claim(self) -> list[StreamEntry]:
        """Entries that any node, dead nodes included, has read and not acknowledged, oldest first; [] at the end."""

    async def read(self) -> list[StreamEntry]:
        """Entries that no node has read yet, oldest first. Waits a moment for an entry, and may return []."""

    async def acknowledge(self, ids: Sequence[str]) -> None:
        """Removes entries from the stream: their messages are in the mailboxes."""

    async def stop(self) -> None:
        """Makes a waiting `read` return at once."""
