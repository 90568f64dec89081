"""How a run of the tests uses the machine: where its files are, in how many processes it runs, and in which order."""

from __future__ import annotations

import os
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

import pytest

_MEMORY = Path("/dev/shm")
_NEEDED_BYTES = 2 << 30
_MOST_PROCESSES = 4
#: The folders whose tests start servers, and wait for them.
_OF_SERVERS = frozenset(
    ("bench", "canary", "catalog", "cluster", "console", "contract", "demo", "docs", "faults", "fuzz", "load", "node")
)


def use_memory() -> None:
    """Keep temporary files in memory where that is large: tests kill processes, never the machine, so that no test
    needs the disk, and most of them would wait for it at each commit."""
    if "TMPDIR" in os.environ or not _MEMORY.is_dir():
        return
    state = os.statvfs(_MEMORY)
    if state.f_bavail * state.f_frsize > _NEEDED_BYTES and not state.f_flag & os.ST_NOEXEC:
        os.environ["TMPDIR"] = str(_MEMORY)
        tempfile.tempdir = None


def keep_compiled() -> None:
    """Let Python keep compiled modules: tests start hundreds of processes, and each would compile the product again."""
    os.environ.pop("PYTHONDONTWRITEBYTECODE", None)
    sys.dont_write_bytecode = False


def process_count() -> int:
    """The number of processes of a parallel run: two for each core, as tests of servers wait for most of their time."""
    return min(_MOST_PROCESSES, 2 * (os.cpu_count() or 1))


def longest_first(items: Sequence[pytest.Item]) -> list[pytest.Item]:
    """Tests in the order for several processes: what is left at the end are short files. Files with tests that run
    alone come first, so that they wait for no other."""
    alone = {item.path for item in items if item.get_closest_marker("alone")}

    def rank(item: pytest.Item) -> int:
        return 0 if item.path in alone else 1 if item.path.parent.name in _OF_SERVERS else 2

    return sorted(items, key=rank)
