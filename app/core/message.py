"""Messages: what a backend sent, to whom, and the form in which a node hears of it on the bus."""

from collections.abc import Sequence
from typing import Any

from msgspec import Struct

from app.config.settings import HistoryLimit, Site

#: Events that mean something between the server and its clients; and those that socket.io keeps for itself, at which
#: a 4.x client disconnects with a parse error.
RESERVED_EVENTS = frozenset(("_batch", "_resync", "_settings")) | frozenset(
    ("connect", "connect_error", "disconnect", "disconnecting", "newListener", "removeListener")
)


class Audience(Struct, frozen=True):
    """Who listens right now, without queue and ack: a channel's subscribers, a topic's streams."""

    #: The protocol that they speak.
    protocol: str
    #: A node hears of the message if it has joined one of these.
    names: Sequence[str]
    #: Whatever the protocol wants said of the message: JSON text without line ends.
    detail: bytes = b"null"
    #: How much of what is published the protocol keeps for those who come back; None: nothing.
    history: HistoryLimit | None = None
    #: The channels or topics that the message is for, to be looked up in the site's `binds`.
    bound_names: Sequence[str] = ()


class Guard(Struct, frozen=True):
    """What Redis must hold for a message to be accepted, looked at in the run that publishes it: so a push into a
    channel costs one run, and none slips in behind the channel's deletion."""

    #: A hash behind the site's prefix, and a field of it.
    hash: str
    field: str
    #: What the field must hold: the digest of a secret, never the secret.
    digest: bytes
    #: Whether the field goes with the message.
    is_removed: bool = False


class Message(Struct, frozen=True):
    """What a backend sent, accepted but not stored yet. Lives until /send is answered; its repr has no payload."""

    site: Site
    #: Flake id, for logs.
    id: int
    rooms: Sequence[str]
    event: str
    #: `["event",arg,...]` as JSON text in UTF-8, encoded once for all recipients, the arguments as they were sent.
    body: bytes
    #: Whether an ack out of turn calls for a `_resync`.
    resync: bool = False
    audiences: Sequence[Audience] = ()
    guard: Guard | None = None

    def __repr__(self) -> str:
        return f"Message({self.site.name!r}, {self.id}, {self.event!r}, {len(self.body)} bytes)"


class LiveMessage:
    """A message on its way to the connections of this node. Lives for one turn of the loop, longer while held back."""

    __slots__ = ("at_ms", "audience", "body", "encoded", "id", "recipients", "resync_recipients", "rooms", "seq")

    def __init__(
        self,
        seq: int,
        id: str,
        body: bytes,
        recipients: Sequence[bytes] = (),
        resync_recipients: Sequence[bytes] = (),
        rooms: Sequence[str] | None = None,
    ) -> None:
        #: The site's number of the message, which is also the id of its ack.
        self.seq = seq
        self.id = id
        self.body = body
        #: Handles of the devices that it was stored for.
        self.recipients = recipients
        #: Handles of the devices whose queue it dropped.
        self.resync_recipients = resync_recipients
        #: The rooms it goes to, in a site without queues; None in one with queues.
        self.rooms = rooms
        #: Whom it is for, where that is an audience and no devices or rooms.
        self.audience: Audience | None = None
        #: When it was accepted, in ms since the epoch; 0 where nobody asked.
        self.at_ms = 0
        #: What each protocol has made of it, so that it is encoded once and not once a recipient.
        self.encoded: dict[Any, Any] = {}

    def __repr__(self) -> str:
        return f"LiveMessage({self.seq}, {self.id}, {len(self.body)} bytes)"


class Waiting(Struct, frozen=True):
    """What waits in one device's queue: a part of it, oldest first."""

    entries: list[tuple[int, bytes]]
    #: Whether the queue holds more behind these.
    has_more: bool


class History(Struct, frozen=True):
    """What a protocol's history of a site holds behind a seq, oldest first; live messages beyond `last_seq` follow."""

    last_seq: int
    #: Whether nothing is missing behind the seq that was asked for.
    is_complete: bool
    #: Whether there is more than was asked for behind these.
    has_more: bool
    messages: list[LiveMessage]
