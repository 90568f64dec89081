"""The figures of this process that the operating system knows, and the lag of its loop. Knows no site and no client."""

import os
import resource
import time
from pathlib import Path

from app.observe.counts import BOUNDS_SECONDS, Durations

_PAGE_BYTES = os.sysconf("SC_PAGE_SIZE")
_STATM = Path("/proc/self/statm")


def cpu_seconds() -> float:
    """The time that this process has spent on a processor."""
    return time.process_time()


def memory_bytes() -> int:
    """The memory that this process holds; the most that it ever held where the system tells no more."""
    try:
        return int(_STATM.read_text().split()[1]) * _PAGE_BYTES
    except (OSError, ValueError, IndexError):
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


class DurationsWindow:
    """The durations since the last look. Lives as long as its owner looks."""

    def __init__(self, durations: Durations) -> None:
        self._durations = durations
        self._buckets = list(durations.buckets)
        self._total_seconds = durations.total_seconds

    def look(self) -> tuple[float, float]:
        """The mean and the bound of the longest duration since the last look, in ms. The bound of a longer one than any
        bucket has is twice the last bucket's."""
        buckets, total_seconds = list(self._durations.buckets), self._durations.total_seconds
        added = [now - before for now, before in zip(buckets, self._buckets, strict=True)]
        seconds = total_seconds - self._total_seconds
        self._buckets, self._total_seconds = buckets, total_seconds
        bounds = (*BOUNDS_SECONDS, 2 * BOUNDS_SECONDS[-1])
        longest = max((bound for bound, count in zip(bounds, added, strict=True) if count), default=0.0)
        return round(seconds / max(1, sum(added)) * 1000, 3), longest * 1000
