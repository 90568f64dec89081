"""The rows that travel between the outbox, the relay and the receipts. Plain data."""

from msgspec import Struct


class OutboxRow(Struct, frozen=True):
    """One row. Its repr is without the body, which is a message."""

    id: int
    #: `send`, `join` or `leave`.
    kind: str
    rooms: list[str]
    #: The event as JSON; of a change of rooms the room of the user.
    body: str
    but_user: str | None
    but_device: str | None
    #: The message whose receipts follow from the acks.
    message_id: int | None

    def __repr__(self) -> str:
        return f"OutboxRow({self.id}, {self.kind!r})"


class SentRow(Struct, frozen=True):
    """A message that the core has under a seq."""

    seq: int
    message_id: int
    at: int


class AckedSeq(Struct, frozen=True):
    """A device has acknowledged a message of the core."""

    seq: int
    user: int
    #: The deviceId.
    device: str


class AckPage(Struct, frozen=True):
    """Some sent messages."""

    seqs: list[int]
    acks: list[AckedSeq]
    #: The seqs of messages that no device will acknowledge any more: all of their acks are in `acks`.
    ended: list[int]
