"""The answers of the journal: messages, deliveries and rows as values. Knows no SQL."""

from msgspec import Struct

from app.journal.states import Fate


class JournalMessage(Struct, frozen=True):
    """A row of `messages`."""

    seq: int
    id: int
    event: str
    #: As sent.
    rooms: list[str]
    bytes: int
    accepted_at: int
    options: dict[str, object]
    addressed: int
    #: By state, with zeros; adds up to `addressed`.
    summary: dict[Fate, int]
    #: In a site without queues: how many nodes were told.
    nodes: int | None
    #: `["event", ...]` as JSON text; None where bodies are not kept.
    body: str | None


class JournalDelivery(Struct, frozen=True):
    """A row of `deliveries` with the names of its device."""

    seq: int
    #: The cursor of a message's deliveries.
    device_id: int
    user: str
    device: str
    state: Fate
    #: In words; "" for none.
    reason: str
    is_batch: bool
    written_at: int | None
    acked_at: int | None
    ms: int | None
    ended_at: int | None


class UserDelivery(Struct, frozen=True):
    """A delivery to a device of a user, with its message (without the body)."""

    delivery: JournalDelivery
    message: JournalMessage


class UserDeliveryPart(Struct, frozen=True):
    """The newest deliveries to a user's devices, newest first."""

    items: list[UserDelivery]
    #: Whether there may be older ones.
    has_more: bool


class MessageFilter(Struct, frozen=True, kw_only=True):
    """Which messages to list; None: any. Times in ms since the epoch, both ends included."""

    room: str | None = None
    #: A user room.
    user: str | None = None
    event: str | None = None
    #: Some device is in this state; with `user`, one of the user's devices.
    state: Fate | None = None
    since: int | None = None
    until: int | None = None
    is_oldest_first: bool = False


class MessagePage(Struct, frozen=True):
    """A part of a list, in its order."""

    messages: list[JournalMessage]
    #: Goes into the next call; None: this was the end. May be given beside an empty page.
    cursor: int | None


class DeliveryPage(Struct, frozen=True):
    """A part of the deliveries of one message, in order of `device_id`."""

    deliveries: list[JournalDelivery]
    #: Goes into the next call; None: this was the end.
    cursor: int | None


class JournalRow(Struct, frozen=True):
    """A row of `connections`, `refusals`, `webhook_attempts`, `log` or another table of rows, by its columns."""

    id: int
    values: dict[str, object]
