"""The CPU time and memory of a process so far, read from /proc. Knows nothing of the process's work."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

_PAGE_KB = os.sysconf("SC_PAGE_SIZE") / 1024


@dataclass(frozen=True)
class Usage:
    """CPU seconds of the server and of its Redis since they started."""

    server_seconds: float
    redis_seconds: float

    def since(self, earlier: Usage) -> Usage:
        """Return the seconds spent between `earlier` and this."""
        return Usage(self.server_seconds - earlier.server_seconds, self.redis_seconds - earlier.redis_seconds)


def cpu_seconds(pid: int, with_children: bool = True) -> float:
    """Return the CPU time of all threads of `pid` and of its children.

    It is the sum that /proc/<pid>/stat gives as utime + stime, from schedstat: in nanoseconds, not in ticks of 10 ms.
    """
    total = 0
    for task in Path(f"/proc/{pid}/task").iterdir():
        total += int((task / "schedstat").read_text().split()[0])
    return total / 1e9 + sum(cpu_seconds(child) for child in children(pid) if with_children)


def resident_kb(pid: int) -> float:
    """Return the resident memory of `pid` and of its children."""
    pages = int(Path(f"/proc/{pid}/statm").read_text().split()[1])
    return pages * _PAGE_KB + sum(resident_kb(child) for child in children(pid))


def peak_kb(pid: int) -> float:
    """Return the highest resident memory of `pid` since `forget_peak`."""
    status = Path(f"/proc/{pid}/status").read_text()
    return float(status.partition("VmHWM:")[2].split()[0])


def forget_peak(pid: int) -> None:
    """Reset `peak_kb` to the memory resident now (proc(5), clear_refs: 5)."""
    Path(f"/proc/{pid}/clear_refs").write_text("5")


def open_files(pid: int) -> int:
    """Return the number of descriptors of `pid`, its sockets included."""
    return len(os.listdir(f"/proc/{pid}/fd"))


def children(pid: int) -> list[int]:
    """Return the ids of the processes that `pid` has started."""
    found: list[int] = []
    for task in Path(f"/proc/{pid}/task").iterdir():
        found += [int(child) for child in (task / "children").read_text().split()]
    return found
