"""The journal's questions and answers: what SQL holds of messages, deliveries and connections.

Each list goes by a key: a page costs the same wherever it stands, and reads a bounded number of rows.
"""

from typing import Self

from msgspec import Struct

from app.config.settings import Config
from app.journal.states import Fate
from app.redis.client import Commands

#: The rows that one call looks at. A page past it is shorter than asked for, or empty, and has a cursor all the same.
ROWS_LOOKED_AT = 10_000


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


class MessagePage(Struct, frozen=True):
    """A part of a list, newest first."""

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


class Journal:
    """The questions to the journal. Lives as long as the process that asks; `close` ends its connections to SQL.

    Each method raises JournalUnavailable when SQL does not answer in time. Another site's messages are unknown.
    """

    @classmethod
    async def open(cls, config: Config, redis: Commands) -> "Self | None":
        """The journal of these settings, connected at the first question; None where it is off."""

    async def close(self) -> None:
        """Ends the connections."""

    async def caught_up(self, site: str, seconds: float) -> bool:
        """Waits until SQL has what the site's stream held at the call. False: it had not, in this time."""

    async def message(self, site: str, id: int, *, body: bool = False) -> JournalMessage | None:
        """A message by its id."""

    async def deliveries(self, site: str, seq: int, limit: int, cursor: int | None = None) -> DeliveryPage:
        """The devices of a message."""

    async def messages(
        self, site: str, wanted: MessageFilter, limit: int, cursor: int | None = None, *, body: bool = False
    ) -> MessagePage:
        """The messages that pass the filter, newest first."""

    async def user_deliveries(
        self, site: str, user: str, since: int, limit: int, device: str | None = None
    ) -> list[UserDelivery]:
        """The newest deliveries to a user's devices (or one of them) of messages accepted since then, newest first."""

    async def user_rows(self, table: str, site: str, user: str, since: int, limit: int) -> list[JournalRow]:
        """The newest rows of `connections` or `refusals` of a user since then, newest first. A connection that has not
        ended is no row yet."""

    async def site_rows(self, table: str, site: str, since: int, limit: int) -> list[JournalRow]:
        """The newest rows of one of the tables of rows, such as `webhook_attempts`, since then, newest first."""

    async def missing_since(self, site: str, since: int) -> int:
        """How many stream entries of the site were lost since then, because the stream was full."""
