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
#: The files with the longest tests, the longest first.
LONGEST = (
    "contract/test_old_browsers.py",
    "contract/test_sites_queue.py",
    "cluster/test_passing_on.py",
    "faults/test_single_node.py",
    "contract/test_tls.py",
    "bench/test_run.py",
    "contract/test_messenger_directory.py",
    "contract/test_messenger_account.py",
    "node/test_journal_process.py",
    "doctor/test_examination.py",
    "journal/test_kills.py",
    "protocols/test_listed.py",
    "node/test_workers.py",
    "canary/test_canary.py",
    "load/test_load.py",
    "contract/test_messenger_login.py",
    "faults/test_drain.py",
    "faults/test_redis.py",
    "deploy/test_proxies.py",
    "contract/test_messenger_push0k.py",
    "contract/test_sites_connect.py",
    "node/test_reload.py",
    "contract/test_messenger_talk.py",
    "console/test_pages.py",
    "protocols/receipts/test_openapi.py",
    "contract/test_messenger_files.py",
    "journal/test_journal.py",
    "cluster/test_delivery_proof.py",
    "load/test_rooms.py",
    "catalog/test_commands.py",
    "console/test_sites_pages.py",
    "contract/test_sites_tokens.py",
    "store/test_queue_machine.py",
    "faults/test_limits.py",
    "faults/test_redis_publish.py",
    "clients_js/test_store.py",
    "catalog/test_catalog.py",
)
_TESTS = Path(__file__).parents[1]


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
    alone come first, so that they wait for no other; then those that are known to be long."""
    alone = {item.path for item in items if item.get_closest_marker("alone")}
    places = {_TESTS / name: place for place, name in enumerate(LONGEST, 1)}
    others = len(places) + 1

    def rank(item: pytest.Item) -> int:
        if item.path in alone:
            return 0
        return places.get(item.path) or others + (item.path.parent.name not in _OF_SERVERS)

    return sorted(items, key=rank)
