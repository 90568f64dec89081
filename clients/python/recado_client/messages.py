"""Messages, options and answers as types."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal, NotRequired, Required, TypedDict

Rooms = str | int | Sequence[str | int]


class MessageOptions(TypedDict, total=False):
    """The options of a message; the server's documentation (Delivery) says what each does."""

    ttl: int
    collapse: str
    settle: Literal["device", "user"]
    ack_within: int
    notify: Literal["acked"]
    id: bool


class SendOptions(MessageOptions, total=False):
    """The options of `send`."""

    resync: bool
    wait: Literal["any", "all"]
    #: Seconds that the server waits with `wait`; 5 unless given.
    timeout: int
    #: A key of one's own, for a call that may be repeated later; else each call makes one.
    idempotency_key: str


class BatchMessage(MessageOptions, total=False):
    """One message of a batch."""

    rooms: Required[Rooms]
    event: Required[str]
    args: Any


@dataclass(frozen=True)
class Sent:
    """A message that is stored for every addressed device."""

    id: str
    #: The devices; on a site without queues, the nodes that were told.
    recipients: int
    #: Whether an earlier attempt, or call with the same key, had stored it already.
    replayed: bool
    #: With `wait`: the devices that have acknowledged, and those that have not.
    acked: int | None = None
    waiting: int | None = None


class BatchAnswer(TypedDict):
    """The fate of one message of a batch: `ok` and `id`, or an error with its status."""

    ok: bool
    id: NotRequired[str]
    recipients: NotRequired[int]
    status: NotRequired[int]
    error: NotRequired[str]
    code: NotRequired[str]


class DeviceFate(TypedDict):
    """The fate of a message at one device."""

    user: str
    device: str
    state: Literal["waiting", "written", "acked", "expired", "replaced", "settled", "withdrawn", "resynced"]
    written_at: str | None
    acked_at: str | None
    reason: str
    ms: NotRequired[int]
    batch: NotRequired[bool]
    ended_at: NotRequired[str]


class Receipt(TypedDict):
    """The fate of a message at each device."""

    id: str
    site: str
    event: str
    rooms: list[str]
    bytes: int
    accepted_at: str
    options: dict[str, Any]
    summary: dict[str, int]
    devices: list[DeviceFate]
    #: For the next page of devices; None ends the list.
    cursor: str | None
    #: Only what still waits is known, or the journal is behind.
    partial: NotRequired[bool]
    body: NotRequired[list[Any] | None]
