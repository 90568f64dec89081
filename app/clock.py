"""The clock of this machine, as Recado counts time between machines, and times as public answers show them."""

import time
from datetime import UTC, datetime, timedelta

_EPOCH = datetime.fromtimestamp(0, UTC)


def now_ms() -> int:
    """Milliseconds since the epoch."""
    return time.time_ns() // 1_000_000


def rfc3339(ms: int) -> str:
    """The time of so many milliseconds since the epoch as public answers show it: `2026-01-31T12:00:00.000Z`."""
    # Without a float, which would round the last moment up.
    return (_EPOCH + timedelta(milliseconds=ms)).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def rfc3339_or_none(ms: int | None) -> str | None:
    """The same, of a time that may be missing."""
    return None if ms is None else rfc3339(ms)
