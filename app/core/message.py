"""Messages: as a backend sent them, and as a node hears of them on the bus."""

from collections.abc import Sequence
from typing import Any

from msgspec import Struct

from app.config.settings import HistoryLimit, Site
from app.core.options import NO_OPTIONS, MessageOptions, Once


class Audience(Struct, frozen=True):
    """The listeners of this moment, without queue and ack; for example the subscribers of a channel."""

    #: The protocol of the listeners.
    protocol: str
    #: A node hears of the message if it has joined one of these names.
    names: Sequence[str]
    #: The protocol's own note on the message: JSON text without line ends.
    detail: bytes = b"null"
    #: How many published messages the protocol keeps for listeners that come back; None: none.
    history: HistoryLimit | None = None
    #: The names under which the site's `binds` may know this audience.
    bound_names: Sequence[str] = ()


class Guard(Struct, frozen=True):
    """A field that Redis must hold for a message to be accepted. The script that publishes the message checks it: so a
    guarded message costs one run, and none slips in behind the deletion of the field."""

    #: A hash behind the site's prefix, and a field of it.
    hash: str
    field: str
    #: The value that the field must hold: the digest of a secret, never the secret.
    digest: bytes
    #: Whether the message removes the field.
    is_removed: bool = False


class ExceptDevice(Struct, frozen=True):
    """A device that does not get a message, although it is in one of its rooms: the one that has sent it."""

    user_room: str
    device_id: str


class ExceptHandle(Struct, frozen=True):
    """The same, by the number of the device in the store; a number that no device has means nothing."""

    handle: str


class Message(Struct, frozen=True):
    """A message of a backend, accepted but not stored yet. Lives until the request is answered; its repr has no
    payload."""

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
    options: MessageOptions = NO_OPTIONS
    once: Once | None = None
    #: The sends for which it counts at the limit of its site: those of a batch count with its first message.
    weight: int = 1
    but: ExceptDevice | ExceptHandle | None = None

    def __repr__(self) -> str:
        return f"Message({self.site.name!r}, {self.id}, {self.event!r}, {len(self.body)} bytes)"


class LiveMessage:
    """A message on its way to the connections of this node. Lives for one turn of the loop, longer while it is held."""

    __slots__ = (
        "at_ms",
        "audience",
        "body",
        "encoded",
        "id",
        "is_first",
        "notice",
        "recipients",
        "resync_recipients",
        "rooms",
        "seq",
    )

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
        #: Handles of the devices whose queues hold the message.
        self.recipients = recipients
        #: Handles of the devices whose queues the message has dropped, because they were full.
        self.resync_recipients = resync_recipients
        #: Its rooms, in a site without queues; None in a site with queues.
        self.rooms = rooms
        #: Set when the message is for an audience, and not for devices or rooms.
        self.audience: Audience | None = None
        #: Whether it is the first message of its turn of the loop: it is written at once, and does not wait for others.
        self.is_first = False
        #: When it was accepted, in ms since the epoch; 0 outside a history.
        self.at_ms = 0
        #: Set when nodes are told of an earlier message or a device: 'withdraw', 'acked', 'left' or 'close'; or of an
        #: event that is kept nowhere: 'whisper'. The `recipients` are the devices that it is about.
        self.notice = ""
        #: The encoded message by class of receiver, so that it is encoded once and not once a recipient.
        self.encoded: dict[Any, Any] = {}

    def __repr__(self) -> str:
        return f"LiveMessage({self.seq}, {self.id}, {len(self.body)} bytes)"


class Waiting(Struct, frozen=True):
    """A part of one device's queue, oldest first."""

    entries: list[tuple[int, bytes]]
    #: Whether the queue holds more behind these.
    has_more: bool


class History(Struct, frozen=True):
    """A page of a protocol's history of a site behind a seq, oldest first; live messages beyond `last_seq` follow."""

    last_seq: int
    #: Whether no message is missing behind the seq that was asked for.
    is_complete: bool
    #: Whether the history holds more behind this page.
    has_more: bool
    messages: list[LiveMessage]
