"""A message of the outbox as its reader holds it, and what became of it. The code is pure."""

from enum import Enum, auto

from msgspec import Struct


class CommittedMessage(Struct, frozen=True, kw_only=True):
    """A message that waits. Lives while its reader has it in hand."""

    #: Its place in the order of commits.
    position: int
    #: Its number in the outbox.
    id: int
    site: str
    #: The rooms that it is in order with.
    keys: tuple[str, ...]
    bytes: int
    resync: bool
    #: The times that it has failed by itself.
    attempts: int


class Meaning(Enum):
    """The meaning of an answer of the server for a message."""

    #: Stored, now or by an earlier request.
    SENT = auto()
    #: Refused for ever: it is set aside with the reason.
    PARKED = auto()
    #: The message itself fails: it is due later, and the rooms of it wait.
    LATER = auto()
    #: The site takes none at the moment.
    SITE_WAITS = auto()
    #: The server takes none at the moment.
    SERVER_WAITS = auto()


class SendReply(Struct, frozen=True):
    """The answer to a POST of a message; status 0 when there was none."""

    status: int
    text: str
    retry_after_seconds: float = 0.0
    #: Whether an earlier request had stored it.
    is_replayed: bool = False


class Verdict(Struct, frozen=True):
    """The meaning of an answer, with the reason for people."""

    meaning: Meaning
    reason: str = ""
    wait_seconds: float = 0.0
    is_replayed: bool = False
