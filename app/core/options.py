"""The options of a message: the wishes of its sender beside the delivery."""

from typing import Literal

import msgspec
from msgspec import Struct


class MessageOptions(Struct, frozen=True, omit_defaults=True):
    """The options as the sender gave them; None or False: not given. As JSON they stand beside the message in Redis."""

    #: Seconds after which the message leaves every queue.
    ttl: int | None = None
    #: Of the messages with this key only the newest stays in a queue.
    collapse: str | None = None
    #: 'user': the first ack by a device of a user takes the message from the user's other queues.
    settle: Literal["device", "user"] | None = None
    #: Seconds after which the backend is told of users without an ack.
    ack_within: int | None = None
    #: Whether the answer waits for the acks of connected devices.
    wait: Literal["any", "all"] | None = None
    #: Seconds of `wait`.
    timeout: int | None = None
    #: 'acked': the backend is told of each ack.
    notify: Literal["acked"] | None = None
    #: Whether the client gets the message's id.
    id: bool = False

    def encode(self) -> bytes:
        """The options as JSON; b"" for none."""
        if self is NO_OPTIONS:
            return b""
        packed = _encoder.encode(self)
        return b"" if packed == b"{}" else packed


class Once(Struct, frozen=True):
    """The idempotency of a request: with the same key the same request is done once."""

    #: Digests in hex of the key and of the request.
    key: str
    request: str
    #: For how long the answer is kept.
    ttl_seconds: int


#: The time of `wait` where the sender names none.
WAIT_SECONDS = 5

_encoder = msgspec.json.Encoder()
NO_OPTIONS = MessageOptions()
