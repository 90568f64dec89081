"""The row of a file and the decisions about it. Pure: the time is passed in."""

from msgspec import Struct

from app.errors import RequestRefused

#: How long an upload may stay unfinished.
UNFINISHED_SECONDS = 86_400
#: Unfinished uploads of one user.
MAX_UNFINISHED = 100
#: The bytes that a file counts in the quota at least: its row and its place cost something too.
LEAST_COUNTED_BYTES = 4_096

#: The name of a part in its store, and its bytes.
Part = tuple[str, int]


class FileRecord(Struct, frozen=True, kw_only=True):
    """A file as its row says. Lives as long as the request."""

    id: str
    user_id: int
    device: str | None
    app: str | None
    name: str
    type: str
    metadata: str
    #: "" is the disk, else the URL of a bucket and a prefix.
    store: str
    #: The folder of its parts in the store.
    place: str
    size: int
    #: The bytes that are durable.
    received: int
    parts: tuple[Part, ...]
    created_at: int
    #: None once it is finished.
    expires_at: int | None
    finished_at: int | None
    sent_at: int | None
    upload_ms: int
    is_resumed: bool

    @property
    def left(self) -> int:
        """The bytes that are missing."""
        return self.size - self.received

    def is_over(self, now_ms: int) -> bool:
        """Whether its time to be finished has passed."""
        return self.expires_at is not None and now_ms >= self.expires_at


class Progress(Struct, frozen=True):
    """More bytes of a file that have become durable. Lives as long as the request."""

    parts: tuple[Part, ...]
    received: int
    ms: int
    #: Whether the request broke off.
    is_broken: bool


class PartPlan(Struct, frozen=True):
    """The begin of the next part. Lives as long as the request."""

    #: The parts before it.
    kept: tuple[Part, ...]
    #: The short last part, whose bytes the next one begins with: so many short requests make few parts.
    repeated: Part | None


def plan_part(parts: tuple[Part, ...], least_bytes: int) -> PartPlan:
    """The begin of the next part: every part but the last has `least_bytes` at least, and less than twice of it."""
    if parts and parts[-1][1] < least_bytes:
        return PartPlan(parts[:-1], parts[-1])
    return PartPlan(parts, None)


class Piece(Struct, frozen=True):
    """Bytes of one part. Lives as long as it is read."""

    part: str
    start: int
    count: int


def pieces_of(parts: tuple[Part, ...], start: int, end: int, most_bytes: int) -> list[Piece]:
    """The pieces of a span of a file, in order, each of `most_bytes` at most."""
    found: list[Piece] = []
    begin = 0
    for name, size in parts:
        at, until = max(start, begin) - begin, min(end, begin + size) - begin
        while at < until:
            count = min(most_bytes, until - at)
            found.append(Piece(name, at, count))
            at += count
        begin += size
    return found


def check_quota(unfinished: int, stored_bytes: int, size: int, quota_bytes: int) -> None:
    """Raises RequestRefused for one more file of a user who has these. 0: any number of bytes."""
    if unfinished >= MAX_UNFINISHED:
        raise RequestRefused(f"Expected at most {MAX_UNFINISHED} unfinished uploads of a user.", "too_many", 403)
    if quota_bytes and stored_bytes + max(size, LEAST_COUNTED_BYTES) > quota_bytes:
        raise RequestRefused(f"Expected at most {quota_bytes} bytes of files of a user.", "quota", 413)
