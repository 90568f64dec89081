"""The wishes of clients, and the answers to them, between the parts of conversations. Plain data."""

import msgspec
from msgspec import Struct

from app.digests import digest
from app.protocols.messenger.talk.rules import ChatTarget


class ChatSender(Struct, frozen=True):
    """The user of an event, and its device."""

    user: int
    #: The deviceId, and the rows of the device and its program.
    device: str
    device_id: int
    app_id: int | None = None
    app: str | None = None


class MessageWish(Struct, frozen=True):
    """A message as its client sends it."""

    client_id: str
    to: ChatTarget
    kind: str
    text: str
    #: JSON, or None.
    data: str | None = None
    reply_to: int | None = None
    forward_of: int | None = None
    file: str | None = None

    @property
    def digest(self) -> bytes:
        """Tells it from another one with the same id."""
        return digest(msgspec.json.encode(self).decode())


class AcceptedMessage(Struct, frozen=True):
    """The number of a message, and when it was accepted."""

    id: int
    at: int


class TalkBounds(Struct, frozen=True):
    """The settings of a site that its conversations need."""

    #: The longest event to clients.
    max_bytes: int
    #: Whether a user may write to those alone that share a room or a contact with it.
    is_by_rooms: bool = False
