"""Messages: what a backend sent, and the form in which a node hears of it on the bus."""

from collections.abc import Sequence
from typing import Any

from msgspec import Struct

from app.settings import Site


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

    def __repr__(self) -> str:
        return f"Message({self.site.name!r}, {self.id}, {self.event!r}, {len(self.body)} bytes)"


class LiveMessage:
    """A message on its way to the connections of this node. Lives for one turn of the loop, longer while held back."""

    __slots__ = ("body", "encoded", "id", "recipients", "resync_recipients", "rooms", "seq")

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
        #: What each protocol has made of it, so that it is encoded once and not once a recipient.
        self.encoded: dict[Any, Any] = {}

    def __repr__(self) -> str:
        return f"LiveMessage({self.seq}, {self.id}, {len(self.body)} bytes)"


class Waiting(Struct, frozen=True):
    """What waits in one device's queue: a part of it, oldest first."""

    entries: list[tuple[int, bytes]]
    #: Whether the queue holds more behind these.
    has_more: bool
