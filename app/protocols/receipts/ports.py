"""The port to the queues, as this protocol reads them. The adapter is `redis_queues.py`."""

from collections.abc import Sequence
from typing import Protocol

from msgspec import Struct

from app.config.settings import Site

#: The hash of all devices of a site, by their names.
ALL_DEVICES = "devices"
#: The states that a list of devices can be bound to. `waiting`: its queue is not empty; `resync`: a `_resync` is due.
DEVICE_STATES = ("connected", "away", "waiting", "resync")


class WaitingMessage(Struct, frozen=True):
    """A message that waits in the queue of some device."""

    seq: int
    #: None: it was stored by a version without ids.
    id: int | None
    event: str
    bytes: int
    #: The devices that have it.
    waiting: int
    accepted_ms: int
    rooms: list[str]
    options: dict[str, object]


class QueuedMessage(Struct, frozen=True):
    """One entry of a device's queue."""

    seq: int
    id: int | None
    event: str
    bytes: int
    accepted_ms: int
    age_ms: int
    options: dict[str, object]


class QueuePart(Struct, frozen=True):
    """A part of a device's queue, oldest first."""

    messages: list[QueuedMessage]
    has_more: bool


class Client(Struct, frozen=True):
    """The program of a device's newest connection."""

    connected_ms: int
    transport: str
    engine_version: int
    user_agent: str


class DeviceFacts(Struct, frozen=True):
    """A device as the store knows it."""

    handle: int
    user: str
    device: str
    #: The nodes with a connection of it; none: it is away.
    nodes: list[str]
    #: When it is forgotten, of a device that is away; 0: never.
    deadline_ms: int
    messages: int
    #: None: not counted.
    bytes: int | None
    #: The age of its oldest message.
    oldest_age_ms: int | None
    #: Whether its queue was dropped, and no `_resync` has surely arrived.
    is_lost: bool
    #: Up to which seq messages may have been written to it, before it left.
    written_seq: int
    #: Its last ack.
    acked_ms: int | None
    #: Its own rooms, in the public channel; None: those of its user.
    rooms: list[str] | None
    client: Client | None


class Scan(Struct, frozen=True):
    """Where a walk through handles goes on."""

    #: The handles in ascending order up to here are done.
    after: int = 0
    #: Where Redis goes on; None: the handles are few, and sorted. "": there is nothing behind `left`.
    redis: str | None = None
    #: Handles that a step has brought and no page has shown.
    left: list[int] = []


class HandlePart(Struct, frozen=True):
    """A part of a walk through handles."""

    handles: list[int]
    #: Where to go on; None: that was all.
    next: Scan | None
    #: Whether the handles are in ascending order over all parts.
    is_sorted: bool

    def rest(self, done: int, begin: Scan) -> Scan | None:
        """Where to go on when only so many of the handles are shown; the part began at `begin`."""
        if done >= len(self.handles):
            return self.next
        if self.is_sorted:
            return Scan(after=self.handles[done - 1]) if done else begin
        behind = self.next or Scan(redis="")
        return Scan(redis=behind.redis, left=self.handles[done:] + behind.left)


class HolderPart(Struct, frozen=True):
    """Which of the first so many handles have a message."""

    looked_at: int
    handles: list[int]


class SeqPart(Struct, frozen=True):
    """A part of a walk back through seqs."""

    seqs: list[int]
    #: Below which seq to go on; None: that was all.
    next: int | None


class Steps:
    """The budget of one request. Lives as long as the request."""

    def __init__(self, most: int) -> None:
        self.left = most

    @property
    def are_used_up(self) -> bool:
        """Whether the request has to answer with what it has."""
        return self.left <= 0

    def take(self) -> None:
        """Counts one step."""
        self.left -= 1


class QueueReader(Protocol):
    """Reads devices and queues, in steps that each hold the store for a bounded time. Changes nothing. Every method
    raises StoreUnavailable. Another site's devices and messages are unknown.

    A method that is given several things answers for those in front, as far as the steps last.
    """

    async def seq_of(self, site: Site, id: int) -> int | None:
        """The seq of a message that waits; None: it waits nowhere."""

    async def describe_messages(self, site: Site, seqs: Sequence[int], steps: Steps) -> list[WaitingMessage | None]:
        """Each of the messages; None for one that waits nowhere."""

    async def waiting_seqs(self, site: Site, before: int | None, most: int) -> SeqPart:
        """The newest seqs below `before` that may wait, newest first."""

    async def find_device(self, site: Site, user: str, device: str) -> int | None:
        """The handle of a device; None: there is none."""

    async def handles(self, site: Site, key: str, scan: Scan, limit: int, steps: Steps) -> HandlePart:
        """At most so many handles of a hash or set of the site from `scan` on."""

    async def handles_in_state(
        self, site: Site, key: str, state: str, scan: Scan, limit: int, steps: Steps
    ) -> HandlePart:
        """The same of the devices in one of `DEVICE_STATES`, of all devices or of a user. A part is short when the
        steps are used up."""

    async def counted_queues(self, site: Site, most: int) -> list[tuple[int, int]]:
        """The waiting bytes and the handle of each device with a long queue, unsorted: of others none are counted."""

    async def holders(
        self, site: Site, seq: int, handles: Sequence[int], outside: Sequence[str], steps: Steps
    ) -> HolderPart:
        """Which of the handles have the message in their queue, and stand in none of the hashes `outside`."""

    async def describe_devices(self, site: Site, handles: Sequence[int], steps: Steps) -> list[DeviceFacts | None]:
        """Each of the devices; None for one that is not known any more."""

    async def user_rooms(self, site: Site, users: Sequence[str]) -> list[list[str]]:
        """The rooms of each user; none of one that is unknown."""

    async def queue(self, site: Site, handle: int, after: int, limit: int) -> QueuePart:
        """A part of a device's queue behind a seq."""

    async def queued_seqs(self, site: Site, handle: int, steps: Steps) -> list[int]:
        """The seqs in a device's queue."""
